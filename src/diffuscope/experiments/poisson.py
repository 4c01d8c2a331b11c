r"""Boundary values of a Poisson equation with a random source: samples of the exact posterior, and how to grade them.

.. math::
    -u'' = f = \sum_{k \le 8} c_k \sin k\pi x, \quad c_k \sim N(0, k^{-2}), \qquad u(0) = 0.5, \quad u(1) = -0.25 .

With the three-point Laplacian A on 63 inner nodes and its eigenvalues :math:`\lambda_k = 4 h^{-2} \sin^2(k\pi h/2)` the
solution is Gaussian with the straight line between the boundary values as mean, and the covariance

.. math::  \Sigma = \sum_k \frac{s_k s_k^T}{(k\lambda_k)^2}, \qquad s_k = \sin k\pi x .

The prior leaves the boundary values free, f and u are the channels of one field; conditioning is exact
(`GaussianGuide`, r = 0). A state of the diffusion is :math:`x_0 + \sigma\varepsilon`, so that its residual Au - f is
white noise seen through the stencil,

.. math::
    \mathrm{rms}\,(Au - f) = \sigma h^{-2}\,\sqrt{1 + 4 + 1 + h^4} \approx \sqrt 6\,\sigma/h^2, \qquad
    \text{five points: } \sqrt{20}\,\sigma/h^2,

at *any* noise level: a penalty on the raw residual of a state measures the noise. The last denoise removes it.

Source: Chen Kai, *PDE and Machine Learning (7)*, experiment 4, which gives neither grid nor conditioning; the setting
and the closed forms are derived.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.findings import Panel, heat_map, largest, line
from diffuscope.physics import GaussianGuide, Grid, Poisson, at_nodes, posterior
from diffuscope.physics.priors import joint_sine_prior, sine_prior
from diffuscope.samplers import DPMSolverPP2M, sample
from diffuscope.schedules import VE
from diffuscope.times import log_snr_times

from .experiment import Experiment
from .part import Part, largest_difference, loglog, panel

INNER, MODES = 63, 8
ENDS = (0.5, -0.25)
SCHEDULE = VE(1e-8, 100.0)
STEPS, SAMPLES = 120, 4000
PROBLEMS, DRAWS = 2000, 19
LEVELS = (1e-8, 1e-6, 1e-4, 1e-2)
SQUARE, SQUARE_SAMPLES = 31, 200  # inner nodes along a side, and samples in the plane
ROUNDING = "float64"
EXPERIMENT = Experiment(
    name="poisson",
    title="A Poisson equation with given boundary values",
    question="Do samples satisfy equation and boundary values, and are they samples of the posterior?",
    source="Chen Kai, PDE and Machine Learning (7), experiment 4",
    seconds=15,
    settings={
        "1-D": "63 inner nodes, 8 modes, u(0) = 0.5, u(1) = -0.25",
        "2-D": "31 x 31 inner nodes, 8 x 8 modes, u = x² − y² on the boundary",
        "schedule": "alpha = 1, sigma = t from 100 to 1e-8, equal ratios; the residual at 1e-8, 1e-6, 1e-4, 0.01",
        "sampler": "DPM-Solver++(2M), 120 steps and a denoise",
        "samples": "4,000 in 1-D, 200 in 2-D; intervals: 19 for each of 2,000 problems, in 60 steps to 1e-5",
    },
)


@dataclass(frozen=True, eq=False)
class Runs:
    """Fields before and after the last denoise; of channels f and u, or of u."""

    noisy: Tensor
    clean: Tensor


def interval() -> Grid:
    """The unit interval with its ends."""
    return Grid((INNER + 2,))


def square() -> Grid:
    """The unit square with its sides."""
    return Grid((SQUARE + 2, SQUARE + 2))


def boundary_of(grid: Grid, prior: Gaussian, y: Tensor) -> GaussianGuide:
    """The prior of u, or of channels f and u, given the boundary values of u."""
    nodes = prior.dimension - grid.size + grid.boundary.flatten().nonzero()[:, 0]
    return GaussianGuide(ExactDenoiser(prior, SCHEDULE), at_nodes(nodes, prior.event_shape), y)


def run(guide: GaussianGuide, n: int, generator: torch.Generator, low: float = LEVELS[0], steps: int = STEPS) -> Runs:
    """Samples from pure noise, at the last noise level `low` and after a denoise there."""
    start = SCHEDULE.sigma_max * torch.randn(n, *guide.event_shape, dtype=torch.float64, generator=generator)
    times = log_snr_times(SCHEDULE, SCHEDULE.sigma_max, low, steps)
    noisy = sample(DPMSolverPP2M(), guide, start, times)
    return Runs(noisy, guide(noisy, times[-1]))


def residuals(grid: Grid, fields: Tensor) -> Float[Tensor, "batch inner"]:
    """Au - f at inner nodes."""
    return Poisson(grid).residual(fields[:, 1], fields[:, 0])[:, ~grid.boundary]


def relative_residual(grid: Grid, fields: Tensor) -> float:
    """max |Au - f| / (|A| max |u|), |A| the sum of the stencil's absolute values."""
    stencil = sum(4 / h**2 for h in grid.spacing)
    return largest_difference(residuals(grid, fields), 0) / (stencil * largest_difference(fields[:, 1], 0))


def closed_form() -> tuple[Float[Tensor, " nodes"], Float[Tensor, "nodes modes"]]:
    """The posterior's mean, and the columns s_k / (k lambda_k)."""
    x, h = interval().along(0), interval().spacing[0]
    k = torch.arange(1, MODES + 1, dtype=torch.float64)
    eigenvalues = 4 / h**2 * torch.sin(k * math.pi * h / 2) ** 2
    return ENDS[0] + (ENDS[1] - ENDS[0]) * x, torch.sin(math.pi * k * x[:, None]) / (k * eigenvalues)


@EXPERIMENT.part("Are the samples those of the posterior?")
def moments(part: Part) -> str:
    """Mean and covariance of the conditioned prior against closed forms, and of samples within their errors."""
    grid, y = interval(), torch.tensor(ENDS, dtype=torch.float64)
    known = posterior(sine_prior(grid, MODES), at_nodes(torch.tensor([0, INNER + 1]), grid.shape), y)
    assert isinstance(known, Gaussian)
    mean, columns = closed_form()
    covariance = (known.eigenvectors * known.eigenvalues) @ known.eigenvectors.T
    off = [largest_difference(known.mean, mean), largest_difference(covariance, columns @ columns.T)]
    title = "Mean and covariance of the prior given the boundary values, distance from the closed form"
    part.at_most("closed-form", title, largest(off), 1e-12, ROUNDING, source="derived")
    found = run(boundary_of(grid, joint_sine_prior(grid, MODES), y), SAMPLES, part.generator)
    u = found.clean[:, 1]
    off = largest_difference(u[:, [0, -1]], y)
    part.at_most("boundary", "Boundary values of every sample, distance", off, 1e-10, "our bar", source="derived")
    # orthogonal columns: whitened coordinates are independent standard normal numbers
    z = (u - mean) @ (columns / columns.square().sum(0))
    second = (z.T @ z / len(z) - torch.eye(MODES, dtype=torch.float64)) * math.sqrt(len(z))
    second = second / torch.where(torch.eye(MODES, dtype=torch.bool), math.sqrt(2), 1.0)
    apart = largest([largest_difference(z.mean(0), 0) * math.sqrt(len(z)), largest_difference(second, 0)])
    count = MODES * (MODES + 3) // 2
    title = f"Mean and covariance of {len(z):,} samples in all {MODES} modes, {count} numbers: the farthest"
    because = "standard errors; one of the numbers exceeds 4.5 once in 3,000 runs"
    part.at_most("samples", title, apart, 4.5, because, source="derived", unit="standard errors")
    sigma = columns @ columns.T
    sampled = (u - mean).T @ (u - mean) / len(u)
    apart = float((sampled - sigma).norm() / sigma.norm())
    expected = math.sqrt((float(sigma.trace()) ** 2 + float(sigma.square().sum())) / len(u)) / float(sigma.norm())
    title = "Covariance of the samples, relative Frobenius distance"
    because = f"three times its root mean square by chance, {expected:.2%}"
    part.at_most("frobenius", title, apart, 3 * expected, because, source="derived")
    x, spread = grid.along(0), sigma.diagonal().sqrt()
    part.chart(
        "The posterior of the solution",
        panel(
            "",
            "x",
            "u",
            line(x, mean, "mean, 90% interval", low=mean - 1.645 * spread, high=mean + 1.645 * spread),
            *(line(x, u[i], "samples" if i == 0 else "") for i in range(4)),
        ),
        panel("standard deviation", "x", "", line(x, spread, "exact"), line(x, u.std(0), f"{len(u):,} samples")),
        how_to_read="Every sample has the given boundary values. The band is the uncertainty about the unknown source.",
    )
    return f"Yes: all {count} numbers of mean and covariance are within {apart_words(apart, expected)}."


def apart_words(apart: float, expected: float) -> str:
    """The distance of the covariances beside what chance gives."""
    return f"their sampling errors; the covariance is {apart:.1%} off, by chance {expected:.1%}"


@EXPERIMENT.part("What does the residual of a state say?")
def residual(part: Part) -> str:
    """The residual over noise levels, and after the last denoise."""
    grid, y = interval(), torch.tensor(ENDS, dtype=torch.float64)
    guide, h = boundary_of(grid, joint_sine_prior(grid, MODES), y), interval().spacing[0]
    expected, apart, sizes, clean = math.sqrt(6 + h**4), [], [], []
    for low in LEVELS:
        found = run(guide, SAMPLES // 4, part.generator, low)
        squares = (residuals(grid, found.noisy) * h**2 / low).square().mean(1)
        apart.append(abs(float(squares.mean()) - expected**2) / (float(squares.std()) / math.sqrt(len(squares))))
        sizes.append(float(squares.mean().sqrt()) * low / h**2)
        clean.append(relative_residual(grid, found.clean))
    title = f"Mean square of the residual of states at σ = {LEVELS[0]:g} to {LEVELS[-1]:g} is 6 σ²/h⁴: the farthest"
    because = "four standard errors, exceeded once in 16,000"
    part.at_most("raw", title, largest(apart), 4, because, source="derived", unit="standard errors")
    title = f"Residual after the last denoise at σ = {LEVELS[0]:g}, over |A| max |u|"
    part.at_most("denoised", title, clean[0], 1e-12, ROUNDING, source="derived")
    levels = list(LEVELS)
    after = [value * 4 / h**2 for value in clean]
    part.chart(
        "The residual of a state is its noise",
        loglog(
            "",
            "σ",
            "residual",
            line(levels, sizes, "state at σ, root mean square"),
            line(levels, [math.sqrt(6) * each / h**2 for each in levels], "√6 σ/h²"),
            line(levels, after, "after a denoise, maximum per max |u|"),
        ),
        how_to_read="A state of the diffusion is a solution plus noise, which the stencil amplifies by √6/h². A "
        "penalty on this residual pushes against the noise. A denoised field satisfies the equation to rounding at "
        "any level.",
    )
    return (
        f"Its noise, √6 σ/h², whatever the field: at σ = {LEVELS[-1]:g} it is {sizes[-1]:.0f}. After the denoise the "
        f"relative residual is {clean[0]:.0e}."
    )


@EXPERIMENT.part("Do its intervals cover?")
def intervals(part: Part) -> str:
    """Problems drawn from the prior: the truth among samples of its own posterior, by rank."""
    grid = interval()
    prior = sine_prior(grid, MODES)
    truth = prior.sample(PROBLEMS, generator=part.generator)
    y = truth[:, [0, -1]].repeat_interleave(DRAWS, 0)
    # at a level of 1e-5 the smallest mode, of 2e-4, is resolved
    draws = run(boundary_of(grid, prior, y), PROBLEMS * DRAWS, part.generator, 1e-5, STEPS // 2).clean
    middle, quarter = INNER // 2 + 1, INNER // 4 + 1
    shares = {}
    for name, node in (("1/2", middle), ("1/4", quarter)):
        values = draws[:, node].reshape(PROBLEMS, DRAWS)
        exact = truth[:, node]
        shares[name] = float(((exact > values.amin(1)) & (exact < values.amax(1))).double().mean())
    error = math.sqrt(0.9 * 0.1 / PROBLEMS)
    for name, share in shares.items():
        title = f"Share of {PROBLEMS:,} problems in which u({name}) is between the extremes of {DRAWS} samples"
        because = f"(n − 1)/(n + 1) for n = {DRAWS} exact samples; three standard errors, {3 * error:.3f}"
        part.equals(f"cover-{name[-1]}", title, share, (DRAWS - 1) / (DRAWS + 1), 3 * error, because, source="derived")
    return f"Yes: 90% intervals cover in {shares['1/2']:.1%} and {shares['1/4']:.1%} of {PROBLEMS:,} problems."


@EXPERIMENT.part("And in the plane?")
def plane(part: Part) -> str:
    """The five-point equation with boundary values of a harmonic polynomial, which is the posterior mean."""
    grid = square()
    x, y = grid.coordinates.unbind(-1)
    harmonic = x**2 - y**2  # its second differences vanish exactly
    guide = boundary_of(grid, joint_sine_prior(grid, MODES), harmonic[grid.boundary])
    found = run(guide, SQUARE_SAMPLES, part.generator)
    u, h = found.clean[:, 1], grid.spacing[0]
    off = largest_difference((u - harmonic)[:, grid.boundary], 0)
    part.at_most("boundary-2d", "Boundary values of every sample, distance", off, 1e-10, "our bar", source="derived")
    part.at_most("residual-2d", "Residual after the last denoise, over |A| max |u|",
                 relative_residual(grid, found.clean), 1e-12, ROUNDING, source="derived")  # fmt: skip
    squares = (residuals(grid, found.noisy) * h**2 / LEVELS[0]).square().mean(1)
    error = float(squares.std()) / math.sqrt(len(squares))
    title, because = "Mean square of the residual before it, in σ²/h⁴", "20 + h⁴ up to four standard errors"
    part.equals("raw-2d", title, float(squares.mean()), 20 + h**4, 4 * error, because, source="derived")
    k = torch.arange(1, MODES + 1, dtype=torch.float64)
    symbol = 4 / h**2 * torch.sin(k * math.pi * h / 2) ** 2
    waves = torch.sin(math.pi * k[:, None] * grid.along(0))
    weights = 1 / (k[:, None] * k * (symbol[:, None] + symbol))
    # coordinates in the modes: sin is orthogonal on the inner nodes, with squared norm 1/(2h)
    z = torch.einsum("bij,ki,lj->bkl", u - harmonic, waves, waves) * (2 * h) ** 2 / weights
    first, second = z.mean(0) * math.sqrt(len(z)), (z.square().mean(0) - 1) * math.sqrt(len(z) / 2)
    # the square of a normal number is skew: with 200 samples 128 numbers need a wider bound above
    apart = largest([largest_difference(first, 0), largest_difference(second, 0)])
    title = f"Mean and variance in all {MODES**2} modes, {2 * MODES**2} numbers: the farthest"
    because = "standard errors; χ² of 200 samples exceeds 4.5 once in 20,000, the normal less often"
    part.at_most("samples-2d", title, apart, 4.5, because, source="derived", unit="standard errors")
    edges = torch.linspace(0, 1, SQUARE + 3, dtype=torch.float64)
    maps = {"a sample": u[0], "its difference from the mean": u[0] - harmonic, "standard deviation": u.std(0)}
    part.chart(
        "A sample in the plane",
        *(heat_panel(name, edges, values) for name, values in maps.items()),
        how_to_read="The boundary values are those of x² − y², which is also the posterior mean.",
    )
    return f"The same: residuals √20 σ/h² before and {relative_residual(grid, found.clean):.0e} (relative) after."


def heat_panel(name: str, edges: Tensor, values: Tensor) -> Panel:
    """One field as a map."""
    return Panel(name, "x", "y", (heat_map(edges, edges, values.T),), equal_scales=True)

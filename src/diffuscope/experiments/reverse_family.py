r"""The reverse family with one dial, eta: from the probability flow (0) to Anderson's equation (1) and beyond.

.. math::
    \partial_\tau q = -\nabla\cdot\left(\left[-f x + \tfrac{1 + \eta^2}{2} g^2 s\right] q\right)
        + \tfrac{\eta^2}{2} g^2 \Delta q .

With the exact score and the exact start every eta carries :math:`p_T` back to :math:`p_0`. They differ in their effect
on a wrong start: :math:`\frac{d}{d\tau}\mathrm{KL}(q\|p) = -\tfrac{\eta^2}{2} g^2\int q\,|\nabla\log(q/p)|^2`. The
flow (eta = 0) keeps every error: :math:`\log(q/p)` is constant along each trajectory. Noise forgets, at a rate that
grows with :math:`\eta^2`, which is why a stochastic start followed by a deterministic end is a good sampler.

For Gaussian data N(1.3, 0.25), started from N(0, 1), an independent computation gives the relative entropy that is
left at the end: 0.044069 and 0.014779 nats (eta = 0 and 0.5, known to 5e-7), 5.651e-4 (1, to 5e-8) and 1.22e-9 (2, to
5e-12). The mixture is 0.35 N(-1.4, 0.06) + 0.65 N(1, 0.12), its wrong start N(-0.6, 1.3). Time 1 is the time 1.5 of
:math:`dX = -X\,dt + \sqrt2\,dB`: beta = 3.

Source: Cao, Johnston, Laurent, Le & Motsch 2025, https://arxiv.org/abs/2501.17054, section 2.
"""

import numpy as np
import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.densities import (
    CrankNicolson,
    Density,
    ExactDivergence,
    GaussianReverse,
    Grid,
    reverse_evolution,
    transport,
)
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.findings import Panel, density_bars, heat_map, largest, line
from diffuscope.samplers import StochasticHeun, StrongOrder15, sample, trajectory
from diffuscope.schedules import VP
from diffuscope.times import log_snr_times

from .distribution_functions import distribution_function
from .experiment import Experiment
from .part import Part, kolmogorov, largest_difference, panel

OU = VP(3.0, 3.0)  # Ornstein-Uhlenbeck: its time 1 is the time 1.5 of dX = -X dt + sqrt 2 dB
HORIZON, CLEAN = 1.0, 0.007  # where generation starts and where it stops
REMEMBERED = 0.4  # what starts here is not yet forgotten at the end
SWITCH = 0.27  # from stochastic to deterministic
ETAS = (0.0, 0.5, 1.0, 2.0)
PARTICLES = 1_000_000
INDEPENDENT = {0.0: (0.044069, 5e-7), 0.5: (0.014779, 5e-7), 1.0: (5.651e-4, 5e-8), 2.0: (1.22e-9, 5e-12)}
DATA = GaussianMixture.isotropic(
    torch.tensor([0.35, 0.65], dtype=torch.float64),
    torch.tensor([[-1.4], [1.0]], dtype=torch.float64),
    torch.tensor([0.06, 0.12], dtype=torch.float64),
)
DENOISER = ExactDenoiser(DATA, OU)
WRONG = Gaussian.isotropic(torch.tensor([-0.6], dtype=torch.float64), 1.3)  # a start other than p_T
EXPERIMENT = Experiment(
    name="reverse-family",
    title="The reverse family with one dial",
    question="What does each sampler's equation generate, from a correct and from a wrong start?",
    source="Cao et al. 2025, https://arxiv.org/abs/2501.17054, section 2",
    seconds=25,
    settings={
        "T": "1; generation stops at 0.007; the hybrid is deterministic below 0.27",
        "eta": "0, 0.5, 1, 2",
        "particles": "1,000,000 from 0.4, which is not yet forgotten at the end, from the exact and from a wrong start",
    },
)


def level(t: float) -> tuple[float, float]:
    """alpha and sigma at time t."""
    return float(OU.alpha(t)), float(OU.sigma(t))


def log_p(t: float, x: Tensor) -> Tensor:
    """log p_t(x) of the noised data."""
    return DATA.log_prob(x, *level(t))


def log_wrong(x: Tensor) -> Tensor:
    """The wrong start's log density."""
    return WRONG.log_prob(x, 1.0, 1e-9)


def exact(grid: Grid, t: float) -> Density:
    """The averages of p_t over the cells."""
    return Density(grid, grid.averages(lambda x: log_p(t, x), nodes=4))


def generated(start: Density, times: Tensor, eta: float = 1.0) -> Density:
    """The end of the reverse equation by finite volumes."""
    *_, end = reverse_evolution(DENOISER, start, times, CrankNicolson(), eta=eta)
    return end


def forward(x: Tensor, t: float, generator: torch.Generator) -> Tensor:
    """Clean data noised to time t."""
    alpha, sigma = level(t)
    return alpha * x + sigma * torch.randn(x.shape, dtype=torch.float64, generator=generator)


def gaussian(eta: float) -> GaussianReverse:
    """Data N(1.3, 1/4), whose generation starts at T from N(0, 1): everything is in closed form."""
    return GaussianReverse(OU, 1.3, 0.25, HORIZON, 0.0, 1.0, eta)


@EXPERIMENT.part("Is generation the forward process played backward?")
def there_and_back(part: Part) -> str:
    """The generated density in space and log-SNR against the forward one, with trajectories on it."""
    grid, times = Grid.line(-6.4, 6.4, 320), log_snr_times(OU, HORIZON, CLEAN, 160)
    middle = slice(80, 240)  # cells of [-3.2, 3.2]
    densities = reverse_evolution(DENOISER, exact(grid, HORIZON), times, CrankNicolson())
    q = torch.stack([density.values[middle] for density in densities])[::2]
    p = torch.stack([exact(grid, t).values[middle] for t in times[::2].tolist()])
    error = float((q - p).abs().max() / p.max())
    title = "Generated and forward density differ, over space and time, by at most this share of the maximum"
    part.at_most("played-backward", title, error, 0.01, "second order, cells of 0.04", source="derived")

    start, log_snr = forward(DATA.sample(3, generator=part.generator), HORIZON, part.generator), OU.lam(times)
    paths = []
    for sampler in (StochasticHeun(eta=0.0), StochasticHeun()):
        path = trajectory(sampler, DENOISER, start, times, noise=part.generator)
        states, style = torch.stack([at.x_t[:, 0] for at in path]), "dotted" if sampler.stochastic else "solid"
        paths += [line(log_snr, states[:, k], style=style) for k in range(3)]
    shown = log_snr[::2]
    edges = torch.cat([shown[:1], (shown[1:] + shown[:-1]) / 2, shown[-1:]])
    colors = q.reshape(len(q), -1, 2).mean(2).T.clamp(max=0.7)  # two cells of the grid to one of the picture
    picture = heat_map(edges, torch.linspace(-3.2, 3.2, 81), colors)
    part.chart(
        "The generated density, with three trajectories of the flow and three of the SDE",
        panel("", "log(α/σ): noise on the left, data on the right", "x", picture, *paths),
        how_to_read="Color is density, cut at 0.7. Smooth lines follow the probability flow; dotted ones follow "
        "Anderson's SDE from the same starts.",
    )
    return f"Yes: the generated density equals the forward one at every time, to {error:.1e} of its maximum."


@EXPERIMENT.part("How much of a wrong start does each eta forget?")
def forgetting(part: Part) -> str:
    """KL to the exact distribution on Gaussian data, in closed form."""
    t = torch.linspace(HORIZON, 0.02, 76, dtype=torch.float64)
    curves = []
    for eta, (nats, half_digit) in INDEPENDENT.items():
        kl = gaussian(eta).relative_entropy
        part.equals(
            f"left-{eta:g}".replace(".", "-"),
            f"Relative entropy left at the end with eta = {eta:g}",
            kl(0.0),
            nats,
            half_digit,
            "the digits of the reference",
            source="independent computation",
            unit="nats",
        )
        curves.append(line(HORIZON - t, [kl(s) for s in t.tolist()], f"eta = {eta:g}"))
    part.chart(
        "What each eta leaves of a wrong start",
        Panel("", "reverse time T − t", "KL to the exact distribution, nats", tuple(curves), y_log=True),
        how_to_read="Generation runs to the right. The deterministic flow is level: it carries the error to the data. "
        "Noise removes it, at a rate that increases toward the data.",
    )
    start, one, two = (gaussian(eta).relative_entropy(t) for eta, t in ((0.0, HORIZON), (1.0, 0.0), (2.0, 0.0)))
    return f"The flow keeps all of the {start:.4f} nats of a wrong start; eta = 1 leaves {one:.1e}, eta = 2 {two:.1e}."


@EXPERIMENT.part("Does every eta generate the data distribution?")
def same_distribution(part: Part) -> str:
    """From the exact start, finite volumes for four values of eta."""
    grid, times = Grid.line(-6, 6, 300), log_snr_times(OU, HORIZON, CLEAN, 300)
    data, ends = exact(grid, CLEAN), {eta: generated(exact(grid, HORIZON), times, eta) for eta in ETAS}
    errors = {eta: end.l1_distance(data) for eta, end in ends.items()}
    title = "Largest L1 error of eta = 1/2, 1, 2 with 300 cells"
    part.at_most("every-eta", title, largest(errors[eta] for eta in ETAS[1:]), 5e-3, "second order in cells and steps")

    inside = grid.centers().abs() < 3
    x, truth = grid.centers()[inside], line(grid.centers()[inside], data.values[inside], "data", style="dashed")
    part.chart(
        "Every eta ends in the data distribution",
        panel("", "x", "density", *(line(x, q.values[inside], f"eta = {eta:g}") for eta, q in ends.items()), truth),
        how_to_read="Finite volumes with 300 cells from the exact distribution at T = 1. The curve of eta = 0 is "
        "smoothed by its first-order upwind flux, not by its equation.",
    )
    return (
        f"Yes. With 300 cells eta = 1 is off by {errors[1.0]:.1e} in L1; the flow, which has no diffusion and "
        f"therefore a first-order flux, by {errors[0.0]:.2f}."
    )


@EXPERIMENT.part("What does the deterministic flow do with a wrong start?")
def characteristics(part: Part) -> str:
    """log q/p along trajectories from a wrong start."""
    x = torch.linspace(-2.2, 1.9, 83, dtype=torch.float64)[:, None]
    origin = transport(DENOISER, x, CLEAN, HORIZON, divergence=ExactDivergence(), tolerance=1e-11)
    log_q = log_wrong(origin.x_s) + origin.log_det[:, 0]
    at_data, at_start = log_q - log_p(CLEAN, x), log_wrong(origin.x_s) - log_p(HORIZON, origin.x_s)
    title, error = "log q/p is constant along trajectories from a wrong start", largest_difference(at_data, at_start)
    part.at_most("constant", title, error, 1e-8, "integration tolerance 1e-11", unit="nats")

    at, p = x[:, 0], log_p(CLEAN, x).exp()
    density = line(at, log_q.exp(), "from the wrong start"), line(at, p, "data", style="dashed")
    ratio = line(at, at_data, "where the point arrives"), line(at, at_start, "where it started", style="dotted")
    part.chart(
        "A wrong start under the deterministic flow",
        panel("density at the data", "x", "density", *density),
        panel("log q/p", "x", "nats", *ratio),
        how_to_read="Left: the generated density and the data. Right: the error in log density where each point "
        "arrives and where it came from; the two curves coincide.",
    )
    return "It forgets nothing: every point reaches the data with the same error in log density as at the start."


@EXPERIMENT.part("Do a million particles agree?")
def particles(part: Part) -> str:
    """A million particles of a sampler against the finite-volume density, from an exact and from a wrong start."""
    grid, fine, coarse = Grid.line(-6, 6, 800), *(log_snr_times(OU, REMEMBERED, CLEAN, n) for n in (200, 25))
    wrong = Density(grid, grid.averages(log_wrong, nodes=4))
    solutions = [generated(start, fine) for start in (exact(grid, REMEMBERED), wrong)]
    x, noise = DATA.sample(PARTICLES, generator=part.generator), part.generator
    right = sample(StrongOrder15(), DENOISER, forward(x, REMEMBERED, noise), coarse, noise=noise)[:, 0]
    x = WRONG.sample(PARTICLES, generator=noise)
    ends = (right, sample(StrongOrder15(), DENOISER, x, coarse, noise=noise)[:, 0])
    mass = solutions[1].values.cumsum(0) * grid.volume
    below = torch.cat([torch.zeros(1, dtype=torch.float64), mass]).numpy()
    part.follows_distribution(
        "wrong-start",
        "A million particles from a wrong start follow the reverse equation from the same start",
        ends[1],
        lambda y: np.interp(y, grid.faces().numpy(), below),
        bias=1e-3,
        source="derived",
    )
    distance = kolmogorov(ends[0], lambda y: distribution_function(DATA, torch.from_numpy(y), *level(CLEAN)).numpy())

    data, inside = exact(grid, CLEAN), grid.centers().abs() < 3
    x, truth = grid.centers()[inside][::2], data.values[inside][::2]
    panels = (
        panel(
            title,
            "x",
            "density",
            density_bars(drawn, torch.linspace(-3, 3, 121), "particles"),
            line(x, solution.values[inside][::2], "equation"),
            line(x, truth, "data", style="dashed"),
        )
        for title, drawn, solution in zip(("from the exact start", "from a wrong start"), ends, solutions, strict=True)
    )
    part.chart(
        "A million particles",
        *panels,
        how_to_read="Histograms: particles. Solid: the reverse equation from the same start. Dashed: the data.",
        shared_y=True,
    )
    return (
        f"Yes. From the exact start their Kolmogorov distance to the data is {distance:.4f}. From a wrong start they "
        f"follow the equation, whose L1 distance to the data is {solutions[1].l1_distance(data):.2f}."
    )


@EXPERIMENT.part("Stochastic early, deterministic late?")
def hybrid(part: Part) -> str:
    """eta = 1, then 0, on Gaussian data in closed form."""
    noisy = gaussian(1.0)
    late = GaussianReverse(OU, 1.3, 0.25, SWITCH, *noisy.distribution(SWITCH), 0.0)
    times = torch.linspace(HORIZON, CLEAN, 81, dtype=torch.float64)
    both = [(noisy if t > SWITCH else late).relative_entropy(t) for t in times.tolist()]
    curves = [line(HORIZON - times, both, "eta = 1, then 0")]
    for flow in (noisy, gaussian(0.0)):
        kl, style = [flow.relative_entropy(t) for t in times.tolist()], "dotted" if flow is noisy else "dashed"
        curves.append(line(HORIZON - times, kl, f"eta = {flow.eta:g} throughout", style=style))
    part.chart(
        "Stochastic early, deterministic late",
        Panel("", "reverse time T − t", "KL to the exact distribution, nats", tuple(curves), y_log=True),
        how_to_read="The level part of the solid line is the deterministic end.",
    )
    return f"Early noise forgets the start; the deterministic end keeps the {both[-1]:.1e} nats left at the switch."

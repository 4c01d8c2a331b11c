r"""The support theorem: wherever the reverse process starts, it ends in the support of the data, reweighted.

**Containment.** Data are uniform on the unit circle. At a small time a particle is :math:`\sigma\varepsilon` away from
the circle, and its denoised position, at the radius :math:`I_1(\kappa)/I_0(\kappa) = 1 - 1/2\kappa + \dots`, is
:math:`\sigma^2/2` inside it. The start decides where on the circle (`starts`).

**Weights.** The generated distribution is :math:`q_0 = h\rho_0`. As the reverse transition is a Markov kernel that
carries :math:`\rho_T` to :math:`\rho_0`, no distance grows: :math:`TV(q_0, \rho_0) \le TV(\nu, \rho_T)` and
:math:`\sup q_0/\rho_0 \le \sup \nu/\rho_T`.

**Constraints.** If :math:`C x = d` on the support of the data, then :math:`C\,E[x_0 | x_t] = d` for every
:math:`x_t`, since an average of points of an affine subspace lies in it. The state itself satisfies them only at zero
noise: :math:`C x_t - \alpha d` has the standard deviation :math:`\sigma`. Here 40 of scikit-learn's digits of 64 pixels
lie in an affine subspace of 39 dimensions, which leaves 25 equations.

**Leaving.** The theorem needs time that reaches zero, and the exact score. Stopped at t > 0, a sample is off by
:math:`\sigma_t\varepsilon`; with the score of *blurred* data, :math:`\rho_0 * N(0, \delta^2)`, by :math:`\delta`.

Source: Cao, Johnston, Laurent, Le & Motsch 2025, https://arxiv.org/abs/2501.17054 (the support theorem). Constraints
and distances are derived.
"""

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data import load_data
from diffuscope.denoisers import Denoiser, ExactDenoiser
from diffuscope.exact import Empirical, GaussianMixture, Ring
from diffuscope.findings import Panel, density_bars, farthest, largest, line, points
from diffuscope.samplers import DDPM, MixtureTransition, SDEDPMSolverPP2M, instant, sample, trajectory
from diffuscope.times import log_snr_times

from ..experiment import Experiment
from ..four_points import HORIZON, OU, POINTS, FourPoints
from ..part import PIXEL_RANGE, Part, largest_difference, loglog, panel
from .starts import angle_density, bayes_weight, bell, gaussian, mean_on_circle, point, square, uniform

CIRCLE_HORIZON, CIRCLE_END, CIRCLE_PARTICLES, SHOWN = 1.0, 1e-6, 20_000, 200
CIRCLE_STARTS = {
    "N(0, I)": bell(0.0, 0.0, 1.0),
    "N((2, 1), 0.3²)": bell(2.0, 1.0, 0.3),
    "a square": square,
    "the point (½, -1)": bell(0.5, -1.0, 0.0),
}
BUMPS_END, BUMPS_PARTICLES = 1e-3, 40_000
BUMPS = GaussianMixture.isotropic(
    torch.tensor((0.3, 0.7), dtype=torch.float64),
    torch.tensor(((-1.2,), (0.8,)), dtype=torch.float64),
    torch.tensor((0.25, 0.4), dtype=torch.float64) ** 2,
)
STEPS = 60
DIGITS, SAMPLES = 40, 200
SIZES, POINTS_STEPS, POINTS_PARTICLES = (1e-3, 3e-3, 1e-2, 3e-2), 120, 10_000
EXPERIMENT = Experiment(
    name="support",
    title="The reverse process stays in the support of the data",
    question="What survives of the data when the reverse process is started from the wrong distribution?",
    source="Cao et al. 2025, https://arxiv.org/abs/2501.17054, support theorem",
    seconds=10,
    settings={
        "process": "dX = -X dt + √2 dB, η = 1",
        "circle": "20,000 particles, of which 200 are shown, from T = 1 to 1e-6 in 60 steps; one of four "
        "starts is the point (0.5, -1)",
        "two bumps": f"0.3 N(-1.2, 0.25²) + 0.7 N(0.8, 0.4²), 40,000 particles, from T = {HORIZON:g} to 0.001 in 60 "
        "steps",
        "digits": "40 of scikit-learn's, 200 samples in 60 steps",
        "four points": f"-1.5, -0.2, 0.4, 2; 10,000 particles, T = {HORIZON:g}; 120 steps to σ/α, and blurs, of "
        "0.001, 0.003, 0.01, 0.03",
    },
)


@EXPERIMENT.part("Does it end in the data's support, from any start?")
def containment(part: Part) -> str:
    """Distance from the circle after the last denoising, and where on the circle."""
    denoiser, begin, end = ExactDenoiser(Ring(), OU), instant(OU, CIRCLE_HORIZON), instant(OU, CIRCLE_END)
    times = log_snr_times(OU, CIRCLE_HORIZON, CIRCLE_END, STEPS)
    turn = torch.linspace(0, 2 * math.pi, 201, dtype=torch.float64)
    circle = line(turn.cos(), turn.sin(), "data", style="dotted")
    angles = torch.linspace(-math.pi, math.pi, 73, dtype=torch.float64)
    uniform_density = line([-math.pi, math.pi], [0.5 / math.pi] * 2, "data", style="dotted")
    gaps, deviations, planes, densities = [], [], [], []
    for label, place in CIRCLE_STARTS.items():
        began = place(torch.rand(CIRCLE_PARTICLES, 2, dtype=torch.float64, generator=part.generator))
        ended = sample(SDEDPMSolverPP2M(), denoiser, began, times, noise=part.generator)
        denoised = denoiser(ended, CIRCLE_END)
        gaps.append(largest_difference(denoised.norm(dim=1), 1) / end.sigma**2)
        standard_error = denoised.std(0) / math.sqrt(CIRCLE_PARTICLES)
        deviations.append(largest_difference((denoised.mean(0) - mean_on_circle(place, begin)) / standard_error, 0))
        marks = [points(x[:SHOWN, 0], x[:SHOWN, 1], name) for x, name in ((began, "start"), (denoised, "end"))]
        window, title = (-3.3, 3.3), f"from {label}"
        planes.append(Panel(title, "", "", (*marks, circle), x_range=window, y_range=window, equal_scales=True))
        bars = density_bars(torch.atan2(denoised[:, 1], denoised[:, 0]), angles, "particles")
        by_bayes = line(angles, angle_density(place, begin, angles), "Bayes' rule")
        densities.append(panel(title, "angle", "density", bars, by_bayes, uniform_density))

    title = "After denoising once the largest distance to the circle is σ²/2: the support is reached as t → 0"
    because = "the next term of the expansion of I₁/I₀, and 4.5 σ of noise in the radius"
    part.equals("on-circle", title, farthest(gaps, 0.5), 0.5, 0.01, because, unit="σ²")
    title = "Where on the circle: the mean of the particles is that of Bayes' rule; the largest deviation of all starts"
    because = "4 standard errors: exceeded by chance in 1 of 2,000 runs"
    part.at_most("where", title, largest(deviations), 4.0, because, unit="standard errors")
    part.chart(
        "Four starts, one circle",
        *planes,
        how_to_read=f"The starts and ends of {SHOWN} of {CIRCLE_PARTICLES:,} particles each. From every start they end "
        "on the circle.",
        shared_y=True,
    )
    part.chart(
        "Where on the circle",
        *densities,
        how_to_read="The density of the same ends over the angle. The data are uniform (dotted); a wrong start changes "
        "the weights, by the factor of Bayes' rule (solid), but never the support.",
        shared_y=True,
    )
    return "Yes, from any start, once t reaches 0; but on the circle the start decides where."


@EXPERIMENT.part("With which weights?")
def bayes(part: Part) -> str:
    """Particles against the quadrature of Bayes' rule, for two bumps on the line."""
    begin, end, x = instant(OU, HORIZON), instant(OU, BUMPS_END), torch.linspace(-4, 4, 4001, dtype=torch.float64)
    times = log_snr_times(OU, HORIZON, BUMPS_END, STEPS)
    data, shown = BUMPS.log_prob(x[:, None], end.alpha, end.sigma).exp(), slice(750, 3251, 10)  # -2.5 to 2.5
    distances, panels = [], []
    for start in (gaussian(0.0, 1.0), gaussian(1.5, 0.3), uniform(-3.0, -1.0), point(0.4)):
        density = bayes_weight(BUMPS, start, x, begin, end) * data
        drawn = start.draw(BUMPS_PARTICLES, part.generator)
        ended = sample(SDEDPMSolverPP2M(), ExactDenoiser(BUMPS, OU), drawn, times, noise=part.generator)[:, 0]
        below = torch.searchsorted(ended.sort().values, x[1:]).double() / BUMPS_PARTICLES
        distances.append(largest_difference(below, torch.cumulative_trapezoid(density, x)))
        bars = density_bars(ended, torch.linspace(-2.5, 2.5, 101, dtype=torch.float64), "particles")
        curves = (line(x[shown], density[shown], "h ρ₀"), line(x[shown], data[shown], "data ρ₀", style="dotted"))
        panels.append(panel(f"from {start.label}", "x", "density", bars, *curves))
    title = f"{BUMPS_PARTICLES:,} particles of the reverse SDE have the density h ρ₀: Kolmogorov's distance times the "
    title += "root of their number, the largest of the starts"
    because = "Kolmogorov's distribution: 2.5 is exceeded by chance in 1 of 30,000 runs"
    part.at_most("particles", title, largest(distances) * math.sqrt(BUMPS_PARTICLES), 2.5, because)
    part.chart(
        f"Where {BUMPS_PARTICLES:,} particles end, and what Bayes' rule says",
        *panels,
        how_to_read="Filled: particles of the reverse SDE at t = 0.001. Solid: h ρ₀, drawn without any fit. Dotted: "
        "the data. Every start ends on the data's two bumps and nowhere else, but only a start from the right "
        "distribution gives them their weights.",
        shared_y=True,
    )
    return "The reverse process reweights the distribution of the data, by a factor that Bayes' rule gives."


def total_variation(p: Float[Tensor, " x"], q: Float[Tensor, " x"], spacing: float) -> float:
    """Half the L1 distance of two densities on one even grid."""
    return 0.5 * spacing * float((p - q).abs().sum())


@EXPERIMENT.part("Can an error of the start grow?")
def contraction(part: Part) -> str:
    """Total variation and the largest density ratio, for every start and horizon."""
    end, x = instant(OU, 0.0), torch.linspace(-8, 8, 3201, dtype=torch.float64)
    spacing, data = float(x[1] - x[0]), BUMPS.log_prob(x[:, None], 1.0, 1e-9).exp()
    starts = (gaussian(0.0, 1.0), gaussian(1.5, 0.5), gaussian(-0.5, 0.7), gaussian(-2.0, 0.4), uniform(-3.0, -1.0))
    before, after, ratios = [], [], []
    for start, horizon in itertools.product(starts, (0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 4.0)):
        begin = instant(OU, horizon)
        h = bayes_weight(BUMPS, start, x, begin, end)
        marginal = BUMPS.log_prob(x[:, None], begin.alpha, begin.sigma).exp()
        assert start.density is not None
        nu = start.density(x)
        before.append(total_variation(nu, marginal, spacing))
        after.append(total_variation(h * data, data, spacing))
        ratios.append(float(h[data > 1e-12].max()) / float((nu / marginal).max()))
    growth = largest(a / b for a, b in zip(after, before, strict=True))
    title, because = "TV(q₀, ρ₀) / TV(ν, ρ_T), the largest of 45 starts and horizons", "a Markov kernel contracts it"
    part.at_most("total-variation", title, growth, 1.0, because)
    title = "sup q₀/ρ₀ over sup ν/ρ_T, the largest of them"
    part.at_most("density-ratio", title, largest(ratios), 1.0, "the maximum principle")
    diagonal = line([0.0, 1.0], [0.0, 1.0], "equal", style="dotted")
    part.chart(
        "An error of the start is never amplified",
        panel("", "TV(ν, ρ_T)", "TV(q₀, ρ₀)", points(before, after, "starts and horizons"), diagonal),
        how_to_read="Every point is a start and a horizon, from 0.05 to 4. All lie below the diagonal: the error at "
        "the end is at most that of the start.",
    )
    return "No: the reverse process never amplifies an error of the start."


def some_digits() -> Float[Tensor, "n 64"]:
    """DIGITS training digits as vectors of 64 numbers in [-1, 1]."""
    data = load_data("digits").in_range(*PIXEL_RANGE).subset(DIGITS, 2)
    return data.train.double().reshape(DIGITS, -1)


def equations(rows: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "m d"], Float[Tensor, " m"]]:
    """All orthonormal rows C and the numbers d with C x = d for every row x."""
    center = rows.mean(0)
    _, singular, V = torch.linalg.svd(rows - center, full_matrices=True)
    C = V[int((singular > 1e-10 * singular[0]).sum()) :]
    return C, C @ center


@EXPERIMENT.part("What if the data satisfy linear equations?")
def constraint(part: Part) -> str:
    """The equations along a run of the reverse process, of the state and of its denoised position."""
    rows = some_digits()
    C, d = equations(rows)
    denoiser = ExactDenoiser(Empirical(rows), OU)
    start = torch.randn(SAMPLES, rows.shape[1], dtype=torch.float64, generator=part.generator)
    sigmas, of_state, of_denoised = [], [], []
    for state in trajectory(DDPM(), denoiser, start, log_snr_times(OU, 1.5, 1e-6, STEPS), noise=part.generator):
        sigmas.append(state.at.sigma)
        of_state.append(float((state.x_t @ C.T - state.at.alpha * d).square().mean().sqrt()))
        of_denoised.append(largest_difference(denoiser(state.x_t, state.t) @ C.T, d))
    title = f"{len(C)} equations of {DIGITS} digits hold for the exact denoiser along {SAMPLES} runs, to the very end"
    because = "rounding of weights and logarithms"
    part.at_most("denoiser-on-the-way", title, largest(of_denoised), 1e-10, because, source="derived, a corollary")
    residuals = (
        line(sigmas, of_state, "of the state"),
        line(sigmas, [max(residual, 1e-17) for residual in of_denoised], "of the denoiser, largest"),
    )
    part.chart(
        f"{len(C)} linear equations along the reverse process, on {DIGITS} digits",
        loglog("", "noise σ", "residual", *residuals, line(sigmas, sigmas, "σ", style="dotted")),
        how_to_read="Sampling runs from right to left. The denoiser satisfies the equations at every step, to "
        "rounding; the state follows its noise down, and would still be off by σ without the last denoising.",
    )
    return "The exact denoiser satisfies them at every noise level, and so does the sample after its last denoising."


def blurred(delta: float) -> Denoiser:
    """The exact denoiser of the four points blurred by delta."""
    weights = torch.full((len(POINTS),), 1 / len(POINTS), dtype=torch.float64)
    variances = torch.full((len(POINTS),), delta**2, dtype=torch.float64)
    return ExactDenoiser(GaussianMixture.isotropic(weights, POINTS[:, None], variances), OU)


@EXPERIMENT.part("What does the theorem need?")
def leaving(part: Part) -> str:
    """The distance to the data against the last noise level, and against the blur of the score."""

    def off(x: Float[Tensor, "n 1"], alpha: float) -> float:
        return float((x - alpha * POINTS).abs().amin(1).square().mean().sqrt())

    start = torch.randn(POINTS_PARTICLES, 1, dtype=torch.float64, generator=part.generator)
    transition = MixtureTransition(Empirical(POINTS[:, None]))
    stopped, of_blurred, levels = [], [], []
    for size in SIZES:
        end = instant(OU, float(OU.time_of_noise_to_signal(size)))
        times = log_snr_times(OU, HORIZON, end.t, POINTS_STEPS)
        levels.append(end.sigma)
        stopped.append(off(sample(transition, FourPoints(), start, times, noise=part.generator), end.alpha))
        sharp, denoiser = float(OU.time_of_noise_to_signal(size / 100)), blurred(size)
        times = log_snr_times(OU, HORIZON, sharp, POINTS_STEPS)
        ended = sample(SDEDPMSolverPP2M(), denoiser, start, times, noise=part.generator)
        of_blurred.append(off(denoiser(ended, sharp), 1.0))
    within, because = 4 / math.sqrt(2 * POINTS_PARTICLES), f"4 standard errors of {POINTS_PARTICLES:,} particles"
    for name, title, value, unit in (
        ("stopped", "Stopped at σ = 0.001 the root mean square distance is σ", stopped[0] / levels[0], "σ"),
        ("blurred", "With the score of data blurred by δ = 0.001, and t to 0, it is δ", of_blurred[0] / SIZES[0], "δ"),
    ):
        part.equals(name, title, value, 1.0, within, because, source="derived", unit=unit)
    curves = (
        line(levels, stopped, "stopped at σ, exact score"),
        line(SIZES, of_blurred, "t to 0, score blurred by δ"),
        line(SIZES, SIZES, "equal", style="dotted"),
    )
    part.chart(
        "Two ways to leave the support",
        loglog("", "last noise σ, or blur δ of the score", "distance to the data", *curves),
        how_to_read="Root mean square distance to the nearest of four data points. The theorem holds in the limit "
        "only: at any σ > 0, and with any error of the score, the samples lie off the data by as much.",
    )
    return "The exact score, and times down to zero: samples leave the support by the size of either error."

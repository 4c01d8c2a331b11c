r"""One data point and one start: the reverse process in closed form, with DDPM and DDIM inside it.

For data at one point :math:`x_0` the score is :math:`-(x - \alpha x_0)/\sigma^2`, and along the reverse family the
residual :math:`\varepsilon_t = (Y - \alpha_t x_0)/\sigma_t` is an Ornstein-Uhlenbeck process in
:math:`\lambda = \log(\alpha/\sigma)`, so that for a step of any size, with :math:`h = \lambda_s - \lambda_t`,

.. math::  Y_s = \alpha_s x_0 + \sigma_s\left[e^{-\eta^2 h}\varepsilon_t + \sqrt{1 - e^{-2\eta^2 h}}\;\xi\right] .

In the reverse clock :math:`\tau` and with :math:`r = \tfrac12(1 + \eta^2) g^2/\sigma^2` the SDE has the moments

.. math::  \dot m = -f m - r (m - \alpha x_0), \qquad \dot V = -2(f + r) V + \eta^2 g^2 .

At eta = 1 the step is DDPM's posterior :math:`q(x_s | x_t, x_0)`. At eta = 0 it is DDIM, which on any data is Euler's
method in :math:`\sigma/\alpha`. In between, DDIM's eta is that of the reverse family only when
:math:`\eta_{DDIM}^2 = (1 - e^{-2\eta^2 h})/(1 - e^{-2h})`.

On other data the denoiser is frozen over a step, which is of first order. For data :math:`N(m, s_0^2)` the exact
variance of a step is, with :math:`b = 1 - \alpha_t^2/\alpha_s^2` in a variance-preserving schedule,

.. math::  v^* = \tilde\beta + \left(\frac{\alpha_s b}{\sigma_t^2}\right)^2 \mathrm{Var}(x_0 | x_t), \qquad
           \tilde\beta = \frac{b\,\sigma_s^2}{\sigma_t^2} \le v^* \le \beta = b \quad\text{for}\quad 0 \le s_0^2 \le 1 .

Sources: Cao, Johnston, Laurent, Le & Motsch 2025, https://arxiv.org/abs/2501.17054; Ho, Jain & Abbeel 2020,
https://arxiv.org/abs/2006.11239 (eq. 6-7 and section 3.2); Song, Meng & Ermon 2021, https://arxiv.org/abs/2010.02502
(eq. 12 and 16).
"""

import math
from decimal import Decimal, localcontext

import torch
from numpy import ndarray
from scipy.integrate import solve_ivp
from scipy.stats import norm
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.findings import Panel, density_bars, largest, line
from diffuscope.samplers import (
    DDIM,
    DDPM,
    Instant,
    OptimalVariance,
    ReverseBridge,
    Sampler,
    State,
    StochasticDDIM,
    instant,
    instants,
    posterior_variance,
    sample,
    upper_variance,
)
from diffuscope.schedules import VE, VP, Cosine, DiscreteVP, RectifiedFlow, Schedule
from diffuscope.times import log_snr_times

from .experiment import Experiment
from .moments import GaussianDenoiser, apart, at_ratios, distribution_after
from .part import Part, kolmogorov, largest_difference, loglog, panel

OU = VP(2.0, 2.0)  # dX = -X dt + sqrt 2 dB
SCHEDULES = (OU, VE(), Cosine(), RectifiedFlow())
ETAS = (0.0, 0.5, 1.0, 2.0)
POINT, START = 0.7, 2.0
NOISY, CLEAN = 4.0, 0.05  # sigma/alpha at the start and at the end
HORIZON, END = 1.5, 1e-3  # times of the Ornstein-Uhlenbeck process
LENGTHS = (1, 2, 3, 5, 8, 16, 32, 64, 128)  # steps over which the memory of the start is compared
STEPS = (20, 40, 80, 160, 320, 640)  # for the order
EVERY = 9  # of DDPM's 1,000 steps
PARTICLES = 200_000
MEAN, DEVIATION = 1.3, 0.5  # of the Gaussian data
HO, SONG = "Ho et al. 2020, eq. 6-7", "Song et al. 2021, eq. 12 and 16"
EXPERIMENT = Experiment(
    name="fixed-start",
    title="One data point: the reverse process in closed form",
    question="What does the reverse process do from a fixed start, and how do DDPM and DDIM relate to it?",
    source="Cao et al. 2025, https://arxiv.org/abs/2501.17054, fixed start",
    seconds=3,
    settings={
        "data point": "0.7",
        "start": "2",
        "eta": "0, 0.5, 1, 2",
        "noise-to-signal ratio": "4 to 0.05",
        "schedules": "Ornstein-Uhlenbeck (from t = 1.5 to 0.001 in charts over time and for Gaussian data), VE, "
        "cosine, rectified flow; DDPM's linear table for its posterior, at every 9th step",
        "particles": "200,000",
        "Gaussian data": "N(1.3, 0.5²), in 20, 40, 80, 160, 320 and 640 steps",
        "memory of the start": "over 1, 2, 3, 5, 8, 16, 32, 64 and 128 steps",
    },
)


def transition(t: Instant, s: Instant, eta: float, start: float = START) -> tuple[float, float]:
    """Mean and variance of Y_s given Y_t = `start`, by the explicit formula."""
    h = s.lam - t.lam
    residual = (start - t.alpha * POINT) / t.sigma
    return s.alpha * POINT + s.sigma * math.exp(-(eta**2) * h) * residual, -(s.sigma**2) * math.expm1(-2 * eta**2 * h)


def moment_equations(schedule: Schedule, t: Instant, s: Instant, start: float = START) -> list[tuple[float, float]]:
    """Mean and variance at s for every eta by integrating the moment equations of the reverse SDE, at 1e-12."""

    def slope(tau: float, moments: ndarray) -> list[float]:
        now = instant(schedule, t.t - tau)
        f = now.alpha_dot / now.alpha
        g_squared = 2 * now.sigma * now.sigma_dot - 2 * f * now.sigma**2
        slopes = []
        for eta, m, V in zip(ETAS, moments[::2], moments[1::2], strict=True):
            r = (1 + eta**2) / 2 * g_squared / now.sigma**2
            slopes += [-f * m - r * (m - now.alpha * POINT), -2 * (f + r) * V + eta**2 * g_squared]
        return slopes

    solved = solve_ivp(slope, (0.0, t.t - s.t), [start, 0.0] * len(ETAS), "DOP853", rtol=1e-12, atol=1e-15)
    end = solved.y[:, -1].tolist()
    return list(zip(end[::2], end[1::2], strict=True))


def from_the_start(sampler: Sampler, schedule: Schedule, *times: float) -> tuple[float, float]:
    """Mean and variance to which a sampler carries the fixed start over these times."""
    return distribution_after(
        sampler, GaussianDenoiser(schedule, POINT), torch.tensor(times, dtype=torch.float64), START, 0.0
    )


@EXPERIMENT.part("Does the explicit formula solve the reverse SDE?")
def explicit(part: Part) -> str:
    """The formula against the moment equations of the SDE, in four schedules, for four values of eta."""
    errors = []
    for schedule in SCHEDULES:
        t, s = at_ratios(schedule, NOISY, CLEAN)
        moments = zip(ETAS, moment_equations(schedule, t, s), strict=True)
        errors += [apart(transition(t, s, eta), integrated) for eta, integrated in moments]
    title = "The explicit mean and variance solve the moment equations of the reverse SDE for η = 0, ½, 1 and 2"
    because = "the integrator's relative tolerance is 1e-12"
    part.at_most("moment-equations", title, largest(errors), 1e-10, because)

    t, times, panels = instant(OU, HORIZON), torch.linspace(HORIZON, END, 201, dtype=torch.float64), []
    for eta in ETAS:
        moments = torch.tensor([transition(t, s, eta) for s in instants(OU, times)], dtype=torch.float64)
        mean, spread = moments[:, 0], 2 * moments[:, 1].clamp(min=0).sqrt()
        fan = line(times, mean, "mean and two standard deviations", low=mean - spread, high=mean + spread)
        panels.append(Panel(f"η = {eta:g}", "time t", "Y", (fan,), x_range=(HORIZON, 0.0)))
    part.chart(
        f"From the fixed start {START:g} to the one data point {POINT:g}",
        *panels,
        how_to_read="Time runs from noise, on the left, to data; the band is two standard deviations on either side. "
        "Every η ends at the data point. Without noise (η = 0) the start is remembered to the end; the larger η is, "
        "the sooner it is forgotten.",
        shared_y=True,
    )
    return f"Yes: in four schedules and for four η it agrees with the moment equations to {largest(errors):.0e}."


@EXPERIMENT.part("Do particles follow it?")
def particles(part: Part) -> str:
    """Samples from the fixed start against the explicit distribution."""
    t, s = at_ratios(OU, NOISY, 0.5)
    times, x = log_snr_times(OU, t.t, s.t, 5), torch.linspace(-2.5, 4.0, 131, dtype=torch.float64)
    start = torch.full((PARTICLES, 1), START, dtype=torch.float64)
    distances, panels = [], []
    for eta in ETAS[1:]:
        ends = sample(ReverseBridge(eta), GaussianDenoiser(OU, POINT), start, times, noise=part.generator)[:, 0]
        mean, variance = transition(t, s, eta)
        deviation = math.sqrt(variance)
        distances.append(kolmogorov(ends, norm(mean, deviation).cdf) * math.sqrt(PARTICLES))
        formula = line(x, norm.pdf(x.numpy(), mean, deviation).tolist(), "explicit formula", style="dashed")
        panels.append(panel(f"η = {eta:g}", "Y", "density", density_bars(ends, x, "particles"), formula))
    title = "Kolmogorov distance of the particles times the square root of their number: the largest of η = ½, 1, 2"
    because = "Kolmogorov's distribution: 2.4 is exceeded by chance in 1 of 17,000 runs"
    part.at_most("particle-distribution", title, largest(distances), 2.4, because)
    part.chart(
        f"{PARTICLES:,} particles after five steps, and the explicit formula",
        *panels,
        how_to_read="The dashed line is the formula; nothing is fitted.",
        shared_y=True,
    )
    return "Yes: after five steps their distribution agrees with the formula, within statistical error."


def textbook_posterior(betas: tuple[float, ...]) -> list[tuple[float, float]]:
    """Mean and variance of q(x_{k-1} | x_k, x_0), k = 2 .. K, by Ho's formulas in 50 decimal digits."""
    with localcontext(prec=50):
        bar, moments = 1 - Decimal(betas[0]), []
        point, start = Decimal(POINT), Decimal(START)
        for beta in map(Decimal, betas[1:]):
            below, bar = bar, bar * (1 - beta)
            mean = below.sqrt() * beta / (1 - bar) * point + (1 - beta).sqrt() * (1 - below) / (1 - bar) * start
            moments.append((float(mean), float((1 - below) / (1 - bar) * beta)))
    return moments


@EXPERIMENT.part("Is DDPM's posterior the same thing?")
def ddpm(part: Part) -> str:
    """At eta = 1: DDPM's posterior on its own chain."""
    chain = DiscreteVP.linear()
    posteriors = textbook_posterior(chain.betas)
    errors = [
        apart(posteriors[k - 2], from_the_start(sampler, chain, float(k), float(k - 1)))
        for k in range(2, len(chain.betas) + 1, EVERY)
        for sampler in (ReverseBridge(1.0), DDPM())
    ]
    title = f"At η = 1 a step is DDPM's posterior, mean and variance, at every {EVERY}th of the 1,000 steps"
    because, source = "rounding of numbers up to 2", f"{part.source}; {HO}"
    part.at_most("ddpm-posterior", title, largest(errors), 1e-14, because, source=source)
    return "Yes: DDPM's chain is this process at η = 1, including its variance."


@EXPERIMENT.part("And DDIM?")
def ddim(part: Part) -> str:
    """eta = 0 is DDIM, which on any data is Euler's method in sigma/alpha."""
    parts = ([0.3, 0.7], [[-1.0], [1.2]], [0.05, 0.2])  # weights, means and variances
    mixture = GaussianMixture.isotropic(*(torch.tensor(values, dtype=torch.float64) for values in parts))
    errors = []
    for schedule in SCHEDULES:
        t, s = at_ratios(schedule, NOISY, 0.3)
        denoiser = ExactDenoiser(mixture, schedule)
        x = torch.randn(1000, 1, dtype=torch.float64, generator=part.generator)
        noise = (x - t.alpha * denoiser(x, t.t)) / t.sigma
        euler = s.alpha * (x / t.alpha + (s.sigma / s.alpha - t.sigma / t.alpha) * noise)
        errors.append(largest_difference(DDIM().step(denoiser, State(t, x), s).x_t, euler))
    title = "On any data DDIM is Euler's method in σ/α: x_s = α_s [x_t/α_t + (σ_s/α_s - σ_t/α_t) ε]"
    part.at_most("ddim-euler", title, largest(errors), 1e-12, "rounding", source="derived")
    return "DDIM is the other end, η = 0; on any data it is Euler's method in σ/α."


def song_of(eta: Tensor, h: float) -> Tensor:
    """The DDIM-eta whose single step of length h is the reverse family's at `eta`."""
    return (torch.expm1(-2 * eta**2 * h) / math.expm1(-2 * h)).sqrt()


@EXPERIMENT.part("Is DDIM's η the η of the reverse family?")
def song(part: Part) -> str:
    """The share of the start's residual that remains, in one step or in many, for the same eta in both families."""
    t, s = at_ratios(OU, NOISY, CLEAN)
    h, kept = s.lam - t.lam, {"reverse family": [], "DDIM's": []}
    for count in LENGTHS:
        times = log_snr_times(OU, t.t, s.t, count)
        for name, sampler in (("reverse family", ReverseBridge(0.5)), ("DDIM's", StochasticDDIM(0.5))):
            starts = (START, START - t.sigma)
            high, low = (distribution_after(sampler, GaussianDenoiser(OU, POINT), times, x, 0.0)[0] for x in starts)
            kept[name].append((high - low) / s.sigma)
    one_step = kept["DDIM's"][0]
    title = "A single step of DDIM with η = ½ keeps √(1 - η²(1 - exp(-2h))) of the start's residual, not exp(-η²h)"
    exact = math.sqrt(1 + 0.25 * math.expm1(-2 * h))
    part.equals("memory-moves", title, one_step, exact, 1e-12, "rounding", source=SONG)

    etas, axes = torch.linspace(0, 1, 101, dtype=torch.float64), ("η of the reverse family", "DDIM's η of the step")
    of_step = (line(etas, song_of(etas, length), f"h = {length:g}") for length in (4.0, 1.0, 0.25))
    shares = tuple(line(LENGTHS, values, name) for name, values in kept.items())
    title, label = f"from σ/α = {NOISY:g} to {CLEAN:g} at η = ½", "residual of the start kept"
    part.chart(
        "Two families called η",
        panel("one step of length h", *axes, *of_step),
        Panel(title, "number of steps", label, shares, x_log=True, y_range=(0.0, 1.0)),
        how_to_read="Left: on the diagonal the two families would coincide; long steps are far from it. Right: the "
        "reverse family at a fixed η is the same process for any number of steps; DDIM at a fixed η is a different "
        "process for every number of steps.",
    )
    return (
        "No. They agree at 0 and 1 and for small steps; otherwise DDIM's η depends on the step. At η = ½ one step "
        f"of DDIM keeps {one_step:.2f} of the start's residual, the reverse family {kept['reverse family'][0]:.2f}."
    )


@EXPERIMENT.part("What happens on other data?")
def order(part: Part) -> str:
    """Gaussian data: the denoiser is frozen over each step, and the error is of first order."""
    denoiser, curves = GaussianDenoiser(OU, MEAN, DEVIATION**2), []
    because = "the next term of the expansion, between 320 and 640 steps"
    samplers: dict[str, Sampler] = {"DDIM (η = 0)": DDIM(), "η = ½": ReverseBridge(0.5), "DDPM (η = 1)": DDPM()}
    for k, (name, sampler) in enumerate(samplers.items()):
        errors = []
        for count in STEPS:
            times = log_snr_times(OU, HORIZON, END, count)
            end = distribution_after(sampler, denoiser, times, *denoiser.marginal(HORIZON))
            errors.append(apart(end, denoiser.marginal(END)))
        curves.append(line(STEPS, errors, name))
        if name != "η = ½":
            title = f"On data N({MEAN:g}, {DEVIATION:g}²) the error of {name} falls like 1/steps"
            part.equals(f"order-{k}", title, math.log2(errors[-2] / errors[-1]), 1.0, 0.02, because, source="derived")
    part.chart(
        "Freezing the denoiser over a step gives a first-order integrator",
        loglog("", "number of steps", "error of mean or variance", *curves),
        how_to_read="Exact moments, no samples. Twice the steps, half the error.",
    )
    return "The denoiser is then frozen over each step, which gives a first-order integrator."


@EXPERIMENT.part("Which variance should a step have?")
def variance(part: Part) -> str:
    """The variance of ten DDPM steps on Gaussian data with three choices of the step's variance."""
    variances, times = torch.linspace(0, 1, 21, dtype=torch.float64).tolist(), log_snr_times(OU, HORIZON, END, 10)
    reached: dict[str, list[float]] = {"β̃, a single point": [], "v*, exact": [], "β, unit variance": []}
    errors = []
    for s_squared in variances:
        denoiser = GaussianDenoiser(OU, MEAN, s_squared)
        exact = OptimalVariance(Gaussian.isotropic(torch.full((1,), MEAN, dtype=torch.float64), s_squared))
        for name, kernel in zip(reached, (posterior_variance, exact, upper_variance), strict=True):
            end = distribution_after(DDPM(kernel), denoiser, times, *denoiser.marginal(HORIZON))
            reached[name].append(end[1])
            if kernel is exact:
                errors.append(apart(end, denoiser.marginal(END)))
    title = "With v* ten steps reach the exact mean and variance of Gaussian data, for any variance of the data"
    part.at_most("exact-in-ten", title, largest(errors), 1e-14, "rounding", source="derived")
    curves = (line(variances, values, name) for name, values in reached.items())
    part.chart(
        "The variance of samples after ten steps of DDPM on Gaussian data",
        panel("", "variance of the data", "variance of the samples", *curves),
        how_to_read="The exact v* lies on the diagonal. β̃ is correct for a single point (left end) and too small for "
        "all other data; β is correct for unit variance (right end) and too large for all other data.",
    )
    return "One between β̃ and β; with the exact one, DDPM is exact on Gaussian data for any number of steps."

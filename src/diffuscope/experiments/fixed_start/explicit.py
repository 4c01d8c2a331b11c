r"""The explicit solution from a fixed start, against the moment equations of the SDE and against particles.

With data :math:`\rho_0 = \delta_{x_0}` the score is :math:`-(x - \alpha x_0)/\sigma^2`, and along the reverse family
the residual :math:`\varepsilon_t = (Y - \alpha_t x_0)/\sigma_t` is an Ornstein-Uhlenbeck process in
:math:`\lambda = \log(\alpha/\sigma)`, so that for a step of any size, with :math:`h = \lambda_s - \lambda_t`,

.. math::  Y_s = \alpha_s x_0 + \sigma_s\left[e^{-\eta^2 h}\varepsilon_t + \sqrt{1 - e^{-2\eta^2 h}}\;\xi\right] .

The SDE itself says, in the reverse clock :math:`\tau` and with :math:`r = \tfrac12(1 + \eta^2) g^2/\sigma^2`,

.. math::  \dot m = -f m - r (m - \alpha x_0), \qquad \dot V = -2(f + r) V + \eta^2 g^2 .

Source: Cao, Johnston, Laurent, Le & Motsch 2025, https://arxiv.org/abs/2501.17054 (the fixed start).
"""

import math

import torch
from numpy import ndarray
from scipy.integrate import solve_ivp
from scipy.stats import kstest, norm

from diffuscope.findings import Chart, Panel, at_most, density_bars, largest, line
from diffuscope.samplers import Instant, ReverseBridge, Sampler, instant, instants, sample
from diffuscope.schedules import VE, VP, Cosine, RectifiedFlow, Schedule
from diffuscope.times import log_snr_times

from ..experiment import Answer
from ..moments import GaussianDenoiser, apart, at_ratios, law_after

PAPER = "Cao et al. 2025, fixed start"
OU = VP(2.0, 2.0)
SCHEDULES = (OU, VE(), Cosine(), RectifiedFlow())
ETAS = (0.0, 0.5, 1.0, 2.0)
POINT, START = 0.7, 2.0
NOISY, CLEAN = 4.0, 0.05  # sigma/alpha at the start and at the end
HORIZON = 1.5
PARTICLES = 200_000


def explicit_law(t: Instant, s: Instant, eta: float, start: float = START) -> tuple[float, float]:
    """Mean and variance of Y_s given Y_t = `start`."""
    h = s.lam - t.lam
    residual = (start - t.alpha * POINT) / t.sigma
    return s.alpha * POINT + s.sigma * math.exp(-(eta**2) * h) * residual, -(s.sigma**2) * math.expm1(-2 * eta**2 * h)


def moment_ode(schedule: Schedule, t: Instant, s: Instant, start: float = START) -> list[tuple[float, float]]:
    """Mean and variance at s for every eta by integrating the moment equations of the reverse SDE, at 1e-12."""

    def slope(tau: float, moments: ndarray) -> list[float]:
        now = instant(schedule, t.t - tau)
        f = now.alpha_dot / now.alpha
        g_squared = 2 * now.sigma * now.sigma_dot - 2 * f * now.sigma**2
        slopes = []
        for eta, mean, variance in zip(ETAS, moments[::2], moments[1::2], strict=True):
            pull = (1 + eta**2) / 2 * g_squared / now.sigma**2
            slopes += [-f * mean - pull * (mean - now.alpha * POINT), -2 * (f + pull) * variance + eta**2 * g_squared]
        return slopes

    solved = solve_ivp(slope, (0.0, t.t - s.t), [start, 0.0] * len(ETAS), "DOP853", rtol=1e-12, atol=1e-15)
    end = solved.y[:, -1].tolist()
    return list(zip(end[::2], end[1::2], strict=True))


def from_the_start(sampler: Sampler, schedule: Schedule, *times: float) -> tuple[float, float]:
    """Mean and variance that a sampler gives to the fixed start over these times."""
    return law_after(sampler, GaussianDenoiser(schedule, POINT), torch.tensor(times, dtype=torch.float64), START, 0.0)


def explicit_solution(_: torch.Generator) -> Answer:
    """The formula against the moment equations of the SDE, in four schedules, for four values of eta."""
    of_ode, of_step, of_steps = [], [], []
    for schedule in SCHEDULES:
        way = at_ratios(schedule, NOISY, 1.7, 1.5, 0.6, 0.55, 0.1, 0.07, CLEAN)
        t, s = way[0], way[-1]
        for eta, integrated in zip(ETAS, moment_ode(schedule, t, s), strict=True):
            formula = explicit_law(t, s, eta)
            of_ode.append(apart(formula, integrated))
            of_step.append(apart(formula, from_the_start(ReverseBridge(eta), schedule, t.t, s.t)))
            stepped = from_the_start(ReverseBridge(eta), schedule, *(u.t for u in way))
            of_steps.append(apart(formula, stepped))
    claims = (
        at_most(
            "moment-equations",
            "The explicit mean and variance solve the moment equations of the reverse SDE for η = 0, ½, 1 and 2",
            largest(of_ode),
            1e-10,
            because="the integrator's relative tolerance is 1e-12",
            source=PAPER,
        ),
        at_most(
            "one-step",
            "One step of ReverseBridge, as long as the whole way, has that mean and variance",
            largest(of_step),
            1e-13,
            because="rounding",
            source=PAPER,
        ),
        at_most(
            "seven-steps",
            "Seven uneven steps of it have them too: the steps belong to one process",
            largest(of_steps),
            1e-13,
            because="rounding",
            source="derived (Chapman-Kolmogorov)",
        ),
    )
    told = (
        f"Yes. In four schedules and for four η the formula agrees to {largest(of_ode):.0e} with the moment equations."
    )
    return Answer(told, claims, (_fans(),))


def _fans() -> Chart:
    t, times = instant(OU, HORIZON), torch.linspace(HORIZON, 1e-3, 200, dtype=torch.float64)
    panels = []
    for eta in ETAS:
        laws = torch.tensor([explicit_law(t, s, eta) for s in instants(OU, times)], dtype=torch.float64)
        mean, spread = laws[:, 0], 2 * laws[:, 1].clamp(min=0).sqrt()
        fan = line(times, mean, "mean and two deviations", low=mean - spread, high=mean + spread)
        panels.append(Panel(f"η = {eta:g}", "time t", "Y", (fan,), x_range=(HORIZON, 0.0)))
    how = (
        "Time runs from noise, on the left, to data; the band is two standard deviations wide on either side. Every η "
        "ends at the data point. Without noise (η = 0) the start is remembered to the last; the larger η is, the "
        "sooner it is forgotten."
    )
    return Chart(f"From the fixed start {START:g} to the one data point {POINT:g}", tuple(panels), how, shared_y=True)


def particles(generator: torch.Generator) -> Answer:
    """Samples from the fixed start against the explicit law, moments and whole distribution."""
    t, s = at_ratios(OU, NOISY, 0.5)
    times = log_snr_times(OU, t.t, s.t, 5)
    start = torch.full((PARTICLES, 1), START, dtype=torch.float64)
    z, distances, panels = [], [], []
    for eta in ETAS[1:]:
        ended = sample(ReverseBridge(eta), GaussianDenoiser(OU, POINT), start, times, noise=generator)[:, 0]
        mean, variance = explicit_law(t, s, eta)
        z.append(abs(float(ended.mean()) - mean) / math.sqrt(variance / PARTICLES))
        z.append(abs(float(ended.var()) / variance - 1) / math.sqrt(2 / PARTICLES))
        law = norm(mean, math.sqrt(variance))
        distances.append(float(kstest(ended.numpy(), law.cdf).statistic) * math.sqrt(PARTICLES))
        x = torch.linspace(-2.5, 4.0, 131, dtype=torch.float64)
        drawn = (
            density_bars(ended, x, "particles"),
            line(x, norm.pdf(x.numpy(), mean, math.sqrt(variance)).tolist(), "explicit law", style="dashed"),
        )
        panels.append(Panel(f"η = {eta:g}", "Y", "density", drawn))
    claims = (
        at_most(
            "particle-moments",
            f"Mean and variance of {PARTICLES:,} particles after five steps, η = ½, 1, 2: the largest deviation",
            largest(z),
            4.0,
            because="4 standard errors: exceeded by chance in 1 of 2,600 runs",
            source=PAPER,
            unit="standard errors",
        ),
        at_most(
            "particle-law",
            "Their whole law: Kolmogorov's distance times the root of the number of particles",
            largest(distances),
            2.4,
            because="Kolmogorov's law: exceeded by chance in 1 of 17,000 runs",
            source=PAPER,
        ),
    )
    chart = Chart(
        f"{PARTICLES:,} particles after five steps, and the explicit law",
        tuple(panels),
        "The dashed line is the formula, drawn without any fit.",
        shared_y=True,
    )
    return Answer("They follow the explicit law, within their standard errors.", claims, (chart,))

r"""One data point, one start: the reverse family solved explicitly, and the DDPM chain found inside it.

With data :math:`\rho_0 = \delta_{x_0}` the score is :math:`-(x - \alpha x_0)/\sigma^2`, and along the reverse family
the residual :math:`\varepsilon_t = (Y - \alpha_t x_0)/\sigma_t` is an Ornstein-Uhlenbeck process in
:math:`\lambda = \log(\alpha/\sigma)`, so that for a step of any size, with :math:`h = \lambda_s - \lambda_t`,

.. math::  Y_s = \alpha_s x_0 + \sigma_s\left[e^{-\eta^2 h}\varepsilon_t + \sqrt{1 - e^{-2\eta^2 h}}\;\xi\right] .

Source: Cao, Johnston, Laurent, Le & Motsch 2025, https://arxiv.org/abs/2501.17054 (the fixed start).
"""

import math

import torch
from scipy.integrate import solve_ivp

from diffuscope.experiments.chart import Chart, Panel, line
from diffuscope.experiments.claim import at_most
from diffuscope.experiments.experiment import Answer, Experiment, Part
from diffuscope.experiments.moments import GaussianDenoiser, law_after
from diffuscope.samplers import Instant, ReverseBridge, instant
from diffuscope.schedules import VE, VP, Cosine, RectifiedFlow, Schedule, log_snr_times

PAPER = "Cao et al. 2025, fixed start"
OU = VP(2.0, 2.0)
SCHEDULES = (OU, VE(), Cosine(), RectifiedFlow())
ETAS = (0.0, 0.5, 1.0, 2.0)
POINT, START = 0.7, 2.0
NOISY, CLEAN = 4.0, 0.05  # sigma/alpha at the start and at the end


def explicit_law(t: Instant, s: Instant, eta: float, start: float = START) -> tuple[float, float]:
    """Mean and variance of Y_s given Y_t = `start`."""
    memory = math.exp(-(eta**2) * (s.lam - t.lam))
    residual = (start - t.alpha * POINT) / t.sigma
    return s.alpha * POINT + s.sigma * memory * residual, s.sigma**2 * -math.expm1(2 * math.log(memory))


def moment_ode(schedule: Schedule, t: Instant, s: Instant) -> list[tuple[float, float]]:
    """Mean and variance at s for every eta by integrating dm/dtau and dV/dtau of the reverse SDE, at 1e-13."""

    def slope(tau: float, y: list[float]) -> list[float]:
        now = instant(schedule, t.t - tau)
        f = now.alpha_dot / now.alpha
        g_squared = 2 * now.sigma * now.sigma_dot - 2 * f * now.sigma**2
        slopes = []
        for eta, mean, variance in zip(ETAS, y[::2], y[1::2], strict=True):
            pull = (1 + eta**2) / 2 * g_squared / now.sigma**2
            slopes += [
                -f * mean - pull * (mean - now.alpha * POINT),
                -2 * (f + pull) * variance + eta**2 * g_squared,
            ]
        return slopes

    solved = solve_ivp(slope, (0.0, t.t - s.t), [START, 0.0] * len(ETAS), "DOP853", rtol=1e-13, atol=1e-15)
    end = solved.y[:, -1].tolist()
    return list(zip(end[::2], end[1::2], strict=True))


def explicit_solution(_: torch.Generator) -> Answer:
    """The formula against the moment equations of the SDE, in four schedules, for four values of eta."""
    of_ode = of_sampler = 0.0
    for schedule in SCHEDULES:
        t, s = (instant(schedule, float(schedule.time_of_noise_to_signal(ratio))) for ratio in (NOISY, CLEAN))
        for eta, integrated in zip(ETAS, moment_ode(schedule, t, s), strict=True):
            formula = explicit_law(t, s, eta)
            times = torch.tensor([t.t, s.t], dtype=torch.float64)
            stepped = law_after(ReverseBridge(eta), GaussianDenoiser(schedule, POINT), times, START, 0.0)
            of_ode = max(of_ode, *(abs(a - b) for a, b in zip(formula, integrated, strict=True)))
            of_sampler = max(of_sampler, *(abs(a - b) for a, b in zip(formula, stepped, strict=True)))
    claims = (
        at_most(
            "moment-equations",
            "The explicit mean and variance solve the moment equations of the reverse SDE, for eta 0, 1/2, 1 and 2",
            of_ode,
            1e-10,
            because="the integrator's tolerance, 1e-13, over thousands of steps",
            source=PAPER,
        ),
        at_most(
            "one-step",
            "One step of ReverseBridge, as long as the whole way, has that mean and variance",
            of_sampler,
            1e-13,
            because="rounding",
            source=PAPER,
        ),
    )
    return Answer(
        f"Yes: in four schedules mean and variance agree to {of_ode:.0e} with the integrated moment equations.",
        claims,
        (_fans(),),
    )


def _fans() -> Chart:
    start, end = 1.5, 0.005
    times = log_snr_times(OU, start, end, 120)
    t = instant(OU, start)
    panels = []
    for eta in ETAS:
        laws = [explicit_law(t, instant(OU, float(s)), eta) for s in times]
        mean = [m for m, _ in laws]
        spread = [2 * math.sqrt(max(v, 0.0)) for _, v in laws]
        low, high = ([m + sign * d for m, d in zip(mean, spread, strict=True)] for sign in (-1, 1))
        curve = line(times, mean, "mean, two deviations", low=low, high=high)
        panels.append(Panel(f"η = {eta:g}", "time t", "Y", (curve,), x_range=(start, 0.0)))
    return Chart(
        f"From the fixed start Y = {START:g} to the one data point {POINT:g}",
        tuple(panels),
        "Noise is on the left. Every value of η ends at the data point; the larger η is, the sooner the start is "
        "forgotten.",
        shared_y=True,
    )


FIXED_START = Experiment(
    name="fixed-start",
    title="One data point: the reverse process in closed form",
    question="What does the reverse process do from a fixed start, and what has DDPM to do with it?",
    source=PAPER,
    seconds=3,
    parts=(Part("explicit", "Does the explicit formula solve the reverse SDE?", explicit_solution),),
    settings={"data point": POINT, "start": START, "noise-to-signal ratio": f"{NOISY:g} to {CLEAN:g}"},
)

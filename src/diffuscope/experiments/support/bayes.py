r"""The law that the reverse process ends with is the data's own law, reweighted: q_0 = h rho_0.

For Gaussian data :math:`N(m, s_0^2)` and a start from :math:`N(\mu, \kappa^2)` everything is closed form: with
:math:`G = \alpha s_0^2/(\alpha^2 s_0^2 + \sigma^2)` at T,

.. math::  q_0 = N\!\left(m + G(\mu - \alpha m),\; s_0^2(1 - \alpha G) + G^2\kappa^2\right),

and the reverse SDE says :math:`\dot\mu = -f\mu + g^2 s(\mu)`, :math:`\dot{\kappa^2} = 2(-f - g^2/V)\kappa^2 + g^2`,
with the score :math:`s(x) = (\alpha m - x)/V`. As the transition is a Markov kernel that carries :math:`\rho_T` to
:math:`\rho_0`, no distance grows: :math:`TV(q_0, \rho_0) \le TV(\nu, \rho_T)` and
:math:`\sup q_0/\rho_0 \le \sup \nu/\rho_T`.

Source: Cao, Johnston, Laurent, Le & Motsch 2025, https://arxiv.org/abs/2501.17054 (the support theorem).
"""

import itertools
import math

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Distribution, GaussianMixture
from diffuscope.findings import Chart, Claim, Panel, at_most, density_bars, largest, line, points
from diffuscope.samplers import SDEDPMSolverPP2M, instant, sample
from diffuscope.schedules import VP
from diffuscope.times import log_snr_times

from ..experiment import Answer
from ..moments import GaussianDenoiser
from .start_laws import StartLaw, bayes_weight, ended_density, gaussian, point, total_variation, uniform

PAPER = "Cao et al. 2025, support theorem"
OU = VP(2.0, 2.0)
HORIZON, END = 0.7, 1e-3
STEPS, PARTICLES = 60, 40_000
WEIGHTS, MEANS, DEVIATIONS = (0.3, 0.7), (-1.2, 0.8), (0.25, 0.4)
STARTS = (gaussian(0.0, 1.0), gaussian(1.5, 0.3), uniform(-3.0, -1.0), point(0.4))
TOLERANCE = 2.5  # Kolmogorov's distance times the root of the number of particles


def two_bumps() -> GaussianMixture:
    """The data: 0.3 N(-1.2, 0.25^2) + 0.7 N(0.8, 0.4^2)."""
    weights, means, deviations = (torch.tensor(v, dtype=torch.float64) for v in (WEIGHTS, MEANS, DEVIATIONS))
    return GaussianMixture.isotropic(weights, means[:, None], deviations**2)


def by_bayes(mean: float, variance: float, start: tuple[float, float]) -> tuple[float, float]:
    """Mean and variance of q_0 for data N(mean, variance) and a start N(start) at the horizon."""
    T = instant(OU, HORIZON)
    gain = T.alpha * variance / (T.alpha**2 * variance + T.sigma**2)
    return mean + gain * (start[0] - T.alpha * mean), variance * (1 - T.alpha * gain) + gain**2 * start[1]


def by_sde(mean: float, variance: float, start: tuple[float, float]) -> tuple[float, float]:
    """The same from the moment equations of the reverse SDE."""
    denoiser = GaussianDenoiser(OU, mean, variance)

    def slope(tau: float, moments: np.ndarray) -> list[float]:
        center, V = denoiser.marginal(HORIZON - tau)
        f, g_squared = -1.0, 2.0
        mu, kappa_squared = moments
        return [-f * mu + g_squared * (center - mu) / V, 2 * (-f - g_squared / V) * kappa_squared + g_squared]

    solved = solve_ivp(slope, (0.0, HORIZON), list(start), "DOP853", rtol=1e-13, atol=1e-15)
    return float(solved.y[0, -1]), float(solved.y[1, -1])


def bayes_form(generator: torch.Generator) -> Answer:
    """Closed form for a Gaussian, quadrature against particles for two bumps."""
    off = []
    for variance, start in itertools.product((0.01, 0.25, 4.0), ((0.0, 1.0), (1.5, 0.09), (-3.0, 25.0), (0.4, 0.0))):
        pairs = zip(by_bayes(1.3, variance, start), by_sde(1.3, variance, start), strict=True)
        off += [abs(a - b) for a, b in pairs]
    law, begin, end = two_bumps(), instant(OU, HORIZON), instant(OU, END)
    x = torch.linspace(-4, 4, 4001, dtype=torch.float64)
    spacing, data = float(x[1] - x[0]), law.log_prob(x[:, None], end.alpha, end.sigma).exp()
    distances, panels, masses = [], [], []
    for start in STARTS:
        density = ended_density(law, start, x, begin, end)
        masses.append(abs(spacing * float(density.sum()) - 1))
        ended = ended_particles(law, start, generator)
        distances.append(kolmogorov(ended, x, density) * math.sqrt(PARTICLES))
        bars = density_bars(ended, torch.linspace(-2.5, 2.5, 101, dtype=torch.float64), "particles")
        shown = slice(750, 3251, 10)  # -2.5 to 2.5
        marks = (bars, line(x[shown], density[shown], "h ρ₀"), line(x[shown], data[shown], "data ρ₀", style="dotted"))
        panels.append(Panel(f"from {start.label}", "x", "density", marks))
    claims = (
        at_most(
            "gaussian-moments",
            "Gaussian data: mean and variance by Bayes' rule are those of the reverse SDE, for 12 starts and widths",
            largest(off),
            1e-8,
            because="the integrator's relative tolerance is 1e-13",
            source=PAPER,
        ),
        at_most(
            "mass",
            "Two bumps: h ρ₀ integrates to 1 for every start",
            largest(masses),
            1e-10,
            because="quadrature, spectrally accurate",
            source="derived",
        ),
        at_most(
            "particles",
            f"{PARTICLES:,} particles of the reverse SDE have the law h ρ₀: Kolmogorov's distance times the root of "
            "their number, the largest of the starts",
            largest(distances),
            TOLERANCE,
            because="Kolmogorov's law: exceeded by chance in 1 of 30,000 runs",
            source=PAPER,
        ),
    )
    chart = Chart(
        f"Where {PARTICLES:,} particles end, and what Bayes' rule says",
        tuple(panels),
        "Filled: particles of the reverse SDE at t = 0.001. Solid: h ρ₀, drawn without any fit. Dotted: the data. "
        "Every start ends on the data's two bumps and nowhere else, but only a start from the right law gives them "
        "their weights.",
        shared_y=True,
    )
    told = "The reverse process reweights the data's law, by a factor that Bayes' rule gives."
    return Answer(told, claims, (chart,))


def ended_particles(law: Distribution, start: StartLaw, generator: torch.Generator) -> Tensor:
    """Particles of the reverse SDE at time END, from `start` at the horizon."""
    times = log_snr_times(OU, HORIZON, END, STEPS)
    drawn = start.draw(PARTICLES, generator)
    return sample(SDEDPMSolverPP2M(), ExactDenoiser(law, OU), drawn, times, noise=generator)[:, 0]


def kolmogorov(drawn: Tensor, x: Tensor, density: Tensor) -> float:
    """The largest gap of the two distribution functions over an even grid, the exact one by the trapezoidal rule."""
    F = torch.cumulative_trapezoid(density, x)
    below = torch.searchsorted(drawn.sort().values, x[1:]).double() / len(drawn)
    return float((below - F).abs().max())


def contraction(_: torch.Generator) -> Answer:
    """TV and the largest density ratio do not grow, for every start and horizon."""
    law, end = two_bumps(), instant(OU, 0.0)
    x = torch.linspace(-8, 8, 3201, dtype=torch.float64)
    spacing, data = float(x[1] - x[0]), law.log_prob(x[:, None], 1.0, 1e-9).exp()
    before, after, ratios, ratios_before = [], [], [], []
    for start, horizon in itertools.product(
        (gaussian(0.0, 1.0), gaussian(1.5, 0.5), gaussian(-0.5, 0.7), gaussian(-2.0, 0.4), uniform(-3.0, -1.0)),
        (0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 4.0),
    ):
        begin = instant(OU, horizon)
        h = bayes_weight(law, start, x, begin, end)
        marginal = law.log_prob(x[:, None], begin.alpha, begin.sigma).exp()
        assert start.density is not None
        nu = start.density(x)
        before.append(total_variation(nu, marginal, spacing))
        after.append(total_variation(h * data, data, spacing))
        ratios_before.append(float((nu / marginal).max()))
        ratios.append(float(h[data > 1e-12].max()))
    growth = largest(a / b for a, b in zip(after, before, strict=True))
    ratio_growth = largest(a / b for a, b in zip(ratios, ratios_before, strict=True))
    claims: tuple[Claim, ...] = (
        at_most(
            "total-variation",
            "TV(q₀, ρ₀) / TV(ν, ρ_T), the largest of 45 starts and horizons",
            growth,
            1.0,
            because="a Markov kernel contracts total variation",
            source=PAPER,
        ),
        at_most(
            "density-ratio",
            "sup q₀/ρ₀ over sup ν/ρ_T, the largest of them",
            ratio_growth,
            1.0,
            because="the maximum principle",
            source=PAPER,
        ),
    )
    diagonal = line([0.0, 1.0], [0.0, 1.0], "equal", style="dotted")
    chart = Chart(
        "An error of the start is never amplified",
        (Panel("", "TV(ν, ρ_T)", "TV(q₀, ρ₀)", (points(before, after, "starts and horizons"), diagonal)),),
        "Every point is a start and a horizon, from 0.05 to 4. All lie below the diagonal: what is wrong with the "
        "start is at most as wrong in the end.",
    )
    return Answer("No: the reverse process never amplifies an error of the start.", claims, (chart,))

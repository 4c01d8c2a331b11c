r"""Other data than one point: the denoiser is frozen over a step, which is of first order; and which variance is right.

For data :math:`N(m, s_0^2 I)` the exact variance of a step is

.. math::  v^* = \tilde\beta + \left(\frac{\alpha_s b}{\sigma_t^2}\right)^2 \mathrm{Var}(x_0 | x_t), \qquad
           \tilde\beta \le v^* \le \beta = b \quad\text{for}\quad 0 \le s_0^2 \le 1,

the lower end for a single point, the upper one for unit variance. With it a chain of any number of steps has the exact
mean and variance.

Sources: derived; beta-tilde and beta: Ho, Jain & Abbeel 2020, https://arxiv.org/abs/2006.11239 (section 3.2).
"""

import math

import torch

from diffuscope.exact import Gaussian
from diffuscope.findings import Chart, Claim, Line, Panel, at_most, equals, largest, line
from diffuscope.samplers import DDIM, DDPM, OptimalVariance, ReverseBridge, Sampler, posterior_variance, upper_variance
from diffuscope.times import log_snr_times

from ..experiment import Answer
from ..moments import GaussianDenoiser, apart, at_ratios, law_after
from .explicit import HORIZON, OU

MEAN, DEVIATION = 1.3, 0.5  # the Gaussian data of the order
END = 1e-3  # the last time


def frozen_order(_: torch.Generator) -> Answer:
    """Data that are not one point: the denoiser is frozen over each step, and the error is of first order."""
    denoiser = GaussianDenoiser(OU, MEAN, DEVIATION**2)
    counts = [20, 40, 80, 160, 320, 640]
    samplers: dict[str, Sampler] = {"DDIM (η = 0)": DDIM(), "η = ½": ReverseBridge(0.5), "DDPM (η = 1)": DDPM()}
    curves, claims = [], []
    for name, sampler in samplers.items():
        errors = []
        for count in counts:
            times = log_snr_times(OU, HORIZON, END, count)
            reached = law_after(sampler, denoiser, times, *denoiser.marginal(HORIZON))
            errors.append(apart(reached, denoiser.marginal(END)))
        curves.append(line(counts, errors, name))
        claims.append(
            equals(
                f"order-{len(claims)}",
                f"On data N({MEAN:g}, {DEVIATION:g}²) the error of {name} falls like 1/steps",
                math.log2(errors[-2] / errors[-1]),
                1.0,
                within=0.02,
                because="the next term of the expansion, between 320 and 640 steps",
                source="derived",
            )
        )
    chart = Chart(
        "Freezing the denoiser over a step is an integrator of first order",
        (Panel("", "number of steps", "error of mean or variance", tuple(curves), x_log=True, y_log=True),),
        "Exact moments, no samples. Twice the steps, half the error.",
    )
    told = "The denoiser is then frozen over a step, which makes an integrator of first order."
    return Answer(told, tuple(claims), (chart,))


def step_variance(_: torch.Generator) -> Answer:
    """beta-tilde <= v* <= beta for isotropic data of variance at most 1, and v* makes Gaussian data exact."""
    variances = torch.linspace(0, 1, 21, dtype=torch.float64).tolist()
    exact, curves = _ten_steps(variances)
    chart = Chart(
        "The variance that ten steps of DDPM give to Gaussian data",
        (Panel("", "variance of the data", "variance of the samples", curves),),
        "The exact kernel variance v* lies on the diagonal. β̃ is right for a single point (left end) and too small for "
        "all other data, β is right for unit variance (right end) and too large for all other data.",
    )
    told = "Between β̃ and β; the exact one makes Gaussian data exact in any number of steps."
    return Answer(told, (*_bracket(variances), exact), (chart,))


def _law(variance: float) -> Gaussian:
    return Gaussian.isotropic(torch.full((1,), MEAN, dtype=torch.float64), variance)


def _bracket(variances: list[float]) -> tuple[Claim, ...]:
    x, outside, upper_gap = torch.zeros(1, 1, dtype=torch.float64), [], []
    for ratios in ((4.0, 2.0), (1.0, 0.5), (0.3, 0.05)):
        t, s = at_ratios(OU, *ratios)
        least, most = float(posterior_variance(x, t, s)), float(upper_variance(x, t, s))
        upper_gap.append(abs(most / -math.expm1(-2 * (t.t - s.t)) - 1))
        for variance in variances:
            exact = float(OptimalVariance(_law(variance))(x, t, s))
            outside += [(least - exact) / most, (exact - most) / most]
    return (
        at_most(
            "bracket",
            "β̃ ≤ v* ≤ β for isotropic Gaussian data of every variance from 0 to 1; so far outside, relative to β",
            largest([0.0, *outside]),
            1e-14,
            because="rounding",
            source="derived",
        ),
        at_most(
            "upper-is-beta",
            "The upper end, v* of unit-variance data, is β = 1 - α_t²/α_s² of the chain",
            largest(upper_gap),
            1e-13,
            because="rounding",
            source="Ho et al. 2020, section 3.2",
        ),
    )


def _ten_steps(variances: list[float]) -> tuple[Claim, tuple[Line, ...]]:
    times = log_snr_times(OU, HORIZON, END, 10)
    reached: dict[str, list[float]] = {"β̃, a single point": [], "v*, exact": [], "β, unit variance": []}
    off = []
    for variance in variances:
        denoiser = GaussianDenoiser(OU, MEAN, variance)
        exact = OptimalVariance(_law(variance))
        for name, kernel in zip(reached, (posterior_variance, exact, upper_variance), strict=True):
            law = law_after(DDPM(kernel), denoiser, times, *denoiser.marginal(HORIZON))
            reached[name].append(law[1])
            if kernel is exact:
                off.append(apart(law, denoiser.marginal(END)))
    claim = at_most(
        "exact-in-ten",
        "With v* ten steps give Gaussian data their exact mean and variance, whatever the variance of the data",
        largest(off),
        1e-14,
        because="rounding",
        source="derived",
    )
    return claim, tuple(line(variances, values, name) for name, values in reached.items())

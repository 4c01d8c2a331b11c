r"""How near the data the reverse process comes: as near as the noise that is left, and then exactly.

The SDE is :math:`\sigma_t\varepsilon` away from a point. The ODE keeps quantiles, so that a start y with
:math:`u = N F_{\rho_T}(y)` ends, relative to its point, at

.. math::  \frac{x_t - \alpha_t x_i}{\sigma_t} \to \Phi^{-1}(u - \lfloor u \rfloor) \qquad (t \to 0),

a constant of the path: the distance is proportional to :math:`\sigma_t \approx \sqrt{2t}`, slope one half in t. A last
denoising puts both on the data point exactly, once no second weight is left in floating point.

Source: Cao et al. 2025, https://arxiv.org/abs/2501.17054 (finite data); the constant: derived.
"""

import math

import torch

from diffuscope.exact import Empirical
from diffuscope.findings import Chart, Panel, at_most, equals, farthest, largest, line, points
from diffuscope.samplers import MixtureTransition, RungeKutta4, instant, sample
from diffuscope.times import log_snr_times

from ..experiment import Answer
from ..four_points import HORIZON, OU, POINTS, FourPoints, distribution_function, nearest
from .landing import PAPER, even_starts

TIMES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
PATHS, STARTS, STEPS = 40_000, 2_000, 120


def distance(generator: torch.Generator) -> Answer:
    """Root mean square of the SDE, every single path of the ODE, and the last denoising."""
    oracle, denoiser = MixtureTransition(Empirical(POINTS[:, None])), FourPoints()
    drawn = torch.randn(PATHS, 1, dtype=torch.float64, generator=generator)
    starts = even_starts(STARTS)
    u = len(POINTS) * distribution_function(starts[:, 0], instant(OU, HORIZON))
    constants = torch.special.ndtri(u - u.floor()).abs()
    of_sde, of_ode, apart, begin = [], [], [], HORIZON
    x, moved = drawn, starts
    for t in TIMES:
        end = instant(OU, t)
        x = sample(oracle, denoiser, x, log_snr_times(OU, begin, t, 3), noise=generator)
        moved = sample(RungeKutta4(), denoiser, moved, log_snr_times(OU, begin, t, STEPS))
        of_sde.append(float(nearest(x[:, 0], end)[0].square().mean().sqrt()))
        off = nearest(moved[:, 0], end)[0]
        of_ode.append(float(off.max()))
        if t < 1e-3:  # before, the other points are still felt
            apart.append(float((off / end.sigma - constants).abs().max()))
        begin = t
    sigmas = [instant(OU, t).sigma for t in TIMES]
    last = torch.cat([denoiser(x, TIMES[-1]), denoiser(moved, TIMES[-1])])
    ratios = [d / s for d, s in zip(of_sde[1:], sigmas[1:], strict=True)]
    claims = (
        equals(
            "sde-distance",
            "η = 1: the root mean square distance is σ, at t = 0.001 and four decades below (the worst of them)",
            farthest(ratios, 1.0),
            1.0,
            within=4 / math.sqrt(2 * PATHS),
            because=f"4 standard errors of {PATHS:,} paths",
            source=PAPER,
            unit="σ",
        ),
        at_most(
            "ode-constant",
            f"η = 0: distance/σ is |Φ⁻¹(u - ⌊u⌋)| for each of {STARTS:,} paths below t = 0.001; largest difference",
            largest(apart),
            1e-4,
            because=f"order 4 in {STEPS} steps",
            source="derived",
        ),
        equals(
            "ode-slope",
            "The largest of those distances falls like the root of t: the slope from t = 0.001 to 0.000001",
            math.log(of_ode[1] / of_ode[-1]) / math.log(TIMES[1] / TIMES[-1]),
            0.5,
            within=1e-3,
            because="σ = √(1 - exp(-2t)) is not yet √(2t) at t = 0.001",
            source=PAPER,
        ),
        at_most(
            "after-denoising",
            "After denoising once at t = 0.000001 the largest distance of all paths, SDE and ODE",
            float((last - POINTS).abs().amin(1).max()),
            0.0,
            because="the weight of every other point is below the smallest number",
            source=PAPER,
        ),
    )
    few, many = slice(0, None, 25), slice(0, None, 5)
    chart = Chart(
        "The distance to the nearest data point",
        (
            Panel(
                "",
                "time t",
                "distance",
                (
                    line(TIMES, of_sde, "SDE, root mean square"),
                    line(TIMES, of_ode, "ODE, largest"),
                    line(TIMES, sigmas, "σ", style="dotted"),
                ),
                x_log=True,
                y_log=True,
            ),
            Panel(
                "ODE at t = 10⁻⁶, path by path",
                "start Y",
                "distance / σ",
                (
                    points(
                        starts[few, 0], (nearest(moved[:, 0], instant(OU, TIMES[-1]))[0] / sigmas[-1])[few], "paths"
                    ),
                    line(starts[many, 0], constants[many], "|Φ⁻¹(u - ⌊u⌋)|", style="dashed"),
                ),
            ),
        ),
        "Left: slope one half, as σ. Right: how far a path stays is decided by where it starts between the quantiles; "
        "at the borders of the four basins the constant has no bound, which is why the largest depends on the starts.",
    )
    return Answer("As near as the noise that is left, and after a last denoising exactly.", claims, (chart,))

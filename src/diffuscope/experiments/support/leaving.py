r"""What the support theorem needs: time that reaches zero, and the exact score.

Four points on the line, started from their own noised law or from another. Stopped at t > 0, the sample is off by
:math:`\sigma_t\varepsilon`. With the score of *blurred* data, :math:`\rho_0 * N(0, \delta^2)`, the reverse process does
what the theorem says for the blurred data, and leaves the points by :math:`\delta`. Both distances are first order in
what is wrong, and neither is zero before it is.

Source: derived; the conditions are those of Cao et al. 2025, https://arxiv.org/abs/2501.17054 (the support theorem).
"""

import math

import torch
from torch import Tensor

from diffuscope.denoisers import Denoiser, ExactDenoiser
from diffuscope.exact import Empirical, GaussianMixture
from diffuscope.findings import Chart, Claim, Panel, at_most, equals, line
from diffuscope.samplers import MixtureTransition, SDEDPMSolverPP2M, instant, sample
from diffuscope.times import log_snr_times

from ..experiment import Answer
from ..four_points import HORIZON, OU, POINTS, FourPoints

STEPS, PARTICLES = 120, 10_000
SIZES = (1e-3, 3e-3, 1e-2, 3e-2)


def off_the_points(x: Tensor, alpha: float = 1.0) -> float:
    """Root mean square distance to the nearest point, times alpha."""
    return float((x - alpha * POINTS).abs().amin(1).square().mean().sqrt())


def blurred(delta: float) -> Denoiser:
    """The exact denoiser of the points blurred by delta."""
    weights = torch.full((len(POINTS),), 1 / len(POINTS), dtype=torch.float64)
    variances = torch.full((len(POINTS),), delta**2, dtype=torch.float64)
    return ExactDenoiser(GaussianMixture.isotropic(weights, POINTS[:, None], variances), OU)


def leaving(generator: torch.Generator) -> Answer:
    """The distance to the data against the last noise level, and against the blur of the score."""
    start = torch.randn(PARTICLES, 1, dtype=torch.float64, generator=generator)
    exact, transition = FourPoints(), MixtureTransition(Empirical(POINTS[:, None]))
    stopped, blurs, levels = [], [], []
    for size in SIZES:
        end = instant(OU, float(OU.time_of_noise_to_signal(size)))
        times = log_snr_times(OU, HORIZON, end.t, STEPS)
        levels.append(end.sigma)
        stopped.append(off_the_points(sample(transition, exact, start, times, noise=generator), end.alpha))
        sharp = float(OU.time_of_noise_to_signal(size / 100))
        denoiser = blurred(size)
        ended = sample(SDEDPMSolverPP2M(), denoiser, start, log_snr_times(OU, HORIZON, sharp, STEPS), noise=generator)
        blurs.append(off_the_points(denoiser(ended, sharp)))
    times = torch.cat([log_snr_times(OU, HORIZON, 1e-6, STEPS), torch.zeros(1, dtype=torch.float64)])
    landed = sample(transition, exact, start, times, noise=generator)
    claims: tuple[Claim, ...] = (
        at_most(
            "landed",
            "With the exact reverse transition down to t = 0 the largest distance to the four points",
            float((landed - POINTS).abs().amin(1).max()),
            0.0,
            because="the last step ends on a point, to the last bit",
            source="Cao et al. 2025, finite data",
        ),
        equals(
            "stopped",
            "Stopped at σ = 0.001 the root mean square distance is σ",
            stopped[0] / levels[0],
            1.0,
            within=4 / math.sqrt(2 * PARTICLES),
            because=f"4 standard errors of {PARTICLES:,} particles",
            source="derived",
            unit="σ",
        ),
        equals(
            "blurred",
            "With the score of data blurred by δ = 0.001, and t to 0, it is δ",
            blurs[0] / SIZES[0],
            1.0,
            within=4 / math.sqrt(2 * PARTICLES),
            because=f"4 standard errors of {PARTICLES:,} particles",
            source="derived",
            unit="δ",
        ),
        equals(
            "first-order",
            "Over a factor of 30 in δ the distance grows like δ",
            math.log(blurs[-1] / blurs[0]) / math.log(SIZES[-1] / SIZES[0]),
            1.0,
            within=4 / math.sqrt(PARTICLES) / math.log(SIZES[-1] / SIZES[0]),
            because=f"4 standard errors of two root mean squares of {PARTICLES:,} particles, over log 30",
            source="derived",
        ),
    )
    chart = Chart(
        "Two ways to leave the support",
        (
            Panel(
                "",
                "last noise σ, or blur δ of the score",
                "distance to the data",
                (
                    line(levels, stopped, "stopped at σ, exact score"),
                    line(SIZES, blurs, "t to 0, score blurred by δ"),
                    line(SIZES, SIZES, "equal", style="dotted"),
                ),
                x_log=True,
                y_log=True,
            ),
        ),
        "Root mean square distance to the nearest of four data points. The theorem holds in the limit only: at any "
        "σ > 0, and with any error of the score, the samples lie off the data by as much.",
    )
    told = "The exact score, and time that reaches zero: either error leaves the support by as much."
    return Answer(told, claims, (chart,))

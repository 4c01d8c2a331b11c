r"""Four data points on the line, and what is known about their diffusion without a sampler.

.. math::  w_i(x) \propto e^{-(x - \alpha x_i)^2/2\sigma^2}, \qquad D = \sum_i w_i x_i, \qquad
           \mathrm{Var}(x_0 | x_t) = \sum_i w_i (x_i - D)^2, \qquad
           F(x) = \tfrac14 \sum_i \Phi\!\left(\frac{x - \alpha x_i}{\sigma}\right) .

The points are -1.5, -0.2, 0.4 and 2, and noise is added until T = 0.7. The setting is ours; the paper's own is not
published.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime
from diffuscope.samplers import Instant, instant
from diffuscope.schedules import VP, Schedule

POINTS = torch.tensor([-1.5, -0.2, 0.4, 2.0], dtype=torch.float64)
OU = VP(2.0, 2.0)  # dX = -X dt + sqrt(2) dB
HORIZON = 0.7


def weights(x: Float[Tensor, " n"], at: Instant) -> Float[Tensor, "n 4"]:
    """The posterior weights w_i(x)."""
    return (-((x[:, None] - at.alpha * POINTS) ** 2) / (2 * at.sigma**2)).softmax(1)


def distribution_function(x: Float[Tensor, " n"], at: Instant) -> Float[Tensor, " n"]:
    """F(x) of the noised distribution."""
    return torch.special.ndtr((x[:, None] - at.alpha * POINTS) / at.sigma).mean(1)


def nearest(x: Float[Tensor, " n"], at: Instant) -> tuple[Float[Tensor, " n"], Tensor]:
    """Distance to the nearest of the points alpha x_i, and which one it is."""
    return (x[:, None] - at.alpha * POINTS).abs().min(1)


@dataclass(frozen=True)
class FourPoints:
    """The exact denoiser on states of shape (n, 1)."""

    schedule: Schedule = OU

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        return (weights(x_t[:, 0], instant(self.schedule, t)) @ POINTS)[:, None]

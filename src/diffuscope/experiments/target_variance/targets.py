r"""The dial: training on the mean of M posterior draws of x_0 in place of x_0 itself, from M = 1 to infinity.

The errors of an objective are :math:`|D - T|^2/d`, whose gradient in the denoiser's *answer* gives the target back,

.. math::  T = D - \tfrac d2\, \partial_D \tfrac1d |D - T|^2 ,

for each of the library's objectives, whatever it does inside. M is 1, 2, 4, 8, 32 or infinite, for 16 examples.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime
from diffuscope.exact import Empirical
from diffuscope.schedules import Schedule
from diffuscope.training import AveragedTarget, NoiseFreeTarget

from ..three_modes import SCHEDULE

DIAL = (1, 2, 4, 8, 32, math.inf)
FINITE = tuple(int(m) for m in DIAL if not math.isinf(m))
EXAMPLES = 16


@dataclass(frozen=True, eq=False)
class _Answering:
    """A denoiser with one answer."""

    answer: Tensor
    schedule: Schedule = SCHEDULE

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        del x_t, t
        return self.answer


def targets_of(
    M: float | int,
    data: Float[Tensor, "n d"],
    x_0: Float[Tensor, "batch d"],
    t: Float[Tensor, " batch"],
    noise: Float[Tensor, "batch d"],
    *,
    generator: torch.Generator,
) -> Float[Tensor, "batch d"]:
    """The targets T_M that the library's objective compares with at x_0 + sigma noise."""
    answer = torch.zeros_like(x_0).requires_grad_()
    objective = NoiseFreeTarget() if math.isinf(M) else AveragedTarget(int(M))
    objective.on(data, x_0.device)(_Answering(answer), x_0, t, noise, generator=generator).sum().backward()
    assert answer.grad is not None
    return -answer.grad * x_0.shape[1] / 2


def posterior_weights(
    data: Float[Tensor, "n d"], x_t: Float[Tensor, "batch d"], sigma: Float[Tensor, " batch"]
) -> Float[Tensor, "batch n"]:
    """The posterior probability of each example, written out: the reference for any exact denoiser of `data`."""
    square = (x_t[:, None] - data).square().sum(2)
    return torch.softmax(-square / (2 * sigma[:, None] ** 2), 1)


def covariance(
    p: Empirical, x_t: Float[Tensor, "batch d"], sigma: Float[Tensor, " batch"]
) -> Float[Tensor, "batch d d"]:
    """Cov(x_0 | x_t) as matrices."""
    operator, eye = p.posterior_covariance(x_t, 1.0, sigma), torch.eye(x_t.shape[1], dtype=torch.float64)
    return torch.stack([operator.matvec(row.expand_as(x_t)) for row in eye], 1)

r"""The dial: training on the mean of M posterior draws of x_0 in place of x_0, M = 1 to infinity, and reading it off.

The errors of an objective are :math:`|D - T|^2/d`, so that the target is in their gradient in the denoiser's *answer*:

.. math::  T = D - \tfrac d2\, \partial_D \tfrac1d |D - T|^2 .

This reads T out of the library's own objectives, whatever they do inside.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime
from diffuscope.exact import Empirical
from diffuscope.schedules import Schedule
from diffuscope.training import AveragedTarget, NoiseFreeTarget, Objective

from ..three_modes import SCHEDULE

DIAL = (1, 2, 4, 8, 32, math.inf)
FINITE = tuple(int(m) for m in DIAL if not math.isinf(m))
EXAMPLES = 16
PAPER = "Vastola 2025, https://arxiv.org/abs/2504.12532"


def objective(targets: float | int) -> Objective:
    """The library's objective for a mean of that many draws."""
    return NoiseFreeTarget() if math.isinf(targets) else AveragedTarget(int(targets))


def written(targets: float | int) -> str:
    """The number of draws, as one reads it."""
    return "∞" if math.isinf(targets) else f"{targets:g}"


@dataclass(frozen=True, eq=False)
class _Answering:
    """A denoiser with one answer."""

    answer: Tensor
    schedule: Schedule = SCHEDULE

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        del x_t, t
        return self.answer


def targets_of(
    asked: Objective,
    data: Float[Tensor, "n d"],
    x_0: Float[Tensor, "batch d"],
    t: Float[Tensor, " batch"],
    noise: Float[Tensor, "batch d"],
    *,
    generator: torch.Generator,
) -> Float[Tensor, "batch d"]:
    """The targets that the objective `asked` compares with at x_0 + sigma noise."""
    answer = torch.zeros_like(x_0).requires_grad_()
    asked.on(data, x_0.device)(_Answering(answer), x_0, t, noise, generator=generator).sum().backward()
    assert answer.grad is not None
    return -answer.grad * x_0.shape[1] / 2


def weighed(
    data: Float[Tensor, "n d"], x_t: Float[Tensor, "batch d"], sigma: Float[Tensor, " batch"]
) -> Float[Tensor, "batch n"]:
    """The posterior probability of each example, written out: what any exact denoiser of `data` must agree with."""
    square = (x_t[:, None] - data).square().sum(2)
    return torch.softmax(-square / (2 * sigma[:, None] ** 2), 1)


def covariance(
    law: Empirical, x_t: Float[Tensor, "batch d"], sigma: Float[Tensor, " batch"]
) -> Float[Tensor, "batch d d"]:
    """Cov(x_0 | x_t) as matrices."""
    operator, eye = law.posterior_covariance(x_t, 1.0, sigma), torch.eye(x_t.shape[1], dtype=torch.float64)
    return torch.stack([operator.matvec(row.expand_as(x_t)) for row in eye], 1)

r"""The running average of the weights, which gives the network to use (Polyak & Juditsky 1992; Song et al. 2021).

After step k = 1, 2, ... with weights :math:`\theta_k`,

.. math::  \bar\theta_k = \beta_k \bar\theta_{k-1} + (1 - \beta_k)\theta_k, \qquad
           \beta_k = \min\left(\beta, (1 - 1/k)^m\right), \qquad m = 9 .

The first branch is the exponential average with a memory of 1/(1 - beta) steps. The second warms it up without bias:
:math:`\beta_1 = 0` discards the initial weights, and as long as it is the smaller one the product telescopes to

.. math::  \bar\theta_k = \sum_{j \le k} \frac{j^m - (j-1)^m}{k^m}\, \theta_j ,

the power-law profile of Karras et al. 2024, whose mean age is a tenth of the run so far.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

WARMUP_POWER = 9


def average_decay(step: int, limit: float) -> float:
    """beta_k after `step` = k >= 1 optimizer steps, never above `limit` = beta."""
    return min(limit, (1 - 1 / step) ** WARMUP_POWER)


@torch.no_grad()
def update_average(average: Sequence[Tensor], weights: Sequence[Tensor], decay: float) -> None:
    """In place: average <- decay average + (1 - decay) weights. Equal tensors stay equal exactly."""
    torch._foreach_lerp_(list(average), list(weights), 1 - decay)

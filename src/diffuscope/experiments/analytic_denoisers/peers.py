r"""Two shortcuts of published implementations, rebuilt to measure what they cost: not denoisers to use.

*Nearest only*: the posterior mean over the k points nearest to :math:`x_t / \alpha`, where all N have weight,

.. math::  D_k(x_t) = \frac{\sum_{i \in N_k(x_t)} w_i\, y_i}{\sum_{i \in N_k(x_t)} w_i} .

*Averaged per batch*: the mean of the answers of parts of the data, each with weights that sum to one in its own part;
the answer depends on the size of the parts; exact only where all weights are equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser
from diffuscope.exact import Empirical
from diffuscope.schedules import Schedule


@dataclass(frozen=True, eq=False)
class NearestOnly:
    """D_k of `points` (N, *event): the empirical denoiser cut to the k nearest points."""

    points: Float[Tensor, "n *event"]
    schedule: Schedule
    k: int

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        found = Empirical(self.points).nearest(x_t, self.schedule.alpha(t), self.schedule.sigma(t), self.k)
        weights = found.weights / found.weights.sum(1, keepdim=True)
        kept = self.points.flatten(1)[found.indices].double()
        return torch.einsum("bk,bkd->bd", weights, kept).reshape(x_t.shape).to(x_t.dtype)


@dataclass(frozen=True, eq=False)
class PerBatch:
    """The mean of the answers of denoisers of parts of the data, of equal sizes."""

    parts: Sequence[Denoiser]

    @property
    def schedule(self) -> Schedule:
        """That of the parts."""
        return self.parts[0].schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        return torch.stack([part(x_t, t) for part in self.parts]).mean(0)

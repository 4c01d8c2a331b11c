r"""Sums of values with the weights of a softmax, gathered piece by piece: an online log-sum-exp.

.. math::
    \Big(\sum_s e^{l_{rs} - m_r},\; \sum_s e^{l_{rs} - m_r}\, y_s\Big)

for the logits l of the sources s of every output r. The reference m_r is a logit that has been seen; it is raised only
where an exponential would overflow, so that few pieces are read twice. The total is at least the e^0 of that logit,
and what is below e^-60 counts as that: a billion of them are below float64's roundoff.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

Outputs = Float64[Tensor, "*groups outputs"]
Logits = Float64[Tensor, "*groups outputs sources"]
Values = Float64[Tensor, "*groups rows sources"]
NEGLIGIBLE = 60.0  # 10^9 exp(-60) = 9e-18


class WeightedSums:
    """The sums of (*groups, outputs), a row of ones and one per channel, of no source yet."""

    def __init__(self, *shape: int, channels: int, device: torch.device) -> None:
        self.reference = torch.full(shape, -torch.inf, dtype=torch.float64, device=device)
        self.sums = torch.zeros(*shape[:-1], 1 + channels, shape[-1], dtype=torch.float64, device=device)
        self._empty = True

    def add_equal(self, sources: int) -> None:
        """So many sources of the logit 0 and the value 0."""
        if sources:
            self._raise(torch.zeros_like(self.reference))
            self.sums[..., 0, :] += sources * (-self.reference).exp()

    def add(self, logits: Callable[[Outputs], Logits], values: Values) -> None:
        """The sources of one piece; `logits` computes l - m in memory that is overwritten."""
        if self._empty:
            self._raise(logits(torch.zeros_like(self.reference)).amax(-1))
        sums = self._weighted(logits, values)
        if not math.isfinite(float(sums.sum())):
            self._raise(logits(torch.zeros_like(self.reference)).amax(-1))
            sums = self._weighted(logits, values)
        self.sums += sums

    def mean(self) -> Float64[Tensor, "*groups channels outputs"]:
        """The weighted means of the values."""
        return self.sums[..., 1:, :] / self.sums[..., :1, :]

    def _weighted(self, logits: Callable[[Outputs], Logits], values: Values) -> Tensor:
        # never so small that the processor's exponential is slow
        weights = logits(self.reference).clamp_min_(-NEGLIGIBLE).exp_()
        return values @ weights.mT

    def _raise(self, logits: Outputs) -> None:
        raised = torch.maximum(self.reference, logits)
        self.sums *= (self.reference - raised).exp()[..., None, :]
        self.reference, self._empty = raised, False

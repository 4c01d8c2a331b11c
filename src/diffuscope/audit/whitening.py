r"""Whitened features: every direction counts alike, and a distance in them has no units.

.. math::  f(x) = \Lambda^{-1/2} V^T (h(x) - \bar h) ,

where :math:`\bar h` and :math:`V \Lambda V^T` are the mean and the covariance of h on the training data, with RIDGE
times the mean eigenvalue added to each eigenvalue. Without it a few directions dominate a Frechet distance.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import leading_pairs
from diffuscope.exact.spectral import LARGEST_DENSE

RIDGE = 1e-3


def whitening(hidden: Float[Tensor, "n width"], kept: int | None = None) -> Float[Tensor, "width kept"]:
    """The matrix V Lambda^(-1/2) of the `kept` leading directions of `hidden` (all by default).

    Those of more than LARGEST_DENSE features, fewer than these, come from two passes without a matrix of all pairs.
    """
    if kept is not None and kept < hidden.shape[1] > LARGEST_DENSE:
        pairs = leading_pairs(lambda: hidden.split(1024), kept, generator=torch.Generator().manual_seed(0))
        unbiased, mean = len(hidden) / (len(hidden) - 1), pairs.trace / hidden.shape[1]
        scales = (unbiased * (pairs.eigenvalues + RIDGE * mean)).sqrt()
        return (pairs.eigenvectors / scales).flip(1).to(hidden)
    variances, directions = torch.linalg.eigh(torch.cov(hidden.mT))
    scales = (variances.clamp(min=0) + RIDGE * variances.mean()).sqrt()
    return (directions / scales)[:, -min(kept or len(variances), len(variances)) :]


@dataclass(frozen=True, eq=False)
class Whitened:
    """x -> f(x) for the map `hidden`, x -> h(x)."""

    hidden: Callable[[Float[Tensor, "n *event"]], Float[Tensor, "n width"]]
    center: Float[Tensor, " width"] = field(repr=False)
    matrix: Float[Tensor, "width kept"] = field(repr=False)

    @classmethod
    def fit(
        cls,
        hidden: Callable[[Float[Tensor, "n *event"]], Float[Tensor, "n width"]],
        train: Float[Tensor, "n *event"],
        kept: int | None = None,
    ) -> "Whitened":
        """White on `train`."""
        rows = hidden(train)
        return cls(hidden, rows.mean(0), whitening(rows, kept))

    def __call__(self, x: Float[Tensor, "n *event"]) -> Float[Tensor, "n kept"]:
        """Whitened features in float64."""
        return (self.hidden(x) - self.center) @ self.matrix

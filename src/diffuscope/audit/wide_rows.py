r"""Few rows of many numbers: the coordinates of n rows in the space that they span, and back.

With the Gram matrix of the centered rows, :math:`(X - \bar x)(X - \bar x)^T = U \Lambda U^T`,

.. math::  Z = U \Lambda^{1/2}, \qquad |z_i - z_j| = |x_i - x_j|, \qquad
           c = \bar x + (\zeta \Lambda^{-1/2} U^T) (X - \bar x)

for a point c of their affine hull with coordinates :math:`\zeta`. Whatever depends on distances alone, as k-means does,
is the same in these coordinates, fewer than n, up to rounding. Products are taken over COLUMNS numbers at a time in the
precision of the rows and summed in float64; directions below ROUNDING of the largest variance are left out.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.byte_examples import all_floats

COLUMNS = 4096
ROUNDING = 1e-6
WIDE = 8  # rows of so many times more numbers than there are rows are wide


def are_wide(rows: Float[Tensor, "n d"]) -> bool:
    """Whether coordinates in their span are far fewer than their numbers."""
    return rows.shape[1] >= WIDE * len(rows)


def at_same_distances(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n less"]:
    """Rows of fewer numbers at the same distances from each other, where these are wide; else as they are."""
    return Span.of(all_floats(rows)).coordinates if are_wide(rows) else rows


@dataclass(frozen=True, eq=False)
class Span:
    """Rows and their coordinates."""

    rows: Float[Tensor, "n d"]
    mean: Float[Tensor, " d"]
    coordinates: Float[Tensor, "n rank"]
    scales: Float[Tensor, " rank"]

    @classmethod
    def of(cls, rows: Float[Tensor, "n d"]) -> "Span":
        """The coordinates of these rows.

        >>> rows = torch.tensor([[0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 3.0, 2.0]])
        >>> span = Span.of(rows)
        >>> round(float((span.coordinates[0] - span.coordinates[1]).norm()), 6)
        3.0
        >>> span.points(span.coordinates).round(decimals=5).tolist()
        [[0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 3.0, 2.0]]
        """
        mean = rows.mean(0)
        gram = torch.zeros(len(rows), len(rows), dtype=torch.float64)
        for start in range(0, rows.shape[1], COLUMNS):
            part = rows[:, start : start + COLUMNS] - mean[start : start + COLUMNS]
            gram += part @ part.T
        variances, directions = torch.linalg.eigh(gram)
        kept = variances > ROUNDING * variances[-1]
        kept[-1] = True  # of equal rows, a coordinate that is 0
        scales = variances[kept].clamp(min=0).sqrt()
        return cls(rows, mean, directions[:, kept] * scales, torch.where(scales > 0, scales, 1.0))

    def points(self, coordinates: Float[Tensor, "m rank"]) -> Float[Tensor, "m d"]:
        """The points with these coordinates, in the precision of the rows."""
        weights = coordinates.double() / self.scales @ (self.coordinates / self.scales).T
        of_mean = 1 - weights.sum(1, keepdim=True)
        return weights.to(self.rows) @ self.rows + of_mean.to(self.rows) * self.mean

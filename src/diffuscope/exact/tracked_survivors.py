r"""The few points that a posterior at low noise consists of, and when they stay the only ones.

Let S be the points whose score is within T of the largest, and every other point provably farther. In the coordinates
:math:`z = x_t / \alpha`, :math:`\tau = \sigma / \alpha`, with the heaviest point :math:`y_1` as origin, the log-odds of
a point are :math:`L_j / \tau^2 + \ell_j - \ell_1`, where

.. math::  L_j(z) = (z - y_1) \cdot (y_j - y_1) - \tfrac12 |y_j - y_1|^2 .

**The survivors are frozen** as long as one number allows it. Let :math:`L_j(z) \le \bar L` for all points outside S,
and :math:`z' - y_1 = a (z - y_1) + r` with :math:`a \ge 0`. Then

.. math::
    L_j(z') = a L_j(z) + r \cdot (y_j - y_1) - \tfrac{1 - a}{2} |y_j - y_1|^2
    \le a \bar L + \max_{0 \le \rho \le \rho_{\max}} \left( |r| \rho - \tfrac{1 - a}{2} \rho^2 \right),

and the points outside weigh at most :math:`m = N e^{\bar L' / \tau'^2 - \ell_1} / \sum_S e^{\Delta_i}` together. On a
deterministic trajectory to one point r is zero and a is :math:`\tau' / \tau`: the bound decreases like
:math:`\bar L / \tau'`, and nothing but the survivors is looked at again.

**The mean of the survivors** comes from differences in float64 (see `_log_odds`); its error is at most

.. math::  m \left( \rho + |D_S - c| \right) + (e^{2 \delta} - 1) \sqrt{V_S},

where delta bounds the rounding of the log-odds: d times what `_log_odds` expects of it bounds a sum in any order.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from ._posterior import Noised, exact_log_weights, heavy_moments
from ._screening import PointTable

MOST_SURVIVORS = 64  # of one row
DOUBLE = 2.0**-53


@dataclass(frozen=True)
class Survivors:
    """The points that count for some rows at the place z, and the bound on all others."""

    table: PointTable
    indices: Int64[Tensor, "rows survivors"]  # the reference y_1 first
    counted: Bool[Tensor, "rows survivors"]
    z: Float64[Tensor, "rows d"]
    bound: Float64[Tensor, " rows"]  # on L_j(z) of all other points

    def __getitem__(self, rows: Tensor) -> "Survivors":
        return Survivors(self.table, self.indices[rows], self.counted[rows], self.z[rows], self.bound[rows])

    def joined(self, others: "Survivors") -> "Survivors":
        """These rows, and then those of `others`."""
        most = max(self.indices.shape[1], others.indices.shape[1])

        def wide(values: Tensor) -> Tensor:
            return torch.nn.functional.pad(values, (0, most - values.shape[1]))

        return Survivors(
            self.table,
            torch.cat([wide(self.indices), wide(others.indices)]),
            torch.cat([wide(self.counted), wide(others.counted)]),
            torch.cat([self.z, others.z]),
            torch.cat([self.bound, others.bound]),
        )

    def bound_at(self, z: Float64[Tensor, "rows d"]) -> Float64[Tensor, " rows"]:
        """A bound on L_j(z') of all other points; infinity where there is none."""
        reference = self.table.points[self.indices[:, 0]].double()
        before, after = self.z - reference, z - reference
        square = before.square().sum(1)
        a = torch.where(square > 0, (before * after).sum(1) / square.clamp_min(1e-300), 1.0)
        r = (after - a[:, None] * before).norm(dim=1)
        r = r + 16 * DOUBLE * (self.z.norm(dim=1) + z.norm(dim=1) + reference.norm(dim=1)) * (1 + a.abs())
        farthest = (reference - self.table.center).norm(dim=1) + self.table.radius
        best = torch.where(a < 1, torch.minimum(farthest, r / (1 - a).clamp_min(1e-300)), farthest)
        moved = a * self.bound + r * best - (1 - a) / 2 * best.square()
        return torch.where(a >= 0, moved, torch.inf)

    def mean(
        self, noised: Noised, bound: Float64[Tensor, " rows"], accepted: float
    ) -> tuple[Float64[Tensor, "rows d"], Float64[Tensor, " rows"], Float64[Tensor, " rows"]]:
        """The mean of the survivors with its error in norm and their variance; `bound` is that on L_j here."""
        d, table = noised.x.shape[1], self.table
        log_weights, rounding = exact_log_weights(table, noised, self.indices, self.counted, accepted / d)
        delta = d * rounding
        peak = log_weights.amax(1)
        weights = (log_weights - peak[:, None]).exp()
        mass = weights.sum(1)
        square, first = heavy_moments(table, self.indices, weights / mass[:, None])
        mean = table.points[self.indices[:, 0]].double() + first
        variance = (square - first.square().sum(1)).clamp_min(0) + 1e-20 * table.radius**2
        outside = bound * (noised.alpha / noised.sigma) ** 2 - table.log_weights[self.indices[:, 0]]
        outside = (outside + delta - peak).exp() * len(table) / mass
        error = outside * (table.radius + (mean - table.center).norm(dim=1))
        error = error + (2 * delta).expm1() * variance.sqrt() + 64 * DOUBLE * (mean.norm(dim=1) + table.radius)
        return mean, error.clamp_max(2 * table.radius), variance


def select(
    table: PointTable,
    scores: Tensor,
    largest: Tensor,
    window: Float64[Tensor, " rows"],
    error: Float64[Tensor, " rows"],
    noised: Noised,
) -> tuple[Tensor, Survivors | None]:
    """(rows, their survivors): where at most `MOST_SURVIVORS` scores are within `window` of the largest.

    `scores` (points, rows) are wrong by at most `error`.
    """
    # rounded down: no point outside the mask is above the threshold
    threshold = torch.nextafter((largest.double() - window).float(), torch.tensor(-torch.inf))
    counts = torch.zeros(scores.shape[1], dtype=torch.int64)
    found = []
    for start in range(0, len(scores), 4096):
        mask = scores[start : start + 4096] >= threshold
        counts += mask.sum(0)
        mask &= counts <= MOST_SURVIVORS
        pairs = mask.nonzero()
        pairs[:, 0] += start
        found.append(pairs)
    rows = (counts <= MOST_SURVIVORS).nonzero()[:, 0]
    if len(rows) == 0:
        return rows, None
    points, columns = torch.cat(found).T
    chosen = counts[columns] <= MOST_SURVIVORS
    points, columns = points[chosen], columns[chosen]
    order = columns.argsort(stable=True)
    points, columns = points[order], torch.searchsorted(rows, columns[order])
    counts = counts[rows]
    place = torch.arange(len(points)) - (counts.cumsum(0) - counts)[columns]
    indices = torch.zeros(len(rows), int(counts.max()), dtype=torch.int64)
    counted = torch.zeros_like(indices, dtype=torch.bool)
    indices[columns, place], counted[columns, place] = points, True
    heights = torch.full(indices.shape, -torch.inf, dtype=scores.dtype)
    heights[columns, place] = scores[points, rows[columns]]
    order = heights.argsort(dim=1, descending=True)  # the largest first: it is the reference
    indices, counted = indices.gather(1, order), counted.gather(1, order)
    few = noised[rows]
    tau = few.sigma / few.alpha
    prior = table.log_weights[indices[:, 0]] - table.log_weights.min()
    # exact odds of any other point: at most -window + 2 error
    bound = tau**2 * (2 * error[rows] - window[rows] + 1e-6 + prior)
    return rows, Survivors(table, indices, counted, few.x / few.alpha[:, None], bound)

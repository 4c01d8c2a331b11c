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

from ._posterior import Noised, _exact_log_weights, _heavy_moments
from ._screening import PointTable
from .tracked_scores import DOUBLE, TrackedScores

MOST_SURVIVORS = 64  # of one row
SAMPLED = 32  # one of so many points is looked at first
MOST_ROWS_OF_MANY = 0.75  # where more rows than this have too many survivors, none is looked for
ACCEPTED_ROUNDING = 1e-6  # of log-odds, above which they are compensated


@dataclass(frozen=True, eq=False)
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
        a = torch.where(square > 0, (before * after).sum(1) / square, 1.0)
        r = (after - a[:, None] * before).norm(dim=1)
        r = r + 16 * DOUBLE * (self.z.norm(dim=1) + z.norm(dim=1) + reference.norm(dim=1)) * (1 + a.abs())
        farthest = (reference - self.table.center).norm(dim=1) + self.table.radius
        best = torch.where(a < 1, torch.minimum(farthest, r / (1 - a)), farthest)
        moved = a * self.bound + r * best - (1 - a) / 2 * best.square()
        return torch.where(a >= 0, moved, torch.inf)

    def mean(
        self, noised: Noised, bound: Float64[Tensor, " rows"], window: float
    ) -> tuple[Float64[Tensor, "rows d"], Float64[Tensor, " rows"], Float64[Tensor, " rows"], "Survivors"]:
        """The mean of the survivors, its error in norm, their variance, and those that count from here on.

        `bound` is that on L_j here. Survivors whose log-weight is below -`window` are left to it from now on.
        """
        d, table = noised.x.shape[1], self.table
        log_weights, rounding = _exact_log_weights(table, noised, self.indices, self.counted, ACCEPTED_ROUNDING / d)
        delta = d * rounding
        peak = log_weights.amax(1)
        weights = (log_weights - peak[:, None]).exp()
        mass = weights.sum(1)
        square, first = _heavy_moments(table, self.indices, weights / mass[:, None])
        mean = table.points[self.indices[:, 0]].double() + first
        variance = (square - first.square().sum(1)).clamp_min(0) + 1e-20 * table.radius**2
        precision, prior = (noised.alpha / noised.sigma) ** 2, table.log_weights[self.indices]
        outside = (bound * precision - prior[:, 0] + delta - peak).exp() * len(table) / mass
        error = outside * (table.radius + (mean - table.center).norm(dim=1))
        error = error + (2 * delta).expm1() * variance.sqrt() + 64 * DOUBLE * (mean.norm(dim=1) + table.radius)

        light = log_weights < (peak - window)[:, None]
        light[:, 0] = False
        kept = self.counted & ~light
        # L of those left out, and its rounding
        left_out = torch.where(self.counted & light, log_weights - prior + prior[:, :1], -torch.inf).amax(1) + delta
        bound = torch.maximum(bound, left_out / precision)
        columns = kept.any(0).nonzero()[:, 0]
        z = noised.x / noised.alpha[:, None]
        after = Survivors(table, self.indices[:, columns], kept[:, columns], z, bound)
        return mean, error.clamp_max(2 * table.radius), variance, after


def select(
    state: TrackedScores, window: Float64[Tensor, " rows"], error: Float64[Tensor, " rows"], noised: Noised
) -> tuple[Tensor, Survivors | None]:
    """(rows, their survivors): where at most `MOST_SURVIVORS` scores are within `window` of the largest.

    The scores of `state` are wrong by at most `error`.
    """
    table = state.table
    # rounded down: no point outside the mask is above the threshold
    threshold = torch.nextafter((state.largest.double() - window).float(), torch.tensor(-torch.inf))
    some = slice(0, len(table), SAMPLED)
    if float(((state.scores(some) >= threshold).sum(0) > 2).double().mean()) > MOST_ROWS_OF_MANY:
        return torch.zeros(0, dtype=torch.int64), None
    counts = torch.zeros(len(window), dtype=torch.int64)
    found, heights = [], []
    for piece in state.grid.ranges():
        scores = state.scores(piece)
        points = ((scores - threshold).amax(1) >= 0).nonzero()[:, 0]
        scores = scores[points]
        mask = scores >= threshold
        counts += mask.sum(0)
        mask &= counts <= MOST_SURVIVORS
        pairs = mask.nonzero()
        heights.append(scores[mask])
        pairs[:, 0] = points[pairs[:, 0]] + piece.start
        found.append(pairs)
    rows = (counts <= MOST_SURVIVORS).nonzero()[:, 0]
    if len(rows) == 0:
        return rows, None
    points, columns = torch.cat(found).T
    height = torch.cat(heights)
    chosen = (counts[columns] <= MOST_SURVIVORS).nonzero()[:, 0]
    chosen = chosen[columns[chosen].argsort(stable=True)]
    points, columns, height = points[chosen], torch.searchsorted(rows, columns[chosen]), height[chosen]
    counts = counts[rows]
    place = torch.arange(len(points)) - (counts.cumsum(0) - counts)[columns]
    indices = torch.zeros(len(rows), int(counts.max()), dtype=torch.int64)
    counted = torch.zeros_like(indices, dtype=torch.bool)
    indices[columns, place], counted[columns, place] = points, True
    by_height = torch.full(indices.shape, -torch.inf)
    by_height[columns, place] = height
    order = by_height.argsort(dim=1, descending=True)  # the largest first: it is the reference
    indices, counted = indices.gather(1, order), counted.gather(1, order)
    few = noised[rows]
    tau = few.sigma / few.alpha
    prior = table.log_weights[indices[:, 0]] - table.log_weights.min()
    # exact odds of any other point: at most -window + 2 error
    bound = tau**2 * (2 * error[rows] - window[rows] + 1e-6 + prior)
    return rows, Survivors(table, indices, counted, few.x / few.alpha[:, None], bound)

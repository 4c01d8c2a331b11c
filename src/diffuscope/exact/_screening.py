r"""The points of a data set as a table of scores: one matrix product screens them, exact differences settle ties.

For a query b, every point y_i has the score

.. math::  s_{bi} = q_b \cdot y_i - \kappa_b h_i + \ell_i, \qquad h_i = \tfrac12 |y_i - c|^2,

where c is the mean of the points and :math:`\ell_i` a log-weight. Two choices are used:

- nearest neighbors: q = x - c, kappa = 1, so s = const - |x - y|^2 / 2;
- posterior of a noised point: q = alpha (x_t - alpha c) / sigma^2, kappa = alpha^2 / sigma^2,
  so s = const - |x_t - alpha y|^2 / (2 sigma^2) + log-weight.

The constants depend on the query alone. In a precision with unit roundoff u, the error of every score is at most
(Higham 2002, sec. 3.1, for any order of summation)

.. math::  E_b = u \left[(d + 4)\,|q_b| \max|y| + 4 \kappa_b \max h + 4 \max|\ell|\right],

and typically :math:`\sqrt d` times less. At small sigma either is many logits: so the product only *screens*,
and the points that pass are recomputed from differences in float64.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.errors import InputError

MOST_ROWS = 8192  # rows of points in one product: more gains nothing, fewer costs launches


@dataclass(frozen=True)
class PointTable:
    """N points as rows, as given (never copied), with what the scores need of each."""

    points: Float[Tensor, "points d"]
    log_weights: Float[Tensor, " points"]  # float64, the largest is zero
    memory: int  # bytes that a computation may use besides its input and output
    center: Float[Tensor, " d"] = field(init=False)
    half_squares: Float[Tensor, " points"] = field(init=False)
    largest_norm: float = field(init=False)
    typical_norm: float = field(init=False)
    radius: float = field(init=False)  # the largest distance to the center

    def __post_init__(self) -> None:
        total = torch.zeros(self.points.shape[1], dtype=torch.float64, device=self.points.device)
        for start, stop in self.chunks(queries=0):
            total += self.points[start:stop].sum(0, dtype=torch.float64)
        center = total / len(self.points)
        half_squares = torch.empty(len(self.points), dtype=torch.float64, device=self.points.device)
        norms_squared = torch.empty_like(half_squares)
        for start, stop in self.chunks(queries=0):
            rows = self.points[start:stop].double()
            norms_squared[start:stop] = rows.square().sum(1)
            half_squares[start:stop] = (rows - center).square_().sum(1) / 2  # float64 rows are the points themselves
        object.__setattr__(self, "center", center)
        object.__setattr__(self, "half_squares", half_squares)
        object.__setattr__(self, "largest_norm", float(norms_squared.max().sqrt()))
        object.__setattr__(self, "typical_norm", float(norms_squared.mean().sqrt()))
        object.__setattr__(self, "radius", float((2 * half_squares.max()).sqrt()))

    def __len__(self) -> int:
        return len(self.points)

    def chunks(self, queries: int) -> Iterator[tuple[int, int]]:
        """Ranges of points that fit in memory, cast to float64, together with their scores for so many queries."""
        rows = min(MOST_ROWS, max(16, self.memory // (16 * (self.points.shape[1] + queries))))
        for start in range(0, len(self.points), rows):
            yield start, min(start + rows, len(self.points))

    def scores(
        self, start: int, stop: int, queries: Float[Tensor, "batch d"], kappa: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch rows"]:
        """Scores of the points start..stop, in the precision of `queries`."""
        dtype, rows = queries.dtype, slice(start, stop)
        scores = torch.addr(self.log_weights[None, rows].to(dtype), -kappa.to(dtype), self.half_squares[rows].to(dtype))
        return scores.addmm_(queries, self.points[rows].to(dtype).T)

    def score_bound(self, queries: Float[Tensor, "batch d"], kappa: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """E_b: no score in the precision of `queries` is wrong by more."""
        roundoff = torch.finfo(queries.dtype).eps / 2
        product = (self.points.shape[1] + 4) * queries.double().norm(dim=1) * self.largest_norm
        return roundoff * (product + 4 * kappa * self.half_squares.max() + 4 * self.log_weights.min().abs())

    def score_error(self, queries: Float[Tensor, "batch d"], kappa: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """The typical error of the scores of the points that matter: rounding errors mostly cancel.

        The factor 2 was measured on MNIST in [0, 1], [-1, 1] and [10, 11], sigma from 0.05 to 20: the root mean square
        error of a score is at most 1.3 u |q| |y|.
        """
        roundoff = torch.finfo(queries.dtype).eps / 2
        product = queries.double().norm(dim=1) * self.typical_norm
        return 2 * roundoff * (product + kappa * self.half_squares.mean() + self.log_weights.mean().abs())

    def largest(
        self, queries: Float[Tensor, "batch d"], kappa: Float[Tensor, " batch"], k: int, window: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
        """The k largest scores, largest first, and the indices of their points; ties in any order.

        Points further than `window` below the largest may be missed; a missing point has the score -infinity.
        """
        window = window.to(queries.dtype)
        values = queries.new_full((len(queries), k), -torch.inf)
        indices = torch.zeros(len(queries), k, dtype=torch.int64, device=queries.device)
        for start, stop in self.chunks(len(queries)):
            scores = self.scores(start, stop, queries, kappa)
            least = torch.maximum(values[:, -1], values[:, 0] - window)
            rows = (scores.amax(1) > least).nonzero()[:, 0]
            if len(rows) == 0:
                continue
            if len(rows) < len(scores):
                scores = scores[rows]
            new_values, new_indices = scores.topk(min(k, stop - start), dim=1, sorted=False)
            merged = torch.cat([values[rows], new_values], 1)
            values[rows], order = merged.topk(k, dim=1)
            indices[rows] = torch.cat([indices[rows], new_indices + start], 1).gather(1, order)
        return values, indices

    def certified_largest(
        self,
        queries: Float[Tensor, "batch d"],
        kappa: Float[Tensor, " batch"],
        k: int,
        cost: Callable[[Tensor, Tensor], Tensor],
        offset: Float[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
        """The k least exact costs, least first (ties: least index first), and the indices of their points.

        `cost(queries, points)` of index vectors is exact in float64 and equals `offset` minus the score. A row is
        certified when its k-th cost is below that of every point screened out, screening error included; the others
        are screened again with more candidates.
        """
        n = len(self)
        costs = torch.empty(len(queries), k, dtype=torch.float64, device=queries.device)
        indices = torch.empty(len(queries), k, dtype=torch.int64, device=queries.device)
        bound = self.score_bound(queries, kappa)
        open_rows = torch.arange(len(queries), device=queries.device)
        candidates = min(n, k + 8)
        while len(open_rows):
            undecided = []
            for rows in open_rows.split(max(1, self.memory // (32 * candidates))):
                scores, found = self.largest(
                    queries[rows], kappa[rows], candidates, torch.full_like(bound[rows], torch.inf)
                )
                exact = cost(rows.repeat_interleave(candidates), found.flatten()).reshape(found.shape)
                found, by_index = found.sort(1)
                exact, order = exact.gather(1, by_index).sort(dim=1, stable=True)
                costs[rows], indices[rows] = exact[:, :k], found.gather(1, order)[:, :k]
                # every point screened out scores at most as much as the last candidate, so it costs at least this
                least_outside = offset[rows] - (scores[:, -1].double() + bound[rows])
                sure = (exact[:, k - 1] < least_outside) | ((bound[rows] == 0) & (exact[:, k - 1] <= least_outside))
                undecided.append(rows[~sure])
            open_rows = torch.cat(undecided) if candidates < n else open_rows[:0]
            candidates = min(n, 4 * candidates)
        return costs, indices


def checked_rows(name: str, values: Tensor) -> Float[Tensor, "rows d"]:
    """`values`, (rows, *event), as a matrix of float32 or float64. Raises InputError for integers, no value, or NaN."""
    if not values.is_floating_point():
        raise InputError(f"{name}: expected floating-point values, got {values.dtype}; scale integers to floats first")
    if values.numel() == 0:
        raise InputError(f"{name}: expected at least one event of at least one value, got shape {tuple(values.shape)}")
    flat = values.detach().reshape(len(values), -1)
    flat = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
    if not all(bool(torch.isfinite(rows).all()) for rows in flat.split(4096)):
        raise InputError(f"{name}: expected finite values, got NaN or infinity")
    return flat

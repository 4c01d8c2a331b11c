r"""The points of a data set as a table of scores: one matrix product screens them, exact differences settle ties.

For a query b, every point y_i has the score

.. math::  s_{bi} = q_b \cdot y_i - \kappa_b h_i + \ell_i, \qquad h_i = \tfrac12 |y_i - c|^2,

where c is the mean of the points and :math:`\ell_i` a log-weight. Two choices are used:

- nearest neighbors: q = x - c, kappa = 1, so s = const - |x - y|^2 / 2;
- posterior of a noised point: q = alpha (x_t - alpha c) / sigma^2, kappa = alpha^2 / sigma^2,
  so s = const - |x_t - alpha y|^2 / (2 sigma^2) + log-weight.

The constants depend on the query alone. In a precision with unit roundoff u, the error of every score is at most
(Higham 2002, sec. 3.1, for any order of summation)

.. math::  E_b = u \left[(d + 5)\,|q_b| \max|y| + 5 \kappa_b \max h + 4 \max|\ell|\right],

with :math:`|sR|` in place of :math:`|y|` for bytes, and :math:`(|q_b| + \kappa_b \max|y - c|)` times their deviation
besides (see `_products`); and typically :math:`\sqrt d` times less. In many dimensions the worst case would certify
nothing: so a score is summed up over COLUMNS coordinates at a time, and d is that number and the number of such sums.
At small sigma either error is many logits: so the product only *screens*, and the points that pass are recomputed from
differences in float64.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.byte_examples import ByteExamples
from diffuscope.errors import InputError
from diffuscope.memory import chunk_size, ranges

from ._digit_products import DIGITS, DigitProducts
from ._integers import LARGEST_INNER, integer_products_are_exact, integer_products_are_fast
from ._products import Products, byte_products, exact_products, norms

Multiplied = Products | DigitProducts

SAMPLED = 64  # points whose scores are compared with exact ones
LEAST_INNER = 1024  # values of a point: below, products of integers gain less than making digits takes
MOST_ROWS = 8192  # rows of points in one product: more gains nothing, fewer costs launches
COLUMNS = 4096  # coordinates that a product sums up at once, of which the worst case of its rounding is a multiple
CHECKED = 2**24  # numbers that are checked at once


@dataclass(frozen=True, eq=False)
class PointTable:
    """N points as rows, as given (never copied; floats, or held as bytes), with what the scores need of each."""

    points: Float[Tensor, "points d"]
    log_weights: Float[Tensor, " points"]  # float64, at most zero
    memory: int  # bytes that a computation may use besides its input and output
    _made: list[Products] = field(init=False)  # for float32, the same faster; and, once it is needed, for float64

    def __post_init__(self) -> None:
        made = byte_products(self.points, self.memory) if isinstance(self.points, ByteExamples) else None
        object.__setattr__(self, "_made", list(made) if made else [exact_products(self.points, self.memory)])

    def products(self, dtype: torch.dtype) -> Products:
        """What to multiply in this precision."""
        single = self._made[0]
        if dtype == torch.float32 or not single.of_bytes:
            return single
        if len(self._made) == 2:
            self._made.append(exact_products(self.points, self.memory, single.center))
        return self._made[2]

    def faster_products(self, dtype: torch.dtype) -> Products:
        """What to multiply where it is exact enough."""
        return self._made[min(1, len(self._made) - 1)] if dtype == torch.float32 else self.products(dtype)

    def by_digits(self, queries: Float[Tensor, "batch d"]) -> DigitProducts | None:
        """Products of these float32 queries with bytes as exact integers; None where they cannot be, or are slow."""
        d, as_they_are = self.points.shape[1], self.faster_products(torch.float32)
        if not as_they_are.of_bytes or queries.dtype != torch.float32 or not LEAST_INNER <= d <= LARGEST_INNER:
            return None
        if queries.device.type != "cpu" or len(queries) == 0 or not bool(queries.isfinite().all()):
            return None
        # twice as fast: where it is a close race, the clock would decide otherwise every time
        fast = integer_products_are_fast(than=torch.float32, digits=DIGITS, inner=4096, times=2.0)
        return DigitProducts.of(as_they_are, queries, self.radius) if fast and integer_products_are_exact(d) else None

    @property
    def center(self) -> Float[Tensor, " d"]:
        """The mean of the points, weights aside."""
        return self._made[0].center

    @property
    def half_squares(self) -> Float[Tensor, " points"]:
        """h_i, exactly."""
        return self.products(torch.float64).half_squares

    @property
    def largest_norm(self) -> float:
        """A bound of |y|, and of what is multiplied instead."""
        single = self._made[0]
        return single.largest_norm + float(single.offset.norm())

    @property
    def typical_norm(self) -> float:
        """The root mean square of |y|, or of what is multiplied instead."""
        return self._made[0].typical_norm

    @cached_property
    def spread(self) -> float:
        """The root mean square distance to the center."""
        return float((2 * self._made[0].half_squares.mean()).sqrt())

    @cached_property
    def radius(self) -> float:
        """The largest distance to the center, at most."""
        single = self._made[0]
        return float((2 * single.half_squares.max()).sqrt()) + single.deviation

    def __len__(self) -> int:
        return len(self.points)

    def chunks(self, queries: int) -> Iterator[tuple[int, int]]:
        """Ranges of points that fit in memory, cast to float64, together with their scores for so many queries."""
        rows = min(MOST_ROWS, max(16, self.memory // (16 * (self.points.shape[1] + queries))))
        return ranges(len(self.points), rows)

    def scores(
        self, start: int, stop: int, queries: Float[Tensor, "batch d"], kappa: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch rows"]:
        """Scores of the points start..stop but for a `constant`, in the precision of `queries`."""
        dtype, products, rows = queries.dtype, self.products(queries.dtype), slice(start, stop)
        h = products.half_squares[rows].to(dtype)
        scores = torch.addr(self.log_weights[None, rows].to(dtype), -kappa.to(dtype), h)
        points = products.rows(start, stop, dtype)
        if queries.shape[1] <= COLUMNS:
            return scores.addmm_(queries, points.T, alpha=products.scale)
        parts = zip(queries.split(COLUMNS, 1), points.split(COLUMNS, 1), strict=True)
        product = torch.zeros_like(scores)
        for x, y in parts:
            product.addmm_(x, y.T)
        return scores.add_(product, alpha=products.scale)

    def constant(self, queries: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:
        """What is left out of all scores of a query."""
        return self.products(queries.dtype).constant(queries)

    def score_bound(
        self,
        queries: Float[Tensor, "batch d"],
        kappa: Float[Tensor, " batch"],
        by: Multiplied | None = None,
        *,
        summed: int | None = None,
    ) -> Float[Tensor, " batch"]:
        """E_b: no score in the precision of `queries`, by these products, is wrong by more.

        Products of floats sum up d numbers, or `summed` at a time.
        """
        products = self.products(queries.dtype)
        by = by or products
        roundoff = torch.finfo(queries.dtype).eps / 2
        rest = roundoff * (5 * kappa * by.half_squares.max() + 4 * self.log_weights.min().abs())
        product = by.product_bound(queries) if summed is None else products.product_bound(queries, summed)
        return product + rest + (norms(queries) + kappa * self.radius) * by.deviation

    def score_error(
        self, queries: Float[Tensor, "batch d"], kappa: Float[Tensor, " batch"], by: Multiplied | None = None
    ) -> Float[Tensor, " batch"]:
        """The error of the scores of the points that matter: rounding errors mostly cancel.

        The typical one, 2u [|q| |y| + kappa h + |log-weight|], or, of many points in float32, four times the root mean
        square error of some of them, where that is less. The factor 2 was measured on MNIST in [0, 1], [-1, 1] and
        [10, 11], sigma from 0.05 to 20: the root mean square error of a score is at most 1.3 u |q| |y|; for the bytes
        of pictures of 4,096 values it is 0.1 u |q| |y|. Of products by digits the bound stands for the typical error.
        """
        by = by or self.products(queries.dtype)
        roundoff = torch.finfo(queries.dtype).eps / 2
        typical = by.product_error(queries)
        typical = typical + 2 * roundoff * (kappa * by.half_squares.mean() + self.log_weights.mean().abs())
        typical = typical + (norms(queries) + kappa * self.radius) * by.deviation / math.sqrt(self.points.shape[1])
        if queries.dtype != torch.float32 or len(self) < 4 * SAMPLED:
            return typical
        return torch.minimum(typical, 4 * self._sampled_error(queries, kappa, by))

    def _sampled_error(self, queries: Tensor, kappa: Tensor, by: Multiplied) -> Float[Tensor, " batch"]:
        """The root mean square error of the scores of some points, spread over all."""
        sample = torch.linspace(0, len(self) - 1, SAMPLED, device=queries.device).long()
        log_weights, y = self.log_weights[sample], self.points[sample].double()
        h, dtype = by.half_squares[sample], queries.dtype
        scores = torch.addr(log_weights[:, None].to(dtype), h.to(dtype), -kappa.to(dtype))
        by.add_at(scores, sample, queries)
        exact = log_weights[:, None] - (y - self.center).square().sum(1)[:, None] / 2 * kappa
        exact += y @ queries.double().T - by.constant(queries)
        return (scores - exact).square().mean(0).sqrt()

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
            merge_largest(values, indices, scores, scores.amax(1), start, window)
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
        n, offset = len(self), offset - self.constant(queries)
        costs = torch.empty(len(queries), k, dtype=torch.float64, device=queries.device)
        indices = torch.empty(len(queries), k, dtype=torch.int64, device=queries.device)
        d = queries.shape[1]
        bound = self.score_bound(queries, kappa, summed=min(d, COLUMNS) + -(-d // COLUMNS) - 1)  # that of `scores`
        open_rows = torch.arange(len(queries), device=queries.device)
        candidates = min(n, k + 8)
        while len(open_rows):
            undecided = []
            for rows in open_rows.split(chunk_size(self.memory, each=32 * candidates)):
                scores, found = self.largest(
                    queries[rows], kappa[rows], candidates, torch.full_like(bound[rows], torch.inf)
                )
                # what scores lower than the k-th by twice the error cannot cost as little as k others
                matter = ~(scores.double() < (scores[:, k - 1].double() - 2 * bound[rows])[:, None])
                exact = torch.full(found.shape, torch.inf, dtype=torch.float64, device=queries.device)
                exact[matter] = cost(rows[matter.nonzero()[:, 0]], found[matter])
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


def merge_largest(
    values: Float[Tensor, "batch k"],
    indices: Int[Tensor, "batch k"],
    scores: Float[Tensor, "batch rows"],
    largest: Float[Tensor, " batch"],
    start: int,
    window: Float[Tensor, " batch"],
) -> None:
    """Merge the scores of the points start .., with their row maxima, into the k largest so far, in place."""
    least = torch.maximum(values[:, -1], values[:, 0] - window)
    rows = (largest > least).nonzero()[:, 0]
    if len(rows) == 0:
        return
    if len(rows) < len(scores):
        scores = scores[rows]
    new_values, new_indices = scores.topk(min(values.shape[1], scores.shape[1]), dim=1, sorted=False)
    merged = torch.cat([values[rows], new_values], 1)
    values[rows], order = merged.topk(values.shape[1], dim=1)
    indices[rows] = torch.cat([indices[rows], new_indices + start], 1).gather(1, order)


def checked_rows(name: str, values: Tensor) -> Float[Tensor, "rows d"]:
    """`values`, (rows, *event), as a matrix of float32 or float64. Raises InputError for integers, no value, or NaN."""
    if not values.is_floating_point():
        raise InputError(f"{name}: expected floating-point values, got {values.dtype}; scale integers to floats first")
    if values.numel() == 0:
        raise InputError(f"{name}: expected at least one event of at least one value, got shape {tuple(values.shape)}")
    flat = values.detach().reshape(len(values), -1)
    if isinstance(flat, ByteExamples):
        if not bool(torch.isfinite(flat.values).all()):
            raise InputError(f"{name}: expected finite values, got NaN or infinity")
        return flat
    flat = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
    if not all(bool(torch.isfinite(rows).all()) for rows in flat.split(chunk_size(CHECKED, each=flat.shape[1]))):
        raise InputError(f"{name}: expected finite values, got NaN or infinity")
    return flat

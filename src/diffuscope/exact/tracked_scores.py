r"""Scores of all points for a batch that moves a little, and the mean they give, with a bound on every error.

At one noise level the score of the point y_i for the query :math:`q = x_t - \alpha c` (c is the mean of the points) is

.. math::  s_i = k\, q \cdot (y_i - c) - \kappa h_i + \ell_i, \qquad k = \alpha / \sigma^2, \quad
           \kappa = \alpha^2 / \sigma^2, \quad h_i = \tfrac12 |y_i - c|^2 .

**Tracking.** We hold :math:`G_i \approx p \cdot \tilde y_i` for all points of a query p = q - e that is
known in float64. The next query is :math:`q' = a p + r`; with :math:`r = \sum_{n \le N} t_n d_n + e'` in digits (see
`_integers`) :math:`G' = a G + \sum_n t_n\, d_n \cdot \tilde y_i`. What is left out, e', is known, and the next
digits make up for it. The factor a is kept outside of G. A product without a past is the same with p = 0 and needs one
or two digits more: a new batch, a jump or fresh noise costs no more than that.

**The bound.** Let eta bound what rounding does to any score (below) and :math:`\epsilon = \eta + k |e| \rho`, where
:math:`\rho = \max |y_i - c|`. With the weights E_i as computed, their mean D^, and V = sum E_i |y_i - D^|^2 / sum E_i:

1. From the exact scores of q to those of p the mean moves by the integral of :math:`k\, \mathrm{Cov}_\tau(y)\, e`, at
   most :math:`k |e| \sup_\tau \mathrm{tr\,Cov}_\tau`, where :math:`\mathrm{tr\,Cov}_\tau \le e^{2 \epsilon} V`: no
   normalized weight in between differs from E by more than that factor.
2. The other errors of the scores, at most eta, change weights by factors :math:`e^{\pm\eta}`, and the mean by at most
   :math:`(e^\eta - 1)\, e^{2\epsilon} \sqrt V`, for :math:`\sum E_i (y_i - D^) = 0`.
3. Weights are cut to integers I_i of at most 2e9. The mean of integers is exact; the cut is less than 1 for each point:
   at most :math:`e^{2\epsilon} \sum_i |y_i - D^| / \sum I_i`, which also covers weights too small for a float.
4. The points themselves: max |R_i|.

V follows from the sums of I_i h_i, with h_i rounded up, and the same allowance for the cut.

Rounding, with u = 2^-24 (in float64, which a few rows need, 2^-53): every product is an exact integer; taking it to a
float, scaling and adding it is wrong by at most :math:`3 u |t_n| |d_n| |\tilde y| + u |G|`, summed over all steps (and
contracted by a); the score by :math:`3 u k s |G| + 2 u \max(\kappa h + |\ell|)`; :math:`k |p| |R|`; 32 u for the
difference from the largest score, which is below 22 where a weight counts, and for exp. |G| is measured; it is several
times less than |p| |y~|, and so is the product with the leading digit, by which G changes.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ._integers import LARGEST_INNER, LARGEST_WEIGHT, byte_digits, digits, from_byte_digits, integer_product
from ._screening import PointTable
from .tracked_points import EXTRA, ROWS, GridPoints, half_squares_of

SINGLE, DOUBLE = 2.0**-24, 2.0**-53
LEAST_EXPONENT = -80.0  # of a weight that is cut to zero anyway
MOST_DIGITS = 5  # of one query: 2^-40 of it is left


@dataclass(frozen=True)
class TrackedLevel:
    """alpha and sigma of one level, and the factors of the scores."""

    alpha: float
    sigma: float

    @property
    def k(self) -> float:
        return self.alpha / self.sigma**2

    @property
    def kappa(self) -> float:
        return (self.alpha / self.sigma) ** 2


@dataclass(frozen=True, eq=False)
class Mean:
    """The mean of every row, a bound on its error in norm, a bound on V, and sum I / max I: how many points matter."""

    value: Float64[Tensor, "rows d"]
    error: Float64[Tensor, " rows"]
    variance: Float64[Tensor, " rows"]
    effective: Float64[Tensor, " rows"]


@dataclass(eq=False)
class TrackedScores:
    """The state of some rows of a batch between calls, and the scores of the last call."""

    table: PointTable
    grid: GridPoints
    n_rows: int
    dtype: torch.dtype = torch.float32  # of G and of the scores; in float64 they take twice the memory and time
    p: Float64[Tensor, "rows d"] = field(init=False)
    G: Float[Tensor, "points rows"] = field(init=False)
    bias: Float[Tensor, "points 1"] = field(init=False)  # of the scores of the last call
    scale: float = field(init=False)
    largest: Float[Tensor, " rows"] = field(init=False)  # of these scores
    factor: float = field(init=False, default=0.0)  # of G; zero: no past
    fresh: bool = field(init=False, default=True)  # whether the last call was without a past
    rounded: Float64[Tensor, " rows"] = field(init=False)  # the error of G by rounding so far
    size: Float64[Tensor, " rows"] = field(init=False)  # the largest |G|
    left: Float64[Tensor, " rows"] = field(init=False)  # |e|
    products: int = field(init=False, default=0)  # with queries, of one digit, in all

    def __post_init__(self) -> None:
        self.G = torch.empty(len(self.table), self.n_rows, dtype=self.dtype)
        self.forget()

    @property
    def roundoff(self) -> float:
        """u of the scores."""
        return torch.finfo(self.dtype).eps / 2

    def forget(self) -> None:
        self.p = torch.zeros(self.n_rows, self.table.points.shape[1], dtype=torch.float64)
        self.factor, self.rounded = 0.0, torch.zeros(self.n_rows, dtype=torch.float64)
        self.size = torch.zeros_like(self.rounded)

    def keep(self, rows: Tensor) -> None:
        """Only these rows from now on."""
        self.p, self.rounded, self.left, self.size = self.p[rows], self.rounded[rows], self.left[rows], self.size[rows]
        self.n_rows = len(rows)
        self.G = self.G[:, rows].contiguous()

    def move(self, q: Float64[Tensor, "rows d"], level: TrackedLevel, allowed: Float64[Tensor, " rows"]) -> None:
        """The scores for q, with digits until |e| <= `allowed` in every row, from the past where that is cheaper."""
        square = float(self.p.square().sum())
        a = float((q * self.p).sum()) / square if square > 0 else 0.0
        r = q - a * self.p
        if self.factor == 0 or not 1e-6 < a * self.factor < 1e6 or float(r.abs().max()) >= 0.5 * float(q.abs().max()):
            self.forget()
            a, r = 0.0, q
        found = []
        for digit, step, rest in digits(r):
            found.append((digit, step))
            r = rest
            if len(found) == MOST_DIGITS or bool((rest.norm(dim=1) <= allowed).all()):
                break
        first = self.fresh = self.factor == 0
        self.factor = 1.0 if first else a * self.factor
        self.p = q - r
        # p, q and r are sums in float64; the steps of earlier calls included, a few roundings of what they hold
        self.left = r.norm(dim=1) + 64 * DOUBLE * (q.norm(dim=1) + self.p.norm(dim=1))
        before = self.size
        self._products(found, first, level)
        self._count_rounding(found, before)
        self.products += len(found) * len(self.grid.planes)

    def _count_rounding(self, found: list[tuple[Tensor, float]], before: Tensor) -> None:
        """What these digits add to the error of G: of every product by its size, of every sum by that of G."""
        sizes = [
            abs(step) * digit.double().norm(dim=0) * plane_norm / 256**j / self.factor
            for digit, step in found
            for j, plane_norm in enumerate(self.grid.norms)
        ]
        if not sizes:
            return
        later = sum(sizes[1:], torch.zeros_like(self.rounded))
        # the first product is what G was increased by, but for the later ones
        sizes[0] = torch.minimum(sizes[0], 1.001 * (before + self.size + later))
        for size in sizes:
            # the integer, the factor and their product are rounded, and then the sum
            self.rounded = self.rounded + 1.001 * self.roundoff * (3 * size + self.size + later)

    def _products(self, found: list[tuple[Tensor, float]], first: bool, level: TrackedLevel) -> None:
        self.bias = (self.table.log_weights - level.kappa * self.table.half_squares).to(self.dtype)[:, None]
        self.scale = level.k * self.grid.step * self.factor
        self.largest = torch.full((self.n_rows,), -torch.inf, dtype=self.dtype)
        self.size = torch.zeros_like(self.rounded)
        for rows in self.grid.ranges():
            G = self.G[rows]
            if first:
                G.zero_()
            for digit, step in found:
                for j, plane in enumerate(self.grid.planes):
                    G.add_(integer_product(plane[rows], digit).to(self.dtype), alpha=step / self.factor / 256**j)
            self.size = torch.maximum(self.size, torch.maximum(-G.amin(0), G.amax(0)).double())
            self.largest = torch.maximum(self.largest, self.scores(rows).amax(0))

    def scores(self, points: slice, columns: Tensor | None = None) -> Float[Tensor, "_ columns"]:
        """The scores of the last call for some points: made anew while they are in the cache, not kept."""
        G = self.G[points] if columns is None else self.G[points][:, columns]
        return torch.add(self.bias[points], G, alpha=self.scale)

    def past_error(self, q: Float64[Tensor, "rows d"], level: TrackedLevel) -> Float64[Tensor, " rows"]:
        """About what the rounding so far will be in the scores of q, if G is kept."""
        shrunk = q.norm() / self.p.norm().clamp_min(1e-300)
        return level.k * self.grid.step * self.factor * float(shrunk) * self.rounded

    def score_error(self, level: TrackedLevel) -> tuple[Float64[Tensor, " rows"], Float64[Tensor, " rows"]]:
        """(eta, eta + k |e| rho): of the rounding of the scores, and of the scores of q."""
        norm = self.p.norm(dim=1)
        biases = level.kappa * float(self.table.half_squares.max()) + float(self.table.log_weights.min().abs())
        scale = level.k * self.grid.step * self.factor
        eta = scale * self.rounded + 1.001 * self.roundoff * (3 * scale * self.size + 2 * biases)
        eta = eta + level.k * norm * self.grid.residual + 32 * self.roundoff
        # h_i and the products of float64 that stand for the exact score
        eta = eta + (self.p.shape[1] + 16) * DOUBLE * (biases + level.k * norm * self.table.radius)
        return eta, eta + level.k * self.left * self.table.radius

    def mean(self, level: TrackedLevel, columns: Tensor | None = None) -> Mean:
        """The mean of all rows, or of those columns, by sums of integer weights."""
        largest = self.largest if columns is None else self.largest[columns]
        top = largest - math.log(LARGEST_WEIGHT)
        d, n_planes, n_columns = self.p.shape[1], len(self.grid.planes), len(top)
        sums = torch.zeros(d + EXTRA, n_columns, dtype=torch.float64)
        totals = [torch.zeros(d + EXTRA, 4 * n_columns, dtype=torch.int32) for _ in range(n_planes)]
        for piece, rows in enumerate(self.grid.ranges()):
            # subnormal numbers take a hundred times longer
            weights = byte_digits(self.scores(rows, columns).sub_(top).clamp_min_(LEAST_EXPONENT).exp_())
            for total, transposed in zip(totals, self.grid.transposed, strict=True):
                total += integer_product(transposed[piece], weights)
            if (piece + 1) * ROWS % LARGEST_INNER == 0 or rows.stop == len(self.grid):
                for j, total in enumerate(totals):
                    sums += from_byte_digits(total) / 256**j
                    total.zero_()
        return self._bounded(level, sums, columns)

    def _bounded(self, level: TrackedLevel, sums: Float64[Tensor, "sums rows"], columns: Tensor | None) -> Mean:
        eta, epsilon = self.score_error(level)
        left = self.left
        if columns is not None:
            eta, epsilon, left = eta[columns], epsilon[columns], left[columns]
        mass = sums[-EXTRA]
        mean = self.grid.offset + self.grid.step * sums[:-EXTRA].T / mass[:, None]
        shift = (mean - self.table.center).square().sum(1)
        n = len(self.table)
        everywhere = 2 * self.grid.sum_of_half_squares + n * shift  # sum_i |y_i - D^|^2, up to its cross term
        everywhere = everywhere + 2 * n * shift.sqrt() * self._off_center()
        slack = self.grid.residual * (8 * self.table.radius + self.grid.residual)
        inside = (2 * half_squares_of(sums, self.grid) / mass - shift).clamp_min(0)
        variance = inside + everywhere / mass + slack + 1e-9 * self.table.radius**2
        growth = (2 * epsilon).exp()
        error = level.k * left * growth * variance + eta.expm1() * growth * variance.sqrt()
        error = error + growth * (n * everywhere).sqrt() / mass + self.grid.residual
        error = error + 64 * DOUBLE * (mean.norm(dim=1) + abs(self.grid.offset) * math.sqrt(mean.shape[1]))
        error = error.nan_to_num(torch.inf, torch.inf)  # where exponents overflow
        return Mean(mean, error, variance.nan_to_num(self.table.radius**2), mass / LARGEST_WEIGHT)

    def _off_center(self) -> float:
        """A bound on |mean of the points - c|: the center is their mean, rounded."""
        return math.sqrt(self.table.points.shape[1]) * len(self.table) * DOUBLE * self.table.largest_norm


def float64_mean(
    table: PointTable,
    x: Float64[Tensor, "rows d"],
    alpha: Float64[Tensor, " rows"],
    sigma: Float64[Tensor, " rows"],
) -> tuple[Float64[Tensor, "rows d"], Float[Tensor, " rows"]]:
    """The mean by plain products in float64 and a bound on its error: for what digits do not settle."""
    k, kappa = alpha / sigma**2, (alpha / sigma) ** 2
    q = k[:, None] * (x - alpha[:, None] * table.center)
    largest = torch.full_like(k, -torch.inf)
    mass, square, total = torch.zeros_like(k), torch.zeros_like(k), torch.zeros_like(q)
    for start, stop in table.chunks(queries=len(x)):
        y = table.points[start:stop].double() - table.center
        scores = q @ y.T - kappa[:, None] * table.half_squares[start:stop] + table.log_weights[start:stop]
        peak = torch.maximum(largest, scores.amax(1))
        weights = (scores - peak[:, None]).exp_()
        fade = (largest - peak).exp()
        mass = fade * mass + weights.sum(1)
        square = fade * square + 2 * (weights @ table.half_squares[start:stop])
        total = fade[:, None] * total + weights @ y
        largest = peak
    shift = total / mass[:, None]
    variance = (square / mass - shift.square().sum(1)).clamp_min(0) + 1e-9 * table.radius**2
    d, n = x.shape[1], len(table)
    sizes = q.norm(dim=1) * table.radius + kappa * table.half_squares.max() + table.log_weights.min().abs() + 800
    sizes = sizes + k * (x.norm(dim=1) + alpha * table.center.norm()) * table.radius
    eta = 2 * (d + 16) * DOUBLE * sizes
    error = eta.expm1() * (2 * eta).exp() * variance.sqrt() + 4 * (n + 16) * DOUBLE * (
        table.radius + table.largest_norm
    )
    return shift + table.center, error.clamp_max(2 * table.radius)

r"""The exact denoiser of a finite data set along a deterministic trajectory, faster than attention, with a certificate.

A sampler evaluates :math:`D(x_t) = \sum_i w_i y_i` at a dozen or more noise levels, and attention pays two products of
float32 with all N points at each, 4 N d operations for every sample. `TrackedEmpirical` gives the same D with a bound
on its error that counts every rounding, at a fraction of the time:

- **Products of 8-bit integers**, which are exact (`_integers`), with as many digits as the tolerance needs.
- **Tracking** (`tracked_scores`): on a deterministic trajectory a query is nearly a multiple of the one before it, so
  one or two digits of the difference suffice, instead of three or four of the query.
- **Frozen survivors** (`tracked_survivors`): below a noise level of about the distance between neighbors, few points
  carry all the weight. While one number proves that it stays so, no product with the data is needed.

History affects the time alone: for a new batch, fresh noise or a jump, the difference has as many digits as the query,
and the product is computed anew. Where the bound exceeds the tolerance, digits are added, and where they do not help,
scores are summed, and at last multiplied, in float64. The bound holds for the value that is returned:

.. math::  |D - D_{\text{exact}}| \le \delta\,|D_{\text{exact}}|, \qquad \delta = \text{relative error} .

Integers of 8 bits are fast on processors with AMX or VNNI instructions. Where their product is not exact or slow (it is
tried) or the points are not on the CPU, every row is computed in float64, as are samples of one call at different
noise levels.
"""

import math
from copy import copy
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from diffuscope.errors import InputError

from ._finite_set import Denoised
from ._integers import LARGEST_INNER, integer_products_are_exact, integer_products_are_fast
from ._posterior import Noised
from ._screening import PointTable
from .distribution import Batch, Level, checked_levels, over_events
from .empirical import Empirical, EmpiricalCovariance
from .tracked_points import GridPoints
from .tracked_scores import SINGLE, TrackedLevel, TrackedScores, float64_mean
from .tracked_survivors import Survivors, select

ROWS = 64  # samples that are tracked together; each takes 4 bytes for every point
LEAST_NORM = 0.1  # of the typical norm of the points: below it the tolerance is relative to this, not to |D|
FEW = 3000.0  # effective points above which survivors are not looked for


@dataclass
class Work:
    """What the evaluations so far were made of, in samples (rows), and products of one digit with all points."""

    evaluated: int = 0
    frozen: int = 0  # from survivors alone, without a product
    few: int = 0  # from survivors, after a product
    many: int = 0  # by two products
    in_float64: int = 0  # by products in float64
    products: int = 0


class TrackedEmpirical:
    """`Empirical`, whose `denoise` remembers the last batch and comes with a certificate.

    `data` is an `Empirical` or points (N, *event). The error of `denoise` is at most `tolerance` times |D|, or a tenth
    of the typical norm of the points where |D| is smaller. Use one object for one sampler at a time. Memory: 2 bytes
    for every coordinate of every point (4 if they were not bytes), and 4 bytes for every point and sample.
    Raises InputError as `Empirical`, and for a tolerance that is not in (0, 1).

    >>> import torch
    >>> from diffuscope.exact import Empirical, TrackedEmpirical
    >>> points = Empirical(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([1.0, 3.0]))
    >>> x_t = torch.tensor([[3.0]], dtype=torch.float64).log()
    >>> found = TrackedEmpirical(points, tolerance=1e-3).denoise_with_error(x_t, alpha=2.0, sigma=2.0)  # D = 0.8
    >>> abs(found.value.item() - 0.8) <= 0.8 * found.relative_error.item() <= 0.8 * 1e-3
    True
    """

    def __init__(self, data: Empirical | Shaped[Tensor, "points *event"], *, tolerance: float | int = 1e-3) -> None:
        self._tolerance = checked_tolerance(tolerance)
        self._empirical = data if isinstance(data, Empirical) else Empirical(data)
        self._table: PointTable = self._empirical._table
        d, on_cpu = self._table.points.shape[1], self._table.points.device.type == "cpu"
        integers = on_cpu and d <= LARGEST_INNER and integer_products_are_exact(d) and integer_products_are_fast()
        self._grid = GridPoints.of(self._table) if integers else None
        self._blocks: list[_Block] = []
        self.work = Work()

    def with_tolerance(self, tolerance: float | int) -> "TrackedEmpirical":
        """The same points, shared, under another tolerance, and with a past of its own."""
        other = copy(self)
        other._tolerance, other._blocks, other.work = checked_tolerance(tolerance), [], Work()
        return other

    @property
    def tolerance(self) -> float:
        return self._tolerance

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self._empirical.event_shape

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *event"]:
        """n points drawn with replacement by weight."""
        return self._empirical.sample(n, generator=generator)

    def denoise(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """E[x_0 | x_t] within the tolerance; where a gradient is asked for, by `Empirical.denoise`."""
        if x_t.requires_grad and torch.is_grad_enabled():
            return self._empirical.denoise(x_t, alpha, sigma)
        return self.denoise_with_error(x_t, alpha, sigma).value

    def denoise_with_error(self, x_t: Batch, alpha: Level, sigma: Level) -> Denoised:
        """E[x_0 | x_t] and a bound on the relative error of every sample: |D - D_exact| <= bound |D_exact|."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        mean, error = self._mean(x_t.detach(), alphas, sigmas)
        value = mean.to(x_t.dtype)
        error = error + torch.finfo(x_t.dtype).eps * mean.norm(dim=1)  # of `value`
        least = mean.norm(dim=1) - error
        relative = torch.where(least > 0, error / least, torch.inf)
        return Denoised(value.reshape(x_t.shape), torch.where(error == 0, 0.0, relative))

    def score(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """grad log p(x_t) = (alpha D - x_t) / sigma^2, by the tracked D."""
        if x_t.requires_grad and torch.is_grad_enabled():
            return self._empirical.score(x_t, alpha, sigma)
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        mean = self._mean(x_t, alphas, sigmas)[0].reshape(x_t.shape)
        return ((over_events(alphas, mean) * mean - x_t.double()) / over_events(sigmas**2, mean)).to(x_t.dtype)

    def log_prob(self, x_t: Batch, alpha: Level, sigma: Level) -> Float[Tensor, " batch"]:
        """log p(x_t), by `Empirical.log_prob`."""
        return self._empirical.log_prob(x_t, alpha, sigma)

    def posterior_covariance(self, x_t: Batch, alpha: Level, sigma: Level) -> EmpiricalCovariance:
        """Cov(x_0 | x_t), by `Empirical.posterior_covariance`."""
        return self._empirical.posterior_covariance(x_t, alpha, sigma)

    def _mean(
        self, x_t: Tensor, alphas: Tensor, sigmas: Tensor
    ) -> tuple[Float64[Tensor, "batch d"], Float64[Tensor, " batch"]]:
        x = x_t.reshape(len(x_t), self._table.points.shape[1]).double()
        self.work.evaluated += len(x)
        same_level = len(x) > 0 and bool((alphas == alphas[0]).all() & (sigmas == sigmas[0]).all())
        mean, error = torch.empty_like(x), torch.empty(len(x), dtype=torch.float64, device=x.device)
        blocks = torch.arange(len(x), device=x.device).split(ROWS) if len(x) else ()
        for number, rows in enumerate(blocks):
            levels = alphas[rows], sigmas[rows]
            if self._grid is None or not same_level or not bool(x[rows].isfinite().all()):
                self.work.in_float64 += len(rows)
                mean[rows], error[rows] = float64_mean(self._table, x[rows], *levels)
                continue
            if number == len(self._blocks):
                self._blocks.append(_Block(self._table, self._grid, self._tolerance))
            mean[rows], error[rows] = self._blocks[number].mean(x[rows], *levels, self.work)
        return mean, error


def checked_tolerance(tolerance: float | int) -> float:
    """`tolerance` in (0, 1); raises InputError otherwise."""
    if not 0 < tolerance < 1:
        raise InputError(f"tolerance: expected a number between 0 and 1, got {tolerance}")
    return float(tolerance)


@dataclass(eq=False)
class _Block:
    """Samples that are tracked together: some are frozen, the others have scores for all points."""

    table: PointTable
    grid: GridPoints
    tolerance: float
    n_rows: int = 0
    scores: TrackedScores | None = None
    active: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))  # the rows of `scores`
    frozen: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))  # the rows of `survivors`
    survivors: Survivors | None = None
    variance: Tensor = field(default_factory=lambda: torch.zeros(0))  # of the last evaluation
    effective: float = 0.0

    def mean(self, x: Tensor, alphas: Tensor, sigmas: Tensor, work: Work) -> tuple[Tensor, Tensor]:
        if len(x) != self.n_rows:
            self._begin(len(x))
        noised = Noised(x, alphas, sigmas, x, (alphas / sigmas) ** 2)
        mean, error = torch.zeros_like(x), torch.full_like(alphas, torch.inf)
        self._by_frozen(noised, mean, error)
        rest = (~(error <= self._allowed(mean))).nonzero()[:, 0]
        work.frozen += len(x) - len(rest)
        if len(rest):
            self._by_products(rest, noised, mean, error, work)
            rest = (~(error <= self._allowed(mean))).nonzero()[:, 0]
        if len(rest):
            self._in_doubles(rest, noised, mean, error, work)
            rest = (~(error <= self._allowed(mean))).nonzero()[:, 0]
        if len(rest):
            work.in_float64 += len(rest)
            value, bound = float64_mean(self.table, x[rest], alphas[rest], sigmas[rest])
            better = bound < error[rest]
            mean[rest[better]], error[rest[better]] = value[better], bound[better]
        return mean, error

    def _begin(self, n_rows: int) -> None:
        self.n_rows, self.scores, self.survivors = n_rows, None, None
        self.active = self.frozen = torch.zeros(0, dtype=torch.int64)
        self.variance = torch.full((n_rows,), self.table.radius**2, dtype=torch.float64)
        self.effective = 0.0

    def _allowed(self, mean: Tensor) -> Float64[Tensor, " rows"]:
        """The error that the tolerance allows, less the rounding of the result."""
        allowed = self.tolerance / (1 + self.tolerance) - 2 * SINGLE
        return allowed * mean.norm(dim=1).clamp_min(LEAST_NORM * self.table.typical_norm)

    def _by_frozen(self, noised: Noised, mean: Tensor, error: Tensor) -> None:
        if self.survivors is None or not bool(noised.alpha[0] > 0):
            return
        rows, few = self.frozen, noised[self.frozen]
        bound = self.survivors.bound_at(few.x / few.alpha[:, None])
        tau = few.sigma / few.alpha
        # what cannot be negligible is not computed
        likely = bound / tau**2 + math.log(len(self.table)) < math.log(self.tolerance)
        if bool(likely.any()):
            kept = likely.nonzero()[:, 0]
            value, err, variance, after = self.survivors[kept].mean(few[kept], bound[kept], self._window())
            mean[rows[kept]], error[rows[kept]], self.variance[rows[kept]] = value, err, variance
            self._freeze(rows[kept], after)

    def _by_products(self, rest: Tensor, noised: Noised, mean: Tensor, error: Tensor, work: Work) -> None:
        state = self._state_of(rest)
        few = noised[self.active]
        level = TrackedLevel(float(few.alpha[0]), float(few.sigma[0]))
        q = few.x - few.alpha[:, None] * self.table.center
        before = state.products
        allowed = self._allowed(self.table.center.expand_as(q))
        value, bound = mean[self.active], error[self.active]
        if bool((state.past_error(q, level) * self.variance[self.active].sqrt() > 0.4 * allowed).any()):
            state.forget()
        for attempt in range(3):
            state.move(q, level, self._allowed_left(level, allowed) * 0.1**attempt)
            value, bound, variance = self._evaluate(state, level, few, work)
            allowed = self._allowed(value)
            self.variance[self.active] = variance
            failed = ~(bound <= allowed)
            if attempt == 2 or not bool(failed.any()):
                break
            if bool((state.score_error(level)[0] * variance.sqrt() > 0.5 * allowed)[failed].any()):
                # more digits do not help against rounding: without a past there is less of it
                if state.fresh:
                    break
                state.forget()
        work.products += state.products - before
        better = bound < error[self.active]
        mean[self.active[better]], error[self.active[better]] = value[better], bound[better]

    def _in_doubles(self, rows: Tensor, noised: Noised, mean: Tensor, error: Tensor, work: Work) -> None:
        """These rows by integer products, but with scores in float64: against rounding, which digits do not reduce."""
        few = noised[rows]
        level = TrackedLevel(float(few.alpha[0]), float(few.sigma[0]))
        state = TrackedScores(self.table, self.grid, len(rows), torch.float64)
        state.move(few.x - few.alpha[:, None] * self.table.center, level, torch.zeros_like(few.alpha))
        found = state.mean(level)
        better = found.error < error[rows]
        mean[rows[better]], error[rows[better]] = found.value[better], found.error[better]
        work.products += state.products

    def _state_of(self, rest: Tensor) -> TrackedScores:
        """The scores of the rows that need them, with their past if they have one."""
        state = self.scores
        known = torch.isin(rest, self.active)
        if state is None or not bool(known.all()):
            self.active = rest
            state = TrackedScores(self.table, self.grid, len(rest))
        elif len(rest) < 0.75 * len(self.active):  # a few rows more cost less than copying the others
            state.keep(torch.searchsorted(self.active, rest))
            self.active = rest
        self.scores = state
        return state

    def _allowed_left(self, level: TrackedLevel, allowed: Tensor) -> Tensor:
        """|e| such that k |e| V is half of the error allowed, and k |e| rho at most one."""
        variance = self.variance[self.active].clamp_min(1e-300)
        left = torch.minimum(allowed / (2 * variance), torch.full_like(allowed, 1 / max(self.table.radius, 1e-100)))
        return left / level.k if level.k > 0 else torch.full_like(left, math.inf)

    def _evaluate(
        self, state: TrackedScores, level: TrackedLevel, few: Noised, work: Work
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, error = torch.empty_like(few.x), torch.empty_like(few.alpha)
        variance = torch.empty_like(few.alpha)
        _, score_error = state.score_error(level)
        rest = torch.arange(len(mean))
        if self.effective < FEW and level.alpha > 0:
            window = 2 * score_error + self._window()
            rows, survivors = select(state, window, score_error, few)
            if survivors is not None:
                found = survivors.mean(few[rows], survivors.bound, self._window())
                mean[rows], error[rows], variance[rows], survivors = found
                self._freeze(self.active[rows], survivors)
                rest = rest[torch.isin(rest, rows, invert=True)]
        if len(rest):
            found = state.mean(level, rest if len(rest) < len(mean) else None)
            mean[rest], error[rest], variance[rest] = found.value, found.error, found.variance
            self.effective = float(found.effective.min())
        work.few += len(mean) - len(rest)
        work.many += len(rest)
        return mean, error, variance

    def _window(self) -> float:
        """All points whose log-weight is this far below the largest change the mean by less than is allowed."""
        change = 2 * self.table.radius / max(LEAST_NORM * self.table.typical_norm, 1e-100)
        return math.log(len(self.table)) + math.log(max(1.0, change) / (0.01 * self.tolerance)) + 4

    def _freeze(self, rows: Tensor, survivors: Survivors) -> None:
        """These rows are known to consist of few points, here; what was known of the others stays."""
        others = torch.isin(self.frozen, rows, invert=True).nonzero()[:, 0]
        if self.survivors is not None and len(others):
            rows, survivors = torch.cat([self.frozen[others], rows]), self.survivors[others].joined(survivors)
        self.frozen, self.survivors = rows, survivors

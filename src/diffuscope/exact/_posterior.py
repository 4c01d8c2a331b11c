r"""The posterior of a finite data set: a few heavy points exactly, the many light ones by matrix products.

With scores :math:`s_i` (see `_screening`) the posterior weights are :math:`w_i = e^{s_i} / \sum_j e^{s_j}`.
At large sigma thousands of points share the weight, and the rounding errors of their scores are small and average out.
At small sigma one or two points have it all, and the rounding error of a product is many logits. So the K points with
the largest scores are *heavy*: relative to the first of them, r, their log-weights come from differences that vanish
where two points tie (see `_log_odds`). The others are *light*: the product weighs them, unless their total weight, at
most :math:`N e^{s_K - s_r + 2E}`, is negligible; then the second product is skipped. All moments are taken about
:math:`y_r`, where nothing cancels: with one heavy point both terms of :math:`E|y - y_r|^2 - |D - y_r|^2` vanish.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diffuscope.memory import chunk_size

from ._log_odds import compensated_log_odds, log_odds
from ._screening import PointTable
from ._stream import LEAST_LOG_WEIGHT, Sums, streamed
from ._weighted_sums import add_weighted, summation_error, weighted_sum

ZERO_LOG_WEIGHT = 746.0  # exp(-746) is zero in float64
ROUNDED = 4.0  # standard deviations by which rounded weights may move a sum


@dataclass(frozen=True, eq=False)
class Noised:
    """A block of noised points with their levels (float64) and their queries in the working precision."""

    x: Float[Tensor, "batch d"]
    alpha: Float[Tensor, " batch"]
    sigma: Float[Tensor, " batch"]
    queries: Float[Tensor, "batch d"]
    kappa: Float[Tensor, " batch"]

    @classmethod
    def at(cls, x: Tensor, alpha: Tensor, sigma: Tensor, center: Tensor, working: torch.dtype) -> "Noised":
        """The queries q = alpha (x - alpha c) / sigma^2, rounded once."""
        x = x.double()
        queries = (alpha / sigma**2)[:, None] * (x - alpha[:, None] * center)
        return cls(x, alpha, sigma, queries.to(working), (alpha / sigma) ** 2)

    def __getitem__(self, rows: Tensor) -> "Noised":
        return Noised(self.x[rows], self.alpha[rows], self.sigma[rows], self.queries[rows], self.kappa[rows])

    def __len__(self) -> int:
        return len(self.x)

    def log_likelihood(self, y: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:
        """-|x - alpha y|^2 / 2 sigma^2."""
        return -(self.x - self.alpha[:, None] * y).square_().sum(1) / (2 * self.sigma**2)


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posterior weights of the points for every row of a block, exact for heavy points, and the moments that follow."""

    table: PointTable
    noised: Noised
    heavy: Int[Tensor, "batch heavy"]  # indices, the reference first
    weights: Float[Tensor, "batch heavy"]  # their posterior weights
    log_mass: Float[Tensor, " batch"]  # log sum_i w0_i p(x | y_i) / p(x | y_r), w0 as in the table
    log_error: Float[Tensor, " batch"]  # of log_mass
    light: Bool[Tensor, " batch"]  # whether the other points matter
    light_offset: Float[Tensor, " batch"]  # their scores minus their log-weights
    mean: Float[Tensor, "batch d"]
    variance: Float[Tensor, " batch"]  # E|y - D|^2
    error: Float[Tensor, " batch"]  # of the mean, in norm

    def __getitem__(self, rows: Tensor) -> "Posterior":
        kept = {name: getattr(self, name)[rows] for name in self.__dataclass_fields__ if name != "table"}
        return Posterior(table=self.table, **kept)

    def light_weights(self) -> Iterator[tuple[Tensor, Float[Tensor, "rows chunk"], Float[Tensor, "chunk d"]]]:
        """(rows, weights of those rows, points) chunk by chunk, with weight zero for heavy points."""
        rows = self.light.nonzero()[:, 0]
        for start, stop, weights in _light_weights(self.table, self.noised, self.heavy, self.light_offset, rows):
            yield rows, weights, self.table.points[start:stop].to(weights.dtype)

    def reference(self) -> Float[Tensor, "batch d"]:
        return self.table.points[self.heavy[:, 0]].double()

    @property
    def log_evidence(self) -> Float[Tensor, " batch"]:
        """log sum_i w0_i exp(-|x - alpha y_i|^2 / 2 sigma^2)."""
        return self.log_mass + self.noised.log_likelihood(self.reference())

    def matvec(self, v: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
        """Cov v = E[(y - y_r) (y - y_r).v] - (D - y_r) E[(y - y_r).v]."""
        reference = self.reference()
        product = torch.zeros_like(self.mean)
        first = torch.zeros_like(self.variance)
        for rows, weights, e in _heavy_differences(self.table, self.heavy, self.weights):
            along = weights * (e * v[rows]).sum(1)
            product.index_add_(0, rows, along[:, None] * e)
            first.index_add_(0, rows, along)
        at_reference = (reference * v).sum(1)
        for rows, weights, points in self.light_weights():
            # v is scaled to unit length so that the working precision neither over- nor underflows
            length = v[rows].norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
            unit = (v[rows] / length[:, None]).to(weights.dtype)
            along = weights * (unit @ points.T - (at_reference[rows] / length).to(weights.dtype)[:, None])
            sums = along.sum(1, dtype=torch.float64)
            product[rows] += length[:, None] * (weighted_sum(along.T, points) - sums[:, None] * reference[rows])
            first[rows] += length * sums
        return product - (self.mean - reference) * first[:, None]

    def diagonal(self) -> Float[Tensor, "batch d"]:
        """E[(y - y_r)^2] - (D - y_r)^2, coordinate by coordinate."""
        reference = self.reference()
        squares = torch.zeros_like(self.mean)
        for rows, weights, e in _heavy_differences(self.table, self.heavy, self.weights):
            squares.index_add_(0, rows, weights[:, None] * e.square())
        for rows, weights, points in self.light_weights():
            about = reference[rows]
            mass = weights.sum(1, dtype=torch.float64)[:, None]
            squares[rows] += weighted_sum(weights.T, points.square()) - 2 * weighted_sum(weights.T, points) * about
            squares[rows] += mass * about.square()
        return (squares - (self.mean - reference).square()).clamp_min(0)


def posterior(
    table: PointTable, noised: Noised, heavy_points: int, *, accepted: float, accepted_variance: float | None
) -> Posterior:
    """The posterior of a block, in the working precision of its queries, with `heavy_points` exact ones.

    Light points are left out where they provably weigh less than a tenth of the relative error `accepted`, and, with
    `accepted_variance` given, change the variance by a smaller share than that (or by less than a hundredth of
    `accepted_variance` squared times the squared diameter, below which a variance counts as zero).
    """
    dtype = noised.queries.dtype
    k = min(heavy_points, len(table))
    digits = table.by_digits(noised.queries) if accepted_variance is None else None
    by = digits or table.products(dtype)
    bound = table.score_bound(noised.queries, noised.kappa, by)
    window = ZERO_LOG_WEIGHT + 2 * bound
    sums = None
    if accepted_variance is None:
        sums = streamed(table, by, noised.queries, noised.kappa, k, window)
        scores, heavy = sums.scores, sums.indices
    else:
        scores, heavy = table.largest(noised.queries, noised.kappa, k, window)
        scores = scores.double()
    counted = scores > scores[:, :1] - window[:, None]
    reference = table.points[heavy[:, 0]].double()
    diameter = 2 * table.radius

    log_weights, rounding = _exact_log_weights(table, noised, heavy, counted, accepted)
    peak = log_weights.amax(1)
    weights = (log_weights - peak[:, None]).exp()
    heavy_mass = weights.sum(1)
    heavy_square, heavy_first = _heavy_moments(table, heavy, weights)

    # the score of the reference by the product: the light points are weighed relative to it
    from_center = reference - table.center
    offset = (noised.queries.double() * reference).sum(1) - noised.kappa * from_center.square().sum(1) / 2
    whole_offset = offset + table.log_weights[heavy[:, 0]] + peak
    offset = whole_offset - by.constant(noised.queries)

    others = len(table) - k
    most_light = torch.maximum(scores[:, -1], scores[:, 0] - window) + bound - offset
    most_light = (most_light - heavy_mass.log()).exp() * others
    heavy_shift = heavy_first / heavy_mass[:, None]
    norm = (reference + heavy_shift).norm(dim=1).clamp_min(1e-6 * diameter)
    light = most_light > 0.1 * accepted * (norm / max(diameter, 1e-300)).clamp_max(1)
    if accepted_variance is not None:
        least = heavy_square / heavy_mass - heavy_shift.square().sum(1) + 0.01 * accepted_variance * diameter**2
        light |= most_light * diameter**2 > accepted_variance * least
    left_out = torch.where(light, 0, most_light)

    if sums is None:
        light_mass, light_first, light_square = _light_moments(table, noised, heavy, offset, light.nonzero()[:, 0])
        summed, dropped, rounded = light_mass, torch.zeros_like(light_mass), torch.zeros_like(light_mass)
    else:
        light_mass, light_first, light_square, summed = _without_heavy(table, noised, sums, offset, light)
        unit = torch.where(light, (sums.peak - offset).exp(), 0)
        dropped, rounded = unit * sums.dropped, unit * sums.rounded
    mass = heavy_mass + light_mass
    # the light sums are of the raw points: move them to the reference
    light_square = light_square - 2 * ((light_first - light_mass[:, None] * table.center) * from_center).sum(1)
    light_square = (light_square + light_mass * from_center.square().sum(1)).clamp_min(0) / mass
    light_first = (light_first - light_mass[:, None] * reference) / mass[:, None]
    light_mass = light_mass / mass
    shift = heavy_first / mass[:, None] + light_first
    variance = (heavy_square / mass + light_square - shift.square().sum(1)).clamp_min(0)

    # scores wrong by delta move the mean by at most delta sqrt(light mass) sqrt(light variance)
    about_mean = light_square - 2 * (light_first * shift).sum(1) + light_mass * shift.square().sum(1)
    about_mean = about_mean.clamp_min(0) + torch.finfo(dtype).eps * light_mass * table.radius**2
    score_error = table.score_error(noised.queries, noised.kappa, by)
    error = 2 * score_error * (light_mass * about_mean).sqrt()
    error = error + left_out * diameter + rounding * variance.sqrt()
    error = error + dropped / mass * diameter
    error = error + (summed * summation_error(by.typical_norm, dtype, len(table)) + ROUNDED * rounded) / mass
    error = error + summation_error(table.typical_norm, torch.float64, len(table))

    return Posterior(
        table=table,
        noised=noised,
        heavy=heavy,
        weights=weights / mass[:, None],
        log_mass=table.log_weights[heavy[:, 0]] + peak + mass.log(),
        log_error=light_mass * score_error + rounding + left_out,
        light=light,
        light_offset=whole_offset - table.constant(noised.queries) + mass.log(),
        mean=reference + shift,
        variance=variance,
        error=error,
    )


def _heavy_differences(table: PointTable, heavy: Tensor, weights: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(rows, weights, y_i - y_r) of the heavy points of positive weight, some pairs at a time."""
    pairs = chunk_size(table.memory, each=32 * table.points.shape[1])
    rows, columns = weights.nonzero(as_tuple=True)
    for i, j in zip(rows.split(pairs), columns.split(pairs), strict=True):
        e = table.points[heavy[i, j]].double()
        yield i, weights[i, j], e.sub_(table.points[heavy[i, 0]])


def _exact_log_weights(
    table: PointTable, noised: Noised, heavy: Tensor, counted: Tensor, accepted: float
) -> tuple[Float[Tensor, "batch heavy"], Float[Tensor, " batch"]]:
    """Delta of every counted heavy point, in float64, and the largest rounding error among those that matter."""
    log_weights = torch.full(heavy.shape, -torch.inf, dtype=torch.float64, device=heavy.device)
    errors = torch.zeros_like(log_weights)
    prior = table.log_weights[heavy]
    chosen = counted
    for compute in (log_odds, compensated_log_odds):
        pairs = chunk_size(table.memory, each=128 * table.points.shape[1])
        rows, columns = chosen.nonzero(as_tuple=True)
        for i, j in zip(rows.split(pairs), columns.split(pairs), strict=True):
            y, reference = table.points[heavy[i, j]].double(), table.points[heavy[i, 0]].double()
            odds, errors[i, j] = compute(noised.x[i], noised.alpha[i], noised.sigma[i], y, reference)
            log_weights[i, j] = odds + prior[i, j] - prior[i, 0]
        matter = log_weights > log_weights.amax(1, keepdim=True) - 40 - errors.amax(1, keepdim=True)
        chosen = matter & (errors > 0.01 * accepted)
    return log_weights, torch.where(matter, errors, 0).amax(1)


def _heavy_moments(
    table: PointTable, heavy: Tensor, weights: Tensor
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch d"]]:
    """sum w |y - y_r|^2 and sum w (y - y_r)."""
    square = weights.new_zeros(len(heavy))
    mean = weights.new_zeros(len(heavy), table.points.shape[1])
    for rows, w, e in _heavy_differences(table, heavy, weights):
        square.index_add_(0, rows, w * e.square().sum(1))
        mean.index_add_(0, rows, w[:, None] * e)
    return square, mean


def _without_heavy(
    table: PointTable, noised: Noised, sums: Sums, offset: Tensor, light: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `_light_moments`, what all points sum up to less the heavy; then the mass of all."""
    dtype, heavy = noised.queries.dtype, sums.indices
    below = sums.scores - sums.peak[:, None]
    weights = torch.where((below > LEAST_LOG_WEIGHT[dtype]) & light[:, None], below.exp(), 0)
    h = table.products(dtype).half_squares[heavy]
    shift, of_heavy = _heavy_moments(table, heavy, weights)[1], weights.sum(1)
    of_heavy_first = shift + of_heavy[:, None] * table.points[heavy[:, 0]].double()
    unit = torch.where(light, (sums.peak - offset).exp(), 0)
    mass = unit * (sums.mass - of_heavy).clamp_min(0)
    first = torch.where(light[:, None], unit[:, None] * (sums.first - of_heavy_first), 0)
    square = unit * (sums.square - 2 * (weights * h).sum(1)).clamp_min(0)
    return mass, first, square, unit * sums.mass


def _light_weights(
    table: PointTable, noised: Noised, heavy: Tensor, offset: Tensor, of_rows: Tensor
) -> Iterator[tuple[int, int, Float[Tensor, "rows chunk"]]]:
    """exp(score - offset) of every point but the heavy, for some rows of the block, chunk by chunk."""
    if len(of_rows) == 0:
        return
    noised, heavy, offset, dtype = noised[of_rows], heavy[of_rows], offset[of_rows], noised.queries.dtype
    for start, stop in table.chunks(len(noised)):
        scores = table.scores(start, stop, noised.queries, noised.kappa)
        scores -= offset.to(dtype)[:, None]
        rows, columns = ((heavy >= start) & (heavy < stop)).nonzero(as_tuple=True)
        scores[rows, heavy[rows, columns] - start] = -torch.inf
        yield start, stop, torch.threshold_(scores, LEAST_LOG_WEIGHT[dtype], -torch.inf).exp_()


def _light_moments(
    table: PointTable, noised: Noised, heavy: Tensor, offset: Tensor, rows: Tensor
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch d"], Float[Tensor, " batch"]]:
    """sum w, sum w y and sum w |y - c|^2 over the light points of the `rows` where they matter; zero elsewhere."""
    mass, mean, square = torch.zeros_like(offset), torch.zeros_like(noised.x), torch.zeros_like(offset)
    first, half_square = torch.zeros_like(mean[rows]), torch.zeros_like(square[rows, None])
    half_squares = table.products(noised.queries.dtype).half_squares
    for start, stop, weights in _light_weights(table, noised, heavy, offset, rows):
        mass[rows] += weights.sum(1, dtype=torch.float64)
        add_weighted(first, weights.T, table.points[start:stop].to(weights.dtype))
        add_weighted(half_square, weights.T, half_squares[start:stop, None].to(weights.dtype))
    mean[rows], square[rows] = first, 2 * half_square[:, 0]
    return mass, mean, square

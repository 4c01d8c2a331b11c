r"""A finite data set: the data distribution a model sees, and the exact denoiser, which memorizes it.

For points y_i with weights :math:`w^0_i` (equal unless given), noised by :math:`x_t = \alpha x_0 + \sigma\varepsilon`:

.. math::
    p(x_t) = \sum_i w^0_i\, N(x_t; \alpha y_i, \sigma^2 I), \qquad
    w_i(x_t) \propto w^0_i\, e^{-|x_t - \alpha y_i|^2 / 2\sigma^2}, \qquad \textstyle\sum_i w_i = 1,

.. math::
    D(x_t) = \sum_i w_i y_i, \qquad
    \mathrm{Cov}(x_0 \mid x_t) = \sum_i w_i (y_i - D)(y_i - D)^T = \frac{\sigma^2}{\alpha} \nabla D .

This is attention with queries x_t and the data set as keys and values; no matrix of all weights is ever formed. What a
float32 product cannot resolve (near ties at small sigma, where logits are wrong by several units) is screened by the
product and recomputed from differences in float64 (see `_posterior`). Every mean comes with its error.

Precision follows the input: the relative error is below 1e-4 for float32 points at every noise level, below 1e-10 for
float64 points. The data set is stored once, as given, and read in chunks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from diffuscope.byte_examples import ByteExamples
from diffuscope.errors import InputError
from diffuscope.memory import chunk_size

from ._finite_set import FiniteSet, checked_weights
from ._means import mean_at_one_level, streamed_mean
from ._posterior import Noised, Posterior, posterior
from ._screening import Multiplied, PointTable, checked_rows
from ._weighted_sums import summation_error
from .distribution import Batch, Level, checked_levels

# Relative error of the mean, and of the variance, above which a result is recomputed more exactly.
ACCEPTED = {torch.float32: 1e-4, torch.float64: 2e-11}
ACCEPTED_VARIANCE = {torch.float32: 1e-5, torch.float64: 1e-11}
# Working precision and number of exact points of successive attempts; the last is kept, with its error.
ATTEMPTS = {
    torch.float32: ((torch.float32, 32), (torch.float64, 32), (torch.float64, 512)),
    torch.float64: ((torch.float64, 32), (torch.float64, 512)),
}
PLAUSIBLE = 4  # a pass by products alone is tried up to this multiple: where errors grow the posterior narrows
QUERIES = 256  # noised points in one block


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the points, in float64: log sum_i w_i p(x | y_i) / p(x | reference), the mean, and their errors."""

    reference: Float[Tensor, "batch d"]
    log_mass: Float[Tensor, " batch"]
    log_error: Float[Tensor, " batch"]
    mean: Float[Tensor, "batch d"]
    error: Float[Tensor, " batch"]

    @classmethod
    def nothing(cls, x: Float[Tensor, "batch d"]) -> "Part":
        """No points at all."""
        zeros = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        rows = torch.zeros_like(x, dtype=torch.float64)
        return cls(rows, zeros - torch.inf, zeros, rows.clone(), zeros.clone())


class Empirical(FiniteSet):
    """p_0 = sum_i w_i delta(y_i): `points` (N, *event) in floats, optional `weights` (N,) >= 0 of any sum.

    `memory` is about what a call may use besides the points, its input and its output, in bytes (at least a few rows).
    Raises InputError for integers, NaN or infinity, no points, and weights that are negative or sum to zero.

    >>> import torch
    >>> from diffuscope.exact import Empirical
    >>> points = Empirical(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([1.0, 3.0]))
    >>> x_t = torch.tensor([[3.0]], dtype=torch.float64).log()
    >>> round(points.denoise(x_t, alpha=2.0, sigma=2.0).item(), 6)  # weights 0.1 and 0.9: tanh(x_t / 2 + log(3) / 2)
    0.8
    """

    def __init__(
        self,
        points: Shaped[Tensor, "points *event"],
        weights: Shaped[Tensor, "..."] | None = None,
        *,
        memory: int = 128 * 2**20,
    ) -> None:
        flat = checked_rows("points", points)
        self._event_shape = tuple(points.shape[1:])
        self._keep(flat, checked_weights(weights, flat), 0, memory)

    @classmethod
    def summand(
        cls,
        points: Shaped[Tensor, "points *event"],
        weights: Float[Tensor, " points"],
        rows: tuple[int, int],
        memory: int,
    ) -> "Empirical | None":
        """The part of p_0 at the points start .. stop, with the weights of the whole; None where it is empty."""
        start, stop = rows
        if not bool((weights[start:stop] > 0).any()):
            return None
        part = cls.__new__(cls)
        part._event_shape = tuple(points.shape[1:])
        part._keep(checked_rows("points", points[start:stop]), weights, start, memory)
        return part

    def _keep(self, flat: Tensor, weights: Tensor, first: int, memory: int) -> None:
        """Keep those of positive weight of the points first .. ; `weights` are those of all points."""
        self._weights = weights
        kept = weights[first : first + len(flat)].nonzero()[:, 0]
        if len(kept) < len(flat):
            flat = flat[kept]
        self._indices = kept + first
        self._largest_log_weight = weights.max().log()
        self._table = PointTable(flat, weights[self._indices].log() - self._largest_log_weight, memory)

    @property
    def points(self) -> Float[Tensor, "kept *event"]:
        """The points of positive weight, in the order given."""
        return self._table.points.reshape(-1, *self._event_shape)

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *event"]:
        """n points drawn with replacement by weight."""
        return self._table.points[self._drawn(n, generator)].reshape(n, *self._event_shape)

    def posterior_covariance(self, x_t: Batch, alpha: Level, sigma: Level) -> "EmpiricalCovariance":
        """Cov(x_0 | x_t), taken about the most likely point to avoid cancellation at small sigma."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self._event_shape)
        accepted = ACCEPTED_VARIANCE[self._precision(x_t)]
        return EmpiricalCovariance(x_t.detach(), tuple(self._posteriors(x_t.detach(), alphas, sigmas, accepted)))

    def least_costs(
        self, x_t: Batch, alphas: Float[Tensor, " batch"], sigmas: Float[Tensor, " batch"], k: int
    ) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
        x, working = self._flat(x_t), ATTEMPTS[self._precision(x_t)][0][0]
        costs = torch.empty(len(x), k, dtype=torch.float64, device=x.device)
        found = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
        for rows in self._blocks(x):
            noised = Noised.at(x[rows], alphas[rows], sigmas[rows], self._table.center, working)
            costs[rows], found[rows] = self._nearest(noised, k)
        return costs, self._indices[found]

    def part(self, x_t: Batch, alphas: Float[Tensor, " batch"], sigmas: Float[Tensor, " batch"]) -> Part:
        """The posterior as one part of that of a larger set: by products alone where they are exact enough."""
        precision, table, x = self._precision(x_t), self._table, self._flat(x_t)
        part, rest = Part.nothing(x), []
        for rows in self._blocks(x):
            noised = Noised.at(x[rows], alphas[rows], sigmas[rows], table.center, precision)
            products, enough = self._exact_enough(noised, precision)
            rest.append(rows[~enough])
            if bool(enough.any()):
                if not bool(enough.all()):
                    noised, rows = noised[enough], rows[enough]
                    products = table.by_digits(noised.queries) or products
                found = streamed_mean(table, products, noised)
                part.reference[rows], part.mean[rows], part.error[rows] = table.center, found.mean, found.error
                part.log_mass[rows], part.log_error[rows] = found.log_mass + self._largest_log_weight, found.log_error
                rest[-1] = torch.cat([rest[-1], rows[found.error > ACCEPTED[precision] * found.mean.norm(dim=1)]])
        others = torch.cat([*rest, torch.arange(0, device=x.device)])
        if len(others):
            exact = self.posterior_part(x_t[others], alphas[others], sigmas[others])
            for name in part.__dataclass_fields__:
                getattr(part, name)[others] = getattr(exact, name)
        return part

    def _exact_enough(self, noised: Noised, precision: torch.dtype) -> tuple[Multiplied, Bool[Tensor, " batch"]]:
        """By digits, or the faster products if they are exact enough for all rows, or the best; and for which rows."""
        table = self._table
        accepted = ACCEPTED[precision]

        def enough(products: Multiplied) -> Tensor:
            score = table.score_error(noised.queries, noised.kappa, products)
            error = 2 * score * table.spread + summation_error(products.typical_norm, precision, len(table))
            # the second: so that the evidence too is exact enough where this is one part of several
            return (error <= PLAUSIBLE * accepted * table.center.norm()) & (2 * score <= accepted)

        digits = table.by_digits(noised.queries)
        if digits is not None:
            return digits, enough(digits)
        fast, best = table.faster_products(precision), table.products(precision)
        fast_enough = enough(fast)
        return (fast, fast_enough) if fast is best or bool(fast_enough.all()) else (best, enough(best))

    def posterior_part(self, x_t: Batch, alphas: Float[Tensor, " batch"], sigmas: Float[Tensor, " batch"]) -> Part:
        """As `part`, with the heavy points exactly everywhere: the evidence to float64 at small sigma."""
        part = Part.nothing(self._flat(x_t))
        for rows, block in self._posteriors(x_t, alphas, sigmas, None):
            part.reference[rows], part.mean[rows], part.error[rows] = block.reference(), block.mean, block.error
            part.log_mass[rows], part.log_error[rows] = block.log_mass + self._largest_log_weight, block.log_error
        return part

    def _log_evidence(self, x_t: Tensor, alphas: Tensor, sigmas: Tensor) -> Float[Tensor, " batch"]:
        log_evidence = torch.empty(len(x_t), dtype=torch.float64, device=x_t.device)
        for rows, block in self._posteriors(x_t, alphas, sigmas, None):
            log_evidence[rows] = block.log_evidence + self._largest_log_weight
        return log_evidence

    def _nearest(self, noised: Noised, k: int) -> tuple[Tensor, Tensor]:
        """The k least costs |x - alpha y|^2 / 2 sigma^2 - log-weight."""
        table = self._table

        def cost(rows: Tensor, found: Tensor) -> Tensor:
            costs = []
            pairs = chunk_size(table.memory, each=32 * table.points.shape[1])
            for i, j in zip(rows.split(pairs), found.split(pairs), strict=True):
                square = (noised.x[i] - noised.alpha[i][:, None] * table.points[j].double()).square_().sum(1)
                costs.append(square / (2 * noised.sigma[i] ** 2) - table.log_weights[j])
            return torch.cat(costs)

        centered = noised.x - noised.alpha[:, None] * table.center
        offset = centered.square().sum(1) / (2 * noised.sigma**2) + noised.queries.double() @ table.center
        return table.certified_largest(noised.queries, noised.kappa, k, cost, offset)

    def _blocks(self, x: Tensor) -> Sequence[Tensor]:
        """Rows of `x`, some at a time."""
        block = min(QUERIES, chunk_size(self._table.memory, each=32 * x.shape[1]))
        return torch.arange(len(x), device=x.device).split(block)

    def _flat(self, x: Tensor) -> Float[Tensor, "batch d"]:
        return x.reshape(len(x), self._table.points.shape[1])

    def _precision(self, x_t: Tensor) -> torch.dtype:
        return torch.float64 if x_t.dtype == torch.float64 else torch.float32

    def _mean(
        self, x_t: Tensor, alphas: Tensor, sigmas: Tensor
    ) -> tuple[Float[Tensor, "batch d"], Float[Tensor, " batch"]]:
        """E[x_0 | x_t] and its error in norm: by products alone where these are exact enough, else by `posterior`."""
        plain = self._by_products(x_t, alphas, sigmas)
        if plain is None:
            part = self.part(x_t, alphas, sigmas)
            return part.mean, part.error
        mean, error = plain
        rest = (~(error <= ACCEPTED[self._precision(x_t)] * mean.norm(dim=1))).nonzero()[:, 0]
        mean = mean if len(rest) == 0 else mean.double()
        if len(rest):
            for rows, block in self._posteriors(x_t[rest], alphas[rest], sigmas[rest], None):
                mean[rest[rows]], error[rest[rows]] = block.mean, block.error
        return mean, error

    def _by_products(
        self, x_t: Tensor, alphas: Tensor, sigmas: Tensor
    ) -> tuple[Float[Tensor, "batch d"], Float[Tensor, " batch"]] | None:
        """Mean and error where points are floats on a CPU, at one level, with scores exact enough; else None."""
        on_cpu = x_t.device.type == "cpu" and self._precision(x_t) == self._table.points.dtype == torch.float32
        on_cpu = on_cpu and not isinstance(self._table.points, ByteExamples)
        if len(x_t) == 0 or not on_cpu or bool((alphas != alphas[0]).any() | (sigmas != sigmas[0]).any()):
            return None
        noised = Noised.at(self._flat(x_t), alphas, sigmas, self._table.center, torch.float32)
        error = self._table.score_error(noised.queries, noised.kappa) * self._table.radius
        if not bool(error.median() <= ACCEPTED[torch.float32] * self._table.typical_norm):
            return None
        summed = summation_error(self._table.typical_norm, torch.float32, len(self._table))
        return mean_at_one_level(self._table, noised), error + summed

    def _posteriors(
        self, x_t: Tensor, alphas: Tensor, sigmas: Tensor, accepted_variance: float | None
    ) -> Iterator[tuple[Tensor, Posterior]]:
        """(rows, their posterior) until every row is done: exact enough, or by the last of the attempts."""
        precision = self._precision(x_t)
        x = self._flat(x_t)
        table = self._table
        for rows in self._blocks(x):
            for attempt, (working, heavy_points) in enumerate(ATTEMPTS[precision]):
                noised = Noised.at(x[rows], alphas[rows], sigmas[rows], table.center, working)
                done = posterior(
                    table, noised, heavy_points, accepted=ACCEPTED[precision], accepted_variance=accepted_variance
                )
                good = done.error <= ACCEPTED[precision] * done.mean.norm(dim=1)
                if attempt == len(ATTEMPTS[precision]) - 1 or bool(good.all()):
                    yield rows, done
                    break
                if bool(good.any()):
                    yield rows[good], done[good.nonzero()[:, 0]]
                rows = rows[~good]


@dataclass(frozen=True, eq=False)
class EmpiricalCovariance:
    """sum_i w_i (y_i - D)(y_i - D)^T of every sample, as an operator.

    >>> import torch
    >>> from diffuscope.exact import Empirical
    >>> points = Empirical(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([1.0, 3.0]))
    >>> x_t = torch.tensor([[3.0]], dtype=torch.float64).log()
    >>> covariance = points.posterior_covariance(x_t, alpha=2.0, sigma=2.0)
    >>> round(covariance.trace().item(), 6), round(covariance.matvec(-2 * torch.ones_like(x_t)).item(), 6)  # 1 - 0.8^2
    (0.36, -0.72)
    """

    x_t: Batch
    parts: tuple[tuple[Tensor, Posterior], ...]

    def matvec(self, v: Batch) -> Batch:
        if v.shape != self.x_t.shape:
            raise InputError(f"v: expected the shape of x_t {tuple(self.x_t.shape)}, got {tuple(v.shape)}")
        flat = v.detach().double().flatten(1) if v.ndim > 1 else v.detach().double()[:, None]
        return self._gather(lambda rows, part: part.matvec(flat[rows]), tuple(v.shape)).to(v.dtype)

    def trace(self) -> Float[Tensor, " batch"]:
        return self._gather(lambda _, part: part.variance, (len(self.x_t),)).to(self.x_t.dtype)

    def diagonal(self) -> Batch:
        return self._gather(lambda _, part: part.diagonal(), tuple(self.x_t.shape)).to(self.x_t.dtype)

    def _gather(self, compute: Callable[[Tensor, Posterior], Tensor], shape: tuple[int, ...]) -> Tensor:
        result = torch.empty(shape, dtype=torch.float64, device=self.x_t.device)
        for rows, part in self.parts:
            result[rows] = compute(rows, part).reshape(len(rows), *shape[1:])
        return result

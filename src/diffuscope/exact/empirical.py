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

>>> import torch
>>> two_points = Empirical(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
>>> two_points.denoise(torch.tensor([[0.5]], dtype=torch.float64), alpha=1.0, sigma=1.0)  # tanh(0.5)
tensor([[0.4621]], dtype=torch.float64)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from diffuscope.errors import InputError

from ._posterior import Noised, Posterior, fused_mean, posterior, summation_error
from ._screening import PointTable, checked_rows
from .distribution import Batch, Level, checked_levels, over_events

# Relative error of the mean, and of the variance, above which a result is recomputed more exactly.
ACCEPTED = {torch.float32: 1e-4, torch.float64: 2e-11}
ACCEPTED_VARIANCE = {torch.float32: 1e-5, torch.float64: 1e-11}
# Working precision and number of exact points of successive attempts; the last is kept, with its error.
ATTEMPTS = {
    torch.float32: ((torch.float32, 32), (torch.float64, 32), (torch.float64, 512)),
    torch.float64: ((torch.float64, 32), (torch.float64, 512)),
}
QUERIES = 256  # noised points in one block


@dataclass(frozen=True)
class Denoised:
    """E[x_0 | x_t] and an estimate of its relative error |D - D_exact| / |D|, rounding and cutoffs included."""

    value: Batch
    relative_error: Float[Tensor, " batch"]


@dataclass(frozen=True)
class Evidence:
    """The points that explain x_t best: indices by decreasing posterior weight, the weights, |x_t - alpha y_i|."""

    indices: Int[Tensor, "batch k"]
    weights: Float[Tensor, "batch k"]
    distances: Float[Tensor, "batch k"]


class Empirical:
    """p_0 = sum_i w_i delta(y_i): `points` (N, *event) in floats, optional `weights` (N,) >= 0 of any sum.

    `memory` is about what a call may use besides the points, its input and its output, in bytes (at least a few rows).
    Raises InputError for integers, NaN or infinity, no points, and weights that are negative or sum to zero.
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
        self._weights = _checked_weights(weights, flat)
        self._indices = self._weights.nonzero()[:, 0]
        if len(self._indices) < len(flat):  # drop points of weight zero
            flat = flat[self._indices]
        log_weights = self._weights[self._indices].log()
        self._largest_log_weight = log_weights.max()
        self._table = PointTable(flat, log_weights - self._largest_log_weight, memory)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self._event_shape

    @property
    def weights(self) -> Float[Tensor, " points"]:
        """Normalized weights in float64, one per point as given."""
        return self._weights

    @property
    def points(self) -> Float[Tensor, "kept *event"]:
        """The points of positive weight, in the order given."""
        return self._table.points.reshape(-1, *self._event_shape)

    def __len__(self) -> int:
        return len(self._weights)

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *event"]:
        """n points drawn with replacement by weight."""
        cumulative = self._weights[self._indices].cumsum(0)
        uniform = torch.rand(n, dtype=torch.float64, generator=generator, device=generator.device)
        drawn = torch.searchsorted(cumulative, uniform.to(cumulative.device) * cumulative[-1], right=True)
        return self._table.points[drawn.clamp_max(len(self._table) - 1)].reshape(n, *self._event_shape)

    def denoise(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """E[x_0 | x_t], in the precision of `x_t`; differentiable in `x_t`. alpha = 0 gives the weighted mean."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self._event_shape)

        return _differentiable(
            x_t,
            lambda x: self._mean(x, alphas, sigmas)[0].reshape(x.shape).to(x.dtype),
            lambda gradient: self._denoise_pullback(x_t, alphas, sigmas, gradient),
        )

    def denoise_with_error(self, x_t: Batch, alpha: Level, sigma: Level) -> Denoised:
        """E[x_0 | x_t] with the estimated relative error of every sample."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self._event_shape)
        mean, error = self._mean(x_t.detach(), alphas, sigmas)
        error = torch.where(error == 0, 0, error / mean.norm(dim=1).double())
        roundoff = torch.finfo(x_t.dtype).eps / 2
        return Denoised(mean.reshape(x_t.shape).to(x_t.dtype), error + roundoff)

    def score(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """grad log p(x_t) = (alpha D - x_t) / sigma^2; differentiable in `x_t`."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self._event_shape)

        def pullback(gradient: Tensor) -> Tensor:
            through_mean = self._denoise_pullback(x_t, alphas, sigmas, gradient)
            return (over_events(alphas, gradient) * through_mean - gradient) / over_events(sigmas**2, gradient)

        return _differentiable(x_t, lambda x: self._score(x, alphas, sigmas), pullback)

    def log_prob(self, x_t: Batch, alpha: Level, sigma: Level) -> Float[Tensor, " batch"]:
        """log p(x_t), in the precision of `x_t`; differentiable in `x_t`."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self._event_shape)

        def value(x: Tensor) -> Tensor:
            log_prob = -self._table.points.shape[1] / 2 * (2 * torch.pi * sigmas**2).log() + self._largest_log_weight
            for rows, block in self._posteriors(x, alphas, sigmas, None):
                log_prob[rows] += block.log_evidence
            return log_prob.to(x.dtype)

        return _differentiable(
            x_t, value, lambda gradient: over_events(gradient, x_t) * self._score(x_t, alphas, sigmas)
        )

    def posterior_covariance(self, x_t: Batch, alpha: Level, sigma: Level) -> "EmpiricalCovariance":
        """Cov(x_0 | x_t), taken about the most likely point to avoid cancellation at small sigma."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self._event_shape)
        accepted = ACCEPTED_VARIANCE[self._precision(x_t)]
        return EmpiricalCovariance(x_t.detach(), tuple(self._posteriors(x_t.detach(), alphas, sigmas, accepted)))

    def nearest(self, x_t: Batch, alpha: Level, sigma: Level, k: int) -> Evidence:
        """The k points of largest posterior weight (under equal weights: the nearest), exactly, in float64.

        Raises InputError for k outside 1 .. number of points of positive weight.
        """
        if not 1 <= k <= len(self._table):
            raise InputError(f"k: expected 1 .. {len(self._table)} (points of positive weight), got {k}")
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self._event_shape)
        costs = torch.empty(len(x_t), k, dtype=torch.float64, device=x_t.device)
        found = torch.empty(len(x_t), k, dtype=torch.int64, device=x_t.device)
        log_evidence = torch.empty(len(x_t), dtype=torch.float64, device=x_t.device)
        for rows, block in self._posteriors(x_t.detach(), alphas, sigmas, None):
            costs[rows], found[rows] = self._nearest(block.noised, k)
            log_evidence[rows] = block.log_evidence
        weights = (-costs - log_evidence[:, None]).exp()
        square = costs + self._table.log_weights[found]
        distances = sigmas[:, None] * (2 * square.clamp_min(0)).sqrt()
        return Evidence(self._indices[found], weights, distances)

    def _nearest(self, noised: Noised, k: int) -> tuple[Tensor, Tensor]:
        """The k least costs |x - alpha y|^2 / 2 sigma^2 - log-weight."""
        table = self._table

        def cost(rows: Tensor, found: Tensor) -> Tensor:
            costs = []
            pairs = max(1, table.memory // (32 * table.points.shape[1]))
            for i, j in zip(rows.split(pairs), found.split(pairs), strict=True):
                square = (noised.x[i] - noised.alpha[i][:, None] * table.points[j].double()).square_().sum(1)
                costs.append(square / (2 * noised.sigma[i] ** 2) - table.log_weights[j])
            return torch.cat(costs)

        centered = noised.x - noised.alpha[:, None] * table.center
        offset = centered.square().sum(1) / (2 * noised.sigma**2) + noised.queries.double() @ table.center
        return table.certified_largest(noised.queries, noised.kappa, k, cost, offset)

    def _score(self, x: Tensor, alphas: Tensor, sigmas: Tensor) -> Tensor:
        # in float64: at small sigma the two terms are nearly equal
        mean = self._mean(x, alphas, sigmas)[0].double().reshape(x.shape)
        return ((over_events(alphas, mean) * mean - x.double()) / over_events(sigmas**2, mean)).to(x.dtype)

    def _denoise_pullback(self, x: Tensor, alphas: Tensor, sigmas: Tensor, gradient: Tensor) -> Tensor:
        """gradient . dD/dx = (alpha / sigma^2) Cov gradient."""
        product = self.posterior_covariance(x, alphas, sigmas).matvec(gradient)
        return over_events(alphas / sigmas**2, gradient) * product

    def _flat(self, x: Tensor) -> Float[Tensor, "batch d"]:
        return x.reshape(len(x), self._table.points.shape[1])

    def _precision(self, x_t: Tensor) -> torch.dtype:
        return torch.float64 if x_t.dtype == torch.float64 else torch.float32

    def _mean(
        self, x_t: Tensor, alphas: Tensor, sigmas: Tensor
    ) -> tuple[Float[Tensor, "batch d"], Float[Tensor, " batch"]]:
        """E[x_0 | x_t] and its error in norm: by the fused product where that is exact enough, else by `posterior`."""
        precision = self._precision(x_t)
        fused = self._fused(x_t, alphas, sigmas)
        if fused is None:
            mean = torch.empty(len(x_t), self._table.points.shape[1], dtype=torch.float64, device=x_t.device)
            error = torch.empty(len(x_t), dtype=torch.float64, device=x_t.device)
            rest = torch.arange(len(x_t), device=x_t.device)
        else:
            mean, error = fused
            rest = (~(error <= ACCEPTED[precision] * mean.norm(dim=1))).nonzero()[:, 0]
            mean = mean if len(rest) == 0 else mean.double()
        if len(rest):
            for rows, block in self._posteriors(x_t[rest], alphas[rest], sigmas[rest], None):
                mean[rest[rows]], error[rest[rows]] = block.mean, block.error
        return mean, error

    def _fused(
        self, x_t: Tensor, alphas: Tensor, sigmas: Tensor
    ) -> tuple[Float[Tensor, "batch d"], Float[Tensor, " batch"]] | None:
        """Mean and error by one kernel for the batch: float32 on a CPU, one level, scores exact enough; else None."""
        on_cpu = x_t.device.type == "cpu" and self._precision(x_t) == self._table.points.dtype == torch.float32
        if len(x_t) == 0 or not on_cpu or bool((alphas != alphas[0]).any() | (sigmas != sigmas[0]).any()):
            return None
        noised = Noised.at(self._flat(x_t), alphas, sigmas, self._table.center, torch.float32)
        error = self._table.score_error(noised.queries, noised.kappa) * self._table.radius
        if not bool(error.median() <= ACCEPTED[torch.float32] * self._table.typical_norm):
            return None
        return fused_mean(self._table, noised), error + summation_error(self._table, torch.float32)

    def _posteriors(
        self, x_t: Tensor, alphas: Tensor, sigmas: Tensor, accepted_variance: float | None
    ) -> Iterator[tuple[Tensor, Posterior]]:
        """(rows, their posterior) until every row is done: exact enough, or by the last of the attempts."""
        precision = self._precision(x_t)
        x = self._flat(x_t)
        table = self._table
        block = max(1, min(QUERIES, table.memory // (32 * x.shape[1])))
        for start in range(0, len(x), block):
            rows = torch.arange(start, min(start + block, len(x)), device=x.device)
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


@dataclass(frozen=True)
class EmpiricalCovariance:
    """sum_i w_i (y_i - D)(y_i - D)^T of every sample, as an operator."""

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


def _differentiable(x: Tensor, value: Callable[[Tensor], Tensor], pullback: Callable[[Tensor], Tensor]) -> Tensor:
    """value(x) with a known derivative: `pullback(gradient)` is gradient . d value / dx."""
    return cast(Tensor, _Differentiable.apply(x, value, pullback))


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Callable[[Tensor], Tensor], pullback: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.pullback = pullback
        return value(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        return ctx.pullback(grad_outputs[0]), None, None


def _checked_weights(weights: Tensor | None, points: Tensor) -> Float[Tensor, " points"]:
    if weights is None:
        return torch.full((len(points),), 1 / len(points), dtype=torch.float64, device=points.device)
    if tuple(weights.shape) != (len(points),):
        raise InputError(f"weights: expected one per point, shape ({len(points)},), got {tuple(weights.shape)}")
    values = weights.detach().to(device=points.device, dtype=torch.float64)
    if not bool((torch.isfinite(values) & (values >= 0)).all()):
        raise InputError("weights: expected finite values >= 0, got a negative or non-finite one")
    if not bool(values.sum() > 0):
        raise InputError("weights: expected a positive sum, got zero")
    return values / values.sum()

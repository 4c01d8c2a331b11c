r"""What follows from the posterior mean, covariance and evidence of a finite set of points, however they are computed.

.. math::
    D(x_t) = \sum_i w_i y_i, \qquad \nabla D = \frac{\alpha}{\sigma^2} \mathrm{Cov}(x_0 \mid x_t), \qquad
    \nabla \log p(x_t) = \frac{\alpha D - x_t}{\sigma^2} .
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from diffuscope.errors import InputError

from .distribution import Batch, Level, PosteriorCovariance, checked_levels, over_events


@dataclass(frozen=True, eq=False)
class Denoised:
    """E[x_0 | x_t] and an estimate of its relative error |D - D_exact| / |D|, rounding and cutoffs included.

    >>> import torch
    >>> from diffuscope.exact import Empirical
    >>> points = Empirical(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    >>> found = points.denoise_with_error(torch.tensor([[0.5]], dtype=torch.float64), alpha=2.0, sigma=2.0)
    >>> round(found.value.item(), 6), found.relative_error.item() < 1e-10  # tanh(alpha x_t / sigma^2)
    (0.244919, True)
    """

    value: Batch
    relative_error: Float[Tensor, " batch"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """The points that explain x_t best: indices by decreasing posterior weight, the weights, |x_t - alpha y_i|.

    >>> import torch
    >>> from diffuscope.exact import Empirical
    >>> points = Empirical(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([1.0, 3.0]))
    >>> x_t = torch.tensor([[3.0]], dtype=torch.float64).log()
    >>> found = points.nearest(x_t, alpha=2.0, sigma=2.0, k=2)  # weights: 3 e^(x_t/2) to e^(-x_t/2), which is 9 to 1
    >>> found.indices.tolist(), [round(w, 6) for w in found.weights[0].tolist()]
    ([[1, 0]], [0.9, 0.1])
    >>> [round(d, 6) for d in found.distances[0].tolist()]  # |log 3 - 2| and |log 3 + 2|
    [0.901388, 3.098612]
    """

    indices: Int[Tensor, "batch k"]
    weights: Float[Tensor, "batch k"]
    distances: Float[Tensor, "batch k"]


class FiniteSet(ABC):
    """p_0 = sum_i w_i delta(y_i); `_weights` (normalized, float64) and `_event_shape` are set by the constructor."""

    _weights: Float[Tensor, " points"]
    _event_shape: tuple[int, ...]

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self._event_shape

    @property
    def weights(self) -> Float[Tensor, " points"]:
        """Normalized weights in float64, one per point as given."""
        return self._weights

    def __len__(self) -> int:
        return len(self._weights)

    @abstractmethod
    def posterior_covariance(self, x_t: Batch, alpha: Level, sigma: Level) -> PosteriorCovariance: ...

    @abstractmethod
    def _mean(
        self, x_t: Tensor, alphas: Tensor, sigmas: Tensor
    ) -> tuple[Float[Tensor, "batch d"], Float[Tensor, " batch"]]:
        """E[x_0 | x_t] and its error in norm."""

    @abstractmethod
    def _log_evidence(self, x_t: Tensor, alphas: Tensor, sigmas: Tensor) -> Float[Tensor, " batch"]:
        """log sum_i w_i exp(-|x_t - alpha y_i|^2 / 2 sigma^2) in float64."""

    @abstractmethod
    def least_costs(
        self, x_t: Batch, alphas: Float[Tensor, " batch"], sigmas: Float[Tensor, " batch"], k: int
    ) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
        """The k least |x_t - alpha y_i|^2 / 2 sigma^2 - log (w_i / max w), and i; among equals the least."""

    def nearest(self, x_t: Batch, alpha: Level, sigma: Level, k: int) -> Evidence:
        """The k points of largest posterior weight (under equal weights: the nearest), exactly, in float64.

        The least index is first among equals. Raises InputError for k outside 1 .. number of points of positive weight.
        """
        kept = int((self._weights > 0).sum())
        if not 1 <= k <= kept:
            raise InputError(f"k: expected 1 .. {kept} (points of positive weight), got {k}")
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self._event_shape)
        costs, indices = self.least_costs(x_t.detach(), alphas, sigmas, k)
        largest = self._weights.max().log()
        weights = (largest - costs - self._log_evidence(x_t.detach(), alphas, sigmas)[:, None]).exp()
        square = costs + self._weights[indices].log() - largest
        return Evidence(indices, weights, sigmas[:, None] * (2 * square.clamp_min(0)).sqrt())

    def _drawn(self, n: int, generator: torch.Generator) -> Int[Tensor, " n"]:
        """Places among the points of positive weight, drawn with replacement by weight."""
        cumulative = self._weights[self._weights > 0].cumsum(0)
        uniform = torch.rand(n, dtype=torch.float64, generator=generator, device=generator.device)
        drawn = torch.searchsorted(cumulative, uniform.to(cumulative.device) * cumulative[-1], right=True)
        return drawn.clamp_max(len(cumulative) - 1)

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
            volume = math.prod(self._event_shape) / 2 * (2 * torch.pi * sigmas**2).log()
            return (self._log_evidence(x, alphas, sigmas) - volume).to(x.dtype)

        return _differentiable(
            x_t, value, lambda gradient: over_events(gradient, x_t) * self._score(x_t, alphas, sigmas)
        )

    def _score(self, x: Tensor, alphas: Tensor, sigmas: Tensor) -> Tensor:
        # in float64: at small sigma the two terms are nearly equal
        mean = self._mean(x, alphas, sigmas)[0].double().reshape(x.shape)
        return ((over_events(alphas, mean) * mean - x.double()) / over_events(sigmas**2, mean)).to(x.dtype)

    def _denoise_pullback(self, x: Tensor, alphas: Tensor, sigmas: Tensor, gradient: Tensor) -> Tensor:
        """gradient . dD/dx = (alpha / sigma^2) Cov gradient."""
        product = self.posterior_covariance(x, alphas, sigmas).matvec(gradient)
        return over_events(alphas / sigmas**2, gradient) * product


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


def checked_weights(
    weights: Shaped[Tensor, "..."] | None, points: Shaped[Tensor, "points *event"]
) -> Float[Tensor, " points"]:
    """`weights` in float64, of sum one and equal unless given. Raises InputError."""
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

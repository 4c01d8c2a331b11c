r"""A finite set as a prior, by plain products: denoiser, density, covariance, posterior draws, likelihood.

For points :math:`y_i` of prior weights :math:`w_i` and center c, everything is in the logits

.. math::
    \ell_i(x) = \frac{\alpha}{\sigma^2}(x - \alpha c)^T (y_i - c) - \frac{\alpha^2}{2\sigma^2}|y_i - c|^2 + \log w_i,
    \qquad p_i = p(x_0 = y_i | x_t) = \mathrm{softmax}(\ell)_i, \qquad D = \sum_i p_i\, y_i,

.. math::
    \mathrm{Cov}(x_0 | x_t)\, v = \sum_i p_i\, (y_i^T v - D^T v)\,(y_i - c), \qquad
    \log p(x_t) = \log\sum_i e^{\ell_i} - \frac{|x_t - \alpha c|^2}{2\sigma^2} - \frac d2\log 2\pi\sigma^2,

.. math::  p(y | x_t) = \sum_i p_i\; p(y | y_i) .

In float64 the error of a logit is about :math:`10^{-16} (\alpha |y| / \sigma)^2`: nothing against a Monte-Carlo error,
and the sums are tens of times faster than those of `Empirical` with its error bounds. Only points that some sample of
the batch gives more than 1e-12 enter the sums over points: few, once the noise is below the distance of neighbors. The
last formula, the exact likelihood of a noisy state for any h, makes the perfect twisting function, `FiniteTwist`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch
from diffuscope.exact import Empirical, Level
from diffuscope.exact.distribution import checked_levels, over_events
from diffuscope.memory import chunk_size
from diffuscope.samplers.noise import Noise
from diffuscope.schedules import Schedule

from .observations import Observation, log_likelihood

LOGITS = 2**22  # held at once
NEGLIGIBLE = 1e-12  # posterior weight that no sum over points notices


class PointSet(Empirical):
    """An `Empirical` that is computed by plain products; `memory` is not bounded beyond one logit per sample and point.

    >>> two = PointSet(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    >>> two.denoise(torch.tensor([[0.5]], dtype=torch.float64), 1.0, 1.0)  # tanh(0.5)
    tensor([[0.4621]], dtype=torch.float64)
    """

    @classmethod
    def of(cls, data: Empirical) -> "PointSet":
        """The same distribution."""
        return data if isinstance(data, PointSet) else cls(data.points, data.weights[data.weights > 0])

    def denoise(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """E[x_0 | x_t], differentiable by autograd; in float64 inside, so that one point alone comes back as it is."""
        parts = []
        for logits in self.logits(x_t, alpha, sigma):
            weights, points = self._kept(logits)
            parts.append(weights @ points + self._center)
        return torch.cat(parts).reshape(x_t.shape).to(x_t.dtype)

    def score(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """grad log p(x_t) = (alpha D - x_t) / sigma^2."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        x = x_t.double()
        D = self.denoise(x, alphas, sigmas)
        return ((over_events(alphas, x) * D - x) / over_events(sigmas**2, x)).to(x_t.dtype)

    def log_prob(self, x_t: Batch, alpha: Level, sigma: Level) -> Float[Tensor, " batch"]:
        """log p(x_t), differentiable by autograd."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        away = (x_t.double().flatten(1) - alphas[:, None] * self._center).square().sum(1) / (2 * sigmas**2)
        constant = self._y.shape[1] / 2 * (2 * math.pi * sigmas**2).log()
        sums = [logits.logsumexp(1) for logits in self.logits(x_t, alphas, sigmas)]
        return (torch.cat(sums) - away - constant).to(x_t.dtype)

    def posterior_covariance(self, x_t: Batch, alpha: Level, sigma: Level) -> "PointCovariance":  # pyright: ignore
        """Cov(x_0 | x_t) as an operator, which knows D too."""
        logits = torch.cat([*self.logits(x_t.detach(), alpha, sigma)])
        return PointCovariance(*self._kept(logits), self._center, self.event_shape)

    def posterior_draw(self, x_t: Batch, alpha: Level, sigma: Level, noise: Noise) -> Batch:
        """A point for every sample, by its weight given x_t."""
        drawn = []
        for logits in self.logits(x_t, alpha, sigma):
            cumulative = logits.softmax(1).cumsum(1)
            target = noise.uniform(logits)[:, None] * cumulative[:, -1:]
            drawn.append((cumulative <= target).sum(1).clamp_max(cumulative.shape[1] - 1))
        return self.points[torch.cat(drawn)].to(x_t.dtype)

    def logits(self, x_t: Batch, alpha: Level, sigma: Level) -> Sequence[Float[Tensor, "part points"]]:
        """ell, float64, of rows of x_t in parts within the memory limit."""
        alphas, sigmas = (level[:, None] for level in checked_levels(x_t, alpha, sigma, self.event_shape))
        queries = (x_t.double().flatten(1) - alphas * self._center) * (alphas / sigmas**2)
        square = self._y.square().sum(1)
        size = chunk_size(LOGITS, each=len(square))
        return [
            rows @ self._y.T + self._log_weights - ratio**2 / 2 * square
            for rows, ratio in zip(queries.split(size), (alphas / sigmas).split(size), strict=True)
        ]

    @cached_property
    def _center(self) -> Float[Tensor, " D"]:
        return self.points.double().flatten(1).mean(0)

    @cached_property
    def _y(self) -> Float[Tensor, "points D"]:
        return self.points.double().flatten(1) - self._center

    @cached_property
    def _log_weights(self) -> Float[Tensor, " points"]:
        return self.weights[self.weights > 0].log()

    def _kept(self, logits: Float[Tensor, "batch points"]) -> tuple[Tensor, Tensor]:
        """The weights of the points that have any, and these points about the center."""
        kept = ((logits - logits.logsumexp(1, keepdim=True)).amax(0) > math.log(NEGLIGIBLE)).nonzero()[:, 0]
        if len(kept) == logits.shape[1]:
            return logits.softmax(1), self._y
        return logits[:, kept].softmax(1), self._y[kept]


@dataclass(frozen=True, eq=False)
class PointCovariance:
    """The covariance of weighted points, given about a center, one per sample; products in the dtype of the vector."""

    weights: Float[Tensor, "batch kept"]
    points: Float[Tensor, "kept D"]
    center: Float[Tensor, " D"]
    event_shape: tuple[int, ...]

    def mean(self) -> Batch:
        """D, float64."""
        return (self._mean + self.center).reshape(-1, *self.event_shape)

    def matvec(self, v: Batch) -> Batch:
        """Cov v."""
        flat = v.detach().flatten(1)
        along = flat @ self._in(v.dtype)[1].T
        weights, points = self._in(v.dtype)
        along = along - (weights * along).sum(1, keepdim=True)
        return ((weights * along) @ points).reshape(v.shape)

    def trace(self) -> Float[Tensor, " batch"]:
        """The total variance."""
        return self.weights @ self.points.square().sum(1) - self._mean.square().sum(1)

    def diagonal(self) -> Batch:
        """The variances."""
        return (self.weights @ self.points.square() - self._mean.square()).reshape(-1, *self.event_shape)

    @cached_property
    def _mean(self) -> Float[Tensor, "batch D"]:
        return self.weights @ self.points

    @cached_property
    def _single(self) -> tuple[Tensor, Tensor]:
        return self.weights.float(), self.points.float()

    def _in(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if dtype == torch.float32:
            return self._single
        return self.weights.to(dtype), self.points.to(dtype)


@dataclass(frozen=True, eq=False)
class FiniteTwist:
    """log p(y | x_t), exactly, for a finite prior and any observation: the twist that leaves nothing to weigh."""

    data: PointSet
    schedule: Schedule
    log_likelihoods: Float[Tensor, " N"]

    @classmethod
    def of(cls, data: Empirical, schedule: Schedule, observation: Observation, y: Tensor) -> "FiniteTwist":
        """From p(y | y_i) of every point."""
        fast = PointSet.of(data)
        at_once = chunk_size(LOGITS, each=math.prod(data.event_shape))  # values of the fields in one call of h
        with torch.no_grad():
            parts = [log_likelihood(observation, part.double(), y) for part in fast.points.split(at_once)]
        return cls(fast, schedule, torch.cat(parts))

    def __call__(self, x_t: Batch, denoised: Batch, t: float) -> Float[Tensor, " batch"]:  # noqa: ARG002
        parts = self.data.logits(x_t, self.schedule.alpha(t), self.schedule.sigma(t))
        return torch.cat([(part.log_softmax(1) + self.log_likelihoods).logsumexp(1) for part in parts])

r"""A finite set as a prior, from one matrix product per level: denoiser, density, posterior draws, likelihood.

For points :math:`y_i` of prior weights :math:`w_i` and center c, everything is in the logits

.. math::
    \ell_i(x) = \frac{\alpha}{\sigma^2}(x - \alpha c)^T (y_i - c) - \frac{\alpha^2}{2\sigma^2}|y_i - c|^2 + \log w_i,
    \qquad p(x_0 = y_i | x_t) = \mathrm{softmax}(\ell)_i, \qquad D = \sum_i \mathrm{softmax}(\ell)_i\, y_i,

.. math::
    \log p(x_t) = \log\sum_i e^{\ell_i} - \frac{|x_t - \alpha c|^2}{2\sigma^2} - \frac d2\log 2\pi\sigma^2,
    \qquad p(y | x_t) = \sum_i \mathrm{softmax}(\ell)_i\, p(y | y_i) .

In float64 the error of a logit is about :math:`10^{-16} (\alpha |y| / \sigma)^2`: nothing against a Monte-Carlo error,
and the sums are tens of times faster than `Empirical.denoise` with its error bounds. The last formula, the exact
likelihood of a noisy state for any h, makes the perfect twisting function, `FiniteTwist`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime
from diffuscope.exact import Empirical
from diffuscope.samplers.noise import Noise
from diffuscope.samplers.schedule_values import Instant
from diffuscope.schedules import Schedule

from .observations import Observation, log_likelihood

LOGITS = 2**22  # held at once


@dataclass(frozen=True, eq=False)
class FiniteDenoiser:
    """E[x_0 | x_t] of a finite set by one product, differentiable by autograd; one level for all samples."""

    data: Empirical
    schedule: Schedule

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Of a point."""
        return self.data.event_shape

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        alpha, sigma = float(self.schedule.alpha(t)), float(self.schedule.sigma(t))
        parts = [self.logits(part, alpha, sigma).softmax(1) @ self.points for part in self.split(x_t)]
        return torch.cat(parts).reshape(x_t.shape).to(x_t.dtype)

    @cached_property
    def points(self) -> Float[Tensor, "N D"]:
        """Of positive weight, float64."""
        return self.data.points.double().flatten(1)

    @cached_property
    def centered(self) -> tuple[Tensor, Tensor, Tensor]:
        """c, y - c, and log w."""
        center = self.points.mean(0)
        log_weights = self.data.weights[self.data.weights > 0].log()
        return center, self.points - center, log_weights

    def split(self, x: Batch) -> Sequence[Tensor]:
        """Rows of x in parts within the memory limit."""
        return x.double().flatten(1).split(max(1, LOGITS // len(self.points)))

    def logits(self, flat: Float[Tensor, "batch D"], alpha: float, sigma: float) -> Float[Tensor, "batch N"]:
        """ell."""
        center, y, log_weights = self.centered
        offset = log_weights - (alpha / sigma) ** 2 / 2 * y.square().sum(1)
        return (flat - alpha * center) @ y.T * (alpha / sigma**2) + offset

    def log_prob(self, x: Batch, at: Instant) -> Float[Tensor, " batch"]:
        """log p(x_t), float64."""
        parts = []
        for flat in self.split(x):
            away = (flat - at.alpha * self.centered[0]).square().sum(1) / (2 * at.sigma**2)
            constant = flat.shape[1] / 2 * math.log(2 * math.pi * at.sigma**2)
            parts.append(self.logits(flat, at.alpha, at.sigma).logsumexp(1) - away - constant)
        return torch.cat(parts)

    def posterior_draw(self, x_t: Batch, at: Instant, noise: Noise) -> Batch:
        """A point for every sample, by its weight given x_t."""
        drawn = []
        for flat in self.split(x_t):
            cumulative = self.logits(flat, at.alpha, at.sigma).softmax(1).cumsum(1)
            target = noise.uniform(flat)[:, None] * cumulative[:, -1:]
            drawn.append((cumulative <= target).sum(1).clamp_max(cumulative.shape[1] - 1))
        return self.points[torch.cat(drawn)].reshape(x_t.shape).to(x_t.dtype)


@dataclass(frozen=True, eq=False)
class FiniteTwist:
    """log p(y | x_t), exactly, for a finite prior and any observation: the twist that leaves nothing to weigh."""

    denoiser: FiniteDenoiser
    log_likelihoods: Float[Tensor, " N"]

    @classmethod
    def of(cls, data: Empirical, schedule: Schedule, observation: Observation, y: Tensor) -> "FiniteTwist":
        """From p(y | y_i) of every point."""
        return cls.from_denoiser(FiniteDenoiser(data, schedule), observation, y)

    @classmethod
    def from_denoiser(cls, denoiser: FiniteDenoiser, observation: Observation, y: Tensor) -> "FiniteTwist":
        """The same for a denoiser that there is already; h is called on 2^22 values of the fields at a time."""
        points = denoiser.points.reshape(-1, *denoiser.event_shape)
        at_once = max(1, LOGITS // denoiser.points.shape[1])
        with torch.no_grad():
            return cls(denoiser, torch.cat([log_likelihood(observation, part, y) for part in points.split(at_once)]))

    def __call__(self, x_t: Batch, denoised: Batch, t: float) -> Float[Tensor, " batch"]:  # noqa: ARG002
        schedule = self.denoiser.schedule
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        parts = [self.denoiser.logits(flat, alpha, sigma).log_softmax(1) for flat in self.denoiser.split(x_t)]
        return torch.cat([(part + self.log_likelihoods).logsumexp(1) for part in parts])

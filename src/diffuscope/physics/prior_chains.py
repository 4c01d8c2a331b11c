r"""Reverse chains of a prior: the draws of x_s given x_t that a particle sampler weighs.

With a step's memory :math:`e^{-h} = \sigma_s\alpha_t/(\sigma_t\alpha_s)` and the point :math:`x_0` known,

.. math::  q(x_s | x_t, x_0) = N\!\left(k x_t + (\alpha_s - k\alpha_t)\, x_0,\; \beta I\right), \qquad
           k = \frac{\sigma_s}{\sigma_t} e^{-h}, \quad \beta = \sigma_s^2 (1 - e^{-2h}) .

Two chains are made of it. `DDPMChain` puts the denoiser's output in place of :math:`x_0`: it needs no more than a
denoiser, and its distribution of x_0 is that of the discretized chain, which tends to the model's as steps shrink.
`ExactChain` draws :math:`x_0 \sim p(x_0 | x_t)`: for a distribution whose posterior can be drawn, x_s then has exactly
the distribution of the noised data, at any number of steps.

A proposal is the prior's transition moved by a vector, :math:`x_s = x_s' + \delta`, :math:`x_s' \sim p(\cdot | x_t)`.
For a guided denoiser :math:`D'`, :math:`\delta = (\alpha_s - k\alpha_t)(D' - D)`. Its density at x_s is the prior's at
:math:`x_s - \delta`, so the weight of a draw is :math:`p(x_s | x_t) / p(x_s - \delta | x_t)`; the two have the same
tails. For the exact chain, Bayes' rule gives it from the densities of the noised data,

.. math::  \frac{p(x_s) q(x_t | x_s)}{p(x_s - \delta)\, q(x_t | x_s - \delta)}, \qquad
           q(x_t | x_s) = N\!\left(\tfrac{\alpha_t}{\alpha_s} x_s,\;
           \left(\sigma_t^2 - \tfrac{\alpha_t^2}{\alpha_s^2}\sigma_s^2\right) I\right) .
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Empirical, Gaussian, GaussianMixture
from diffuscope.exact.posterior_draws import posterior_sample
from diffuscope.samplers.bridge import reverse_bridge
from diffuscope.samplers.noise import Noise
from diffuscope.samplers.schedule_values import Instant
from diffuscope.schedules import Schedule

EXACT = (Gaussian, GaussianMixture, Empirical)  # whose posterior draws are exact


@runtime_checkable
class PriorChain(Protocol):
    """A Markov chain from the highest noise level to x_0, of which `denoiser` is the denoiser."""

    @property
    def denoiser(self) -> Denoiser: ...

    def draw(self, like: Batch, levels: Sequence[Instant], noise: Noise) -> tuple[Batch, int]:
        """Fields x_0 of the chain over these levels, of the shape and dtype of `like`, and the NFE that they took."""
        ...

    def start(self, like: Batch, at: Instant, noise: Noise) -> Batch:
        """States at the highest level, of the shape and dtype of `like`."""
        ...

    def step(
        self, x_t: Batch, denoised: Batch, shift: Batch | None, t: Instant, s: Instant, noise: Noise
    ) -> tuple[Batch, Float[Tensor, " batch"]]:
        """x_s by the proposal whose denoised value is `denoised + shift`, and log p(x_s|x_t) - log q(x_s|x_t)."""
        ...

    def finish(self, x_t: Batch, denoised: Batch, t: Instant, noise: Noise) -> Batch:
        """x_0 given the state at the lowest level."""
        ...


@dataclass(frozen=True)
class DDPMChain:
    """Pure noise, DDPM steps with the posterior variance, a last denoise: what `generate` does with `DDPM()`."""

    denoiser: Denoiser

    def draw(self, like: Batch, levels: Sequence[Instant], noise: Noise) -> tuple[Batch, int]:
        x = self.start(like, levels[0], noise)
        for t, s in itertools.pairwise(levels):
            x, _ = self.step(x, self.denoiser(x, t.t), None, t, s, noise)
        return self.denoiser(x, levels[-1].t), len(x) * len(levels)

    def start(self, like: Batch, at: Instant, noise: Noise) -> Batch:
        return at.sigma * noise.normal(like)

    def step(
        self, x_t: Batch, denoised: Batch, shift: Batch | None, t: Instant, s: Instant, noise: Noise
    ) -> tuple[Batch, Float[Tensor, " batch"]]:
        mean, std = reverse_bridge(x_t, denoised, t, s, 1.0)
        xi = noise.normal(x_t)
        if shift is None:
            return mean + std * xi, torch.zeros(len(x_t), dtype=torch.float64)
        moved = _per_unit(t, s) * shift
        # |xi + moved/std|^2 - |xi|^2, without the cancellation of x_s - mean
        toward = (moved.double() / std).flatten(1)
        log_ratio = -(toward * xi.double().flatten(1)).sum(1) - toward.square().sum(1) / 2
        return mean + moved + std * xi, log_ratio

    def finish(self, x_t: Batch, denoised: Batch, t: Instant, noise: Noise) -> Batch:  # noqa: ARG002
        return denoised


@dataclass(frozen=True)
class ExactChain:
    """Exact reverse transitions of a Gaussian, a mixture or a finite set; InputError for other distributions.

    Draws and densities are computed in float64.
    """

    distribution: Distribution
    schedule: Schedule

    def __post_init__(self) -> None:
        if not isinstance(self.distribution, EXACT):
            raise InputError(
                "distribution: expected a finite data set, a Gaussian or a mixture of Gaussians, got "
                f"{type(self.distribution).__name__}"
            )

    @property
    def denoiser(self) -> Denoiser:
        """E[x_0 | x_t]."""
        return ExactDenoiser(self.distribution, self.schedule)

    def draw(self, like: Batch, levels: Sequence[Instant], noise: Noise) -> tuple[Batch, int]:  # noqa: ARG002
        return self.distribution.sample(len(like), generator=noise.generator).to(like), 0

    def start(self, like: Batch, at: Instant, noise: Noise) -> Batch:
        return at.alpha * self.draw(like, (), noise)[0] + at.sigma * noise.normal(like)

    def step(
        self, x_t: Batch, denoised: Batch, shift: Batch | None, t: Instant, s: Instant, noise: Noise
    ) -> tuple[Batch, Float[Tensor, " batch"]]:
        mean, std = reverse_bridge(x_t, self.finish(x_t, denoised, t, noise), t, s, 1.0)
        free = mean + std * noise.normal(x_t)
        if shift is None:
            return free, torch.zeros(len(x_t), dtype=torch.float64)
        x_s = free + _per_unit(t, s) * shift
        return x_s, self._log_joint(x_s, x_t, t, s) - self._log_joint(free, x_t, t, s)

    def finish(self, x_t: Batch, denoised: Batch, t: Instant, noise: Noise) -> Batch:  # noqa: ARG002
        drawn = posterior_sample(self.distribution, x_t.double(), t.alpha, t.sigma, generator=noise.generator)
        return drawn.to(x_t.dtype)

    def _log_joint(self, x_s: Batch, x_t: Batch, t: Instant, s: Instant) -> Float[Tensor, " batch"]:
        """log p(x_s) + log q(x_t | x_s), up to a constant."""
        kept = t.alpha / s.alpha
        variance = (t.sigma - kept * s.sigma) * (t.sigma + kept * s.sigma)
        away = (x_t.double() - kept * x_s.double()).flatten(1)
        return self.distribution.log_prob(x_s.double(), s.alpha, s.sigma) - away.square().sum(1) / (2 * variance)


def prior_chain(denoiser: Denoiser) -> PriorChain:
    """The exact chain of an `ExactDenoiser` whose posterior can be drawn, the DDPM chain of any other denoiser."""
    if isinstance(denoiser, ExactDenoiser) and isinstance(denoiser.distribution, EXACT):
        return ExactChain(denoiser.distribution, denoiser.schedule)
    return DDPMChain(denoiser)


def _per_unit(t: Instant, s: Instant) -> float:
    """alpha_s - k alpha_t = alpha_s (1 - e^{-2h}): how far x_s moves per unit of x_0."""
    memory = min(s.sigma * t.alpha / (t.sigma * s.alpha), 1.0)
    return s.alpha * (1 - memory) * (1 + memory)

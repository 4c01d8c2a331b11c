r"""Reverse chains of a prior: the draws of x_s given x_t that a particle sampler weighs.

With a step's memory :math:`e^{-h} = \sigma_s\alpha_t/(\sigma_t\alpha_s)` and the point :math:`x_0` known,

.. math::  q(x_s | x_t, x_0) = N\!\left(k x_t + (\alpha_s - k\alpha_t)\, x_0,\; \beta I\right), \qquad
           k = \frac{\sigma_s}{\sigma_t} e^{-h}, \quad \beta = \sigma_s^2 (1 - e^{-2h}) .

Two chains are made of it. `DDPMChain` puts the denoiser's output in place of :math:`x_0`: it needs no more than a
denoiser, and its distribution of x_0 is that of the discretized chain, which tends to the model's as steps shrink.
`ExactChain` draws :math:`x_0 \sim p(x_0 | x_t)`: for a distribution whose posterior can be drawn, x_s then has exactly
the distribution of the noised data, at any number of steps.

A proposal moves the prior's transition by a vector :math:`\delta` with probability g:

.. math::  q(x_s | x_t) = (1 - g)\, p(x_s | x_t) + g\, p(x_s - \delta | x_t), \qquad
           \frac pq = \left(1 - g + g\, \frac{p(x_s - \delta | x_t)}{p(x_s | x_t)}\right)^{-1} \le \frac{1}{1 - g} .

For a guided denoiser :math:`D'`, :math:`\delta = (\alpha_s - k\alpha_t)(D' - D)`. Where p has no mass at the end of
such a move (between the points of a finite set), moved particles lose their weight, a share g of them at every step.
So a trial x' from p is made first, of which only this is used:

.. math::  g = (1 - \epsilon) \min\left(1, e\, \frac{p(x' - \delta | x_t)}{p(x' | x_t)}\right), \quad \epsilon = 0.1,

about 0.9 for a Gaussian p and a :math:`\delta` of one standard deviation, and about 0 for one of four. The trial is
independent of the move, so that the weights are right for any g. For the exact chain, Bayes' rule gives the ratio from
the densities of the noised data,

.. math::  \frac{p(x_s - \delta | x_t)}{p(x_s | x_t)}
           = \frac{p(x_s - \delta)\, q(x_t | x_s - \delta)}{p(x_s)\, q(x_t | x_s)}, \qquad
           q(x_t | x_s) = N\!\left(\tfrac{\alpha_t}{\alpha_s} x_s,\;
           \left(\sigma_t^2 - \tfrac{\alpha_t^2}{\alpha_s^2}\sigma_s^2\right) I\right) .
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser, ExactDenoiser
from diffuscope.denoisers.contract import over_events
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Empirical, Gaussian, GaussianMixture
from diffuscope.exact.posterior_draws import posterior_sample
from diffuscope.samplers.bridge import reverse_bridge
from diffuscope.samplers.noise import Noise
from diffuscope.samplers.schedule_values import Instant
from diffuscope.schedules import Schedule

from .finite_prior import PointSet

EXACT = (Gaussian, GaussianMixture, Empirical)  # whose posterior draws are exact
UNGUIDED = 0.1
ALLOWED = 1.0  # nats: a shift of 2 ** 0.5 standard deviations of a Gaussian transition, on average


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

    def step(self, x_t: Batch, denoised: Batch, t: Instant, s: Instant, noise: Noise) -> Batch:
        """One draw from p(x_s | x_t)."""
        ...

    def log_ratio(
        self, x_s: Batch, delta: Batch, x_t: Batch, denoised: Batch, t: Instant, s: Instant
    ) -> Float[Tensor, " batch"]:
        """log p(x_s - delta | x_t) - log p(x_s | x_t), float64."""
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
            x = self.step(x, self.denoiser(x, t.t), t, s, noise)
        return self.denoiser(x, levels[-1].t), len(x) * len(levels)

    def start(self, like: Batch, at: Instant, noise: Noise) -> Batch:
        return at.sigma * noise.normal(like)

    def step(self, x_t: Batch, denoised: Batch, t: Instant, s: Instant, noise: Noise) -> Batch:
        mean, std = reverse_bridge(x_t, denoised, t, s, 1.0)
        return mean + std * noise.normal(x_t)

    def log_ratio(
        self, x_s: Batch, delta: Batch, x_t: Batch, denoised: Batch, t: Instant, s: Instant
    ) -> Float[Tensor, " batch"]:
        mean, std = reverse_bridge(x_t.double(), denoised.double(), t, s, 1.0)
        xi, moved = ((v.double() / std).flatten(1) for v in (x_s.double() - mean, delta))
        return (moved * (xi - moved / 2)).sum(1)

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
    def denoiser(self) -> ExactDenoiser:
        """E[x_0 | x_t]."""
        return ExactDenoiser(self._fast, self.schedule)

    @cached_property
    def _fast(self) -> Distribution:
        return PointSet.of(self.distribution) if isinstance(self.distribution, Empirical) else self.distribution

    def draw(self, like: Batch, levels: Sequence[Instant], noise: Noise) -> tuple[Batch, int]:  # noqa: ARG002
        return self.distribution.sample(len(like), generator=noise.generator).to(like), 0

    def start(self, like: Batch, at: Instant, noise: Noise) -> Batch:
        return at.alpha * self.draw(like, (), noise)[0] + at.sigma * noise.normal(like)

    def step(self, x_t: Batch, denoised: Batch, t: Instant, s: Instant, noise: Noise) -> Batch:
        mean, std = reverse_bridge(x_t, self.finish(x_t, denoised, t, noise), t, s, 1.0)
        return mean + std * noise.normal(x_t)

    def log_ratio(
        self,
        x_s: Batch,
        delta: Batch,
        x_t: Batch,
        denoised: Batch,  # noqa: ARG002
        t: Instant,
        s: Instant,
    ) -> Float[Tensor, " batch"]:
        x_s = x_s.double()
        return self._log_joint(x_s - delta.double(), x_t, t, s) - self._log_joint(x_s, x_t, t, s)

    def finish(self, x_t: Batch, denoised: Batch, t: Instant, noise: Noise) -> Batch:  # noqa: ARG002
        if isinstance(self._fast, PointSet):
            return self._fast.posterior_draw(x_t, t.alpha, t.sigma, noise)
        drawn = posterior_sample(self.distribution, x_t.double(), t.alpha, t.sigma, generator=noise.generator)
        return drawn.to(x_t.dtype)

    def _log_joint(self, x_s: Batch, x_t: Batch, t: Instant, s: Instant) -> Float[Tensor, " batch"]:
        """log p(x_s) + log q(x_t | x_s), up to a constant."""
        kept = t.alpha / s.alpha
        variance = (t.sigma - kept * s.sigma) * (t.sigma + kept * s.sigma)
        away = (x_t.double() - kept * x_s).flatten(1).square().sum(1) / (2 * variance)
        return self._fast.log_prob(x_s, s.alpha, s.sigma) - away


def prior_chain(denoiser: Denoiser) -> PriorChain:
    """The exact chain of an `ExactDenoiser` whose posterior can be drawn, the DDPM chain of any other denoiser."""
    if isinstance(denoiser, ExactDenoiser) and isinstance(denoiser.distribution, EXACT):
        return ExactChain(denoiser.distribution, denoiser.schedule)
    return DDPMChain(denoiser)


def propose(
    chain: PriorChain, x_t: Batch, denoised: Batch, toward: Batch, t: Instant, s: Instant, noise: Noise
) -> tuple[Batch, Float[Tensor, " batch"]]:
    """A draw from q, for D' - D = `toward`, and log p(x_s | x_t) - log q(x_s | x_t)."""
    delta, _ = reverse_bridge(torch.zeros_like(toward), toward, t, s, 1.0)  # linear in both
    trial = chain.step(x_t, denoised, t, s, noise)
    guided = guidance(chain.log_ratio(trial, delta, x_t, denoised, t, s))
    return moved_by(chain, x_t, denoised, delta, guided, t, s, noise)


def guidance(log_ratio: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """g, for log p(x - delta | x_t) - log p(x | x_t) of a trial x."""
    return (1 - UNGUIDED) * (log_ratio + ALLOWED).clamp_max(0).exp()


def moved_by(
    chain: PriorChain,
    x_t: Batch,
    denoised: Batch,
    delta: Batch,
    guided: Float[Tensor, " batch"],
    t: Instant,
    s: Instant,
    noise: Noise,
) -> tuple[Batch, Float[Tensor, " batch"]]:
    """A draw from q, for the shift `delta` and g = `guided`, and log p - log q."""
    moved = noise.uniform(x_t) < guided
    x_s = chain.step(x_t, denoised, t, s, noise) + over_events(moved.double(), x_t) * delta
    ratio = chain.log_ratio(x_s, delta, x_t, denoised, t, s)
    return x_s, -torch.logaddexp((1 - guided).log(), guided.log() + ratio)

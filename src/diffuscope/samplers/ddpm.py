r"""DDPM: ancestral sampling with the exact reverse kernel of a single data point, and with wider ones.

If the data are one point :math:`x_0`, the reverse SDE (eta = 1) has a solution for a step of any size (`bridge`),

.. math::  x_s = \alpha_s x_0 + \sigma_s\left[e^{-h} (x_t - \alpha_t x_0)/\sigma_t + \sqrt{1 - e^{-2h}}\;\xi\right],
           \qquad \xi \sim N(0, I), \qquad e^{-h} = \frac{\sigma_s\alpha_t}{\sigma_t\alpha_s} .

This is the posterior q(x_s | x_t, x_0) of Ho et al., variance included
(:math:`\tilde\beta = (1 - \alpha_t^2/\alpha_s^2)\sigma_s^2/\sigma_t^2` in a variance-preserving schedule), written for
any (alpha, sigma): at alpha(t) = 0 the memory e^{-h} is zero, at sigma(s) = 0 the step ends at alpha_s x_0.

For other data the mean of x_s given x_t is the same with D in place of x_0, and its covariance is larger by the
uncertainty of x_0. The mean moves by :math:`\alpha_s(1 - e^{-2h})` per unit of x_0, so the best isotropic Gaussian has

.. math::  v^* = \sigma_s^2(1 - e^{-2h}) + \alpha_s^2(1 - e^{-2h})^2\; \tfrac1d\,\mathrm{tr}\,\mathrm{Cov}(x_0 | x_t) .

Three choices of the variance are below: no uncertainty about x_0 (`posterior_variance`, the smallest), that of data
with unit variance (`upper_variance`, the largest for data of variance at most 1), and the exact one
(`OptimalVariance`). All three have the same limit of small steps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.denoisers.contract import over_events
from diffuscope.exact import Distribution

from .contract import State, required
from .noise import Noise
from .schedule_values import Instant, decay

Variance = Float[Tensor, " batch"] | float
ReverseVariance = Callable[[Batch, Instant, Instant], Variance]


def posterior_variance(x_t: Batch, t: Instant, s: Instant) -> Variance:  # noqa: ARG001
    """sigma_s^2 (1 - e^{-2h}): the variance of q(x_s | x_t, x_0), DDPM's beta-tilde.

    >>> import torch
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.samplers import instant, posterior_variance
    >>> t, s = instant(RectifiedFlow(), 0.8), instant(RectifiedFlow(), 0.5)  # e^-h = 1/4, as sigma/alpha = 4 and 1
    >>> round(posterior_variance(torch.zeros(1, 1), t, s), 9)  # 1/4 (1 - 1/16)
    0.234375
    """
    memory = decay(t, s)
    return s.sigma**2 * (1 - memory) * (1 + memory)


def upper_variance(x_t: Batch, t: Instant, s: Instant) -> Variance:
    """v* of data N(m, I), with Cov(x_0 | x_t) = sigma_t^2 / (alpha_t^2 + sigma_t^2); DDPM's beta in a VP schedule.

    >>> import torch
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.samplers import instant, upper_variance
    >>> t, s = instant(RectifiedFlow(), 0.8), instant(RectifiedFlow(), 0.5)
    >>> round(17 * upper_variance(torch.zeros(1, 1), t, s), 9)  # 15/64 + (1/2 * 15/16)^2 * 0.64 / (0.04 + 0.64)
    7.5
    """
    return _with_uncertainty(x_t, t, s, t.sigma**2 / (t.alpha**2 + t.sigma**2))


@dataclass(frozen=True)
class OptimalVariance:
    """v*, sample by sample, from the exact posterior covariance of `distribution`.

    An isotropic kernel can match the mean over coordinates: in one dimension, or where the posterior is isotropic, the
    first two moments of every step are then exact. Costs one posterior covariance per step.

    Source: Bao, Li, Zhu & Zhang 2022, *Analytic-DPM*, https://arxiv.org/abs/2201.06503 (theorem 1; they average over
    x_t).

    >>> import torch
    >>> from diffuscope import Gaussian, RectifiedFlow
    >>> from diffuscope.samplers import OptimalVariance, instant
    >>> variance = OptimalVariance(Gaussian.isotropic(torch.zeros(2), 3.0))
    >>> found = variance(torch.ones(1, 2), instant(RectifiedFlow(), 0.8), instant(RectifiedFlow(), 0.5))
    >>> round(19 * float(found), 4)  # 15/64 + (1/2 * 15/16)^2 * 3 * 0.64 / (3 * 0.04 + 0.64)
    15.0
    """

    distribution: Distribution

    def __call__(self, x_t: Batch, t: Instant, s: Instant) -> Variance:
        """The variance of x_s for every sample."""
        covariance = self.distribution.posterior_covariance(x_t, t.alpha, t.sigma)
        return _with_uncertainty(x_t, t, s, covariance.trace().double() / math.prod(x_t.shape[1:]))


def _with_uncertainty(x_t: Batch, t: Instant, s: Instant, variance_of_x_0: Variance) -> Variance:
    """beta-tilde + [alpha_s (1 - e^{-2h})]^2 Var(x_0 | x_t)."""
    memory = decay(t, s)
    per_unit = s.alpha * (1 - memory) * (1 + memory)
    return posterior_variance(x_t, t, s) + per_unit**2 * variance_of_x_0


@dataclass(frozen=True)
class DDPM:
    r"""Ancestral sampling, by default with the posterior variance.

    .. math::  x_s = \alpha_s D + \frac{\sigma_s}{\sigma_t} e^{-h}(x_t - \alpha_t D) + \sqrt{v}\;\xi, \qquad
               D = D(x_t, t), \qquad v = \sigma_s^2(1 - e^{-2h})

    Weak order 1, one evaluation per step. On any grid the distribution is exact on a single data point with the
    posterior variance, and on an isotropic Gaussian with the optimal one. A step to sigma(s) = 0 draws no noise.

    Source: Ho, Jain & Abbeel 2020, https://arxiv.org/abs/2006.11239 (eq. 6-7 and section 3.2); as the solution of the
    reverse SDE with the denoiser frozen, in any schedule: Cao et al. 2025, https://arxiv.org/abs/2501.17054.

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, RectifiedFlow
    >>> from diffuscope.samplers import DDPM, sample
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([3.0]), 0.0), RectifiedFlow())
    >>> x_t, times = torch.tensor([[4.6]]), torch.tensor([0.8, 0.5])  # eps = (4.6 - 0.2 * 3) / 0.8 = 5, e^-h = 1/4
    >>> draw, again = (torch.Generator().manual_seed(0) for _ in range(2))
    >>> x_s, xi = sample(DDPM(), point, x_t, times, noise=draw), torch.randn(1, 1, generator=again)
    >>> round(float((x_s - (3 / 2 + 5 / 8)) / xi) ** 2, 4)  # x_s = 3/2 + 1/2 (5/4 + (1 - 1/16)^(1/2) xi)
    0.2344
    """

    variance: ReverseVariance = posterior_variance

    order = 1
    stochastic = True
    nfe_per_step = 1

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:
        """One draw from the kernel of x_s, with the denoiser's estimate as the data point."""
        t, x_t, noise = state.at, state.x_t, required(noise, self)
        denoised = denoiser(x_t, t.t)
        kept = decay(t, s) * s.sigma / t.sigma
        x_s = kept * x_t + (s.alpha - kept * t.alpha) * denoised
        if s.sigma > 0:
            variance = self.variance(x_t, t, s)
            spread = over_events(variance.sqrt(), x_t) if isinstance(variance, Tensor) else math.sqrt(variance)
            x_s = x_s + spread * noise.increment(x_t, t.angle, s.angle)
        return State(s, x_s)

r"""Predictor-corrector: after every step of a sampler, Langevin steps at the noise level reached.

Langevin dynamics leaves a distribution p invariant when the score of p drives it. With the step :math:`r\,\sigma^2` (r
is dimensionless: the noised distribution varies over distances of at least sigma) one step at level (alpha, sigma) is

.. math::  x' = x + \tfrac{r\sigma^2}{2}\nabla\log p(x) + \sqrt r\,\sigma\,\xi
              = x + \tfrac r2(\alpha D - x) + \sqrt r\,\sigma\,\xi .

*Unadjusted*, its own stationary distribution is wrong by O(r): along a direction where the noised data are Gaussian
with variance v, the stationary variance is

.. math::  \frac{v}{1 - r\sigma^2/4v} .

*Metropolis-adjusted* (MALA), x' is a proposal accepted with probability
:math:`\min(1, p(x')\,q(x|x') / p(x)\,q(x'|x))`, where :math:`q(x'|x)` is the Gaussian of the step; the stationary
distribution is then p itself, at any r and for any drift. It needs log p, hence a `Distribution`.

The correctors draw fresh noise, not increments of a Brownian path: they do not integrate in time. At sigma = 0 there
are no corrections.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError
from diffuscope.exact import Distribution

from .contract import Sampler, State, required
from .noise import Noise
from .schedule_values import Instant


def langevin_mean(x: Batch, denoised: Batch, at: Instant, r: float) -> Batch:
    """x + r/2 (alpha D - x): the mean of a Langevin step of size r sigma^2."""
    return (1 - r / 2) * x + r / 2 * at.alpha * denoised


@dataclass(frozen=True)
class Langevin:
    """`corrections` unadjusted Langevin steps of size `step_size` sigma^2 after each step of `predictor`.

    The bias of the stationary distribution depends on the step size, not on the grid, and a finer grid does not reduce
    it: the declared order is 0. Evaluations per step: the predictor's and one for each correction, none of them at
    sigma(s) = 0. Raises InputError for corrections < 1, and for step sizes outside (0, 4), where the iteration
    diverges on a single data point.

    Source: Song et al. 2021, https://arxiv.org/abs/2011.13456 (algorithms 2-5; their step size depends on norms over
    the batch, which makes samples depend on their batch).

    >>> import torch
    >>> from diffuscope import DDIM, ExactDenoiser, Gaussian, RectifiedFlow
    >>> from diffuscope.samplers import Langevin, sample
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([3.0]), 0.0), RectifiedFlow())
    >>> x_t, times = torch.tensor([[4.6]]), torch.tensor([0.8, 0.5])  # DDIM keeps eps = 5: x = 3/2 + 5/2 = 4
    >>> draw, again = (torch.Generator().manual_seed(0) for _ in range(2))
    >>> x_s = sample(Langevin(DDIM(), step_size=0.64), point, x_t, times, noise=draw)
    >>> xi = torch.randn(1, 1, generator=again)
    >>> round(float((x_s - 3.2) / xi), 4)  # 4 + 0.32 (3/2 - 4) + 0.8 * 1/2 xi
    0.4
    """

    predictor: Sampler
    corrections: int = 1
    step_size: float = 0.1

    order = 0
    stochastic = True

    def __post_init__(self) -> None:
        _require_corrector(self.corrections, self.step_size)

    @property
    def nfe_per_step(self) -> int | None:
        predicted = self.predictor.nfe_per_step
        return None if predicted is None else predicted + self.corrections

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:
        """One step of the predictor, then the corrections at time s."""
        noise = required(noise, self)
        predicted = self.predictor.step(denoiser, state, s, noise)
        x, r = predicted.x_t, self.step_size
        if s.sigma > 0:
            for _ in range(self.corrections):
                x = langevin_mean(x, denoiser(x, s.t), s, r) + r**0.5 * s.sigma * noise.normal(x)
        return State(s, x, predicted.history)


@dataclass(frozen=True)
class MetropolisLangevin:
    """`corrections` Metropolis-adjusted Langevin steps of size `step_size` sigma^2 after each step of `predictor`.

    They leave the noised distribution of `distribution` invariant, with any denoiser, and reduce the predictor's error:
    the order is at least the predictor's. Evaluations per step: the predictor's, one for the first drift, and one for
    each proposal, none of them at sigma(s) = 0; and as many log-densities. Proposals are accepted or rejected sample by
    sample. Raises InputError as `Langevin` does.

    Source: Roberts & Tweedie 1996, *Exponential convergence of Langevin distributions and their discrete
    approximations*, Bernoulli 2(4).

    >>> import torch
    >>> from diffuscope import DDIM, ExactDenoiser, Gaussian, RectifiedFlow
    >>> from diffuscope.samplers import MetropolisLangevin, sample
    >>> point, draw = Gaussian.isotropic(torch.tensor([3.0]), 0.0), torch.Generator().manual_seed(0)
    >>> x_t = 0.2 * 3 + 0.8 * torch.randn(20_000, 1, generator=draw)
    >>> sampler, model = MetropolisLangevin(DDIM(), point, step_size=1.6), ExactDenoiser(point, RectifiedFlow())
    >>> x_s = sample(sampler, model, x_t, torch.tensor([0.8, 1 / 3]), noise=draw)  # of N(2/3 * 3, 1/9)
    >>> round(float(x_s.mean()), 1), round(9 * float(x_s.var()), 1)  # to 0.01; unadjusted, 0.2^2 + 1.6 = 1.64
    (2.0, 1.0)
    """

    predictor: Sampler
    distribution: Distribution
    corrections: int = 1
    step_size: float = 0.1

    stochastic = True

    def __post_init__(self) -> None:
        _require_corrector(self.corrections, self.step_size)

    @property
    def order(self) -> int:
        return self.predictor.order

    @property
    def nfe_per_step(self) -> int | None:
        predicted = self.predictor.nfe_per_step
        return None if predicted is None else predicted + 1 + self.corrections

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:
        """One step of the predictor, then the corrections at time s."""
        noise = required(noise, self)
        predicted = self.predictor.step(denoiser, state, s, noise)
        x, r = predicted.x_t, self.step_size
        if s.sigma > 0:
            mean, log_p = self._drift_and_density(denoiser, x, s)
            for _ in range(self.corrections):
                proposed = mean + r**0.5 * s.sigma * noise.normal(x)
                mean_back, log_p_proposed = self._drift_and_density(denoiser, proposed, s)
                forth = -_square(proposed - mean) / (2 * r * s.sigma**2)  # log q(x' | x)
                back = -_square(x - mean_back) / (2 * r * s.sigma**2)  # log q(x | x')
                log_ratio = log_p_proposed - log_p + back - forth
                accepted = noise.uniform(x).log() < log_ratio
                here = accepted.reshape(-1, *[1] * (x.ndim - 1))
                x, mean = torch.where(here, proposed, x), torch.where(here, mean_back, mean)
                log_p = torch.where(accepted, log_p_proposed, log_p)
        return State(s, x, predicted.history)

    def _drift_and_density(self, denoiser: Denoiser, x: Batch, at: Instant) -> tuple[Batch, Tensor]:
        mean = langevin_mean(x, denoiser(x, at.t), at, self.step_size)
        return mean, self.distribution.log_prob(x, at.alpha, at.sigma).double()


def _square(x: Tensor) -> Tensor:
    return x.double().flatten(1).square().sum(1)


def _require_corrector(corrections: int, step_size: float) -> None:
    if corrections < 1:
        raise InputError(f"corrections: expected at least 1 (the predictor alone has none), got {corrections}")
    if not 0 < step_size < 4:
        raise InputError(f"step_size: expected a multiple of sigma^2 in (0, 4), got {step_size}")

r"""DDIM's own family between deterministic and ancestral sampling.

With :math:`h = \lambda_s - \lambda_t` and DDPM's posterior variance :math:`\tilde\beta = \sigma_s^2(1 - e^{-2h})`, Song
et al. draw noise of variance :math:`\eta^2\tilde\beta` and scale the predicted noise so that the total is sigma_s, for
every eta in [0, 1]: 0 is DDIM, 1 is DDPM. At a fixed eta in between, the noise of a step is a fixed *share* of DDPM's;
`bridge.ReverseBridge` is the family that solves the reverse SDE at a fixed eta.
"""

import math
from dataclasses import dataclass

from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError

from .contract import State, required
from .noise import Noise
from .schedule_values import Instant, decay


@dataclass(frozen=True)
class StochasticDDIM:
    r"""DDIM with Song's eta.

    .. math::  x_s = \alpha_s D + \sigma_s\sqrt{1 - \eta^2(1 - e^{-2h})}\;\frac{x_t - \alpha_t D}{\sigma_t}
               + \eta\,\sigma_s\sqrt{1 - e^{-2h}}\;\xi, \qquad D = D(x_t, t)

    Weak order 1 (strong for eta = 0), one evaluation per step; the exact marginal distribution on a single data point.
    A step to sigma(s) = 0 draws no noise. Raises InputError for eta outside [0, 1].

    Source: Song, Meng & Ermon 2021, https://arxiv.org/abs/2010.02502 (eq. 12 and 16; their alpha is our alpha^2).

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, RectifiedFlow
    >>> from diffuscope.samplers import StochasticDDIM, sample
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([3.0]), 0.0), RectifiedFlow())
    >>> x_t, times = torch.tensor([[4.6]]), torch.tensor([0.8, 0.5])  # eps = (4.6 - 0.2 * 3) / 0.8 = 5, e^-h = 1/4
    >>> draw, again = (torch.Generator().manual_seed(0) for _ in range(2))
    >>> x_s, xi = sample(StochasticDDIM(0.5), point, x_t, times, noise=draw), torch.randn(1, 1, generator=again)
    >>> mean = 3 / 2 + 1 / 2 * 7 / 8 * 5  # 1 - eta^2 (1 - 1/16) = 49/64
    >>> round(float((x_s - mean) / xi) ** 2, 4)  # 1/4 * 15/64
    0.0586
    """

    eta: float = 1.0

    order = 1
    nfe_per_step = 1

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise InputError(f"eta: expected 0 .. 1 (above 1 the noise of a step may exceed sigma_s), got {self.eta}")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:
        """One step: part of the predicted noise replaced by fresh noise."""
        t, x_t = state.at, state.x_t
        denoised = denoiser(x_t, t.t)
        memory = decay(t, s)
        fresh = self.eta**2 * (1 - memory) * (1 + memory)
        predicted = memory**2 + (1 - self.eta**2) * (1 - memory) * (1 + memory)  # 1 - fresh, without cancellation
        kept = math.sqrt(predicted) * s.sigma / t.sigma
        x_s = kept * x_t + (s.alpha - kept * t.alpha) * denoised
        if fresh > 0 and s.sigma > 0:
            x_s = x_s + s.sigma * math.sqrt(fresh) * required(noise, self).increment(x_t, t.angle, s.angle)
        return State(s, x_s)

r"""The reverse family solved exactly from a fixed point, at any eta.

If the data were one point :math:`x_0`, the residual :math:`\varepsilon_t = (x_t - \alpha_t x_0)/\sigma_t` would follow,
along the reverse family, an Ornstein-Uhlenbeck process in :math:`\lambda = \log(\alpha/\sigma)`,

.. math::  d\varepsilon = -\eta^2\varepsilon\, d\lambda + \sqrt{2}\,\eta\, dB_\lambda ,

whose transition is known for a step of any size. With :math:`h = \lambda_s - \lambda_t`,

.. math::  x_s = \alpha_s x_0 + \sigma_s\left[e^{-\eta^2 h}\varepsilon_t + \sqrt{1 - e^{-2\eta^2 h}}\;\xi\right],
           \qquad \xi \sim N(0, I), \qquad e^{-h} = \frac{\sigma_s\alpha_t}{\sigma_t\alpha_s} .

eta = 0 is DDIM, eta = 1 DDPM with its posterior variance. In between it is *not* Song et al.'s DDIM family: the two
coincide when :math:`\eta_{DDIM}^2 = (1 - e^{-2\eta^2 h})/(1 - e^{-2h})`, so a fixed eta here is one that varies with
the step there. At alpha(t) = 0 the memory :math:`e^{-\eta^2 h}` is zero (one for eta = 0); at sigma(s) = 0 the step
ends at alpha_s x_0 without noise.
"""

import math
from dataclasses import dataclass

from diffuscope.denoisers import Batch, Denoiser

from .contract import State, required
from .eta import ReverseFamily, eta_at
from .noise import Noise
from .schedule_values import Instant, decay


def reverse_bridge(x_t: Batch, denoised: Batch, t: Instant, s: Instant, eta: float) -> tuple[Batch, float]:
    """Mean and standard deviation of x_s given x_t when the data are the point `denoised`; needs sigma(t) > 0."""
    memory = decay(t, s) ** (eta**2)
    kept = memory * s.sigma / t.sigma
    mean = kept * x_t + (s.alpha - kept * t.alpha) * denoised
    return mean, s.sigma * math.sqrt((1 - memory) * (1 + memory))


def frozen_reverse_step(
    x_t: Batch, denoised: Batch, t: Instant, s: Instant, eta: float, noise: Noise | None, sampler: object
) -> Batch:
    """x_s = alpha_s D + (sigma_s / sigma_t) e^(-eta^2 h) (x_t - alpha_t D) + sigma_s sqrt(1 - e^(-2 eta^2 h)) xi.

    Raises InputError, naming `sampler`, where the step needs noise and has none.
    """
    mean, std = reverse_bridge(x_t, denoised, t, s, eta)
    if std == 0:
        return mean
    return mean + std * required(noise, sampler).increment(x_t, t.angle, s.angle)


@dataclass(frozen=True)
class ReverseBridge(ReverseFamily):
    r"""The exact reverse transition of a single data point, with the denoiser as the point.

    .. math::  x_s = \alpha_s D + \frac{\sigma_s}{\sigma_t} e^{-\eta^2 h}(x_t - \alpha_t D)
               + \sigma_s\sqrt{1 - e^{-2\eta^2 h}}\;\xi, \qquad D = D(x_t, t), \quad h = \lambda_s - \lambda_t

    `eta` >= 0 is a number or a function of t, read at the start of a step. Weak order 1 (strong for eta = 0), one
    evaluation per step; the exact distribution on a single data point, whatever the steps. Raises InputError for a
    negative eta.

    Source: Cao et al. 2025, https://arxiv.org/abs/2501.17054 (the fixed start); eta = 1 is Ho et al. 2020, eq. 6-7.

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, RectifiedFlow
    >>> from diffuscope.samplers import ReverseBridge, sample
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([3.0]), 0.0), RectifiedFlow())
    >>> x_t, times = torch.tensor([[4.6]]), torch.tensor([0.8, 0.5])  # eps = (4.6 - 0.2 * 3) / 0.8 = 5, e^-h = 1/4
    >>> draw, again = (torch.Generator().manual_seed(0) for _ in range(2))
    >>> x_s = sample(ReverseBridge(eta=0.5**0.5), point, x_t, times, noise=draw)  # e^(-h/2) = 1/2
    >>> xi = torch.randn(1, 1, generator=again)
    >>> round(float((x_s - (3 / 2 + 5 / 4)) / (xi * 0.75**0.5)), 4)  # x_s = 3/2 + 1/2 (5/2 + (1 - 1/4)^(1/2) xi)
    0.5
    """

    order = 1
    nfe_per_step = 1

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:
        """One draw from the bridge with the denoiser frozen at time t."""
        t, x_t = state.at, state.x_t
        return State(s, frozen_reverse_step(x_t, denoiser(x_t, t.t), t, s, eta_at(self.eta, t), noise, self))

r"""DDPM: ancestral sampling with the exact reverse kernel of a single data point.

If the data were one point :math:`x_0`, the reverse SDE (eta = 1) could be solved for a step of any size: the residual
:math:`\varepsilon_t = (x_t - \alpha_t x_0)/\sigma_t` is an Ornstein-Uhlenbeck process in
:math:`\lambda = \log(\alpha/\sigma)`. With :math:`h = \lambda_s - \lambda_t`,

.. math::  x_s = \alpha_s x_0 + \sigma_s\left[e^{-h}\varepsilon_t + \sqrt{1 - e^{-2h}}\;\xi\right], \qquad
           \xi \sim N(0, I), \qquad e^{-h} = \frac{\sigma_s\alpha_t}{\sigma_t\alpha_s} .

This is the posterior q(x_s | x_t, x_0) of Ho et al., variance included
(:math:`\tilde\beta = (1 - \alpha_t^2/\alpha_s^2)\sigma_s^2/\sigma_t^2` in a variance-preserving schedule), written for
any (alpha, sigma): at alpha(t) = 0 the memory e^{-h} is zero, at sigma(s) = 0 the step ends at alpha_s x_0.
"""

import math
from dataclasses import dataclass

from diffuscope.denoisers import Denoiser
from diffuscope.samplers.contract import State, required
from diffuscope.samplers.instant import Instant
from diffuscope.samplers.noise import Noise


@dataclass(frozen=True)
class DDPM:
    r"""Ancestral sampling with the posterior variance.

    .. math::  x_s = \alpha_s D + \frac{\sigma_s}{\sigma_t} e^{-h}(x_t - \alpha_t D)
               + \sigma_s\sqrt{1 - e^{-2h}}\;\xi, \qquad D = D(x_t, t)

    Weak order 1, one evaluation per step; the exact law on a single data point, whatever the steps. A step to
    sigma(s) = 0 draws no noise.

    Source: Ho, Jain & Abbeel 2020, https://arxiv.org/abs/2006.11239 (eq. 6-7); that it solves the reverse SDE with the
    denoiser frozen, in any schedule: Cao et al. 2025, https://arxiv.org/abs/2501.17054.
    """

    order = 1
    stochastic = True
    nfe_per_step = 1

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:
        """One draw from the posterior of x_s, with the denoiser's estimate as the data point."""
        t, x_t, noise = state.at, state.x_t, required(noise, self)
        denoised = denoiser(x_t, t.t)
        memory = s.sigma * t.alpha / (t.sigma * s.alpha)
        kept = memory * s.sigma / t.sigma
        x_s = kept * x_t + (s.alpha - kept * t.alpha) * denoised
        if s.sigma > 0:
            spread = s.sigma * math.sqrt((1 - memory) * (1 + memory))
            x_s = x_s + spread * noise.increment(x_t, t.angle, s.angle)
        return State(s, x_s)

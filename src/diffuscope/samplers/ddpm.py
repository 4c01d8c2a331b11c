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

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError
from diffuscope.samplers.contract import Evaluation, Sampler, State


@dataclass(frozen=True)
class DDPM(Sampler):
    r"""Ancestral sampling with the posterior variance.

    .. math::  x_s = \alpha_s D + \frac{\sigma_s}{\sigma_t} e^{-h}(x_t - \alpha_t D)
               + \sigma_s\sqrt{1 - e^{-2h}}\;\xi, \qquad D = D(x_t, t)

    Weak order 1, one evaluation per step; the exact law on a single data point, whatever the steps. A step to
    sigma(s) = 0 draws no noise.

    Source: Ho, Jain & Abbeel 2020, https://arxiv.org/abs/2006.11239 (eq. 6-7); that it solves the reverse SDE with the
    denoiser frozen, in any schedule: Cao et al. 2025, https://arxiv.org/abs/2501.17054.
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = True
    nfe_per_step: ClassVar[int] = 1

    def step(
        self, denoiser: Denoiser, state: State, s: Float[Tensor, ""], generator: torch.Generator | None = None
    ) -> State:
        """One draw from the posterior of x_s, with the denoiser's estimate as the data point."""
        if generator is None:
            raise InputError("generator: DDPM draws noise and needs a torch.Generator, got None")
        schedule, t, x_t = denoiser.schedule, state.t, state.x_t
        alpha_t, sigma_t, alpha_s, sigma_s = schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s)
        denoised = denoiser(x_t, t)
        memory = sigma_s * alpha_t / (sigma_t * alpha_s)
        kept = memory * sigma_s / sigma_t
        x_s = kept * x_t + (alpha_s - kept * alpha_t) * denoised
        if sigma_s > 0:
            noise = torch.randn(x_t.shape, dtype=x_t.dtype, device=generator.device, generator=generator)
            x_s = x_s + sigma_s * ((1 - memory) * (1 + memory)).sqrt() * noise.to(x_t.device)
        return State(s, x_s, (*state.history, Evaluation(t, denoised)))

r"""DDIM: the probability-flow ODE solved exactly while the denoiser stands still.

In :math:`y = x/\alpha` and :math:`\tilde\sigma = \sigma/\alpha` the ODE is
:math:`dy/d\tilde\sigma = (y - D)/\tilde\sigma`. With D frozen over the step from t to s its solution is a straight
line, which in x reads

.. math::  x_s = \alpha_s D + \frac{\sigma_s}{\sigma_t}(x_t - \alpha_t D) .

Nothing divides by alpha, so a start at alpha(t) = 0 and an end at sigma(s) = 0 (where x_s = alpha_s D) are ordinary
steps. The other deterministic samplers are this step with a better D, or use it where their own formula is singular.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.samplers.contract import Evaluation, Sampler, State
from diffuscope.schedules import Schedule


def frozen_denoised_step(
    x_t: Batch, denoised: Batch, schedule: Schedule, t: Float[Tensor, ""], s: Float[Tensor, ""]
) -> Batch:
    """x_s = alpha_s D + (sigma_s / sigma_t)(x_t - alpha_t D), coefficients in float64; needs sigma(t) > 0."""
    kept = schedule.sigma(s) / schedule.sigma(t)
    # 0-d float64 coefficients leave the dtype of x as it is
    return kept * x_t + (schedule.alpha(s) - kept * schedule.alpha(t)) * denoised


@dataclass(frozen=True)
class DDIM(Sampler):
    r"""Deterministic DDIM.

    .. math::  x_s = \alpha_s D(x_t, t) + \frac{\sigma_s}{\sigma_t}\left(x_t - \alpha_t D(x_t, t)\right)

    Order 1, one evaluation per step; exact in one step on a single data point. It is Euler's method in sigma/alpha.

    Source: Song, Meng & Ermon 2021, *Denoising Diffusion Implicit Models*, https://arxiv.org/abs/2010.02502 (eq. 12
    with sigma = 0; their alpha is our alpha^2).
    """

    order: ClassVar[int] = 1
    stochastic: ClassVar[bool] = False
    nfe_per_step: ClassVar[int] = 1

    def step(
        self,
        denoiser: Denoiser,
        state: State,
        s: Float[Tensor, ""],
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> State:
        """One step with the denoiser frozen at time t."""
        denoised = denoiser(state.x_t, state.t)
        x_s = frozen_denoised_step(state.x_t, denoised, denoiser.schedule, state.t, s)
        return State(s, x_s, (*state.history, Evaluation(state.t, denoised)))

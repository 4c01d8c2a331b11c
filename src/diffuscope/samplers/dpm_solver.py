r"""DPM-Solver++ 2M: the exact step with the denoiser extrapolated instead of frozen.

In :math:`\lambda = \log(\alpha/\sigma)` the probability-flow ODE integrates to

.. math::  x_s = \frac{\sigma_s}{\sigma_t} x_t + \sigma_s\int_{\lambda_t}^{\lambda_s} e^{\lambda} D(\lambda)\,d\lambda .

Freezing D at time t gives DDIM. Freezing it at its linear extrapolation to the middle of the step, from the evaluation
before, makes the step second order at no further cost.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Denoiser
from diffuscope.samplers.contract import Evaluation, Sampler, State
from diffuscope.samplers.ddim import frozen_denoised_step
from diffuscope.schedules import Schedule


@dataclass(frozen=True)
class DPMSolverPP2M(Sampler):
    r"""DPM-Solver++ of order 2, multistep.

    .. math::
        \bar D = D_t + \frac{h}{2 h_p}\left(D_t - D_p\right), \qquad
        x_s = \alpha_s\bar D + \frac{\sigma_s}{\sigma_t}(x_t - \alpha_t\bar D)

    with :math:`h = \lambda_s - \lambda_t`, and :math:`D_p` the evaluation before, :math:`h_p = \lambda_t - \lambda_p`.
    Order 2, one evaluation per step. The first step is DDIM's (as are steps that touch an infinite lambda: alpha(t) = 0
    or sigma(s) = 0), unless `trajectory` is given a `history`, for instance `teleport.warm_history`.

    Source: Lu et al. 2022, *DPM-Solver++*, https://arxiv.org/abs/2211.01095 (algorithm 2).
    """

    order: ClassVar[int] = 2
    stochastic: ClassVar[bool] = False
    nfe_per_step: ClassVar[int] = 1
    memory: ClassVar[int] = 1

    def step(
        self,
        denoiser: Denoiser,
        state: State,
        s: Float[Tensor, ""],
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> State:
        """One step with the denoiser extrapolated to the middle of the step."""
        denoised = denoiser(state.x_t, state.t)
        extrapolated = denoised
        if state.history:
            previous = state.history[-1]
            weight = _extrapolation(denoiser.schedule, previous.t, state.t, s)
            extrapolated = denoised + weight * (denoised - previous.denoised)
        x_s = frozen_denoised_step(state.x_t, extrapolated, denoiser.schedule, state.t, s)
        return State(s, x_s, (*state.history, Evaluation(state.t, denoised)))


def _extrapolation(
    schedule: Schedule, previous: Float[Tensor, ""], t: Float[Tensor, ""], s: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """h / (2 h_p); zero where a log-SNR is infinite and no line can be drawn."""
    lam_previous, lam_t, lam_s = schedule.lam(previous), schedule.lam(t), schedule.lam(s)
    weight = (lam_s - lam_t) / (2 * (lam_t - lam_previous))
    return torch.where(torch.isfinite(weight), weight, torch.zeros_like(weight))

r"""DPM-Solver++ 2M: the exact step with the denoiser extrapolated instead of frozen.

In :math:`\lambda = \log(\alpha/\sigma)` the probability-flow ODE integrates to

.. math::  x_s = \frac{\sigma_s}{\sigma_t} x_t + \sigma_s\int_{\lambda_t}^{\lambda_s} e^{\lambda} D(\lambda)\,d\lambda .

Freezing D at time t gives DDIM. Freezing it at its linear extrapolation to the middle of the step, from the evaluation
before, makes the step second order at no further cost.
"""

import math
from dataclasses import dataclass

from diffuscope.denoisers import Denoiser
from diffuscope.samplers.contract import Evaluation, State
from diffuscope.samplers.ddim import frozen_denoised_step
from diffuscope.samplers.instant import Instant
from diffuscope.samplers.noise import Noise


@dataclass(frozen=True)
class DPMSolverPP2M:
    r"""DPM-Solver++ of order 2, multistep.

    .. math::
        \bar D = D_t + \frac{h}{2 h_p}\left(D_t - D_p\right), \qquad
        x_s = \alpha_s\bar D + \frac{\sigma_s}{\sigma_t}(x_t - \alpha_t\bar D)

    with :math:`h = \lambda_s - \lambda_t`, and :math:`D_p` the evaluation before, :math:`h_p = \lambda_t - \lambda_p`.
    Order 2, one evaluation per step. The first step is DDIM's (as are steps that touch an infinite lambda: alpha(t) = 0
    or sigma(s) = 0), unless `trajectory` is given a `history`, for instance `teleport.warm_history`.

    Source: Lu et al. 2022, *DPM-Solver++*, https://arxiv.org/abs/2211.01095 (algorithm 2).
    """

    order = 2
    stochastic = False
    nfe_per_step = 1

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        """One step with the denoiser extrapolated to the middle of the step."""
        t = state.at
        latest = Evaluation(t, state.x_t, denoiser(state.x_t, t.t))
        extrapolated = latest.denoised
        if state.history:
            previous = state.history[-1]
            weight = (s.lam - t.lam) / (2 * (t.lam - previous.at.lam))
            if math.isfinite(weight):
                extrapolated = extrapolated + weight * (latest.denoised - previous.denoised)
        return State(s, frozen_denoised_step(state.x_t, extrapolated, t, s), (latest,))

r"""Euler and Heun on the probability-flow ODE, in the schedule's own time.

.. math::  \dot x = v(x, t) = \dot\alpha D(x, t) + \dot\sigma\varepsilon(x, t), \qquad
           \varepsilon = \frac{x - \alpha D}{\sigma} .

The right side is finite at alpha(t) = 0 when the derivatives are (rectified flow, cosine). Two kinds of step have no
finite velocity at an end: those that reach sigma(s) = 0, and those that leave a time where alpha or sigma has an
infinite derivative (`Sigmoid` at t = 1). There both methods take the exact step with D frozen (`ddim`), which for a
final step in VE and rectified flow *is* Euler's. After a start at an infinite derivative, as alpha ~ sqrt(1 - t), the
order of both falls to 1/2: start inside, or use a sampler that follows log-SNR.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Denoiser, denoised_to_velocity
from diffuscope.samplers.contract import Evaluation, Sampler, State
from diffuscope.samplers.ddim import frozen_denoised_step
from diffuscope.schedules import Schedule


def _is_singular(schedule: Schedule, t: Float[Tensor, ""], s: Float[Tensor, ""]) -> bool:
    """Whether the step ends without noise, or the velocity at its start is infinite."""
    derivatives = torch.stack([schedule.alpha_dot(t), schedule.sigma_dot(t)])
    return bool(schedule.sigma(s) == 0) or not bool(torch.isfinite(derivatives).all())


@dataclass(frozen=True)
class Euler(Sampler):
    r"""Euler's method.

    .. math::  x_s = x_t + (s - t)\, v(x_t, t)

    Order 1, one evaluation per step.

    Source: the probability-flow ODE of Song et al. 2021, https://arxiv.org/abs/2011.13456.
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
        """One step along the velocity at time t."""
        schedule, t, x_t = denoiser.schedule, state.t, state.x_t
        denoised = denoiser(x_t, t)
        history = (*state.history, Evaluation(t, denoised))
        if _is_singular(schedule, t, s):
            return State(s, frozen_denoised_step(x_t, denoised, schedule, t, s), history)
        return State(s, x_t + (s - t) * denoised_to_velocity(x_t, denoised, schedule, t), history)


@dataclass(frozen=True)
class Heun(Sampler):
    r"""Heun's method: the trapezoidal rule, its far end predicted by Euler.

    .. math::
        \hat x_s = x_t + (s - t)\, v(x_t, t), \qquad
        x_s = x_t + \tfrac{s - t}{2} \left[v(x_t, t) + v(\hat x_s, s)\right]

    Order 2, two evaluations per step, one for a step that reaches sigma(s) = 0: 2N - 1 for N steps to clean data.

    Source: Karras, Aittala, Aila & Laine 2022, https://arxiv.org/abs/2206.00364 (algorithm 1, in any schedule's time).
    """

    order: ClassVar[int] = 2
    stochastic: ClassVar[bool] = False
    nfe_per_step: ClassVar[int] = 2

    def step(
        self,
        denoiser: Denoiser,
        state: State,
        s: Float[Tensor, ""],
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> State:
        """One trapezoidal step."""
        schedule, t, x_t = denoiser.schedule, state.t, state.x_t
        denoised = denoiser(x_t, t)
        history = (*state.history, Evaluation(t, denoised))
        if _is_singular(schedule, t, s):
            return State(s, frozen_denoised_step(x_t, denoised, schedule, t, s), history)
        velocity = denoised_to_velocity(x_t, denoised, schedule, t)
        predicted = x_t + (s - t) * velocity
        denoised_s = denoiser(predicted, s)
        velocity_s = denoised_to_velocity(predicted, denoised_s, schedule, s)
        return State(s, x_t + (s - t) / 2 * (velocity + velocity_s), (*history, Evaluation(s, denoised_s)))

r"""Teleport: the high-noise part of a trajectory replaced by the Gaussian's closed-form flow, at no evaluation.

At high noise a diffusion model's denoiser is that of the Gaussian with the data's mean and covariance, whose
probability-flow map is known (`exact.gaussian`). So jump from the start t_T to t_skip with it,

.. math::  x_{skip} = \alpha_s\mu + \sum_k
           \sqrt{\frac{\alpha_s^2\lambda_k + \sigma_s^2}{\alpha_T^2\lambda_k + \sigma_T^2}}
           \; u_k u_k^T (x_T - \alpha_T\mu),

and run any sampler from there, on one of two grids of times:

- protocol A, `truncate`: keep the tail of the grid one had; the steps before it are saved;
- protocol B, `reallocate`: spend the same number of steps on what is left.

How much the jump moves the result is estimated in `teleport_error`. Source: Wang & Vastola 2024, *The Unreasonable
Effectiveness of Gaussian Score Approximation for Diffusion Models*, https://arxiv.org/abs/2412.09726.
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import Schedule, Time, as_time

from .contract import Evaluation
from .schedule_values import instants


@dataclass(frozen=True)
class Truncation:
    """What is left of a grid after a jump to `t_skip` = `times[0]`, and the steps that the jump saves.

    Each saved step saves the sampler's `nfe_per_step` evaluations.
    """

    times: Float[Tensor, " times"]
    steps_saved: int

    @property
    def t_skip(self) -> Float[Tensor, ""]:
        return self.times[0]


def truncate(times: Float[Tensor, " times"], schedule: Schedule, noise_to_signal: float) -> Truncation:
    """Protocol A: the tail of `times` from the one nearest to sigma/alpha = `noise_to_signal`, in log-SNR.

    At least one step stays; a level at or above the start saves nothing. A time that a discrete-time model was trained
    at stays one. The tail of a Karras grid is the Karras grid from there.
    """
    _require_level(noise_to_signal)
    distance = (schedule.lam(times) + as_time(noise_to_signal).log()).abs()
    first = int(distance[:-1].argmin())
    return Truncation(times[first:], first)


def reallocate(
    times: Float[Tensor, " times"],
    schedule: Schedule,
    noise_to_signal: float,
    grid: Callable[[float, int], Float[Tensor, " remaining"]],
) -> Float[Tensor, " remaining"]:
    """Protocol B: as many steps as `times` has, from sigma/alpha = `noise_to_signal` by the rule `grid(start, steps)`.

    For instance `lambda start, steps: karras_times(schedule, start, end, steps)`. The jump goes to the first time of
    the result. A level at or above the start gives the grid from the start.
    """
    _require_level(noise_to_signal)
    start = float(times[0])
    if noise_to_signal < float(schedule.noise_to_signal(start)):
        start = float(schedule.time_of_noise_to_signal(noise_to_signal))
    if not start > float(times[-1]):
        raise InputError(f"noise_to_signal: expected a level above that of the last time, got {noise_to_signal:g}")
    return grid(start, len(times) - 1)


def teleport(gaussian: Gaussian, schedule: Schedule, x_start: Batch, t_start: Time, t_skip: Time) -> Batch:
    """The state at t_skip on the Gaussian's probability-flow trajectory through `x_start` at t_start: 0 evaluations.

    Dtype and device follow `x_start`; the arithmetic is float64. alpha(t_start) = 0 is allowed.
    """
    if not float(t_skip) <= float(t_start):
        raise InputError(f"t_skip: expected a time at or before the start {float(t_start):g}, got {float(t_skip):g}")
    return gaussian.flow(x_start, schedule, t_start, t_skip)


def warm_history(
    gaussian: Gaussian, schedule: Schedule, x_start: Batch, t_start: Time, times: Float[Tensor, " times"]
) -> tuple[Evaluation, ...]:
    """What the Gaussian's denoiser says along the jump, at decreasing `times` above t_skip, for multistep samplers.

    With protocol A these are the times skipped: 0 evaluations, and a multistep method resumes as if it had walked. Its
    first step is then of second order; that is no gain where a cold first step happens to offset what follows, as on
    Gaussian data.
    """
    return tuple(
        Evaluation(
            at,
            gaussian.flow(x_start, schedule, t_start, at.t),
            gaussian.flow_denoised(x_start, schedule, t_start, at.t),
        )
        for at in instants(schedule, times)
    )


def _require_level(noise_to_signal: float) -> None:
    if not noise_to_signal > 0:
        raise InputError(f"noise_to_signal: expected sigma/alpha > 0 to jump to, got {noise_to_signal}")

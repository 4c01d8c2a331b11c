r"""Teleport: the high-noise part of a trajectory replaced by the Gaussian's closed-form flow, with zero NFE.

At high noise a diffusion model's denoiser is that of the Gaussian with the data's mean and covariance, whose
probability-flow map is known (`exact.gaussian`). It jumps from the start t_T to t_skip,

.. math::  x_{skip} = \alpha_s\mu + \sum_k
           \sqrt{\frac{\alpha_s^2\lambda_k + \sigma_s^2}{\alpha_T^2\lambda_k + \sigma_T^2}}
           \; u_k u_k^T (x_T - \alpha_T\mu),

and any sampler continues from there, on one of two grids of times:

- protocol A, `truncate`: the tail of the original grid; the steps before it are saved;
- protocol B, `reallocate`: the same number of steps over the remaining times.

`teleport_error` estimates how much the jump moves the result. Source: Wang & Vastola 2024, *The Unreasonable
Effectiveness of Gaussian Score Approximation for Diffusion Models*, https://arxiv.org/abs/2412.09726.
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GuidedGaussian
from diffuscope.schedules import Schedule, Time, as_time

from .contract import Evaluation
from .schedule_values import instants


@dataclass(frozen=True, eq=False)
class Truncation:
    """The rest of a grid after a jump to `t_skip` = `times[0]`, and the number of steps saved.

    >>> import torch
    >>> from diffuscope import VE
    >>> from diffuscope.samplers import truncate
    >>> rest = truncate(torch.tensor([16.0, 8.0, 4.0, 2.0, 1.0]), VE(), noise_to_signal=3.0)
    >>> rest.steps_saved, float(rest.t_skip)
    (2, 4.0)
    """

    times: Float[Tensor, " times"]
    steps_saved: int

    @property
    def t_skip(self) -> Float[Tensor, ""]:
        return self.times[0]


def truncate(times: Float[Tensor, " times"], schedule: Schedule, noise_to_signal: float) -> Truncation:
    """Protocol A: the tail of `times` from the one nearest to sigma/alpha = `noise_to_signal`, in log-SNR.

    At least one step remains; a level at or above the start saves nothing. No new time is introduced, so a
    discrete-time model keeps the times it was trained at. Raises InputError for a level that is not positive.

    >>> import torch
    >>> from diffuscope import VE
    >>> from diffuscope.samplers import truncate
    >>> truncate(torch.tensor([16.0, 8.0, 4.0, 2.0, 1.0]), VE(), noise_to_signal=2.7).times  # 2.7 < (4 * 2)^(1/2)
    tensor([2., 1.])
    """
    require_level(noise_to_signal)
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
    the result. A level at or above the start gives the grid from the start. Raises InputError for a level that is not
    positive or not above that of the last time.

    >>> import torch
    >>> from diffuscope import VE
    >>> from diffuscope.samplers import reallocate
    >>> from diffuscope.times import log_snr_times
    >>> times = torch.tensor([64.0, 32.0, 16.0, 1.0])
    >>> reallocate(times, VE(), 8.0, lambda start, steps: log_snr_times(VE(), start, 1.0, steps)).round(decimals=6)
    tensor([8., 4., 2., 1.], dtype=torch.float64)
    """
    require_level(noise_to_signal)
    start = float(times[0])
    if noise_to_signal < float(schedule.noise_to_signal(start)):
        start = float(schedule.time_of_noise_to_signal(noise_to_signal))
    if not start > float(times[-1]):
        raise InputError(f"noise_to_signal: expected a level above that of the last time, got {noise_to_signal:g}")
    return grid(start, len(times) - 1)


def teleport(
    gaussian: Gaussian | GuidedGaussian, schedule: Schedule, x_start: Batch, t_start: Time, t_skip: Time
) -> Batch:
    """The state at t_skip on the Gaussian's probability-flow trajectory through `x_start` at t_start, with zero NFE.

    Dtype and device are those of `x_start`; the arithmetic is float64. alpha(t_start) = 0 is allowed. For a model with
    guidance take a `GuidedGaussian`.
    Raises InputError for t_skip > t_start.

    >>> import torch
    >>> from diffuscope import VE, Gaussian, teleport
    >>> data = Gaussian.isotropic(torch.tensor([2.0]), 3.0)
    >>> x = teleport(data, VE(), torch.tensor([[10.0]]), 13**0.5, 1.0)
    >>> round(float(x), 4)  # 2 + 8 ((3 + 1) / (3 + 13))^(1/2)
    6.0
    """
    if not float(t_skip) <= float(t_start):
        raise InputError(f"t_skip: expected a time at or before the start {float(t_start):g}, got {float(t_skip):g}")
    return gaussian.flow(x_start, schedule, t_start, t_skip)


def warm_history(
    gaussian: Gaussian | GuidedGaussian,
    schedule: Schedule,
    x_start: Batch,
    t_start: Time,
    times: Float[Tensor, " times"],
) -> tuple[Evaluation, ...]:
    """The Gaussian's denoiser along the jump, at decreasing `times` above t_skip: a history for multistep samplers.

    With protocol A these are the skipped times. The NFE is zero, and the first step of a multistep method then has
    order 2; that is no gain where the error of a cold first step happens to cancel later ones, as on Gaussian data.

    >>> import torch
    >>> from diffuscope import VE, Gaussian
    >>> from diffuscope.samplers import warm_history
    >>> data, times = Gaussian.isotropic(torch.tensor([2.0]), 3.0), torch.tensor([6.0], dtype=torch.float64).sqrt()
    >>> (past,) = warm_history(data, VE(), torch.tensor([[10.0]]), 13**0.5, times)
    >>> round(float(past.x_t), 4), round(float(past.denoised), 4)  # 2 + 8 (9 / 16)^(1/2) and 2 + 3/9 * 6
    (8.0, 4.0)
    """
    jump = (x_start, schedule, t_start)
    return tuple(
        Evaluation(at, gaussian.flow(*jump, at.t), gaussian.flow_denoised(*jump, at.t))
        for at in instants(schedule, times)
    )


def require_level(noise_to_signal: float) -> None:
    """Raises InputError unless the level to jump to is positive."""
    if not noise_to_signal > 0:
        raise InputError(f"noise_to_signal: expected sigma/alpha > 0 to jump to, got {noise_to_signal}")

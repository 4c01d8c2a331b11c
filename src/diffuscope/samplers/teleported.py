r"""Teleport as a wrapper of any sampler: closed-form steps at high noise, the sampler's own below.

A step that ends at or above the level :math:`\sigma/\alpha` = `noise_to_signal` is the probability flow of the Gaussian
with the data's mean and covariance (`teleport`): exact for that Gaussian, with zero NFE. Steps below are the
sampler's. The argument is a whole grid of times, and the two protocols are two grids:

- truncate: any grid; its steps above the level cost nothing;
- reallocate: `reallocated_times`, one jump from the start and all other steps below the level.

The first step of the sampler has as its history the Gaussian's denoiser earlier on the same trajectory, at equal steps
of lambda: at :math:`\lambda_t - h, \lambda_t - 2h, \dots`, with h the size of that step. A multistep method then starts
at its full order.

`teleported_sample` estimates how far the jump moves the end of each trajectory, to first order in the difference of the
two denoisers (`teleport_error`), with a few evaluations along the jump. Source: Wang & Vastola 2024,
https://arxiv.org/abs/2412.09726; the warm start and the estimate are ours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser, nearest_trained_time, require_shape_and_range
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GuidedGaussian
from diffuscope.schedules import Schedule
from diffuscope.times import log_snr_times

from .contract import Evaluation, Sampler, State, sample
from .displacement import SkipSuggestion, TeleportError, suggest_skip, teleport_error
from .gaussian_jump import reallocate, require_level, teleport, warm_history
from .noise import Noise
from .schedule_values import Instant

ROUNDING = 1e-9  # a time computed from the level is at the level
HIGHEST, LOWEST = 100.0, 0.05  # the levels searched for a jump, in standard deviations of the data


@dataclass(frozen=True, eq=False)
class Teleported:
    """`sampler` below the level sigma/alpha = `noise_to_signal`, the flow of `gaussian` above it.

    Order and noise are the sampler's; a step above the level costs no evaluation. `remembered` analytic evaluations
    begin the sampler's history (3 suffice for every method here; 0 is a cold start). Use it with `sample` or
    `trajectory` on a grid from the start. Raises InputError for a level that is not positive or `remembered` < 0.

    >>> import torch
    >>> from diffuscope import DDIM, VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import Teleported, sample
    >>> data, times = Gaussian.isotropic(torch.zeros(1), 3.0), torch.tensor([13**0.5, 2.0, 1.0, 0.5])
    >>> x = sample(Teleported(DDIM(), data, 1.0), ExactDenoiser(data, VE()), torch.tensor([[8.0]]), times)
    >>> round(float(x), 4)  # 8 (4 / 16)^(1/2) = 4 at sigma = 1, where D = 3/4 * 4, and 3 + (4 - 3) / 2
    3.5
    """

    sampler: Sampler
    gaussian: Gaussian | GuidedGaussian
    noise_to_signal: float
    remembered: int = 3

    nfe_per_step = None

    def __post_init__(self) -> None:
        require_level(self.noise_to_signal)
        if self.remembered < 0:
            raise InputError(f"remembered: expected a number of evaluations >= 0, got {self.remembered}")

    @property
    def order(self) -> int:
        """The sampler's; the jump's own error does not depend on the steps."""
        return self.sampler.order

    @property
    def stochastic(self) -> bool:
        """Whether the sampler is; the jump draws no noise."""
        return self.sampler.stochastic

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:
        """A closed-form step above the level, one of the sampler's below."""
        t = state.at
        if self._above(s):
            return State(s, teleport(self.gaussian, denoiser.schedule, state.x_t, t.t, s.t))
        if self._above(t):
            state = State(t, state.x_t, self._history(denoiser.schedule, state, s))
        return self.sampler.step(denoiser, state, s, noise)

    def _above(self, at: Instant) -> bool:
        return at.sigma >= self.noise_to_signal * at.alpha * (1 - ROUNDING)

    def _history(self, schedule: Schedule, state: State, s: Instant) -> tuple[Evaluation, ...]:
        """The Gaussian's evaluations at equal steps of lambda before the state, as far as the schedule reaches."""
        t, h = state.at, s.lam - state.at.lam
        if not math.isfinite(h):
            return ()
        lams = [t.lam - k * h for k in range(self.remembered, 0, -1)]
        within = [lam for lam in lams if lam >= float(schedule.lam(schedule.t_max))]
        times = schedule.time_of_lambda(torch.tensor(within, dtype=torch.float64))
        return warm_history(self.gaussian, schedule, state.x_t, t.t, times)


def reallocated_times(
    times: Float[Tensor, " times"],
    schedule: Schedule,
    noise_to_signal: float,
    grid: Callable[[float, int], Float[Tensor, " remaining"]],
) -> Float[Tensor, " more_times"]:
    """Protocol B for `Teleported`: a jump from `times[0]` to the level, then `grid(start, steps)` with all the steps.

    As many steps after the jump as `times` has (see `reallocate`); no jump if the level is above the start.

    >>> import torch
    >>> from diffuscope import VE
    >>> from diffuscope.samplers import reallocated_times
    >>> from diffuscope.times import log_snr_times
    >>> times, grid = torch.tensor([64.0, 32.0, 16.0, 1.0]), lambda start, steps: log_snr_times(VE(), start, 1.0, steps)
    >>> reallocated_times(times, VE(), 8.0, grid).round(decimals=6)
    tensor([64.,  8.,  4.,  2.,  1.], dtype=torch.float64)
    """
    below = reallocate(times, schedule, noise_to_signal, grid)
    return torch.cat([times[:1], below]) if float(below[0]) < float(times[0]) else below


@dataclass(frozen=True, eq=False)
class TeleportedSample:
    """The end of a teleported trajectory, the time of the jump's end, and the estimated displacement by the jump.

    >>> import torch
    >>> from diffuscope import DDIM, VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import Teleported, teleported_sample
    >>> data, times = Gaussian.isotropic(torch.zeros(1), 3.0), torch.tensor([13**0.5, 1.0, 0.5])
    >>> teleported, model = Teleported(DDIM(), data, 1.0), ExactDenoiser(data, VE())  # itself Gaussian: an exact jump
    >>> found = teleported_sample(teleported, model, torch.tensor([[8.0]]), times)
    >>> found.t_skip, round(float(found.x), 4), round(float(found.error.at_end[-1]), 4)  # as in `Teleported`
    (1.0, 3.5, 0.0)
    """

    x: Batch
    t_skip: float
    error: TeleportError


def teleported_sample(
    teleported: Teleported,
    denoiser: Denoiser,
    x_start: Batch,
    times: Float[Tensor, " times"],
    *,
    checks: int = 4,
    noise: torch.Generator | Noise | None = None,
) -> TeleportedSample:
    """`sample`, and the error of the jump, estimated with `checks` more evaluations.

    The estimate is `teleport_error` on the same starts, at `checks` levels from the start to the jump's end: its last
    row, `error.at_end[-1]`, is the distance of every sample from the end of the model's own trajectory.
    Raises InputError if no time of the grid is above the level, for fewer than two checks, for a `GuidedGaussian`, and
    for a Gaussian of another shape or range than the model's.

    >>> import torch
    >>> from diffuscope import DDIM, ExactDenoiser, Gaussian, RectifiedFlow
    >>> from diffuscope.samplers import Teleported, teleported_sample
    >>> data, far = (Gaussian.isotropic(torch.tensor([mean]), 1.0) for mean in (0.0, 2.0))
    >>> x, times = torch.tensor([[0.3]]), torch.tensor([1.0, 4 / 7, 0.5])  # a jump to w = alpha / sigma = 3/4
    >>> teleported, model = Teleported(DDIM(), data, 4 / 3), ExactDenoiser(far, RectifiedFlow())
    >>> found = teleported_sample(teleported, model, x, times, checks=2)
    >>> round(float(found.error.at_end[-1]), 4)  # 2 / (1 + w^2)^(3/2) falls from 2 to 1.024: 3/4 (2 + 1.024) / 2
    1.134
    """
    lams = denoiser.schedule.lam(times)
    jumped = times[lams <= -math.log(teleported.noise_to_signal) + ROUNDING]
    if len(jumped) < 2:
        raise InputError(f"times: expected a grid with a step above {teleported.noise_to_signal:g}, got none")
    if checks < 2:
        raise InputError(f"checks: expected at least two levels, got {checks}")
    if not isinstance(teleported.gaussian, Gaussian):
        raise InputError("teleported: expected the jump of a Gaussian for an estimate of its error, got a guided one")
    require_shape_and_range(teleported.gaussian, denoiser)
    t_start, t_skip = float(times[0]), float(jumped[-1])
    error = teleport_error(denoiser, teleported.gaussian, x_start, _levels(denoiser, t_start, t_skip, checks))
    return TeleportedSample(sample(teleported, denoiser, x_start, times, noise=noise), t_skip, error)


def suggest_sigma_skip(
    denoiser: Denoiser,
    gaussian: Gaussian,
    tolerance: float,
    *,
    generator: torch.Generator,
    samples: int = 256,
    levels: int = 24,
) -> SkipSuggestion:
    """The lowest level to jump to from the schedule's end with an estimated displacement within `tolerance`.

    It is `suggest_skip` on `samples` starts from the Gaussian's noised distribution at t_max, over `levels` levels
    down to 0.05 of the data's standard deviation; `tolerance` is in the same unit. The result's `noise_to_signal` is
    the level, its `t_skip` the time. Costs `samples` * `levels` evaluations.
    Raises InputError as `suggest_skip`, and for a Gaussian of another shape or range than the model's.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import suggest_sigma_skip
    >>> data, draw = Gaussian.isotropic(torch.tensor([2.0]), 9.0), torch.Generator().manual_seed(0)
    >>> found = suggest_sigma_skip(ExactDenoiser(data, VE()), data, 0.01, generator=draw, samples=8, levels=5)
    >>> round(found.noise_to_signal, 6)  # exact for this model, hence to the lowest level, 0.05 standard deviations
    0.15
    """
    require_shape_and_range(gaussian, denoiser)
    schedule, t_start = denoiser.schedule, denoiser.schedule.t_max
    scale = math.sqrt(gaussian.trace / gaussian.dimension)
    lowest = max(LOWEST * scale, float(schedule.noise_to_signal(schedule.t_min)))
    times = _levels(denoiser, t_start, float(schedule.time_of_noise_to_signal(lowest)), levels, HIGHEST * scale)
    clean = gaussian.sample(samples, generator=generator)
    noise = torch.randn(clean.shape, dtype=clean.dtype, generator=generator, device=generator.device)
    x_start = schedule.alpha(t_start) * clean + schedule.sigma(t_start) * noise
    return suggest_skip(denoiser, gaussian, x_start, times, tolerance=tolerance)


def _levels(
    denoiser: Denoiser, t_start: float, t_end: float, count: int, highest: float = math.inf
) -> Float[Tensor, " levels"]:
    """`count` times in equal ratios of sigma/alpha; a start without signal, or above `highest`, is an extra time.

    Of a model with a table of times the nearest of these, without duplicates.
    """
    times = _equal_ratios(denoiser.schedule, t_start, t_end, count, highest)
    return torch.unique_consecutive(nearest_trained_time(denoiser, times))


def _equal_ratios(
    schedule: Schedule, t_start: float, t_end: float, count: int, highest: float
) -> Float[Tensor, " count"]:
    ratio, end_ratio = (float(schedule.noise_to_signal(t)) for t in (t_start, t_end))
    top = min(highest, ratio)
    if not math.isfinite(top):
        top = HIGHEST * end_ratio
    if top >= ratio * (1 - ROUNDING):
        return log_snr_times(schedule, t_start, t_end, count - 1)
    if count == 2:
        return torch.tensor([t_start, t_end], dtype=torch.float64)
    below = log_snr_times(schedule, float(schedule.time_of_noise_to_signal(top)), t_end, count - 2)
    return torch.cat([torch.tensor([t_start], dtype=torch.float64), below])

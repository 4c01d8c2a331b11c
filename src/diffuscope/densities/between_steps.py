r"""A denoiser that knows a table of steps only, read between them: what an adaptive integrator needs.

.. math::  D(x, t) = (1 - w)\,D(x, k) + w\,D(x, k + 1), \qquad k \le t \le k + 1, \quad w = t - k .

This is a denoiser of its own, continuous in time, and a likelihood or a bound is that of *it*. From the
smooth denoiser that a table samples it differs by a term of second order in the step.
"""

from dataclasses import dataclass

import torch

from diffuscope.denoisers import Batch, BatchTime, Denoiser, over_events
from diffuscope.errors import InputError
from diffuscope.schedules import DiscreteVP, Schedule, as_time


@dataclass(frozen=True)
class BetweenSteps:
    """`denoiser` with a `DiscreteVP` schedule, asked at the two steps around t, whole numbers from 1 to T.

    Below the first step it is that of the first. Two evaluations per call. Raises InputError for another schedule, or
    for a table of one step.
    """

    denoiser: Denoiser

    def __post_init__(self) -> None:
        schedule = self.denoiser.schedule
        if not isinstance(schedule, DiscreteVP) or len(schedule.betas) < 2:
            raise InputError(
                f"denoiser: expected a DiscreteVP schedule of 2 or more steps, got {type(schedule).__name__}"
            )

    @property
    def schedule(self) -> Schedule:
        """The table's."""
        return self.denoiser.schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """D(x_t, t), linear in time between the steps."""
        times = as_time(t).clamp(1, self.schedule.t_max)
        step = times.floor().clamp_max(self.schedule.t_max - 1)
        earlier, later = self.denoiser(x_t, step), self.denoiser(x_t, step + 1)
        return torch.lerp(earlier, later, over_events(times - step, x_t).expand_as(earlier))

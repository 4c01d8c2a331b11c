r"""Interpolation in time of a denoiser that knows only a table of steps, as an adaptive integrator needs it.

.. math::  D(x, t) = (1 - w)\,D(x, k) + w\,D(x, k + 1), \qquad k \le t \le k + 1, \quad w = t - k .

The interpolant is a denoiser in its own right, continuous in time; a likelihood or a bound is that of the interpolant.
It differs from the smooth denoiser that the table samples by a term of second order in the step.
"""

from dataclasses import dataclass

import torch

from diffuscope.denoisers import Batch, BatchTime, Denoiser, over_events
from diffuscope.errors import InputError
from diffuscope.schedules import DiscreteVP, Schedule, as_time


@dataclass(frozen=True)
class BetweenSteps:
    """`denoiser`, with a `DiscreteVP` schedule, evaluated at the two whole steps around t, and for t < 1 at the first.

    Two function evaluations per call. Raises InputError for another schedule, or for a table of one step.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import BetweenSteps
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import DiscreteVP
    >>> normal = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), DiscreteVP((0.36, 0.75)))  # D = alpha x_t
    >>> round(BetweenSteps(normal)(torch.ones(1, 1), 1.25).item(), 6)  # 3/4 of 0.8 and 1/4 of 0.4
    0.7
    """

    denoiser: Denoiser

    def __post_init__(self) -> None:
        schedule = self.denoiser.schedule
        if not isinstance(schedule, DiscreteVP) or len(schedule.betas) < 2:
            given = type(schedule).__name__
            raise InputError(f"denoiser: expected a DiscreteVP schedule of 2 or more steps, got {given}")

    @property
    def schedule(self) -> Schedule:
        """The schedule of the table."""
        return self.denoiser.schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """D(x_t, t), linear in time between the steps."""
        times = as_time(t).clamp(1, self.schedule.t_max)
        step = times.floor().clamp_max(self.schedule.t_max - 1)
        earlier, later = self.denoiser(x_t, step), self.denoiser(x_t, step + 1)
        return torch.lerp(earlier, later, over_events(times - step, x_t))

r"""Clocks: from the time t of a schedule to the label with which a network was trained.

.. math::
    \text{ScheduleTime: } c\,t, \qquad
    \text{SignalTime: } c\,(1 - t), \qquad
    \text{StepIndex: } k - 1 + \text{first index at } t = k \in \{1, \dots, T\} .

Flow-matching code often counts time from noise to data, hence `SignalTime`, and often in thousandths, c = 1000. A DDPM
network indexes its T steps from 0, while step k of the chain is time t = k of `DiscreteVP` (t = 0 is clean data): index
0 is the state after *one* step of noise. Such a network is not defined at the times between steps.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.schedules import DiscreteVP, Schedule, Time, Times, as_time


@runtime_checkable
class Clock(Protocol):
    """Times of a schedule as labels of a network."""

    def label(self, t: Time) -> Tensor:
        """The label of the network at time `t`."""
        ...

    def nearest(self, t: Time) -> Times:
        """The trained time closest to `t`; `t` itself if the network was trained at all times."""
        ...


@dataclass(frozen=True)
class ScheduleTime:
    """The label is the schedule's own time, times `scale`."""

    scale: float = 1.0

    def label(self, t: Time) -> Tensor:
        return self.scale * as_time(t)

    def nearest(self, t: Time) -> Times:
        return as_time(t)


@dataclass(frozen=True)
class SignalTime:
    """The label runs from noise (0) to data (1, or `scale`)."""

    scale: float = 1.0

    def label(self, t: Time) -> Tensor:
        return self.scale * (1 - as_time(t))

    def nearest(self, t: Time) -> Times:
        return as_time(t)


@dataclass(frozen=True)
class StepIndex:
    """The label of step t = k = 1, ..., steps is k - 1 + `first_index`: 0 in most code, 1 where step k is called k.

    Every step has a label; `nearest` returns trained steps only, those from `first_trained` on.
    """

    steps: int
    first_trained: int = 1
    first_index: int = 0

    def label(self, t: Time) -> Tensor:
        """The int64 index; InputError for t farther than 1e-6 from an integer in 1..steps."""
        times = as_time(t)
        index = times.round()
        unknown = ~((times - index).abs() <= 1e-6) | (index < 1) | (index > self.steps)
        if bool(unknown.any()):
            raise InputError(
                f"t: this network knows the integer times 1..{self.steps} only, got {float(times[unknown][0])!r}; "
                "take `nearest_trained_time` first"
            )
        return (index - 1 + self.first_index).long()

    def nearest(self, t: Time) -> Times:
        return as_time(t).round().clamp(self.first_trained, self.steps)


def clock_of(schedule: Schedule) -> Clock:
    """The usual clock of a schedule: step indices for a discrete table, otherwise its own time."""
    return StepIndex(len(schedule.betas)) if isinstance(schedule, DiscreteVP) else ScheduleTime()

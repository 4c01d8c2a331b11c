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
    """Times of a schedule as labels of a network.

    >>> from diffuscope.denoisers import Clock, SignalTime
    >>> isinstance(SignalTime(), Clock)
    True
    """

    def label(self, t: Time) -> Tensor:
        """The label of the network at time `t`."""
        ...

    def nearest(self, t: Time) -> Times:
        """The trained time closest to `t`; `t` itself if the network was trained at all times."""
        ...


@dataclass(frozen=True)
class ScheduleTime:
    """The label is the schedule's own time, times `scale`.

    >>> from diffuscope.denoisers import ScheduleTime
    >>> clock = ScheduleTime(scale=1000.0)
    >>> float(clock.label(0.25)), float(clock.nearest(0.25))
    (250.0, 0.25)
    """

    scale: float = 1.0

    def label(self, t: Time) -> Tensor:
        return self.scale * as_time(t)

    def nearest(self, t: Time) -> Times:
        return as_time(t)


@dataclass(frozen=True)
class SignalTime:
    """The label runs from noise (0) to data (1, or `scale`).

    >>> from diffuscope.denoisers import SignalTime
    >>> clock = SignalTime(scale=1000.0)
    >>> float(clock.label(0.25)), float(clock.nearest(0.25))  # 1000 (1 - t), and t
    (750.0, 0.25)
    """

    scale: float = 1.0

    def label(self, t: Time) -> Tensor:
        return self.scale * (1 - as_time(t))

    def nearest(self, t: Time) -> Times:
        return as_time(t)


@dataclass(frozen=True)
class StepIndex:
    """The label of step t = k = 1, ..., steps is k - 1 + `first_index`: 0 in most code, 1 where step k is called k.

    Every step has a label; `nearest` returns trained steps only, those from `first_trained` on.

    >>> from diffuscope.denoisers import StepIndex
    >>> clock = StepIndex(steps=10, first_trained=3, first_index=1)
    >>> int(clock.label(7.0)), float(clock.nearest(6.8)), float(clock.nearest(0.4)), float(clock.nearest(12.0))
    (7, 7.0, 3.0, 10.0)
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
    """The usual clock of a schedule: step indices for a discrete table, otherwise its own time.

    >>> from diffuscope.denoisers import clock_of
    >>> from diffuscope.schedules import VP, DiscreteVP
    >>> clock_of(DiscreteVP.linear(steps=1000)), clock_of(VP())
    (StepIndex(steps=1000, first_trained=1, first_index=0), ScheduleTime(scale=1.0))
    """
    return StepIndex(len(schedule.betas)) if isinstance(schedule, DiscreteVP) else ScheduleTime()

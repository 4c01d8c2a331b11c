"""Denoisers whose answer is a point or a multiple of the state, at every level, and which keep what they were asked."""

from typing import Any

import torch
from torch import Tensor

from diffuscope.schedules import VE, Schedule


class Multiple:
    """D(x_t) = x_t times a number."""

    def __init__(self, factor: float, schedule: Schedule | None = None, **attributes: Any) -> None:
        self.factor, self.schedule = factor, schedule or VE(0.01, 50.0)
        self.asked = list[tuple[int, Any]]()  # how many states, and the times
        self.__dict__.update(attributes)

    def __call__(self, x_t: Tensor, t: Any) -> Tensor:
        self.asked.append((len(x_t), t))
        return self.factor * x_t


class Always(Multiple):
    """One point, whatever the state."""

    def __init__(self, *point: float, schedule: Schedule | None = None) -> None:
        super().__init__(0.0, schedule)
        self.point = torch.tensor(point, dtype=torch.float32)

    def __call__(self, x_t: Tensor, t: Any) -> Tensor:
        self.asked.append((len(x_t), t))
        return self.point.expand_as(x_t)

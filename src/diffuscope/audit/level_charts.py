"""Curves over noise levels with their intervals, and the axis that they share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from diffuscope.findings import Line, Mark, Panel, Rule, line

NOISE = "noise level σ/α"


@dataclass(frozen=True, eq=False)
class Curve:
    """A value per noise level and column (exact model or quantity), with its interval."""

    value: Float[ndarray, "levels columns"]
    low: Float[ndarray, "levels columns"]
    high: Float[ndarray, "levels columns"]

    def lines(self, ratios: Float[ndarray, " levels"], names: Sequence[str], unit: float = 1.0) -> list[Line]:
        """A line with its band for each column, multiplied by `unit` (100: percent)."""
        return [
            line(ratios.tolist(), value.tolist(), name, low=low.tolist(), high=high.tolist())
            for name, value, low, high in zip(
                names, *(unit * part.T for part in (self.value, self.low, self.high)), strict=True
            )
        ]

    def larger(self, other: "Curve") -> "Curve":
        """The larger of the two, value by value and end by end."""
        pairs = ((self.value, other.value), (self.low, other.low), (self.high, other.high))
        return Curve(*(np.maximum(a, b) for a, b in pairs))


def noise_panel(
    title: str,
    y_label: str,
    scale: float,
    *marks: Mark,
    y_log: bool = False,
    y_range: tuple[float, float] | None = None,
    x_label: str = NOISE,
) -> Panel:
    """A panel over the noise level, with a thin line at the standard deviation `scale` of the data."""
    return Panel(title, x_label, y_label, (*marks, Rule(scale, "x")), x_log=True, y_log=y_log, y_range=y_range)

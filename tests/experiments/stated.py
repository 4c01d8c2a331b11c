"""What docs/experiment_settings.md states: every constant of an experiment's file, and the bound of every claim.

A claim of a family has a * for the part of its name that varies, and a bound that is computed from the run an ellipsis.
"""

import math
import re
from dataclasses import dataclass, fields, is_dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from diffuscope.experiments import Answer, Experiment
from diffuscope.findings import Area, Chart, Claim, Intervals, Line

PAGE = Path(__file__).parents[2] / "docs" / "experiment_settings.md"
RUN = "…"


@dataclass(frozen=True)
class Stated:
    """The settings by name, as they are written, and the bounds in order."""

    settings: dict[str, str]
    bounds: list[tuple[str, str]]

    def of_claim(self, name: str) -> list[str]:
        """The bounds under this name, or under those of its families."""
        own = [bound for known, bound in self.bounds if known == name]
        return own or [bound for known, bound in self.bounds if fnmatchcase(name, known)]


@cache
def stated() -> dict[str, Stated]:
    """By the heading: an experiment, or a file that several share."""
    found = {}
    for heading, block in re.findall(
        r"^## ([^\n]*)\n\n```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.M | re.S
    ):
        rows = block.splitlines()
        settings = dict(row.split(" = ", 1) for row in rows if " = " in row)
        found[heading] = Stated(settings, [tuple(row.split(": ", 1)) for row in rows if " = " not in row])
    return found


def same(one: object, other: object) -> bool:
    """Equal, or of the same type with equal items or fields."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)  # type: ignore[arg-type]
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    if is_dataclass(one):
        return all(same(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if callable(one) and hasattr(one, "__qualname__"):
        return one.__qualname__ == getattr(other, "__qualname__", None)
    return one == other or (hasattr(one, "__dict__") and same(vars(one), vars(other)))


def check_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The claims and charts of every answer, as a test asks for it: stated bounds, and bands that hold their lines."""
    answer = Experiment.answer

    def checked(self: Experiment, name: str, seed: int = 0) -> Answer:
        found = answer(self, name, seed)
        known = stated().get(self.name)
        wrong = {c.name: b for c in found.claims if known and (b := misstated(c, known.of_claim(c.name)))}
        assert wrong == {}
        assert [place for chart in found.charts for place in outside_of_its_band(chart)] == []
        return found

    monkeypatch.setattr(Experiment, "answer", checked)


def misstated(claim: Claim, bounds: list[str]) -> list[str]:
    """The stated bounds, if none of them is the claim's."""
    return bounds if bounds and not any(_fits(claim, bound) for bound in bounds) else []


def _fits(claim: Claim, bound: str) -> bool:
    if " ± " not in bound:
        relation, _, number = bound.rpartition(" ")
        return claim.relation == relation and claim.required == float(number)
    pairs = zip((claim.required, claim.tolerance), bound.split(" ± "), strict=True)
    return claim.relation == "equals" and all(text == RUN or value == float(text) for value, text in pairs)


def outside_of_its_band(chart: Chart) -> list[str]:
    """The marks whose values leave their own band, up to rounding."""
    found = []
    for panel in chart.panels:
        for mark in panel.marks:
            low, high = (mark.low, mark.high) if isinstance(mark, (Line, Intervals, Area)) else ((), ())
            values = mark.y if isinstance(mark, Line) else mark.values if isinstance(mark, Intervals) else low
            rows = zip(low, values, high, strict=True) if low else ()
            if any(a - 1e-9 * abs(b) > b or b > c + 1e-9 * abs(b) for a, b, c in rows):
                found.append(f"{chart.title}: {panel.title}")
    return found


def misdrawn(chart: Chart) -> list[str]:
    """Lines of fewer than two points, with numbers that are not finite, or back and forth other than in the plane."""
    found = []
    for panel in chart.panels:
        for mark in panel.marks:
            if isinstance(mark, Line):
                x, ahead = list(mark.x), sorted(mark.x)
                finite = all(map(math.isfinite, (*mark.x, *mark.y, *mark.low, *mark.high)))
                if len(x) < 2 or not finite or not (panel.equal_scales or x in (ahead, ahead[::-1])):
                    found.append(f"{chart.title}: {panel.title}: {mark.label}")
    return found

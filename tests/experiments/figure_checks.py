"""What must hold of every figure of an experiment: bands hold their lines, lines are finite and go one way."""

import inspect
import math
from pathlib import Path

import pytest
from stated_bounds import unstated_in

from diffuscope.experiments import Answer, Experiment
from diffuscope.findings import Area, Chart, Intervals, Line


def check_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every answer, as a test asks for it: bands hold their lines, and bounds are round or stated."""
    answer = Experiment.answer

    def checked(self: Experiment, name: str, seed: int = 0) -> Answer:
        found = answer(self, name, seed)
        assert [place for chart in found.charts for place in outside_of_its_band(chart)] == []
        for part in self.parts:
            assert unstated_in(Path(inspect.getfile(part.answer))) == []
        return found

    monkeypatch.setattr(Experiment, "answer", checked)


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

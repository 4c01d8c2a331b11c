"""What must hold of every figure of an experiment: bands hold their lines, lines are finite and go one way."""

import inspect
import math
import re
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from stated_bounds import unstated_in

from chart_reading import marks_of
from diffuscope.experiments import Answer, Experiment
from diffuscope.findings import Area, Arrows, Bars, Chart, HeatMap, Intervals, Line, Panel, Points
from immutable import compares_other_than_its_fields, dataclasses_in, is_mutable


def check_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every answer, as a test asks for it: bands hold their lines, and axes suit them.

    Claims have words for names, and bounds that are round or stated. The dataclasses of experiments are frozen, and
    compare as their fields do. Where all claims hold, marks of a panel have names of their own, even steps are round,
    densities are those of what is drawn beside them, and the answer has numbers where it says so.
    """
    answer = Experiment.answer

    def checked(self: Experiment, name: str, seed: int = 0) -> Answer:
        found = answer(self, name, seed)
        wrong: list[object] = [place for chart in found.charts for place in outside_of_its_band(chart)]
        wrong += [place for chart in found.charts for place in unlike_its_axes(chart)]
        if all(claim.holds for claim in found.claims):
            wrong += [place for chart in found.charts for check in OF_SOUND_ANSWERS for place in check(chart)]
            wrong += re.findall(r"\bnan\b|\binf\b", found.text)
        wrong += [claim.name for claim in found.claims if " " in claim.name or not claim.name.isascii()]
        wrong += [bound for part in self.parts for bound in unstated_in(Path(inspect.getfile(part.answer)))]
        used = [module for name, module in sys.modules.items() if name.startswith("diffuscope.experiments.")]
        classes = [cls for module in used for cls in dataclasses_in(module)]
        wrong += [cls for cls in classes if is_mutable(cls) or compares_other_than_its_fields(cls)]
        assert not wrong, wrong
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


def of_one_name(chart: Chart) -> list[str]:
    """The panels in which two marks have one name."""
    names = [[mark.label for mark in panel.marks if getattr(mark, "label", "")] for panel in chart.panels]  # type: ignore[union-attr]
    return [
        f"{chart.title}: {panel.title}" for panel, of in zip(chart.panels, names, strict=True) if len({*of}) < len(of)
    ]


def of_odd_steps(chart: Chart) -> list[str]:
    """Even steps that are not round: neither the step, nor how many there are to a decade or in all."""
    found = []
    for panel in (panel for panel in chart.panels if panel.x_label):  # not of pictures
        series = [mark.x for mark in marks_of(panel, Line)]
        series += [mark.edges for mark in marks_of(panel, Bars)]
        series += [edges for mark in panel.marks if isinstance(mark, HeatMap) for edges in (mark.x_edges, mark.y_edges)]
        found += [f"{chart.title}: {panel.title}: {len(x)} steps" for x in series if len(x) > 10 and not _is_round(x)]
    return found


def _is_round(x: tuple[float, ...]) -> bool:
    """Whether the numbers are not even, or not between round ends, or have a round step or a round number of them."""
    if not all(math.isclose(end, float(f"{end:.4g}"), rel_tol=1e-6) for end in (x[0], x[-1])):
        return True
    if (len(x) - 1) % 5 == 0 or (len(x) + 1) % 5 == 0 or len(x) % 8 == 0 or (len(x) - 1) % 8 == 0:
        return True
    steps = [b - a for a, b in pairwise(x)]
    if max(steps) - min(steps) < 1e-5 * abs(steps[0]):
        return math.isclose(steps[0], float(f"{steps[0]:.4g}"), rel_tol=1e-6)
    ratios = [math.log10(b / a) for a, b in pairwise(x)] if min(x) > 0 else [0.0, 1.0]
    if max(ratios) - min(ratios) < 1e-5 * abs(ratios[0]):
        return math.isclose(1 / ratios[0], round(1 / ratios[0]), rel_tol=1e-4)
    return True


def unlike_a_density(chart: Chart) -> list[str]:
    """Densities with more than all of the mass, and histograms that no curve beside them follows."""
    found = []
    for panel in chart.panels:
        lines = marks_of(panel, Line)
        if panel.y_label != "density" or panel.y_log:
            continue
        found += [f"{panel.title}: {line.label}" for line in lines if abs(_integral(line)) > 1.02]
        for bars in (mark for mark in marks_of(panel, Bars)):
            off = [sum(abs(h - _at(line, (a + b) / 2)) * (b - a) for a, b, h in _cells(bars)) for line in lines]
            if off and min(off) > 0.25:
                found.append(f"{chart.title}: {panel.title}: {bars.label}")
    return found


def _integral(line: Line) -> float:
    return sum((b - a) * (u + v) / 2 for (a, u), (b, v) in pairwise(zip(line.x, line.y, strict=True)))


def _cells(bars: Bars) -> list[tuple[float, float, float]]:
    """Both ends and the height of every bar."""
    return [(*ends, height) for ends, height in zip(pairwise(bars.edges), bars.heights, strict=True)]


def _at(line: Line, x: float) -> float:
    """The height of the line at x."""
    places, heights = zip(*sorted(zip(line.x, line.y, strict=True)), strict=True)
    return float(np.interp(x, places, heights))


OF_SOUND_ANSWERS = (of_one_name, of_odd_steps, unlike_a_density)


def unlike_its_axes(chart: Chart) -> list[str]:
    """The panels whose axes are not those of what they show.

    Values of lines lie more evenly on their horizontal axis than they would on one of the other kind, but for counts
    from one on and the time of a training. Planes, and pictures without labels, have equal scales. Panels side by side
    of one quantity have one vertical axis, unless their values are apart.
    """
    found = []
    for panel in chart.panels:
        if panel.equal_scales != _is_plane(panel):
            found.append(f"{chart.title}: {panel.title}: scales")
        lines = [sorted({*mark.x}) for mark in marks_of(panel, Line)]
        counted = [[x[0] + k for k in range(len(x))] for x in lines]
        wide = [x for x, n in zip(lines, counted, strict=True) if len(x) > 3 and x != n and x[-1] > 5 * x[0] > 0]
        free = panel.equal_scales or panel.x_label.startswith("training time")
        if not free and any(_less_even(x, logarithmic=panel.x_log) for x in wide):
            found.append(f"{chart.title}: {panel.title}: horizontal axis")
    first, *others = chart.panels
    alike = all((panel.y_label, panel.y_log) == (first.y_label, first.y_log) for panel in others)
    apart = [_heights(panel) for panel in sorted(chart.panels, key=_heights)]
    free = first.y_label in ("", "y") or (alike and any(a[1] < b[0] for a, b in pairwise(apart)))
    if others and not free and chart.shared_y != alike:
        found.append(f"{chart.title}: vertical axis")
    return found


def _heights(panel: Panel) -> tuple[float, float]:
    """The least and the largest value of its lines."""
    y = [value for mark in panel.marks if isinstance(mark, Line) for value in mark.y]
    return (min(y), max(y)) if y else (-math.inf, math.inf)


def _is_plane(panel: Panel) -> bool:
    """One unit of one axis is one of the other."""
    if not panel.x_label and not panel.y_label:
        return all(isinstance(mark, Line | Points | HeatMap | Arrows | Area) for mark in panel.marks)
    both = panel.x_label, panel.y_label
    return both == ("x", "y") or (panel.equal_scales and all(label.startswith("share of ") for label in both))


def _less_even(x: list[float], *, logarithmic: bool) -> bool:
    """Whether the sorted values are nearer to even steps, from end to end, on the other kind of axis."""
    linear, in_logarithms = _unevenness(x), _unevenness([math.log(value) for value in x])
    return linear < in_logarithms if logarithmic else in_logarithms < linear


def _unevenness(x: list[float]) -> float:
    """Mean distance from even steps between the same ends, as a share of the way."""
    even = [x[0] + (x[-1] - x[0]) * k / (len(x) - 1) for k in range(len(x))]
    return sum(abs(a - b) for a, b in zip(x, even, strict=True)) / len(x) / (x[-1] - x[0])

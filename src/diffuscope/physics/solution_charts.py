"""What a solution looks like: maps of every channel, calibration, and how the samples fit the readings."""

import torch
from torch import Tensor

from diffuscope.findings import Chart, Mark, Panel, Rule, area, density_bars, heat_map, line, points
from diffuscope.findings.numbers import number

from .grid import Grid
from .sensors import axis_names
from .solution import Solution
from .solution_moments import LEVELS

SAMPLES = 3  # drawn
WIDEST = 4  # panels side by side
TICKS = 25


def maps(found: Solution) -> tuple[Chart, ...]:
    """One chart per channel."""
    draw = _curves if found.problem.equation.grid.axes == 1 else _planes
    return tuple(draw(found, k) for k in range(len(found.problem.channels)))


def _curves(found: Solution, k: int) -> Chart:
    grid, name = found.problem.equation.grid, found.problem.channels[k]
    x = grid.along(0)
    marks: list[Mark] = []
    if found.moments is not None:
        m = found.moments
        marks.append(line(x, m.mean[k], "mean and 90% interval", low=m.low[k], high=m.high[k]))
    at = found.sensors.channels == k
    if bool(at.any()):
        marks.append(points(found.sensors.points[at, 0], found.sensors.values[at], "readings"))
    for i in range(min(SAMPLES, len(found.samples))):
        marks.append(line(x, found.samples[i, k], "samples" if i == 0 else "", style="dotted"))
    if found.truth is not None:
        marks.append(line(x, found.truth[k], "truth", style="dashed"))
    axis = labeled(found, axis_names(found.problem)[0])
    return Chart(
        f"The {name}", (Panel("", axis, labeled(found, name), tuple(marks)),),
        _how(found) + " The band holds the field at every point with probability 90%."
        if found.has_intervals
        else "Samples of the few fields that agree with the readings: not enough for an interval.",
    )  # fmt: skip


def _planes(found: Solution, k: int) -> Chart:
    problem, name = found.problem, found.problem.channels[k]
    grid = problem.equation.grid
    at = found.sensors.points[found.sensors.channels == k]
    shown: list[tuple[str, Tensor]] = [("sample", found.samples[0, k]), ("another", found.samples[1, k])]
    if found.truth is not None:
        shown = [("truth", found.truth[k]), shown[0]]
    if found.moments is not None:
        shown = [("mean", found.moments.mean[k]), *shown]
    scale = min(float(v.min()) for _, v in shown), max(float(v.max()) for _, v in shown)
    panels = [_plane(found, grid, title, values, scale, at) for title, values in shown]
    unit = unit_of(found, name)
    words = f"The {name}: {number(scale[0])} (light) to {number(scale[1])} (dark){' ' + unit if unit else ''}"
    if found.moments is not None:
        two = _two_valued(found, k)
        spread = found.moments.sd[k] if two else (found.moments.high[k] - found.moments.low[k]) / 2
        own = float(spread.min()), float(spread.max())
        panels.insert(1, _plane(found, grid, "deviation" if two else "half-width", spread, own, at))
        what = "standard deviation" if two else "half-width of the 90% interval"
        words += f"; {what} up to {number(own[1])}"
    where = "Points are where it was read." if len(at) else (
        "It was not read anywhere: what is known of it comes through the equation."
    )  # fmt: skip
    return Chart(
        words, tuple(panels[:WIDEST]),
        f"{where} The panel of the uncertainty has colors of its own, from its least to its largest value; the others "
        "share theirs.",
        shared_y=True,
    )  # fmt: skip


def _two_valued(found: Solution, k: int) -> bool:
    """Whether the prior gives this channel two values: a medium of two phases, whose intervals are all or nothing."""
    return found.prior.fields is not None and len(found.prior.fields[:50, k].unique()) == 2


def _plane(found: Solution, grid: Grid, title: str, values: Tensor, scale: tuple[float, float], at: Tensor) -> Panel:
    # the second coordinate upward; for fields in time, time upward and space to the right
    across, up = (0, 1) if found.problem.joint else (1, 0)
    names = axis_names(found.problem)
    edges = [_edges(grid, axis) for axis in (across, up)]
    rows = values.T if across == 0 else values
    low, high = scale
    marks: list[Mark] = [heat_map(edges[0], edges[1], rows, color_range=(low, high if high > low else low + 1e-300))]
    if len(at):
        marks.append(points(at[:, across], at[:, up]))
    limits = [(float(e[0]), float(e[-1])) for e in edges]
    return Panel(
        title, labeled(found, names[across]), labeled(found, names[up]), tuple(marks), x_range=limits[0],
        y_range=limits[1], equal_scales=True,
    )  # fmt: skip


def _edges(grid: Grid, axis: int) -> Tensor:
    x, h = grid.along(axis), grid.spacing[axis]
    return torch.cat([x - h / 2, x[-1:] + h / 2])


def calibration_chart(found: Solution) -> Chart | None:
    """Coverage against level, and the evidence of the readings among that of simulated ones."""
    calibration = found.calibration
    if calibration is None:
        return None
    level = torch.tensor(LEVELS, dtype=torch.float64)
    marks: list[Mark] = [line([0, 1], [0, 1], "calibrated", style="dashed")]
    for k, name in enumerate(found.problem.channels):
        c, e = calibration.coverage[k], calibration.error[k]
        if bool(c.isfinite().all()) and bool(e.isfinite().all()):
            marks.append(line(level, c, name, low=(c - 2 * e).clamp(0, 1), high=(c + 2 * e).clamp(0, 1)))
    panels = [Panel("Intervals", "level of the interval", "share that holds the truth", tuple(marks))]
    if found.log_evidence is not None:
        evidence = calibration.log_evidence
        low = min(float(evidence.quantile(0.005)), found.log_evidence)
        high = max(float(evidence.max()), found.log_evidence)
        low = max(low, high - 20 * max(float(high - evidence.quantile(0.05)), 1e-9))
        edges = torch.linspace(low, high + 1e-9 + 0.02 * (high - low), 25, dtype=torch.float64)
        here = max(found.log_evidence, low)
        bars = density_bars(evidence, edges, "simulated readings")
        panels.append(
            Panel("Readings", "log evidence under the prior", "density", (bars, Rule(here, "x", label="your readings")))
        )
    return Chart(
        "Calibration", tuple(panels),
        "Left: for fields of the prior's generator, read by the same sensors, how often the interval of each "
        "level holds the truth; bands are two standard errors. Right: how probable the readings are under the prior, "
        "beside readings simulated from it; far to the left, prior and data disagree."
        + (" Intervals of a channel of two values hold more than they must." if any(
            _two_valued(found, k) for k in range(len(found.problem.channels))
        ) else ""),
    )  # fmt: skip


def fit_chart(found: Solution) -> Chart | None:
    """The readings less the posterior mean, over their noise."""
    noisy = found.sensors.noise > 0
    if not bool(noisy.any()):
        return None
    observation, y = found.sensors.noisy(found.problem)
    read = observation(found.samples)
    off = y - read
    index = torch.arange(1, len(y) + 1, dtype=torch.float64)
    mean, spread = off.mean(0), off.std(0)
    marks: list[Mark] = [Rule(0.0), Rule(2.0), Rule(-2.0)]
    marks += [area(index, mean - 2 * spread, mean + 2 * spread), points(index, mean)]
    ticks = tuple(range(1, len(y) + 1)) if len(y) <= TICKS else ()
    return Chart(
        "Readings less samples",
        (Panel("", "reading", "standard deviations of the noise", tuple(marks), x_ticks=ticks),),
        "For every reading its difference from the samples: their mean, and a band of two standard deviations over the "
        "samples. Most points should lie within the lines at 2 and -2.",
    )  # fmt: skip


def unit_of(found: Solution, name: str) -> str:
    """The unit that the file states for a column."""
    return dict(found.sensors.units).get(name, "")


def labeled(found: Solution, name: str) -> str:
    """The name with its unit, if known."""
    unit = unit_of(found, name)
    return f"{name} ({unit})" if unit else name


def _how(found: Solution) -> str:
    return "The truth behind the example is dashed." if found.truth is not None else "Dotted lines are samples."

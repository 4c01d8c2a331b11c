"""Figures as data: what an experiment shows, before anyone draws it.

A `Chart` is a row of `Panel`s, each two axes and the marks between them. `report` draws them; their numbers go into
result.json as they are, so that a reader can draw them again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Real
from torch import Tensor

from diffuscope.errors import InputError

Numbers = Sequence[float | int] | Real[Tensor, " _"]
Series = tuple[float, ...]
Range = tuple[float | int, float | int]


def series(values: Numbers) -> Series:
    """The numbers as plain floats."""
    return tuple(torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist())


@dataclass(frozen=True)
class Line:
    """y(x), over a band from `low` to `high` where they are given; a dashed or dotted line is a reference."""

    x: Series
    y: Series
    label: str = ""
    style: Literal["solid", "dashed", "dotted"] = "solid"
    low: Series = ()
    high: Series = ()


@dataclass(frozen=True)
class Points:
    """A scatter of single points."""

    x: Series
    y: Series
    label: str = ""


@dataclass(frozen=True)
class Bars:
    """Heights over the edges of cells, one edge more than heights: a histogram as a filled staircase."""

    edges: Series
    heights: Series
    label: str = ""


@dataclass(frozen=True)
class Groups:
    """Bars side by side, group by group: `heights[k][i]` is of the series `labels[k]` in the group `names[i]`."""

    names: tuple[str, ...]
    labels: tuple[str, ...]
    heights: tuple[Series, ...]


@dataclass(frozen=True)
class HeatMap:
    """Rows of values over rectangular cells: `values[j][i]` lies between edges i, i + 1 of x and j, j + 1 of y."""

    x_edges: Series
    y_edges: Series
    values: tuple[Series, ...]


@dataclass(frozen=True)
class Arrows:
    """A field: an arrow from every (x, y) to (x + dx, y + dy), in the units of the axes."""

    x: Series
    y: Series
    dx: Series
    dy: Series
    label: str = ""


@dataclass(frozen=True)
class Area:
    """The filled region between `low` and `high` over x."""

    x: Series
    low: Series
    high: Series
    label: str = ""


@dataclass(frozen=True)
class Cells:
    """A matrix with named rows, the first on top, and named columns: `values[j][i]`, colored over `color_range`."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[Series, ...]
    color_range: Range


@dataclass(frozen=True)
class Intervals:
    """One point with its interval per name, the names along the vertical axis, the first on top."""

    names: tuple[str, ...]
    values: Series
    low: Series
    high: Series


@dataclass(frozen=True)
class Rule:
    """A reference at one place of an axis across the whole panel; with a `width`, a band centered there."""

    at: float | int
    axis: Literal["x", "y"] = "y"
    width: float | int = 0.0
    label: str = ""


Mark = Line | Points | Bars | Groups | HeatMap | Arrows | Area | Cells | Intervals | Rule


@dataclass(frozen=True)
class Panel:
    """Two axes and what stands between them. Ranges are (low, high), or None for what the marks need."""

    title: str
    x_label: str
    y_label: str
    marks: tuple[Mark, ...]
    x_log: bool = False
    y_log: bool = False
    x_range: Range | None = None
    y_range: Range | None = None
    equal_scales: bool = False  # a plane: one unit is as long on both axes
    x_ticks: tuple[float | int, ...] = ()  # where the horizontal axis is marked, if not at round numbers


@dataclass(frozen=True)
class Chart:
    """Panels side by side under one caption, `how_to_read` below it."""

    title: str
    panels: tuple[Panel, ...]
    how_to_read: str
    shared_y: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not self.panels or not all(panel.marks for panel in self.panels):
            raise InputError(f"panels: expected at least one panel, each with a mark, in chart {self.title!r}")


def line(
    x: Numbers,
    y: Numbers,
    label: str = "",
    *,
    style: Literal["solid", "dashed", "dotted"] = "solid",
    low: Numbers = (),
    high: Numbers = (),
) -> Line:
    """A `Line` from tensors or sequences of one length; InputError for others."""
    made = Line(series(x), series(y), label, style, series(low), series(high))
    lengths = {len(made.x), len(made.y)} | ({len(made.low), len(made.high)} if made.low or made.high else set())
    if len(lengths) > 1:
        raise InputError(f"line {label!r}: expected x, y, low and high of one length, got lengths {sorted(lengths)}")
    return made


def points(x: Numbers, y: Numbers, label: str = "") -> Points:
    """`Points` from tensors or sequences of one length; InputError for others."""
    made = Points(series(x), series(y), label)
    if len(made.x) != len(made.y):
        raise InputError(f"points {label!r}: expected x and y of one length, got {len(made.x)} and {len(made.y)}")
    return made


def arrows(x: Numbers, y: Numbers, dx: Numbers, dy: Numbers, label: str = "") -> Arrows:
    """`Arrows` from tensors or sequences of one length; InputError for others."""
    made = Arrows(series(x), series(y), series(dx), series(dy), label)
    lengths = [len(made.x), len(made.y), len(made.dx), len(made.dy)]
    if len(set(lengths)) > 1:
        raise InputError(f"arrows {label!r}: expected x, y, dx and dy of one length, got lengths {lengths}")
    return made


def density_bars(values: Numbers, edges: Numbers, label: str = "") -> Bars:
    """The histogram of `values` as a density: counts / (number of values x width); values outside are counted too."""
    sample, cells = torch.as_tensor(series(values)).double(), torch.as_tensor(series(edges)).double()
    if len(sample) == 0 or len(cells) < 2 or not bool((cells.diff() > 0).all()):
        raise InputError(f"bars {label!r}: expected values, and at least two edges that increase")
    counts = torch.histogram(sample, cells).hist
    return Bars(series(cells), series(counts / (len(sample) * cells.diff())), label)


def groups(names: Sequence[str], heights: dict[str, Numbers]) -> Groups:
    """`Groups` from the heights of every label, one per name; InputError for another number of heights."""
    found = tuple(series(values) for values in heights.values())
    if any(len(values) != len(names) for values in found):
        raise InputError(f"groups: expected {len(names)} heights per label, got {[len(values) for values in found]}")
    return Groups(tuple(names), tuple(heights), found)


def heat_map(x_edges: Numbers, y_edges: Numbers, values: Real[Tensor, "rows columns"]) -> HeatMap:
    """A `HeatMap` from a matrix; NaN is a cell without a value. InputError unless there is one edge more than cells."""
    made = HeatMap(series(x_edges), series(y_edges), tuple(map(series, values)))
    if values.shape != (len(made.y_edges) - 1, len(made.x_edges) - 1):
        cells = (len(made.y_edges) - 1, len(made.x_edges) - 1)
        raise InputError(f"values: expected {cells} rows and columns between the edges, got {tuple(values.shape)}")
    return made


def area(x: Numbers, low: Numbers, high: Numbers, label: str = "") -> Area:
    """An `Area` from tensors or sequences of one length; InputError for others."""
    made = Area(series(x), series(low), series(high), label)
    if not len(made.x) == len(made.low) == len(made.high):
        lengths = [len(made.x), len(made.low), len(made.high)]
        raise InputError(f"area {label!r}: expected x, low and high of one length, got lengths {lengths}")
    return made


def cells(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Real[Tensor, "rows columns"],
    *,
    color_range: Range,
) -> Cells:
    """`Cells` from a matrix; NaN is an empty cell. InputError unless there is a name for every row and column."""
    if values.shape != (len(rows), len(columns)):
        raise InputError(f"values: expected {len(rows)} rows and {len(columns)} columns, got {tuple(values.shape)}")
    return Cells(tuple(rows), tuple(columns), tuple(map(series, values)), color_range)


def intervals(estimates: Mapping[str, tuple[float | int, float | int, float | int]]) -> Intervals:
    """`Intervals` from (value, low, high) by name."""
    values, low, high = (tuple(float(triple[k]) for triple in estimates.values()) for k in range(3))
    return Intervals(tuple(estimates), values, low, high)

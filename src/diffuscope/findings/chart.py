"""Figures as data.

A `Chart` is a row of `Panel`s, each with two axes and the marks between them. `report` draws charts, and their numbers
are saved as JSON, so that a reader can draw them again.
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
    """The numbers as plain floats, in float64.

    >>> series([1, 2])
    (1.0, 2.0)
    """
    return tuple(torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist())


@dataclass(frozen=True)
class Line:
    """y(x), with a band from `low` to `high` if given; a dashed or dotted line is a reference."""

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
    """Heights over the cells between `edges`, one more than heights: a histogram as a filled staircase."""

    edges: Series
    heights: Series
    label: str = ""


@dataclass(frozen=True)
class Groups:
    """Grouped bars: `heights[k][i]` is the height of the series `labels[k]` in the group `names[i]`."""

    names: tuple[str, ...]
    labels: tuple[str, ...]
    heights: tuple[Series, ...]


@dataclass(frozen=True)
class HeatMap:
    """Values over rectangular cells: `values[j][i]` lies between the edges i, i + 1 of x and j, j + 1 of y.

    Colored over `color_range`, by default the range of the values.
    """

    x_edges: Series
    y_edges: Series
    values: tuple[Series, ...]
    color_range: Range | None = None


@dataclass(frozen=True)
class Arrows:
    """A vector field: an arrow from every (x, y) to (x + dx, y + dy), in the units of the axes."""

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
    """One value with its interval per name, the names along the vertical axis, the first on top."""

    names: tuple[str, ...]
    values: Series
    low: Series
    high: Series


@dataclass(frozen=True)
class Rule:
    """A reference line across the panel at one place of an axis; with a `width`, a band centered there."""

    at: float | int
    axis: Literal["x", "y"] = "y"
    width: float | int = 0.0
    label: str = ""


Mark = Line | Points | Bars | Groups | HeatMap | Arrows | Area | Cells | Intervals | Rule


@dataclass(frozen=True)
class Panel:
    """Two axes and the marks between them. Ranges are (low, high), or None to fit the marks."""

    title: str
    x_label: str
    y_label: str
    marks: tuple[Mark, ...]
    x_log: bool = False
    y_log: bool = False
    x_range: Range | None = None
    y_range: Range | None = None
    equal_scales: bool = False  # one unit is equally long on both axes
    x_ticks: tuple[float | int, ...] = ()  # of the horizontal axis; empty for round numbers


@dataclass(frozen=True)
class Chart:
    """Panels side by side with a caption and a paragraph `how_to_read`; InputError for a panel without marks."""

    title: str
    panels: tuple[Panel, ...]
    how_to_read: str
    shared_y: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not self.panels or not all(panel.marks for panel in self.panels):
            raise InputError(f"panels: expected at least one panel, each with a mark, in chart {self.title!r}")


def _require_one_length(mark: str, label: str, **columns: Series) -> None:
    lengths = [len(column) for column in columns.values()]
    if len(set(lengths)) > 1:
        names = f"{', '.join([*columns][:-1])} and {[*columns][-1]}"
        raise InputError(f"{mark} {label!r}: expected {names} of one length, got lengths {lengths}")


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
    band = {"low": made.low, "high": made.high} if made.low or made.high else {}
    _require_one_length("line", label, x=made.x, y=made.y, **band)
    return made


def points(x: Numbers, y: Numbers, label: str = "") -> Points:
    """`Points` from tensors or sequences of one length; InputError for others."""
    made = Points(series(x), series(y), label)
    _require_one_length("points", label, x=made.x, y=made.y)
    return made


def arrows(x: Numbers, y: Numbers, dx: Numbers, dy: Numbers, label: str = "") -> Arrows:
    """`Arrows` from tensors or sequences of one length; InputError for others."""
    made = Arrows(series(x), series(y), series(dx), series(dy), label)
    _require_one_length("arrows", label, x=made.x, y=made.y, dx=made.dx, dy=made.dy)
    return made


def density_bars(values: Numbers, edges: Numbers, label: str = "") -> Bars:
    """The histogram of `values` as a density: counts / (number of values x width).

    Values outside the edges count in the number of values. Raises InputError without values, for fewer than two edges,
    and for edges that do not increase.
    """
    sample, bounds = (torch.tensor(series(numbers), dtype=torch.float64) for numbers in (values, edges))
    if len(sample) == 0 or len(bounds) < 2 or not bool((bounds.diff() > 0).all()):
        raise InputError(f"bars {label!r}: expected values, and at least two edges that increase")
    counts = torch.histogram(sample, bounds).hist
    return Bars(series(bounds), series(counts / (len(sample) * bounds.diff())), label)


def groups(names: Sequence[str], heights: Mapping[str, Numbers]) -> Groups:
    """`Groups` from the heights of every label, one per name; InputError for another number of heights."""
    columns = tuple(series(values) for values in heights.values())
    if any(len(column) != len(names) for column in columns):
        raise InputError(f"groups: expected {len(names)} heights per label, got {[len(column) for column in columns]}")
    return Groups(tuple(names), tuple(heights), columns)


def heat_map(
    x_edges: Numbers, y_edges: Numbers, values: Real[Tensor, "rows columns"], *, color_range: Range | None = None
) -> HeatMap:
    """A `HeatMap` from a matrix; NaN is an empty cell. InputError unless there is one edge more than cells."""
    made = HeatMap(series(x_edges), series(y_edges), tuple(map(series, values)), color_range)
    shape = (len(made.y_edges) - 1, len(made.x_edges) - 1)
    if values.shape != shape:
        raise InputError(f"values: expected {shape} rows and columns between the edges, got {tuple(values.shape)}")
    return made


def area(x: Numbers, low: Numbers, high: Numbers, label: str = "") -> Area:
    """An `Area` from tensors or sequences of one length; InputError for others."""
    made = Area(series(x), series(low), series(high), label)
    _require_one_length("area", label, x=made.x, low=made.low, high=made.high)
    return made


def cells(
    rows: Sequence[str], columns: Sequence[str], values: Real[Tensor, "rows columns"], *, color_range: Range
) -> Cells:
    """`Cells` from a matrix; NaN is an empty cell. InputError unless there is a name for every row and column."""
    if values.shape != (len(rows), len(columns)):
        raise InputError(f"values: expected {len(rows)} rows and {len(columns)} columns, got {tuple(values.shape)}")
    return Cells(tuple(rows), tuple(columns), tuple(map(series, values)), color_range)


def intervals(estimates: Mapping[str, tuple[float | int, float | int, float | int]]) -> Intervals:
    """`Intervals` from (value, low, high) by name."""
    values, low, high = (tuple(float(triple[k]) for triple in estimates.values()) for k in range(3))
    return Intervals(tuple(estimates), values, low, high)

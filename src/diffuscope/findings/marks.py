"""Marks of a chart from tensors or sequences of numbers, their lengths checked."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Real
from torch import Tensor

from diffuscope.errors import InputError

from .chart import Area, Arrows, Bars, Cells, Groups, HeatMap, Intervals, Line, Points, Range, Series

Numbers = Sequence[float | int] | Real[Tensor, " _"]


def series(values: Numbers) -> Series:
    """The numbers as plain floats, in float64.

    >>> import torch
    >>> from diffuscope.findings import series
    >>> series(torch.tensor([1, 2])), series([0.5])
    ((1.0, 2.0), (0.5,))
    """
    return tuple(torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist())


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
    """A `Line` from tensors or sequences of one length; InputError for others.

    >>> from diffuscope.findings import line
    >>> line([1, 2], [3], "mean")
    Traceback (most recent call last):
    diffuscope.errors.InputError: line 'mean': expected x and y of one length, got lengths [2, 1]
    """
    made = Line(series(x), series(y), label, style, series(low), series(high))
    band = {"low": made.low, "high": made.high} if made.low or made.high else {}
    _require_one_length("line", label, x=made.x, y=made.y, **band)
    return made


def points(x: Numbers, y: Numbers, label: str = "") -> Points:
    """`Points` from tensors or sequences of one length; InputError for others.

    >>> import torch
    >>> from diffuscope.findings import points
    >>> points(torch.tensor([1, 2]), [3, 5]).y
    (3.0, 5.0)
    """
    made = Points(series(x), series(y), label)
    _require_one_length("points", label, x=made.x, y=made.y)
    return made


def arrows(x: Numbers, y: Numbers, dx: Numbers, dy: Numbers, label: str = "") -> Arrows:
    """`Arrows` from tensors or sequences of one length; InputError for others.

    >>> from diffuscope.findings import arrows
    >>> arrows([1], [2], dx=[0.5], dy=[-0.25]).dy
    (-0.25,)
    """
    made = Arrows(series(x), series(y), series(dx), series(dy), label)
    _require_one_length("arrows", label, x=made.x, y=made.y, dx=made.dx, dy=made.dy)
    return made


def density_bars(values: Numbers, edges: Numbers, label: str = "") -> Bars:
    """The histogram of `values` as a density: counts / (number of values x width).

    Values outside the edges count in the number of values. Raises InputError without values, for fewer than two edges,
    and for edges that do not increase.

    >>> from diffuscope.findings import density_bars
    >>> density_bars([0.1, 0.2, 0.7, 5.0], [0, 0.5, 1.5]).heights  # 2 / (4 * 0.5), 1 / (4 * 1)
    (1.0, 0.25)
    """
    sample, bounds = (torch.tensor(series(numbers), dtype=torch.float64) for numbers in (values, edges))
    if len(sample) == 0 or len(bounds) < 2 or not bool((bounds.diff() > 0).all()):
        raise InputError(f"bars {label!r}: expected values, and at least two edges that increase")
    counts = torch.histogram(sample, bounds).hist
    return Bars(series(bounds), series(counts / (len(sample) * bounds.diff())), label)


def groups(names: Sequence[str], heights: Mapping[str, Numbers]) -> Groups:
    """`Groups` from the heights of every label, one per name; InputError for another number of heights.

    >>> from diffuscope.findings import groups
    >>> groups(["digits", "faces"], {"before": [1, 2], "after": [3]})
    Traceback (most recent call last):
    diffuscope.errors.InputError: groups: expected 2 heights per label, got [2, 1]
    """
    columns = tuple(series(values) for values in heights.values())
    if any(len(column) != len(names) for column in columns):
        raise InputError(f"groups: expected {len(names)} heights per label, got {[len(column) for column in columns]}")
    return Groups(tuple(names), tuple(heights), columns)


def heat_map(
    x_edges: Numbers, y_edges: Numbers, values: Real[Tensor, "rows columns"], *, color_range: Range | None = None
) -> HeatMap:
    """A `HeatMap` from a matrix; NaN is an empty cell. InputError unless there is one edge more than cells.

    >>> import torch
    >>> from diffuscope.findings import heat_map
    >>> heat_map([0, 1, 3], [0, 2, 5], torch.tensor([[1, 2]]))
    Traceback (most recent call last):
    diffuscope.errors.InputError: values: expected (2, 2) rows and columns between the edges, got (1, 2)
    """
    made = HeatMap(series(x_edges), series(y_edges), tuple(map(series, values)), color_range)
    shape = (len(made.y_edges) - 1, len(made.x_edges) - 1)
    if values.shape != shape:
        raise InputError(f"values: expected {shape} rows and columns between the edges, got {tuple(values.shape)}")
    return made


def area(x: Numbers, low: Numbers, high: Numbers, label: str = "") -> Area:
    """An `Area` from tensors or sequences of one length; InputError for others.

    >>> from diffuscope.findings import area
    >>> area([0, 2], [1], [3, 6], "support")
    Traceback (most recent call last):
    diffuscope.errors.InputError: area 'support': expected x, low and high of one length, got lengths [2, 1, 2]
    """
    made = Area(series(x), series(low), series(high), label)
    _require_one_length("area", label, x=made.x, low=made.low, high=made.high)
    return made


def cells(
    rows: Sequence[str], columns: Sequence[str], values: Real[Tensor, "rows columns"], *, color_range: Range
) -> Cells:
    """`Cells` from a matrix; NaN is an empty cell. InputError unless there is a name for every row and column.

    >>> import torch
    >>> from diffuscope.findings import cells
    >>> cells(["real", "copied"], ["a", "b", "c"], torch.ones(3, 2), color_range=(0, 1))
    Traceback (most recent call last):
    diffuscope.errors.InputError: values: expected 2 rows and 3 columns, got (3, 2)
    """
    if values.shape != (len(rows), len(columns)):
        raise InputError(f"values: expected {len(rows)} rows and {len(columns)} columns, got {tuple(values.shape)}")
    return Cells(tuple(rows), tuple(columns), tuple(map(series, values)), color_range)


def intervals(estimates: Mapping[str, tuple[float | int, float | int, float | int]]) -> Intervals:
    """`Intervals` from (value, low, high) by name.

    >>> from diffuscope.findings import intervals
    >>> intervals({"recall": (0.5, 0.25, 0.625)})
    Intervals(names=('recall',), values=(0.5,), low=(0.25,), high=(0.625,))
    """
    values, low, high = (tuple(float(triple[k]) for triple in estimates.values()) for k in range(3))
    return Intervals(tuple(estimates), values, low, high)

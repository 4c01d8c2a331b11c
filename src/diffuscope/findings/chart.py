"""Figures as data.

A `Chart` is a row of `Panel`s, each with two axes and the marks between them. `report` draws charts, and their numbers
are saved as JSON, so that a reader can draw them again.
"""

from dataclasses import dataclass, field
from typing import Literal

from diffuscope.errors import InputError

Series = tuple[float, ...]
Range = tuple[float | int, float | int]


@dataclass(frozen=True)
class Line:
    """y(x), with a band from `low` to `high` if given; a dashed or dotted line is a reference.

    >>> from diffuscope.findings import line
    >>> curve = line([1, 2], [3, 5], "mean", low=[2.5, 4], high=[3.5, 6])
    >>> [high - low for low, high in zip(curve.low, curve.high)]
    [1.0, 2.0]
    """

    x: Series
    y: Series
    label: str = ""
    style: Literal["solid", "dashed", "dotted"] = "solid"
    low: Series = ()
    high: Series = ()


@dataclass(frozen=True)
class Points:
    """A scatter of single points.

    >>> from diffuscope.findings import Points
    >>> scatter = Points(x=(1.0, 2.0), y=(3.0, 5.0), label="runs")
    >>> list(zip(scatter.x, scatter.y))
    [(1.0, 3.0), (2.0, 5.0)]
    """

    x: Series
    y: Series
    label: str = ""


@dataclass(frozen=True)
class Bars:
    """Heights over the cells between `edges`, one more than heights: a histogram as a filled staircase.

    >>> from diffuscope.findings import density_bars
    >>> bars = density_bars([0.1, 0.2, 0.7, 5.0], [0, 0.5, 1.5])
    >>> sum(h * (b - a) for h, a, b in zip(bars.heights, bars.edges, bars.edges[1:]))  # 3 of 4 are within
    0.75
    """

    edges: Series
    heights: Series
    label: str = ""


@dataclass(frozen=True)
class Groups:
    """Grouped bars: `heights[k][i]` is the height of the series `labels[k]` in the group `names[i]`.

    >>> from diffuscope.findings import groups
    >>> bars = groups(["digits", "faces"], {"before": [1, 2], "after": [3, 5]})
    >>> bars.labels[1], bars.names[0], bars.heights[1][0]
    ('after', 'digits', 3.0)
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    heights: tuple[Series, ...]


@dataclass(frozen=True)
class HeatMap:
    """Values over rectangular cells: `values[j][i]` lies between the edges i, i + 1 of x and j, j + 1 of y.

    Colored over `color_range`, by default the range of the values.

    >>> import torch
    >>> from diffuscope.findings import heat_map
    >>> cells = heat_map([0, 1, 3], [0, 2, 5, 9], torch.tensor([[1, 2], [3, 4], [5, 6]]))
    >>> cells.values[2][1], cells.x_edges[1:3], cells.y_edges[2:4]
    (6.0, (1.0, 3.0), (5.0, 9.0))
    """

    x_edges: Series
    y_edges: Series
    values: tuple[Series, ...]
    color_range: Range | None = None


@dataclass(frozen=True)
class Arrows:
    """A vector field: an arrow from every (x, y) to (x + dx, y + dy), in the units of the axes.

    >>> from diffuscope.findings import arrows
    >>> field = arrows([1], [2], [0.5], [-0.25])
    >>> field.x[0] + field.dx[0], field.y[0] + field.dy[0]  # the head
    (1.5, 1.75)
    """

    x: Series
    y: Series
    dx: Series
    dy: Series
    label: str = ""


@dataclass(frozen=True)
class Area:
    """The filled region between `low` and `high` over x.

    >>> from diffuscope.findings import area
    >>> region = area([0, 2], low=[1, 1], high=[3, 6])
    >>> [high - low for low, high in zip(region.low, region.high)]
    [2.0, 5.0]
    """

    x: Series
    low: Series
    high: Series
    label: str = ""


@dataclass(frozen=True)
class Cells:
    """A matrix with named rows, the first on top, and named columns: `values[j][i]`, colored over `color_range`.

    >>> import torch
    >>> from diffuscope.findings import cells
    >>> matrix = cells(["real", "copied"], ["a", "b", "c"], torch.tensor([[1, 2, 3], [4, 5, 6]]), color_range=(0, 6))
    >>> matrix.values[matrix.rows.index("copied")][matrix.columns.index("a")]
    4.0
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[Series, ...]
    color_range: Range


@dataclass(frozen=True)
class Intervals:
    """One value with its interval per name, the names along the vertical axis, the first on top.

    >>> from diffuscope.findings import intervals
    >>> shown = intervals({"recall": (0.5, 0.25, 0.625), "precision": (2, 1, 4)})
    >>> [high - low for low, high in zip(shown.low, shown.high)]
    [0.375, 3.0]
    """

    names: tuple[str, ...]
    values: Series
    low: Series
    high: Series


@dataclass(frozen=True)
class Rule:
    """A reference line across the panel at one place of an axis; with a `width`, a band centered there.

    >>> from diffuscope.findings import Rule
    >>> floor = Rule(3, width=0.5, label="noise")
    >>> floor.axis, floor.at - floor.width / 2, floor.at + floor.width / 2  # a horizontal band
    ('y', 2.75, 3.25)
    """

    at: float | int
    axis: Literal["x", "y"] = "y"
    width: float | int = 0.0
    label: str = ""


Mark = Line | Points | Bars | Groups | HeatMap | Arrows | Area | Cells | Intervals | Rule


@dataclass(frozen=True)
class Panel:
    """Two axes and the marks between them. Ranges are (low, high), or None to fit the marks.

    >>> import math
    >>> from diffuscope.findings import Panel, line
    >>> panel = Panel("Error", "h", "|y - y(h)|", (line([1, 2], [3, 12], "3 h^2"),), x_log=True, y_log=True)
    >>> (mark,) = panel.marks
    >>> math.log(mark.y[1] / mark.y[0]) / math.log(mark.x[1] / mark.x[0])  # its slope on these axes
    2.0
    """

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
    """Panels side by side with a caption and a paragraph `how_to_read`; InputError for a panel without marks.

    >>> from diffuscope.findings import Chart, Panel, line
    >>> panel = Panel("Decay", "t", "y", (line([0, 1], [1, 0.5]),))
    >>> Chart("Half-life", (panel,), "One half is left after the time 1.").panels[0].marks[0].y
    (1.0, 0.5)
    >>> Chart("Half-life", (), "")
    Traceback (most recent call last):
    diffuscope.errors.InputError: panels: expected at least one panel, each with a mark, in chart 'Half-life'
    """

    title: str
    panels: tuple[Panel, ...]
    how_to_read: str
    shared_y: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not self.panels or not all(panel.marks for panel in self.panels):
            raise InputError(f"panels: expected at least one panel, each with a mark, in chart {self.title!r}")

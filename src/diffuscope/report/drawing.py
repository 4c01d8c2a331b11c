"""Draws charts: for a page in two color schemes, by themselves for a notebook, or as a PNG."""

import io
from dataclasses import fields, replace
from functools import lru_cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Drawing
from matplotlib.figure import SubFigure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from diffuscope.findings import (
    Area,
    Arrows,
    Bars,
    Cells,
    Chart,
    Groups,
    HeatMap,
    Intervals,
    Line,
    Mark,
    Panel,
    Points,
    Rule,
)
from diffuscope.findings.numbers import typeset

from .theme import HEAT_LEVELS, LIGHT, MARKERS, SERIES, figure_style, figure_svg, heat_colormap, standing_alone

WIDTH, HEIGHT = 7.2, 3.2
MARKED = 25  # lines of more points have no markers, scatters of more points have small ones
LETTERS = 95  # below a panel of the whole width; longer names of groups are slanted
SMALL_POINT, LARGE_POINT = 2.5, 5.0
ARROW_WIDTH = 0.006  # of the shaft, relative to the panel's width
_DASHES = {"solid": "-", "dashed": "--", "dotted": ":"}


@lru_cache(maxsize=64)  # of a report or two: a result is shown, saved and shown again; drawing takes 0.3 s each time
def page_svg(chart: Chart) -> str:
    """The chart as one `<svg>` element whose colors are the page's variables."""
    with figure_style():
        drawing = Drawing(figsize=(WIDTH, _height(chart)))
        _draw(drawing, chart)
        return figure_svg(drawing)


def chart_svg(chart: Chart) -> str:
    """The chart as one self-contained `<svg>` element in the light theme on its own background, for a notebook.

    >>> from diffuscope.findings import Chart, Panel, points
    >>> from diffuscope.report import chart_svg
    >>> import re
    >>> scatter = Panel("Runs", "steps", "error", (points([4, 8, 16], [3, 1, 2]),))
    >>> svg = chart_svg(Chart("Errors", (scatter,), "Every point is one run."))
    >>> [label in svg for label in ("Runs", "steps", "error")]
    [True, True, True]
    """
    return standing_alone(page_svg(chart))


def charts_png(charts: tuple[Chart, ...], title: str) -> bytes:
    """All charts below each other in the light theme, as the bytes of a PNG.

    >>> import io
    >>> from diffuscope.findings import Chart, Panel, points
    >>> from diffuscope.report import charts_png
    >>> from PIL import Image
    >>> panel = Panel("Runs", "steps", "error", (points([4, 8, 16], [3, 1, 2]),))
    >>> charts = (Chart("Errors", (panel,), ""), Chart("The same", (panel,), ""))
    >>> Image.open(io.BytesIO(charts_png(charts, "Two charts"))).size  # 7.2 x (2 x 3.5 + 0.4) inches of 160 dots
    (1152, 1184)
    """
    with figure_style():
        heights = [_height(chart) + 0.3 for chart in charts]
        drawing = Drawing(figsize=(WIDTH, sum(heights) + 0.4), facecolor=LIGHT["paper"])
        drawing.suptitle(title, fontweight="bold")
        rows = drawing.subfigures(len(charts), 1, squeeze=False, height_ratios=heights)
        for part, chart in zip(rows[:, 0], charts, strict=True):
            part.suptitle(chart.title, fontsize="medium")
            _draw(part, chart)
        content = io.BytesIO()
        drawing.savefig(content, format="png", dpi=160, metadata={"Software": None})
    return content.getvalue()


def described(chart: Chart) -> str:
    """Axes and marks in words, for readers who cannot see the chart."""
    sentences = []
    for panel in chart.panels:
        names = [name for mark in panel.marks for name in _names(mark) if name]
        axes = " against ".join(filter(None, (panel.y_label, panel.x_label)))
        heading = ", ".join(filter(None, (panel.title or chart.title, axes)))
        sentences.append(f"{heading}: {', '.join(names)}." if names else f"{heading}.")
    return " ".join(sentences)


def _names(mark: Mark) -> tuple[str, ...]:
    match mark:
        case Groups(labels=names) | Intervals(names=names) | Cells(rows=names):
            return names
        case HeatMap():
            return ()
    return (mark.label,)


def _height(chart: Chart) -> float:
    """In inches: HEIGHT, unless rows of cells or intervals, or panels of equal scales, need another one."""
    marks = [mark for panel in chart.panels for mark in panel.marks]
    if any(isinstance(mark, Cells) for mark in marks):
        return 0.8 + 0.32 * max(len(mark.rows) for mark in marks if isinstance(mark, Cells))
    if any(isinstance(mark, Intervals) for mark in marks):
        return 0.9 + 0.5 * max(len(mark.names) for mark in marks if isinstance(mark, Intervals))
    if all(panel.equal_scales for panel in chart.panels):
        return 0.9 + (WIDTH - 0.5) / len(chart.panels) * max(map(_proportion, chart.panels))
    return HEIGHT


def _proportion(panel: Panel) -> float:
    """Height over width of what a panel shows."""
    (x_low, x_high), (y_low, y_high) = (given or (0.0, 1.0) for given in (panel.x_range, panel.y_range))
    for mark in panel.marks:
        if isinstance(mark, HeatMap):
            x_low, x_high, y_low, y_high = mark.x_edges[0], mark.x_edges[-1], mark.y_edges[0], mark.y_edges[-1]
    return abs((y_high - y_low) / (x_high - x_low))


def _draw(place: Drawing | SubFigure, chart: Chart) -> None:
    every = place.subplots(1, len(chart.panels), sharey=chart.shared_y, squeeze=False)[0]
    for axes, panel in zip(every, chart.panels, strict=True):
        draw_panel(axes, panel)
        if chart.shared_y and axes is not every[0]:
            axes.set_ylabel("")
    _legends(place, list(every))


def draw_panel(axes: Axes, panel: Panel) -> None:
    """The panel's marks, axes and labels on matplotlib's `axes`."""
    if panel.x_log:
        axes.set_xscale("log")
    if panel.y_log:
        axes.set_yscale("log")
    number = 0  # of marks that are not references, each with the next color and marker
    for mark in panel.marks:
        if _is_reference(mark):
            _draw_mark(axes, mark, LIGHT["ink"], "None")
        else:
            _draw_mark(axes, _clipped(mark, panel), SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)])
            number += 1
    if panel.x_range is not None:
        axes.set_xlim(panel.x_range)
    if panel.y_range is not None:
        axes.set_ylim(panel.y_range)
    for log, axis, limits in ((panel.x_log, axes.xaxis, axes.get_xlim()), (panel.y_log, axes.yaxis, axes.get_ylim())):
        if log:
            _log_ticks(axis, min(limits), max(limits))
    axes.yaxis.set_minor_locator(NullLocator())  # of no size, so that none is seen; matplotlib would measure each
    if panel.x_ticks:
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(panel.x_ticks, [f"{place:g}" for place in panel.x_ticks])
    if panel.equal_scales:
        axes.set_aspect("equal")
        if not (panel.x_label or panel.y_label) and all(isinstance(mark, HeatMap) for mark in panel.marks):
            axes.set_axis_off()  # a picture
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)


def _clipped(mark: Mark, panel: Panel) -> Mark:
    """The mark, clipped to the range of a logarithmic vertical axis, so that zeros are drawn at the edge."""
    if not panel.y_log or panel.y_range is None or not isinstance(mark, Line | Points | Area):
        return mark
    heights = [field.name for field in fields(mark) if field.name in ("y", "low", "high")]
    ends = min(panel.y_range), max(panel.y_range)
    return replace(mark, **{name: tuple(np.clip(getattr(mark, name), *ends).tolist()) for name in heights})


def _legends(place: Drawing | SubFigure, every: list[Axes]) -> None:
    """One legend below bars and below panels with the same labels, otherwise one in each; none for a single label."""
    entries = [axes.get_legend_handles_labels() for axes in every]
    handles, labels = entries[0]
    full = any(axes.containers for axes in every)  # bars leave no corner free
    if (full or len(every) > 1) and all(others == labels for _, others in entries):
        if len(labels) > 1:
            columns = min(len(labels), 5)
            _with_visible_points(place.legend(handles, labels, loc="outside lower center", ncols=columns))
        return
    for axes, (_, labels) in zip(every, entries, strict=True):
        if len(labels) > 1:
            _with_visible_points(axes.legend())


def _with_visible_points(legend: Legend) -> None:
    for handle in legend.legend_handles:
        if isinstance(handle, Line2D) and handle.get_linestyle() == "None":
            handle.set(markersize=LARGE_POINT, alpha=1.0)


def _log_ticks(axis: Axis, low: float, high: float) -> None:
    """Plain numbers from 0.001 to 1000 and powers of ten beyond; 1, 2, 5 where the axis spans less than two decades."""
    axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,), numticks=8))
    axis.set_major_formatter(FuncFormatter(_log_tick))
    axis.set_minor_formatter(NullFormatter())


def _log_tick(value: float, _: object) -> str:
    return f"{value:g}" if 1e-3 <= value <= 1e3 else typeset(f"{value:.0e}")


def _draw_mark(axes: Axes, mark: Mark, color: str, marker: str) -> None:
    match mark:
        case Line(x, y, label, style, low, high):
            if low:
                axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
            shown = "None" if _is_reference(mark) or len(x) > MARKED else marker
            axes.plot(x, y, label=label, color=color, marker=shown, linestyle=_DASHES[style])
        case Points(x, y, label):
            size, alpha = (LARGE_POINT, 1.0) if len(x) <= MARKED else (SMALL_POINT, 0.6)
            axes.plot(x, y, label=label, color=color, marker=marker, linestyle="None", markersize=size, alpha=alpha)
        case Bars(edges, heights, label):
            axes.stairs(heights, edges, fill=True, alpha=0.45, label=label, color=color)
        case Area(x, low, high, label):
            axes.fill_between(x, low, high, color=color, alpha=0.4, linewidth=0, label=label)
        case Rule(at, axis, width, label):
            line, band = (axes.axvline, axes.axvspan) if axis == "x" else (axes.axhline, axes.axhspan)
            if width:
                band(at - width / 2, at + width / 2, color=LIGHT["muted"], alpha=0.25, linewidth=0, zorder=0.6)
            line(at, color=LIGHT["muted"], linewidth=0.9, linestyle=":", zorder=0.7, label=label)
        case Groups(names, labels, heights):
            width = 0.8 / len(labels)
            for k, (label, values) in enumerate(zip(labels, heights, strict=True)):
                places = np.arange(len(names)) - 0.4 + (k + 0.5) * width
                axes.bar(places, values, 0.92 * width, label=label, color=SERIES[k % len(SERIES)])
            axes.set_xticks(np.arange(len(names)), names)
            if sum(len(name) + 2 for name in names) > LETTERS / _columns(axes):
                axes.tick_params("x", labelrotation=35)
                for label in axes.get_xticklabels():
                    label.set_horizontalalignment("right")
                    label.set_rotation_mode("anchor")
            axes.grid(visible=False, axis="x")
        case Intervals(names, values, low, high):
            rows, reach = np.arange(len(names)), np.abs(np.asarray([low, high]) - values)
            axes.errorbar(
                values, rows, xerr=reach, color=color, marker=marker, markersize=6, capsize=3, linestyle="None"
            )
            axes.set_yticks(rows, names)
            axes.set_ylim(len(names) - 0.4, -0.6)  # the first on top
            axes.grid(visible=False, axis="y")
        case HeatMap(x_edges, y_edges, values, color_range):
            low, high = color_range or (None, None)
            axes.pcolormesh(x_edges, y_edges, np.ma.masked_invalid(values), cmap=heat_colormap(), vmin=low, vmax=high)
            axes.grid(visible=False)
        case Cells():
            _draw_cells(axes, mark)
        case Arrows(x, y, dx, dy, label):
            # an edge, so that arrows stand out from the dark cells of a heat map, too
            looks = {"facecolor": color, "edgecolor": LIGHT["paper"], "linewidth": 0.5, "zorder": 3}
            lengths = {"angles": "xy", "scale_units": "xy", "scale": 1.0, "width": ARROW_WIDTH, "headwidth": 4.0}
            axes.quiver(x, y, dx, dy, label=label, **looks, **lengths)


def _columns(axes: Axes) -> int:
    """The number of panels side by side."""
    place = axes.get_subplotspec()
    return 1 if place is None else place.get_gridspec().ncols


def _draw_cells(axes: Axes, mark: Cells) -> None:
    """Colored cells with their numbers, legible in both themes; cells of NaN stay empty."""
    (low, high), values = mark.color_range, np.ma.masked_where(np.isnan(mark.values), mark.values)
    rows, columns = values.shape
    edges = np.arange(columns + 1), np.arange(rows + 1)
    colors = {"cmap": heat_colormap(), "vmin": low, "vmax": high, "edgecolors": LIGHT["paper"], "linewidth": 1.2}
    axes.pcolormesh(*edges, values, **colors)
    for (row, column), value in np.ma.ndenumerate(values):
        light = (value - low) / (high - low) * HEAT_LEVELS < HEAT_LEVELS / 2
        text = f"{value:.2f}" if low <= value <= high else f"<{low:g}" if value < low else f">{high:g}"
        ink = LIGHT["heat-ink-low" if light else "heat-ink-high"]
        axes.text(column + 0.5, row + 0.5, text, color=ink, ha="center", va="center_baseline")
    axes.set_xticks(np.arange(columns) + 0.5, mark.columns)
    axes.set_yticks(np.arange(rows) + 0.5, mark.rows)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()


def _is_reference(mark: Mark) -> bool:
    return isinstance(mark, Rule) or (isinstance(mark, Line) and mark.style != "solid")

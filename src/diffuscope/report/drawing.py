"""The charts of an experiment, drawn: its panels side by side, in the page's theme or as one picture."""

import io

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Drawing
from matplotlib.figure import SubFigure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from diffuscope.findings import Arrows, Bars, Chart, Groups, HeatMap, Line, Mark, Panel, Points

from .numbers import typeset
from .page import Figure
from .theme import LIGHT, MARKERS, SERIES, figure_style, figure_svg, heat_colormap

WIDTH, HEIGHT = 7.2, 3.2
MARKED = 25  # a line of more points is drawn without a marker at each, a scatter of more with small ones
SMALL_POINT, LARGE_POINT = 2.5, 5.0
ARROW_WIDTH = 0.006  # of its shaft, in widths of the panel
_DASHES = {"solid": "-", "dashed": "--", "dotted": ":"}


def chart_figure(chart: Chart) -> Figure:
    """The chart as a figure of the page; its description for who cannot see it lists axes and marks."""
    with figure_style():
        drawing = Drawing(figsize=(WIDTH, _height(chart)))
        _draw(drawing, chart)
        return Figure(chart.title, figure_svg(drawing), chart.how_to_read, _described(chart))


def charts_png(charts: tuple[Chart, ...], title: str) -> bytes:
    """All charts below each other, in the light theme, as one PNG."""
    with figure_style():
        heights = [_height(chart) + 0.3 for chart in charts]
        drawing = Drawing(figsize=(WIDTH, sum(heights) + 0.4), facecolor=LIGHT["paper"])
        drawing.suptitle(title, fontweight="bold")
        rows = drawing.subfigures(len(charts), 1, squeeze=False, height_ratios=heights)
        for part, chart in zip(rows[:, 0], charts, strict=True):
            part.suptitle(chart.title, fontsize=9.5)
            _draw(part, chart)
        content = io.BytesIO()
        drawing.savefig(content, format="png", dpi=160, metadata={"Software": None})
    return content.getvalue()


def _height(chart: Chart) -> float:
    """Inches: panels of equal scales are as high as their width asks for, others HEIGHT."""
    if not all(panel.equal_scales for panel in chart.panels):
        return HEIGHT
    return 0.9 + (WIDTH - 0.5) / len(chart.panels) * max(map(_proportion, chart.panels))


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
        _draw_panel(axes, panel)
        if chart.shared_y and axes is not every[0]:
            axes.set_ylabel("")
    _legends(place, list(every))


def _draw_panel(axes: Axes, panel: Panel) -> None:
    number = 0  # of the marks that are not references: each has the next color and marker
    for mark in panel.marks:
        if _is_reference(mark):
            _draw_mark(axes, mark, LIGHT["ink"], "None")
        else:
            _draw_mark(axes, mark, SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)])
            number += 1
    for log, scale in ((panel.x_log, axes.set_xscale), (panel.y_log, axes.set_yscale)):
        if log:
            scale("log")
    if panel.x_range is not None:
        axes.set_xlim(panel.x_range)
    if panel.y_range is not None:
        axes.set_ylim(panel.y_range)
    for log, axis, limits in ((panel.x_log, axes.xaxis, axes.get_xlim()), (panel.y_log, axes.yaxis, axes.get_ylim())):
        if log:
            _log_ticks(axis, min(limits), max(limits))
    if panel.equal_scales:
        axes.set_aspect("equal")
        if not (panel.x_label or panel.y_label) and all(isinstance(mark, HeatMap) for mark in panel.marks):
            axes.set_axis_off()  # a picture
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)


def _legends(place: Drawing | SubFigure, every: list[Axes]) -> None:
    """One legend below panels that share their labels, else one in each panel; none where there is one label."""
    found = [axes.get_legend_handles_labels() for axes in every]
    if len(every) > 1 and all(labels == found[0][1] for _, labels in found):
        if len(found[0][1]) > 1:
            _with_visible_points(place.legend(*found[0], loc="outside lower center", ncols=len(found[0][1])))
        return
    for axes, (_, labels) in zip(every, found, strict=True):
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
        case Line():
            _draw_line(axes, mark, color, marker)
        case Points(x, y, label):
            size, alpha = (LARGE_POINT, 1.0) if len(x) <= MARKED else (SMALL_POINT, 0.6)
            axes.plot(x, y, label=label, color=color, marker=marker, linestyle="None", markersize=size, alpha=alpha)
        case Bars(edges, heights, label):
            axes.stairs(heights, edges, fill=True, alpha=0.45, label=label, color=color)
        case Groups(names, labels, heights):
            width = 0.8 / len(labels)
            for k, (label, values) in enumerate(zip(labels, heights, strict=True)):
                places = np.arange(len(names)) - 0.4 + (k + 0.5) * width
                axes.bar(places, values, 0.92 * width, label=label, color=SERIES[k % len(SERIES)])
            axes.set_xticks(np.arange(len(names)), names)
        case HeatMap(x_edges, y_edges, values):
            axes.pcolormesh(x_edges, y_edges, np.ma.masked_invalid(_matrix(values)), cmap=heat_colormap())
            axes.grid(visible=False)
        case Arrows(x, y, dx, dy, label):
            axes.quiver(
                x,
                y,
                dx,
                dy,
                label=label,
                angles="xy",
                scale_units="xy",
                scale=1.0,
                width=ARROW_WIDTH,
                headwidth=4.0,
                facecolor=color,
                edgecolor=LIGHT["paper"],  # a rim, so that an arrow stands out from the dark cells of a heat map too
                linewidth=0.5,
                zorder=3,
            )


def _draw_line(axes: Axes, mark: Line, color: str, marker: str) -> None:
    x, y, low, high = (np.asarray(values) for values in (mark.x, mark.y, mark.low, mark.high))
    if mark.low:
        axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
    shown = "None" if _is_reference(mark) or len(x) > MARKED else marker
    axes.plot(x, y, label=mark.label, color=color, marker=shown, linestyle=_DASHES[mark.style])


def _is_reference(mark: Mark) -> bool:
    return isinstance(mark, Line) and mark.style != "solid"


def _matrix(values: tuple[tuple[float, ...], ...]) -> Float[np.ndarray, "rows columns"]:
    return np.asarray(values, dtype=np.float64)


def _described(chart: Chart) -> str:
    told = []
    for panel in chart.panels:
        labels = [label for mark in panel.marks if (label := getattr(mark, "label", ""))]
        shown = f": {', '.join(labels)}" if labels else ""
        told.append(f"{panel.title or chart.title}, {panel.y_label} against {panel.x_label}{shown}.")
    return " ".join(told)

"""The charts of an experiment, drawn: its panels side by side, in the page's theme or as one picture."""

import io

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.figure import SubFigure

from diffuscope.experiments import Bars, Chart, Groups, HeatMap, Line, Mark, Panel, Points
from diffuscope.report.charts import line_with_band, plain_log_ticks
from diffuscope.report.page import Figure
from diffuscope.report.theme import LIGHT, figure_style, figure_svg, heat_colormap

WIDTH, HEIGHT = 7.2, 3.2
MARKED = 25  # a line of more points is drawn without a marker at each
_DASHES = {"solid": "-", "dashed": "--", "dotted": ":"}


def chart_figure(chart: Chart) -> Figure:
    """The chart as a figure of the page; its description for who cannot see it lists axes and marks."""
    with figure_style():
        drawing = Drawing(figsize=(WIDTH, HEIGHT))
        _draw(drawing, chart)
        return Figure(chart.title, figure_svg(drawing), chart.how_to_read, _described(chart))


def charts_png(charts: tuple[Chart, ...], title: str) -> bytes:
    """All charts below each other, in the light theme, as one PNG."""
    with figure_style():
        drawing = Drawing(figsize=(WIDTH, HEIGHT * len(charts) + 0.4), facecolor=LIGHT["paper"])
        drawing.suptitle(title, fontweight="bold")
        rows = drawing.subfigures(len(charts), 1, squeeze=False)
        for part, chart in zip(rows[:, 0], charts, strict=True):
            part.suptitle(chart.title, fontsize=9.5)
            _draw(part, chart)
        content = io.BytesIO()
        drawing.savefig(content, format="png", dpi=160, metadata={"Software": None})
    return content.getvalue()


def _draw(place: Drawing | SubFigure, chart: Chart) -> None:
    every = place.subplots(1, len(chart.panels), sharey=chart.shared_y, squeeze=False)[0]
    for axes, panel in zip(every, chart.panels, strict=True):
        _draw_panel(axes, panel)
        if chart.shared_y and axes is not every[0]:
            axes.set_ylabel("")


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for mark in panel.marks:
        _draw_mark(axes, mark)
    for log, axis, scale in ((panel.x_log, axes.xaxis, axes.set_xscale), (panel.y_log, axes.yaxis, axes.set_yscale)):
        if log:
            scale("log")
            plain_log_ticks(axis)
    if panel.x_range is not None:
        axes.set_xlim(panel.x_range)
    if panel.y_range is not None:
        axes.set_ylim(panel.y_range)
    if panel.equal_scales:
        axes.set_aspect("equal")
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend()


def _draw_mark(axes: Axes, mark: Mark) -> None:
    match mark:
        case Line():
            _draw_line(axes, mark)
        case Points(x, y, label):
            axes.plot(x, y, label=label, linestyle="None", markersize=2.5, alpha=0.6)
        case Bars(edges, heights, label):
            axes.stairs(heights, edges, fill=True, alpha=0.45, label=label, color=axes._get_lines.get_next_color())  # pyright: ignore[reportAttributeAccessIssue]
        case Groups(names, labels, heights):
            width = 0.8 / len(labels)
            for k, (label, values) in enumerate(zip(labels, heights, strict=True)):
                axes.bar(np.arange(len(names)) - 0.4 + (k + 0.5) * width, values, 0.92 * width, label=label)
            axes.set_xticks(np.arange(len(names)), names)
        case HeatMap(x_edges, y_edges, values):
            axes.pcolormesh(x_edges, y_edges, _matrix(values), cmap=heat_colormap())
            axes.grid(visible=False)


def _draw_line(axes: Axes, mark: Line) -> None:
    x, y, low, high = (np.asarray(values) for values in (mark.x, mark.y, mark.low, mark.high))
    if mark.low:
        drawn = line_with_band(axes, x, y, low, high, mark.label)
    else:
        (drawn,) = axes.plot(x, y, label=mark.label, linestyle=_DASHES[mark.style])
    if mark.style != "solid":
        drawn.set_color(LIGHT["ink"])
    if mark.style != "solid" or len(x) > MARKED:
        drawn.set_marker("None")


def _matrix(values: tuple[tuple[float, ...], ...]) -> Float[np.ndarray, "rows columns"]:
    return np.asarray(values, dtype=np.float64)


def _described(chart: Chart) -> str:
    told = []
    for panel in chart.panels:
        labels = [label for mark in panel.marks if (label := getattr(mark, "label", ""))]
        shown = f": {', '.join(labels)}" if labels else ""
        told.append(f"{panel.title or chart.title}, {panel.y_label} against {panel.x_label}{shown}.")
    return " ".join(told)

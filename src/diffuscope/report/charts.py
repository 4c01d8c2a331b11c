"""The drawing idioms that the figures of a report share: a line with its uncertainty, a table of colored cells."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .theme import HEAT_LEVELS, LIGHT, heat_colormap


def line_with_band(
    axes: Axes,
    x: Float[np.ndarray, " points"],
    y: Float[np.ndarray, " points"],
    low: Float[np.ndarray, " points"],
    high: Float[np.ndarray, " points"],
    label: str,
) -> Line2D:
    """The line y(x) in the next series color and marker, over the band from `low` to `high`."""
    (line,) = axes.plot(x, y, label=label)
    axes.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    return line


def plain_log_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis at its powers of ten, written as plain numbers: 0.01, 0.1, 1, 10."""
    axis.set_major_locator(LogLocator(10))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def heatmap(
    axes: Axes,
    values: Float[np.ndarray, "rows columns"],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    low: float,
    high: float,
    text: Callable[[float], str] = "{:.2f}".format,
) -> None:
    """The matrix `values` (rows, columns), first row on top, as cells colored from `low` to `high` with their numbers.

    The ink of a number is chosen so that it reads on its cell in both themes; a cell that is not finite stays empty.
    """
    rows, columns = values.shape
    axes.pcolormesh(
        np.arange(columns + 1),
        np.arange(rows + 1),
        np.ma.masked_invalid(values),
        cmap=heat_colormap(),
        vmin=low,
        vmax=high,
        edgecolors=LIGHT["paper"],
        linewidth=1.2,
    )
    for i, j in zip(*np.nonzero(np.isfinite(values)), strict=True):
        level = (values[i, j] - low) / (high - low) * HEAT_LEVELS
        ink = LIGHT["heat-ink-low" if level < HEAT_LEVELS / 2 else "heat-ink-high"]
        axes.text(j + 0.5, i + 0.5, text(float(values[i, j])), color=ink, ha="center", va="center_baseline")
    axes.set_xticks(np.arange(columns) + 0.5, column_labels)
    axes.set_yticks(np.arange(rows) + 0.5, row_labels)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()

"""The drawing idioms: what is drawn is what was given."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from diffuscope.report import LIGHT, figure_style, heatmap, line_with_band
from diffuscope.report.theme import HEAT_LEVELS


@pytest.fixture
def axes():
    with figure_style():
        yield Figure().add_subplot()


def test_band_encloses_its_line_in_its_color(axes):
    x = np.linspace(0, 1, 5)
    line = line_with_band(axes, x, x**2, x**2 - 0.1, x**2 + 0.1, "label")
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    assert {(round(a, 9), round(b, 9)) for a, b in corners} >= {(round(a, 9), round(a**2 + 0.1, 9)) for a in x}
    assert to_hex(band.get_facecolor()[0]) == to_hex(line.get_color()) == LIGHT["series-1"]


def test_heatmap_writes_every_finite_cell_where_it_stands(axes):
    values = np.array([[0.0, 0.49, 0.51], [1.0, np.nan, 0.25]])
    heatmap(axes, values, ["a", "b"], ["x", "y", "z"], low=0.0, high=1.0)
    written = {text.get_position(): (text.get_text(), to_hex(text.get_color())) for text in axes.texts}
    low, high = LIGHT["heat-ink-low"], LIGHT["heat-ink-high"]
    assert written == {
        (0.5, 0.5): ("0.00", low),
        (1.5, 0.5): ("0.49", low),
        (2.5, 0.5): ("0.51", high),
        (0.5, 1.5): ("1.00", high),
        (2.5, 1.5): ("0.25", low),
    }
    assert axes.yaxis_inverted()


def test_heatmap_colors_grow_with_the_value(axes):
    heatmap(axes, np.array([[0.0, 0.5, 1.0]]), ["a"], ["x", "y", "z"], low=0.0, high=1.0)
    axes.figure.draw_without_rendering()
    (mesh,) = axes.collections
    drawn = [to_hex(color) for color in mesh.get_facecolor()]
    assert drawn == [LIGHT[f"heat-{k}"] for k in (0, HEAT_LEVELS // 2, HEAT_LEVELS - 1)]

"""Pictures, axes and labels of a report exactly where one form passes into another."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from diffuscope.errors import InputError
from diffuscope.findings import Cells, Intervals, Line, Panel, Points
from diffuscope.report import drawing, images
from diffuscope.report.drawing import MARKED
from diffuscope.report.theme import LIGHT


def pixels(values, low=0.0, high=1.0, scale=None):
    encoded = images.image_png(np.array(values, dtype=float), low, high, scale)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded.partition(",")[2]))))


def axes_with(*marks):
    axes = Figure().subplots()
    for mark in marks:
        drawing._draw_mark(axes, mark, "#000000", "o")
    return axes


def test_values_beyond_the_range_of_a_picture_are_its_ends():
    assert pixels([[-1.0, 0.0], [1.0, 2.0]], scale=1).tolist() == [[0, 0], [255, 255]]
    with pytest.raises(InputError, match=r"image range: expected low < high, got 1\.0 and 1\.0"):
        pixels([[0.0]], 1.0, 1.0)


def test_small_pictures_are_enlarged_and_large_ones_stay():
    comfortable = images._COMFORTABLE_PIXELS
    assert pixels(np.zeros((1, 10))).shape == (comfortable // 10, comfortable // 10 * 10)
    assert pixels(np.zeros((2, comfortable + 1))).shape == (2, comfortable + 1)


@pytest.mark.parametrize(
    ("value", "written"), [(1e-3, "0.001"), (1e3, "1000"), (1e-4, "10⁻⁴"), (1e4, "10⁴"), (2e4, "2 × 10⁴")]
)
def test_ticks_from_a_thousandth_to_a_thousand_are_plain(value, written):
    assert drawing._log_tick(value, None).replace("\u00a0", " ") == written


@pytest.mark.parametrize(("high", "subs"), [(99.0, [1.0, 2.0, 5.0]), (100.0, [1.0])])
def test_less_than_two_decades_have_ticks_in_between(high, subs):
    axis = Figure().subplots().xaxis
    drawing._log_ticks(axis, 1.0, high)
    assert list(axis.get_major_locator()._subs) == subs  # pyright: ignore[reportAttributeAccessIssue]


def test_a_panel_that_is_drawn_upside_down_has_a_height():
    panel = Panel("", "", "", (), x_range=(0.0, 2.0), y_range=(4.0, 0.0))
    assert drawing._proportion(panel) == 2.0
    assert drawing._proportion(replace(panel, x_range=(2.0, 0.0))) == 2.0


@pytest.mark.parametrize(
    ("count", "marker", "size"), [(MARKED, "o", drawing.LARGE_POINT), (MARKED + 1, "None", drawing.SMALL_POINT)]
)
def test_few_points_are_marked_and_large(count, marker, size):
    places = tuple(float(k) for k in range(count))
    line, points = axes_with(Line(places, places, "a"), Points(places, places, "b")).lines
    assert line.get_marker() == marker
    assert points.get_markersize() == size


def test_zeros_on_a_logarithmic_axis_are_drawn_at_its_edge():
    panel = Panel("", "", "", (), y_log=True, y_range=(0.1, 10.0))
    found = drawing._clipped(Line((1.0, 2.0, 3.0), (0.0, 1.0, 20.0)), panel)
    assert isinstance(found, Line)
    assert tuple(found.y) == (0.1, 1.0, 10.0)


def test_intervals_reach_from_their_lower_to_their_upper_end():
    axes = axes_with(Intervals(("a", "b"), (1.0, 4.0), (0.5, 3.0), (3.0, 4.5)))
    (bars,) = axes.containers[0][2]
    assert [segment[:, 0].tolist() for segment in bars.get_segments()] == [[0.5, 3.0], [3.0, 4.5]]


def test_cells_at_the_ends_of_their_colors_have_their_numbers():
    values = ((0.0, 1.0, -0.1), (1.1, 0.5, 0.49))
    axes = axes_with(Cells(("r", "s"), ("a", "b", "c"), values, (0.0, 1.0)))
    assert [text.get_text() for text in axes.texts] == ["0.00", "1.00", "<0", ">1", "0.50", "0.49"]
    inks = [to_hex(text.get_color()) for text in axes.texts]
    assert inks[4:] == [LIGHT["heat-ink-high"], LIGHT["heat-ink-low"]]


@pytest.mark.parametrize(("labels", "columns"), [(1, None), (2, 2), (6, 5)])
def test_a_legend_has_two_labels_at_least_and_five_columns_at_most(labels, columns):
    figure = Figure()
    for axes in (every := list(figure.subplots(1, 2))):
        for k in range(labels):
            axes.plot([0, 1], [0, k], label=f"line {k}")
    drawing._legends(figure, every)  # pyright: ignore[reportArgumentType]
    found = [vars(legend)["_ncols"] for legend in figure.legends]
    assert found == ([] if columns is None else [columns])


def test_a_legend_of_one_panel_is_in_it_and_one_of_equal_panels_is_below_them():
    """Bars leave no corner free."""
    cases = [(1, False, "ab", 0, 1), (2, False, "ab", 1, 0), (1, True, "ab", 1, 0), (1, False, "a", 0, 0)]
    for panels, bars, labels, below, inside in cases:
        figure = Figure()
        every = list(np.atleast_1d(figure.subplots(1, panels)))
        for axes in every:
            for k, label in enumerate(labels):
                axes.bar([0], [k], label=label) if bars else axes.plot([0, 1], [0, k], label=label)
        drawing._legends(figure, every)  # pyright: ignore[reportArgumentType]
        assert len(figure.legends) == below
        assert [axes.get_legend() is not None for axes in every] == [bool(inside)] * panels


def test_panels_of_other_labels_have_a_legend_each():
    figure = Figure()
    one, other = figure.subplots(1, 2)
    for axes, labels in ((one, "ab"), (other, "ac")):
        for k, label in enumerate(labels):
            axes.plot([0, 1], [0, k], label=label)
    drawing._legends(figure, [one, other])  # pyright: ignore[reportArgumentType]
    assert figure.legends == []
    shown = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in (one, other)]
    assert shown == [["a", "b"], ["a", "c"]]

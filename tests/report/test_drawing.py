"""Charts as they are drawn: every mark stands where its numbers say, in the colors of the two schemes."""

import re

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure

from diffuscope.findings import Chart, Panel, Points, Rule, area, arrows, cells, groups, intervals, line, points
from diffuscope.report import chart_svg
from diffuscope.report.drawing import described, draw_panel, page_svg
from diffuscope.report.theme import HEAT_LEVELS, LIGHT, SERIES, figure_style

STRAIGHT = line([0, 1], [0, 1], "straight")


def drawn(*marks, **panel):
    """The axes with the marks on them."""
    with figure_style():
        figure = Figure(figsize=(4, 3))
        axes = figure.subplots()
        draw_panel(axes, Panel("", "x", "y", marks, **panel))
        figure.draw_without_rendering()
    return axes


def chart(*marks, **panel) -> Chart:
    return Chart("c", (Panel("", "x", "y", marks, **panel),), "")


def corners(collection) -> set[tuple[float, float]]:
    return {(round(float(a), 9), round(float(b), 9)) for a, b in collection.get_paths()[0].vertices}


def test_band_encloses_its_line_in_its_color():
    x = torch.linspace(0, 1, 5, dtype=torch.float64)
    axes = drawn(line(x, x**2, "square", low=x**2 - 0.1, high=x**2 + 0.1))
    (band,), (curve,) = axes.collections, axes.lines
    for end in (-0.1, 0.1):
        assert corners(band) >= {(round(a, 9), round(a**2 + end, 9)) for a in x.tolist()}
    assert to_hex(np.asarray(band.get_facecolor())[0]) == to_hex(str(curve.get_color())) == LIGHT["series-1"]


def test_an_area_fills_what_lies_between_its_two_curves():
    axes = drawn(area([0, 1, 2], [0, 1, 0], [2, 2, 3], "part"), STRAIGHT)
    (filled,) = axes.collections
    assert corners(filled) == {(0, 0), (1, 1), (2, 0), (0, 2), (1, 2), (2, 3)}
    assert to_hex(np.asarray(filled.get_facecolor())[0]) == LIGHT["series-1"]
    assert axes.lines[0].get_color() == LIGHT["series-2"]


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_rule_with_a_width_is_a_band_of_that_width_around_it(axis):
    axes = drawn(Rule(2.0, axis, 0.5), points([0.0, 4.0], [0.0, 4.0]))
    (band,) = axes.patches
    box = band.get_path().get_extents(band.get_patch_transform())
    assert tuple(box.intervalx if axis == "x" else box.intervaly) == (1.75, 2.25)
    assert tuple(box.intervaly if axis == "x" else box.intervalx) == (0.0, 1.0)  # of the axes: across the whole panel
    rule, _ = axes.lines
    assert np.asarray(rule.get_xdata() if axis == "x" else rule.get_ydata()).tolist() == [2.0, 2.0]


def test_a_rule_without_a_width_is_a_line_and_takes_no_color_from_the_series():
    axes = drawn(Rule(0.5), STRAIGHT)
    assert not axes.patches
    rule, curve = axes.lines
    assert rule.get_color() == LIGHT["muted"]
    assert curve.get_color() == SERIES[0]


@pytest.mark.parametrize("log", [False, True])
def test_the_ranges_of_a_panel_are_the_limits_that_are_drawn(log):
    axes = drawn(line([0.1, 99.0], [0.2, 77.0]), x_log=log, y_log=log, x_range=(0.5, 20), y_range=(0.25, 64))
    assert axes.get_xlim() == (0.5, 20)
    assert axes.get_ylim() == (0.25, 64)


def test_what_is_beyond_a_logarithmic_range_stands_at_its_edge():
    """A zero has no logarithm; a model that is exact must be seen all the same."""
    x, beyond = [1, 2, 3], [0.0, 0.1, 50.0]
    curve = line(x, beyond, low=[0.0, 0.0, 0.0], high=[0.5, 0.5, 50.0])
    axes = drawn(curve, points(x, beyond), y_log=True, y_range=(1e-3, 10))
    for shown in axes.lines:
        assert np.asarray(shown.get_ydata()).tolist() == [1e-3, 0.1, 10]
    assert corners(axes.collections[0]) == {(1, 1e-3), (2, 1e-3), (3, 1e-3), (1, 0.5), (2, 0.5), (3, 10)}
    linear = drawn(curve, y_range=(1e-3, 10)).lines[0]  # needs no such care
    assert np.asarray(linear.get_ydata()).tolist() == beyond


def test_an_interval_stands_beside_its_name_and_the_first_is_on_top():
    axes = drawn(intervals({"first": (5.0, 4.0, 7.0), "second": (1.0, 0.5, 1.25)}), Rule(1.0, "x"))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
    low, high = axes.get_ylim()
    assert low > high
    (bars,) = axes.collections
    assert isinstance(bars, LineCollection)
    ends = [(segment[0, 0], segment[1, 0], segment[0, 1]) for segment in bars.get_segments()]
    assert ends == [(4.0, 7.0, 0.0), (0.5, 1.25, 1.0)]
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [5.0, 1.0]


def test_given_ticks_are_the_only_ones():
    for log in (False, True):
        axes = drawn(line([4, 8, 64], [1, 2, 3]), x_log=log, x_ticks=(4, 8, 64))
        assert [label.get_text() for label in axes.get_xticklabels()] == ["4", "8", "64"]
        assert not len(axes.get_xticks(minor=True))


def test_cells_write_every_number_where_it_stands():
    values = torch.tensor([[0.0, 0.49, 0.51], [1.0, float("nan"), 0.25], [2.0, -3.0, float("inf")]])
    axes = drawn(cells(["a", "b", "c"], ["x", "y", "z"], values, color_range=(0, 1)))
    written = {text.get_position(): (text.get_text(), to_hex(text.get_color())) for text in axes.texts}
    low, high = LIGHT["heat-ink-low"], LIGHT["heat-ink-high"]
    assert written == {
        (0.5, 0.5): ("0.00", low),
        (1.5, 0.5): ("0.49", low),
        (2.5, 0.5): ("0.51", high),
        (0.5, 1.5): ("1.00", high),
        (2.5, 1.5): ("0.25", low),
        (0.5, 2.5): (">1", high),
        (1.5, 2.5): ("<0", low),
        (2.5, 2.5): (">1", high),
    }
    assert axes.yaxis_inverted()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]


def test_colors_of_cells_grow_with_the_value():
    axes = drawn(cells(["a"], ["x", "y", "z"], torch.tensor([[0.0, 0.5, 1.0]]), color_range=(0, 1)))
    (mesh,) = axes.collections
    colors = [to_hex(color) for color in np.asarray(mesh.get_facecolor())]
    assert colors == [LIGHT[f"heat-{k}"] for k in (0, HEAT_LEVELS // 2, HEAT_LEVELS - 1)]


def test_references_take_no_color_from_the_series():
    """The line after a dashed one has the second series color, not the third."""
    svg = page_svg(chart(STRAIGHT, line([0, 1], [1, 1], "r", style="dashed"), line([0, 1], [1, 0], "b")))
    assert "--series-1" in svg
    assert "--series-2" in svg
    assert "--series-3" not in svg


def test_an_arrow_goes_from_its_point_along_its_step_in_the_units_of_the_axes():
    """The tip lies at (x + dx, y + dy), whatever the axes; its fill is the series', its rim the page's."""
    field = arrows([1.0, 2.0], [10.0, 30.0], [0.5, 1.0], [20.0, -5.0], "field")
    axes = drawn(field, x_range=(0.0, 4.0), y_range=(0.0, 60.0))
    (shown,) = axes.collections
    to_data = shown.get_transform() + axes.transData.inverted()
    for path, offset, tip in zip(
        shown.get_paths(), np.asarray(shown.get_offsets()), ((1.5, 30.0), (3.0, 25.0)), strict=True
    ):
        outline = to_data.transform(path.vertices) - to_data.transform((0.0, 0.0)) + offset
        assert abs(outline - tip).sum(1).min() < 1e-6  # of sums of rounded pixels
    assert np.allclose(shown.get_facecolor(), to_rgba(SERIES[0]))
    assert np.allclose(shown.get_edgecolor(), to_rgba(LIGHT["paper"]))


def test_a_chart_is_described_for_who_cannot_see_it():
    panels = (
        Panel("left", "time t", "Y", (line([0, 1], [0, 1], "mean"), Rule(0.5))),
        Panel("", "", "share", (groups(["a"], {"one": [1], "two": [2]}), intervals({"far": (1, 0, 2)}))),
    )
    words = described(Chart("c", panels, ""))
    assert words == "left, Y against time t: mean. c, share: one, two, far."


def test_panels_that_share_their_labels_share_one_legend():
    panel = Panel("", "x", "y", (line([0, 1], [0, 1], "first"), line([0, 1], [1, 0], "second")))
    assert page_svg(Chart("c", (panel, panel), "")).count(">first<") == 1
    other = Panel("", "x", "y", (line([0, 1], [0, 1], "third"), line([0, 1], [1, 0], "second")))
    assert page_svg(Chart("c", (panel, other), "")).count(">second<") == 2
    assert ">straight<" not in page_svg(chart(STRAIGHT, Points((0.5,), (0.5,))))  # one label needs no legend


def test_log_ticks_are_plain_near_one_and_powers_beyond():
    svg = page_svg(chart(line([1, 10, 1000], [1.0, 0.1, 1e-6], "a"), x_log=True, y_log=True))
    assert ">10⁻⁶<" in svg
    assert "<tspan" not in svg  # a power in the reader's own font, not mathtext
    assert ">100<" in svg
    assert ">5<" in page_svg(chart(line([2, 8], [2, 8], "a"), x_log=True, y_log=True))


def test_a_logarithmic_axis_has_ticks_at_1_2_and_5_below_two_decades_and_at_powers_of_ten_beyond():
    below, beyond = (drawn(line([1, end], [1, end], "a"), x_log=True, x_range=(0.8, end)) for end in (60, 6000))
    shown = [[x for x in axes.get_xticks() if 0.8 <= x <= end] for axes, end in ((below, 60), (beyond, 6000))]
    assert shown[0] == pytest.approx([1, 2, 5, 10, 20, 50])
    assert shown[1] == pytest.approx([1, 10, 100, 1000])


def test_a_chart_on_its_own_brings_the_colors_that_it_names():
    svg = chart_svg(chart(STRAIGHT, line([0, 1], [1, 0], "b"), Rule(0.5)))
    named = set(re.findall(r"var\(--([a-z0-9-]+)\)", svg))
    defined = dict(re.findall(r"--([a-z0-9-]+): ([^;]+);", svg))
    assert named == set(defined)
    assert named >= {"series-1", "series-2", "muted"}
    assert all(LIGHT[name] == defined[name] for name in named - {"figure-font"})
    assert f"background: {LIGHT['paper']}" in svg


def test_dollar_signs_in_names_are_no_mathematics():
    """A column called "$^{$" is none that mathtext can read."""
    axes = drawn(groups(["$^{$", "price in $"], {"$x$": [1.0, 2.0]}))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["$^{$", "price in $"]
    chart_svg(Chart("$_{$", (Panel("", "", "", (groups(["$^{$"], {"$x_{$": [1.0]}),)),), ""))


def test_names_of_groups_that_would_overlap_are_slanted():
    short, long = (drawn(groups([name * 12 for name in "abcdefgh"[:n]], {"s": [1.0] * n})) for n in (3, 8))
    assert [axes.get_xticklabels()[0].get_rotation() for axes in (short, long)] == [0, 35]

"""The checks of every figure see what they should."""

import pytest
import torch
from figure_checks import misdrawn, of_odd_steps, of_one_name, outside_of_its_band, unlike_a_density, unlike_its_axes

from diffuscope.findings import Bars, Chart, Panel, heat_map, intervals, line


def chart_of(*marks, equal_scales=False):
    return Chart("c", (Panel("p", "x", "y", marks, equal_scales=equal_scales),), "h")


def test_lines_that_leave_their_band_or_go_back_and_forth_are_seen():
    inside, beside = ([1, 2], [1, 2], "a", [0, 2], [1, 3]), ([1, 2], [1, 2], "a", [0, 1], [1, 1.9])
    for given, found in ((inside, []), (beside, ["c: p"])):
        x, y, label, low, high = given
        assert outside_of_its_band(chart_of(line(x, y, label, low=low, high=high))) == found
    for x, y, found in (
        ([1, 3], [2, 1], []),
        ([3, 2, 1], [2, 1, 5], []),
        ([1, 3, 2], [2, 1, 5], ["c: p: a"]),
        ([1], [2], ["c: p: a"]),
        ([1, 2], [1, float("nan")], ["c: p: a"]),
    ):
        assert misdrawn(chart_of(line(x, y, "a"))) == found
    assert misdrawn(chart_of(line([1, 3, 2], [2, 1, 5], "a"), equal_scales=True)) == []


@pytest.mark.parametrize(
    ("x", "logarithmic", "found"),
    [
        ([1, 2, 4, 8], True, []),
        ([1, 2, 4, 8], False, ["c: p: horizontal axis"]),
        ([1, 3, 5, 7], False, []),
        ([1, 3, 5, 7], True, ["c: p: horizontal axis"]),
        ([1, 2, 4, 5], False, []),  # not even a decade: either
        ([0, 1, 10, 100], False, []),  # not without zero
    ],
)
def test_axes_that_crowd_their_values_are_seen(x, logarithmic, found):
    chart = Chart("c", (Panel("p", "n", "error", (line(x, x),), x_log=logarithmic),), "h")
    assert unlike_its_axes(chart) == found


def test_planes_without_equal_scales_and_equal_quantities_on_two_axes_are_seen():
    for label, equal, found in (("x", True, []), ("x", False, ["c: p: scales"]), ("t", True, ["c: p: scales"])):
        assert (
            unlike_its_axes(Chart("c", (Panel("p", label, "y", (line([1], [1]),), equal_scales=equal),), "h")) == found
        )
    names = Panel("p", "", "", (intervals({"a": (1, 0, 2)}),))
    assert unlike_its_axes(Chart("c", (names,), "h")) == []
    one, other = (Panel("p", "t", label, (line([1], [1]),)) for label in ("error", "bias"))
    for panels, shared, wrong in (((one, one), True, 0), ((one, one), False, 1), ((one, other), True, 1)):
        assert unlike_its_axes(Chart("c", panels, "h", shared_y=shared)) == ["c: vertical axis"] * wrong


def test_marks_of_one_name_are_seen():
    a, b, nameless = line([1], [1], "a"), line([1], [2], "b"), line([1], [3])
    assert of_one_name(chart_of(a, b, nameless, nameless)) == []
    assert of_one_name(chart_of(a, b, a)) == ["c: p"]


@pytest.mark.parametrize(
    ("x", "odd"),
    [
        ([k / 60 for k in range(61)], False),  # a round number of steps
        ([k / 61 for k in range(62)], True),
        ([k * 0.05 for k in range(62)], False),  # a round step
        ([1 + k * 3 / 61 for k in range(62)], True),
        ([k * 0.0333333 for k in range(62)], False),  # to an end that is not round
        ([10 ** (k / 31) for k in range(63)], False),  # 31 to a decade
        ([10 ** (2 * k / 61) for k in range(62)], True),
        ([k**2 / 4 for k in range(62)], False),  # not even
        ([k / 7 for k in range(8)], False),  # few
    ],
)
def test_even_steps_that_are_not_round_are_seen(x, odd):
    wrong = [f"c: p: {len(x)} steps"] * odd
    assert of_odd_steps(chart_of(line(x, x))) == wrong
    assert of_odd_steps(chart_of(Bars(tuple(x), tuple(x[1:])))) == wrong
    assert of_odd_steps(chart_of(heat_map(x, [0, 1], torch.zeros(1, len(x) - 1)))) == wrong


def test_densities_of_too_much_mass_and_histograms_beside_their_curve_are_seen():
    def shown(*marks, y_label="density"):
        return Chart("c", (Panel("p", "x", y_label, marks),), "h")

    one, much = line([0, 1], [1, 1], "one"), line([0, 1], [1.03, 1.03], "much")
    assert unlike_a_density(shown(one)) == unlike_a_density(shown(much, y_label="y")) == []
    assert unlike_a_density(shown(much)) == ["p: much"]
    assert unlike_a_density(shown(line([1, 0], [1.03, 1.03], "back"))) == ["p: back"]
    bars = Bars((0.0, 0.5, 1.0), (1.2, 0.8), "bars")  # 0.2 away
    assert unlike_a_density(shown(bars, one)) == unlike_a_density(shown(bars)) == []
    far = Bars((0.0, 0.5, 1.0), (1.3, 0.7), "far")
    assert unlike_a_density(shown(far, one)) == ["c: p: far"]
    assert unlike_a_density(shown(far, one, line([1, 0.5, 0], [0.7, 0.7, 1.6], "near"))) == []

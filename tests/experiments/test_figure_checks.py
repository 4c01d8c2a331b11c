"""The checks of every figure see what they should."""

import pytest
from figure_checks import misdrawn, outside_of_its_band, unlike_its_axes

from diffuscope.findings import Chart, Panel, intervals, line


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

"""The checks of every figure see what they should."""

from figure_checks import misdrawn, outside_of_its_band

from diffuscope.findings import Chart, Panel, line


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

"""Columns, kinds, ranges and spectra of a few values, by hand."""

import datetime
import math
from decimal import Decimal

import numpy as np
import pytest
import torch

from diffuscope.data import fit_table, spectrum_chart
from diffuscope.data.examples import Examples
from diffuscope.data.kinds import in_layout
from diffuscope.data.range_of import range_of
from diffuscope.data.raw_column import RawColumn, dates_of_texts, raw_column
from diffuscope.data.value_range import rescaled
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.findings import Line, Rule

DAY = 86_400.0


def column(values):
    return raw_column(values, "data", "x")


# what a column of values is


@pytest.mark.parametrize(
    ("values", "form", "expected"),
    [
        (np.array([1, 2], dtype=np.uint8), "numbers", [1.0, 2.0]),
        (np.array([True, False]), "texts", ["True", "False"]),
        (np.array([b"a", b"b"]), "texts", ["a", "b"]),
        (np.array(["a", ""]), "texts", ["a", None]),
        (np.array(["1970-01-02", "NaT"], dtype="datetime64[D]"), "dates", [DAY, math.nan]),
        (np.array([1_500, -500], dtype="timedelta64[ms]"), "numbers", [1.5, -0.5]),
        ([1, Decimal("2.5"), None], "numbers", [1.0, 2.5, math.nan]),
        ([1, math.nan], "numbers", [1.0, math.nan]),
        ([True, 1], "texts", ["True", "1"]),
        ([datetime.date(1970, 1, 3), None], "dates", [2 * DAY, math.nan]),
        ([datetime.datetime(1970, 1, 1, 0, 0, 1, 500_000)], "dates", [1.5]),
        ([datetime.date(1970, 1, 1), "a"], "texts", ["1970-01-01", "a"]),
        ([None, math.nan, ""], "nothing", [math.nan] * 3),
        (np.array([math.nan, math.nan]), "nothing", [math.nan] * 2),
    ],
)
def test_the_form_of_a_column_is_that_of_its_values_and_the_missing_ones_have_none(values, form, expected):
    found = column(values)
    assert found.form == form
    assert found.values.tolist() == pytest.approx(expected, nan_ok=True)
    assert found.missing.tolist() == [value is None or value != value for value in expected]
    assert len(found) == len(values)


def test_values_are_named_as_texts_without_points_that_they_do_not_need():
    assert column([2.0, 2.5, None, -3]).texts().tolist() == ["2", "2.5", None, "-3"]
    dates = RawColumn("dates", np.array([DAY + 1.5, math.nan]))
    assert dates.texts().tolist() == ["1970-01-02T00:00:01.500000", None]
    assert column(["a", None]).texts().tolist() == ["a", None]


def test_texts_are_dates_only_where_all_are():
    dates = dates_of_texts(column(["1970-01-02", None, "1970-01-01 00:00:01.5", "1970-01-01T01:00+01:00"]))
    assert dates is not None
    assert dates.form == "dates"
    assert dates.values.tolist() == pytest.approx([DAY, math.nan, 1.5, 0.0], nan_ok=True)
    for other in (["1970-01-02", "a"], ["1970-02-31"], ["1970-1-2"], [None, ""]):
        assert dates_of_texts(RawColumn("texts", np.array([text or None for text in other], dtype=object))) is None


# the coordinates of a column


def coordinates(values, others=None):
    """Of the one column of a table that has these values."""
    (fitted,) = fit_table({"x": values}).columns
    return fitted, fitted.encode(column(values if others is None else others))[0]


def test_ranks_and_missing_values_have_the_coordinates_of_their_definition():
    """Ranks 1/6, 1/2, 5/6 of variance 2/27; a share 1/4 is missing: s^2 = 1 / (4/27 (1 - 1/16)) = 7.2."""
    fitted, z = coordinates([1.5, 2.0, 9.0, None])
    scale = math.sqrt(7.2)
    assert (fitted.kind, fitted.width, fitted.scale) == ("numeric", 2, pytest.approx(scale))
    missing = scale * math.sqrt(2 / 27)
    expected = [[scale / 6, 0], [scale / 2, 0], [scale * 5 / 6, 0], [scale / 2, missing]]
    assert z.tolist() == [pytest.approx(row, rel=1e-6) for row in expected]
    assert fitted.missing == pytest.approx(missing)
    assert fitted.decode(z).tolist() == pytest.approx([1.5, 2.0, 9.0, math.nan], nan_ok=True)
    nearer = np.array([[0.4, 0.49 * missing], [0.4, fitted.missing / 2], [0.4, 0.51 * missing]])
    assert np.isnan(fitted.decode(nearer)).tolist() == [False, False, True]  # the nearer of the two sets


def test_where_none_was_missing_a_missing_number_lies_at_rank_minus_one():
    """1 and 2 of ranks 1/4 and 3/4: s^2 = 1 / (2/16) = 8; what is below three quarters of that is missing."""
    fitted, z = coordinates([1.0, 2.0], [1.0, None, 2.0])
    assert z[:, 0].tolist() == pytest.approx([math.sqrt(8) / 4, -math.sqrt(8), 3 * math.sqrt(8) / 4], rel=1e-6)
    assert fitted.encode(column([1.0, None, None]))[1] == (
        "column 'x': 2 values are missing, of which the data have none",
    )
    assert fitted.encode(column([1.0]))[1] == ()
    border = -0.75 * fitted.scale
    assert fitted.scale == pytest.approx(math.sqrt(8))
    near = np.array([[border - 0.01], [border], [border + 0.01]])
    assert np.isnan(fitted.values(near)).tolist() == [True, False, False]


def test_no_two_values_are_farther_apart_than_ten():
    """One of 100: ranks 0.495 and 0.995, half of the range apart: s = (10/0.25)^(1/2)."""
    fitted, z = coordinates([0.0] * 99 + [1.0])
    assert fitted.scale == pytest.approx(math.sqrt(40))
    assert float(np.ptp(z)) ** 2 == pytest.approx(10, rel=1e-6)


@pytest.mark.parametrize(("rows", "square"), [(2, 2.0), (4, 8 / 3), (100, 10.0)])
def test_a_constant_and_what_is_missing_of_it_count_like_two_categories(rows, square):
    """A share m: 1 / (2 m (1 - m)), at most 10."""
    fitted, z = coordinates([7.0] * (rows - 1) + [None])
    assert fitted.scale == pytest.approx(math.sqrt(10))
    assert float(((z[0] - z[-1]) ** 2).sum()) == pytest.approx(square, rel=1e-6)
    assert coordinates([7.0, 7.0])[1].shape == (2, 1)


def test_categories_are_multiples_of_the_unit_vectors_and_another_one_of_their_sum():
    """Shares 1/2 and 1/4, 1/4 (missing): c^2 = 1 / (2 (1 - 3/8)) = 0.8; a = c (4^(1/2) - 1) / 3 = c / 3."""
    fitted, z = coordinates(["b", "a", None, "b"], ["a", "b", None, "z", "y", "z"])
    c = math.sqrt(0.8)
    assert (fitted.categories, fitted.width, fitted.missing) == (("a", "b"), 3, 1.0)
    expected = [[c, 0, 0], [0, c, 0], [0, 0, c], *[[-c / 3] * 3] * 3]
    assert z.tolist() == [pytest.approx(row, rel=1e-6) for row in expected]
    assert fitted.values(z).tolist() == [0, 1, -1, 2, 2, 2]
    assert fitted.decode(z).tolist() == ["a", "b", "", "(other)", "(other)", "(other)"]
    (note,) = fitted.encode(column(["a", "z", "y", "z"]))[1]
    assert note == "column 'x': 3 of 4 values are of categories that the data do not have, such as 'y'"


def test_a_row_stands_for_the_nearest_category():
    """Between (c, 0) and -a (1, 1), and between (c, 0) and (0, c): c^2 = 1 / (2 (1 - 5/8)), a = c (3^(1/2) - 1) / 2."""
    fitted, _ = coordinates(["a", "b", "a", "a"])
    c = math.sqrt(4 / 3)
    a = c * (math.sqrt(3) - 1) / 2
    assert (fitted.scale, fitted._other) == (pytest.approx(c), pytest.approx(a))
    middle = np.array([(c - a) / 2, -a / 2])
    for nearer, code in ((0.01, 0), (-0.01, 2)):
        assert fitted.values((middle + nearer * np.array([c + a, a]))[None]).tolist() == [code]
    assert fitted.values(np.array([[0.5, 0.51], [0.51, 0.5]])).tolist() == [1, 0]
    found = fitted.encode(column(["a", None, "c"]))[0].tolist()
    assert found == [pytest.approx([c, 0]), *[pytest.approx([-a, -a])] * 2]
    assert fitted.encode(column(["a", None, None]))[1] == (
        "column 'x': 2 values are missing, of which the data have none",
    )


def test_a_column_of_one_category_is_capped():
    assert coordinates(["a", "a"])[0].scale == pytest.approx(math.sqrt(5))  # another one at squared distance 10


def test_dates_are_written_as_days_where_all_are():
    for values, written in (
        (["2024-05-01", None, "2024-05-02"], ["2024-05-01", "", "2024-05-02"]),
        (["2024-05-01", "2024-05-01T12:00"], ["2024-05-01T00:00:00", "2024-05-01T12:00:00"]),
    ):
        table = fit_table({"x": values})
        assert table.decode(table.encode({"x": values}))[0].tolist() == written


# kinds and ranges


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 4, 5), (2, 1, 4, 5)),
        ((6, 4, 2), (6, 1, 4, 2)),
        ((6, 4, 4), (6, 1, 4, 4)),
        ((1, 4, 5), None),
        ((6, 4, 1), None),
        ((6, 4, 3), None),
        ((6, 1, 4, 5), (6, 1, 4, 5)),
        ((6, 3, 4, 5), (6, 3, 4, 5)),
        ((6, 4, 5, 1), (6, 1, 4, 5)),
        ((6, 4, 5, 3), (6, 3, 4, 5)),
        ((6, 2, 4, 3), (6, 3, 2, 4)),
        ((6, 3, 5, 4), (6, 3, 5, 4)),
        ((6, 3, 5, 3), None),
        ((6, 2, 4, 5), None),
        ((6, 4, 5, 2), None),
        ((6, 4, 5, 4), None),
        ((6, 4, 5, 6, 7), (6, 4, 5, 6, 7)),
        ((6,), None),
        ((6, 1, 4, 5, 6, 7), None),
        ((6, 0), None),
    ],
)
def test_an_array_of_no_stated_kind_is_what_its_axes_say_or_refused(shape, expected):
    array = np.arange(float(np.prod(shape))).reshape(shape)
    if expected is None:
        with pytest.raises(InputError, match="data: x has shape"):
            in_layout(array, "auto", "data", "x")
        return
    values, kind = in_layout(array, "auto", "data", "x")
    assert (values.shape, kind) == (expected, "volumes" if len(shape) == 5 else "images")
    if shape != expected and len(shape) == 4:
        assert np.array_equal(values.transpose(0, 2, 3, 1), array)


def examples(*values, kind="vectors", data_range=None, dtype: type[np.generic] = np.float32):
    rows = np.array(values, dtype=dtype)
    return Examples("data", "x", rows[:, None] if rows.ndim == 1 else rows, data_range=data_range, kind=kind)


def test_the_range_is_that_of_all_parts_together():
    one, other = examples(0.0, 3.0), examples(-1.0, 2.0)
    assert range_of([one, other], None) == ((-1.0, 3.0), "by its values")
    assert range_of([one, other], (-5, 4)) == ((-5.0, 4.0), "as stated")
    by_format = examples(3, 7, data_range=(0, 255), dtype=np.uint8)
    assert range_of([by_format, by_format], None) == ((0, 255), "by format")
    with pytest.raises(InputError, match="by its format, and of the other examples not known"):
        range_of([by_format, one], None)
    with pytest.raises(InputError, match=r"integer values \(uint8\) in \[3, 7\] of a range not stated"):
        range_of([examples(3, 7, dtype=np.uint8)], None)
    with pytest.raises(InputError, match=r"the ranges are \[0, 255\] \(x\) and \[0, 1\] \(y\); expected one range"):
        range_of([by_format, Examples("data", "y", by_format.values, data_range=(0, 1), kind="vectors")], None)


@pytest.mark.parametrize("end", [0, 1])
def test_values_may_lie_a_hundred_thousandth_of_the_range_outside(end):
    """Of a range of the width 4: 4e-5."""
    for beyond, fits in ((3.9e-5, True), (4.2e-5, False)):
        part = Examples("data", "x", np.array([[-1 - beyond * (1 - end)], [3 + beyond * end]]), kind="vectors")
        if fits:
            assert range_of([part], (-1, 3))[0] == (-1.0, 3.0)
        else:
            with pytest.raises(InputError, match=r"data: x has values in .*; expected them in \[-1, 3\]"):
                range_of([part], (-1, 3))


@pytest.mark.parametrize(
    ("low", "high", "stated"),
    [
        (-0.5, 0.5, (-0.5, 0.5)),
        (-0.5, 0.4, (-1.0, 1.0)),
        (-0.4, 0.5, (-1.0, 1.0)),
        (0.2, 0.9, (0.0, 1.0)),
        (-0.9e-5, 1.0, (0.0, 1.0)),
        (-1.05e-5, 1.0, (-1.0, 1.0)),
        (0.0, 1 + 1.05e-5, None),
        (-1 - 1.05e-5, 0.0, None),
        (-1 - 0.9e-5, 1 + 0.9e-5, (-1.0, 1.0)),
    ],
)
def test_images_of_fractions_lie_in_one_of_three_ranges(low, high, stated):
    part = Examples("data", "x", np.array([low, high])[:, None, None, None], kind="images")
    if stated is None:
        with pytest.raises(InputError, match=r"expected \[0, 1\] or \[-1, 1\], or --data-range"):
            range_of([part], None)
    else:
        assert range_of([part], None) == (stated, "by its values")


def test_units_are_compared_for_images_only():
    unit, fifty = (Examples("data", "x", np.array([0.0, top])[:, None, None, None], kind="images") for top in (1, 60))
    with pytest.raises(InputError, match="expected both in the same units"):
        range_of([unit, fifty], (0, 60))
    assert range_of([examples(0.0, 1.0), examples(0.0, 60.0)], (0, 60))[0] == (0.0, 60.0)


def test_a_range_is_mapped_affinely():
    """From [2, 6] to [-3, 5]: 2 x - 7."""
    assert rescaled(torch.tensor([[2.0], [3.0], [6.0]]), (2, 6), (-3, 5)).tolist() == [[-3.0], [-1.0], [5.0]]


# spectra


@pytest.mark.parametrize("unit", [1.0, 1 / 16])
def test_a_spectrum_is_drawn_with_its_tail_and_its_explained_share(unit):
    """Eigenvalues 5 and 2 of 4 dimensions, 0.5 for the others: sums 5, 7, 7.5, 8; in whatever unit."""
    vectors = torch.eye(4, dtype=torch.float64)[:, :2]
    gaussian = Gaussian(torch.zeros(4).double(), vectors, unit * torch.tensor([5.0, 2.0]).double(), 0.5 * unit)
    variance, explained = spectrum_chart(gaussian).panels
    (eigenvalues,), (share,) = variance.marks, explained.marks
    assert isinstance(eigenvalues, Line)
    assert isinstance(share, Line)
    assert (eigenvalues.x, eigenvalues.y) == ((1, 2, 3, 4), (5 * unit, 2 * unit, unit / 2, unit / 2))
    assert share.y == pytest.approx((5 / 8, 7 / 8, 7.5 / 8, 1))
    assert (variance.x_log, variance.y_log, explained.x_log, explained.y_log) == (True, True, True, False)
    assert explained.y_range == (0.0, 1.02)


def test_eigenvalues_that_are_zero_to_rounding_are_not_drawn():
    values = torch.tensor([5.0, 5.1e-12, 4.9e-12], dtype=torch.float64)
    gaussian = Gaussian(torch.zeros(3).double(), torch.eye(3, dtype=torch.float64), values, 0.0)
    drawn = spectrum_chart(gaussian).panels[0].marks[0]
    assert isinstance(drawn, Line)
    assert drawn.x == (1, 2)


def test_where_a_sample_is_too_small_the_lowest_reliable_level_is_drawn_if_there_is_one():
    rows = torch.randn(40, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 9)
    marks = spectrum_chart(Gaussian.fit([rows], None)).panels[0].marks
    assert isinstance(marks[1], Rule)
    assert marks[1].axis == "y"
    isotropic = Gaussian.isotropic(torch.zeros(8, dtype=torch.float64), 2.0)
    assert len(spectrum_chart(isotropic).panels[0].marks) == 1  # not of a sample
    empty = Gaussian.isotropic(torch.zeros(3, dtype=torch.float64), 0.0)
    (variance,), (share,) = (panel.marks for panel in spectrum_chart(empty).panels)
    assert isinstance(variance, Line)
    assert isinstance(share, Line)
    assert (variance.y, share.y) == ((), (0.0, 0.0, 0.0))

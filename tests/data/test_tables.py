"""A table's columns count alike, its values come back, and what cannot be compared is said or refused."""

from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from diffuscope.data import fit_table
from diffuscope.data.ranks import KNOTS, ranks_of
from diffuscope.data.raw_column import is_none
from diffuscope.data.table import as_frame
from diffuscope.data.table_column import FARTHEST
from diffuscope.errors import InputError


def adult_like(n: int = 400, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    income = rng.lognormal(10, 2, n)
    income[rng.random(n) < 0.2] = np.nan
    days = np.datetime64("2020-01-01") + rng.integers(0, 900, n)
    color = rng.choice(["red", "green", "blue"], n, p=[0.6, 0.3, 0.1]).astype(object)
    color[rng.random(n) < 0.1] = None
    return {
        "age": rng.integers(18, 90, n), "income": income, "color": color, "married": rng.random(n) < 0.4, "since": days,
        "children": rng.poisson(1.0, n),
    }  # fmt: skip


def mean_square_of_pairs(rows: torch.Tensor) -> float:
    """The mean squared distance of two random rows, with replacement: summed over all pairs."""
    return float((torch.cdist(rows.double(), rows.double()) ** 2).mean())


def test_every_column_contributes_one_to_the_squared_distance_of_two_random_rows():
    table = fit_table(adult_like())
    rows = table.encode(adult_like())
    for column in table.columns:
        assert mean_square_of_pairs(rows[:, column.start : column.stop]) == pytest.approx(1, rel=1e-5), column.name
    assert mean_square_of_pairs(rows) == pytest.approx(len(table.columns), rel=1e-5)


def test_a_column_without_ties_has_the_scale_of_the_uniform_distribution():
    # V = (n^2 - 1) / (12 n^2) for ranks (i - 1/2) / n
    n = 300
    column = fit_table({"x": np.random.default_rng(1).standard_normal(n)}).columns[0]
    assert column.scale == pytest.approx(sqrt(6 * n**2 / (n**2 - 1)), rel=1e-12)


def test_a_heavy_tail_and_its_logarithm_are_encoded_alike():
    x = np.random.default_rng(2).lognormal(0, 5, 500)
    heavy, light = fit_table({"x": x}).encode({"x": x}), fit_table({"x": np.log(x)}).encode({"x": np.log(x)})
    assert torch.equal(heavy, light)


def test_categories_are_at_the_distance_that_their_shares_give_and_another_one_as_far_as_any():
    table = fit_table({"c": ["a"] * 5 + ["b"] * 3 + ["c"] * 2})
    rows = table.encode({"c": ["a", "b", "c", "new", "also new"]})
    # 2 c^2 = 1 / (1 - sum p^2)
    expected = 1 / (1 - (0.25 + 0.09 + 0.04))
    distances = torch.cdist(rows[:4].double(), rows[:4].double()) ** 2
    assert torch.allclose(distances[~torch.eye(4, dtype=torch.bool)], torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(rows[3], rows[4])


def test_missing_numbers_are_as_far_from_the_others_as_these_are_from_each_other():
    x = np.random.default_rng(3).random(200)
    x[:50] = np.nan
    rows = fit_table({"x": x}).encode({"x": x}).double()
    squares = torch.cdist(rows, rows) ** 2
    assert float(squares[:50, :50].max()) == 0
    assert float(squares[:50, 50:].mean()) == pytest.approx(float(squares[50:, 50:].mean()), rel=1e-6)


@pytest.mark.parametrize("values", [np.r_[np.zeros(999), 1.0], np.array(["a"] * 999 + ["b"], dtype=object)])
def test_a_nearly_constant_column_is_not_blown_up(values: np.ndarray):
    rows = fit_table({"x": values}).encode({"x": values}).double()
    assert float((rows[0] - rows[-1]).square().sum()) == pytest.approx(FARTHEST, rel=1e-6)
    # 2 * 999 pairs of 1000^2 are apart
    assert mean_square_of_pairs(rows) == pytest.approx(FARTHEST * 2 * 999 / 1000**2, rel=1e-5)


def test_the_cap_begins_where_fewer_than_five_percent_differ():
    for n, reached in ((60, True), (50, False)):  # of 1000: p (1 - p) against 1/20
        x = np.r_[np.zeros(1000 - n), np.ones(n)]
        rows = fit_table({"x": x}).encode({"x": x})
        assert (mean_square_of_pairs(rows) > 0.9999) is reached


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-1e30, 1e30, allow_nan=False), min_size=2, max_size=40),
    st.lists(st.floats(-1e30, 1e30, allow_nan=False), min_size=1, max_size=10),
)
def test_ranks_keep_the_order_and_lead_back_to_the_values(fitted: list[float], others: list[float]):
    x = np.array(fitted)
    ranks = ranks_of(x)
    assert np.array_equal(ranks.inverse(ranks(x).astype(np.float32).astype(np.float64)), x)
    counts = [((x < v).sum() + (x == v).sum() / 2) / len(x) for v in x]
    assert np.allclose(ranks(x), counts, rtol=0, atol=1e-15)
    f = ranks(np.sort(np.array(others)))
    assert (np.diff(f) >= 0).all()
    assert (np.abs(f - 0.5) <= 1).all()


def test_ranks_are_those_of_scipy():
    x = np.random.default_rng(7).poisson(3, 500).astype(np.float64)
    assert np.allclose(ranks_of(x)(x), (rankdata(x) - 0.5) / len(x), rtol=0, atol=1e-15)


def test_many_values_are_ranked_within_one_over_the_number_of_knots():
    x = np.random.default_rng(4).standard_cauchy(50_000)
    x[:20_000] = 0.0  # an atom
    ranks = ranks_of(x)
    ordered = np.sort(x)
    exact = (np.searchsorted(ordered, x, "left") + np.searchsorted(ordered, x, "right")) / 2 / len(x)
    assert len(ranks.knots) <= KNOTS + 2
    assert np.abs(ranks(x) - exact).max() <= 2 / KNOTS
    assert ranks(np.zeros(1))[0] == exact[0]


def test_rows_decode_to_the_values_they_were_encoded_from():
    source = adult_like()
    table = fit_table(source)
    for mapped, rows in ((table, table.encode(source)), (table.in_range((-3, 3), (-1, 1)), None)):
        age, income, color, married, since, children = mapped.decode(mapped.encode(source) if rows is None else rows)
        assert np.array_equal(age, source["age"])
        assert np.array_equal(income, source["income"], equal_nan=True)
        assert np.array_equal(color == "", is_none(source["color"]))
        assert (color[color != ""] == source["color"][color != ""]).all()
        assert np.array_equal(married, source["married"].astype(str))
        assert np.array_equal(since, source["since"].astype(str))
        assert np.array_equal(children, source["children"])


def test_mapping_a_table_twice_is_mapping_it_once_by_the_composition():
    """[0, 1] to [-1, 1], and [-1, 1] to [0, 255]: 255 z; the values that rows stand for stay what they were."""
    source = {"x": [1.0, 2.0, 3.0, np.nan], "c": ["b", "a", None, "b"], "y": [1.0, 2.0, 3.0, 4.0]}
    table = fit_table(source)
    twice, once = table.in_range((0, 1), (-1, 1)).in_range((-1, 1), (0, 255)), table.in_range((0, 1), (0, 255))
    assert [(column.low, column.gain) for column in twice.columns] == [(0.0, 255.0)] * 3
    rows = twice.encode(source)
    torch.testing.assert_close(rows, once.encode(source), rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(rows, 255 * table.encode(source), rtol=1e-6, atol=1e-4)
    for ours, theirs in zip(twice.decode(rows), table.decode(table.encode(source)), strict=True):
        assert ours.tolist() == pytest.approx(theirs.tolist(), nan_ok=True) if ours.dtype == float else list(theirs)


def test_values_of_a_column_are_its_coordinate_or_its_category():
    table = fit_table({"x": [1.0, 2.0, 3.0, np.nan], "c": ["b", "a", None, "b"], "y": [1.0, 2.0, 3.0, 4.0]})
    for which in (table, table.in_range((0, 1), (-1, 1))):
        rows = which.encode({"x": [2.0, np.nan], "c": ["b", None], "y": [np.nan, 4.0]})
        x, c, y = which.columns
        assert x.values(rows)[0] == rows[0, x.start].item()
        assert np.isnan(x.values(rows)).tolist() == [False, True]
        assert np.isnan(y.values(rows)).tolist() == [True, False]
        assert c.values(rows).tolist() == [1, -1]
        assert c.values(which.encode({"x": [1], "c": ["z"], "y": [1]})).tolist() == [2]


def test_a_value_beyond_those_of_the_data_is_another_point_than_the_largest():
    table = fit_table({"x": [0.0, 1.0, 2.0, 3.0]})
    rows = table.encode({"x": [3.0, 3.3, 1e9, -1e9]})[:, 0].double() / table.columns[0].scale
    # slope 1/3 beyond 7/8, for half a width at most
    assert torch.allclose(rows, torch.tensor([7 / 8, 7 / 8 + 0.1, 7 / 8 + 0.5, 1 / 8 - 0.5], dtype=torch.float64))


def test_what_cannot_be_compared_is_left_out_and_named():
    rng = np.random.default_rng(5)
    n = 100
    names = np.array([f"person {i}" for i in range(n)], dtype=object)
    table = fit_table({"name": names, "row": np.arange(n), "empty": [None] * n, "x": rng.random(n)})
    assert [column.name for column in table.columns] == ["x"]
    assert table.left_out == ("name", "row", "empty")
    # a generator need not have them
    assert len(table.encode({"x": [0.5]})) == 1
    assert len(table.encode({"x": [0.5], "name": ["somebody"]})) == 1
    with pytest.raises(InputError, match=r"no column to compare .*an identifier or free text.*; expected one$"):
        fit_table({"name": names})


def test_dates_are_read_from_texts_and_keep_their_distances():
    texts = ["2024-01-01", "2024-01-02T12:00:00Z", "2024-01-04 00:00:00", None]
    stamps = np.array(["2024-01-01", "2024-01-02T12:00:00", "2024-01-04", "NaT"], dtype="datetime64[s]")
    column = as_frame({"t": texts}, "a", "b")
    table = fit_table({"t": texts})
    assert table.columns[0].kind == "date"
    assert torch.equal(table.encode({"t": texts}), fit_table({"t": stamps}).encode({"t": stamps}))
    assert table.decode(table.encode({"t": texts}))[0].tolist() == [
        "2024-01-01T00:00:00",
        "2024-01-02T12:00:00",
        "2024-01-04T00:00:00",
        "",
    ]
    assert column.columns["t"].form == "texts"
    assert fit_table({"t": ["2024-02-31", "2024-01-01"]}).columns[0].kind == "categorical"


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"x": [1.0]}, "lacks 'c'; expected the columns of the data, 'x', 'c'"),
        ({"x": [1.0], "c": ["a"], "z": [1]}, "has in addition 'z'"),
        ({"X": [1.0], "c": ["a"]}, "lacks 'x' and has in addition 'X'"),
        ({"x": ["1"], "c": ["a"]}, "column 'x' of the table has texts; expected numbers"),
        ({"x": [1.0], "c": [3]}, "column 'c' of the table has numbers; expected texts"),
        ({"x": [1.0, 2.0], "c": ["a"]}, "has columns of 1, 2 values; expected one length"),
        ({"x": [np.inf], "c": ["a"]}, "column 'x' of the table has 1 numbers that are infinite"),
        ({"x": [[1, 2]], "c": ["a"]}, "column 'x' of the table holds list, expected numbers, texts or dates"),
        ([1, 2], "got list, expected a DataFrame or a mapping"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line(table, told):
    with pytest.raises(InputError) as refused:
        fit_table({"x": [1.0, 2.0], "c": ["a", "b"]}).encode(table)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_tables_that_differ_or_are_empty_are_one_line():
    with pytest.raises(InputError, match="different columns, 'y' in only one of them"):
        fit_table({"x": [1.0]}, {"x": [1.0], "y": [2.0]})
    with pytest.raises(InputError, match="column 'x' is numbers in the table, texts in the table"):
        fit_table({"x": [1.0, 2.0]}, {"x": ["a", "b"]})
    for empty in ({}, {"x": []}):
        with pytest.raises(InputError, match="is empty; expected a table with columns and rows"):
            fit_table(empty)

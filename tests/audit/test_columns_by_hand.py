"""Features, cells and distances of columns, and the tests of coverage, on rows that are counted."""

import math

import numpy as np
import pytest
import torch
from results_of_samples import columns, pairs, permuted_by_hand

from diffuscope.audit.column_distances import UNIT, ColumnDistances, column_distances, taken
from diffuscope.audit.column_pairs import (
    CONSTANT,
    WORK,
    _Features,
    _features,
    _measure,
    column_pairs,
    rows_within,
)
from diffuscope.audit.column_permutations import permuted_tests
from diffuscope.audit.column_shares import _cells, _coarse, _distances, column_shares, rows_of_columns
from diffuscope.audit.coverage import _inside, _permuted, _some, _without_a_part, coverage
from diffuscope.data import Column, fit_table
from numbers_in_tests import rng

# pairs of columns


def column(kind, width=1):
    return Column(name="c", kind=kind, start=0, stop=width, scale=1.0, missing=0.0)


def features(*columns):
    return _features(
        [np.array(values, dtype=float) for _, values in columns], tuple(column(kind) for kind, _ in columns)
    )


def test_numbers_are_ranks_about_their_middle_and_missing_values():
    found = features(("number", [30.0, 10.0, math.nan, 20.0, 20.0, 90.0]))
    # ranks 4, 1, 2.5, 2.5, 5 less their mean of 3, over 2
    assert found.z.tolist() == [[0.5, 0], [-1.0, 0], [0.0, 1], [-0.25, 0], [-0.25, 0], [1.0, 0]]
    assert (found.starts.tolist(), found.freedom.tolist(), found.indicator.tolist()) == ([0], [2], [0.0, 0.0])
    assert features(("number", [7.0, 8.0])).z.tolist() == [[-0.5], [0.5]]
    assert features(("date", [5.0, 5.0])).z.tolist() == [[0.0], [0.0]]


def test_the_six_most_frequent_categories_have_an_indicator_and_all_others_one():
    counts = [3, 8, 5, 1, 7, 6, 2, 4]  # of the codes 0 .. 7: the rarest are 3 and 6
    found = features(("categorical", np.repeat(np.arange(8), counts)))
    firsts = found.z[np.cumsum([0, *counts[:-1]])]
    place = {1: 0, 4: 1, 5: 2, 2: 3, 7: 4, 0: 5, 6: 6, 3: 6}
    assert [int(row.argmax()) for row in firsts] == [place[code] for code in range(8)]
    assert found.z.sum(0).tolist() == [8, 7, 6, 5, 4, 3, 3]
    assert (found.freedom.tolist(), found.indicator.tolist()) == ([6], [1.0] * 7)
    tied = features(("categorical", [4, 4, 2, 2]), ("number", [1, 2, 3, 4]), ("categorical", [0, 0, 0, 0]))
    assert tied.z[:, :2].tolist() == [[0, 1], [0, 1], [1, 0], [1, 0]]  # the lower code first
    assert tied.starts.tolist() == [0, 2, 3]
    assert tied.freedom.tolist() == [1, 1, 1]
    assert tied.indicator.tolist() == [1, 1, 0, 1]


def test_correlations_are_over_the_deviation_of_numbers_and_the_root_of_the_share_of_indicators():
    z = np.array([[1.0, 1, 0], [-1.0, 1, 0], [1.0, 0, 1], [3.0, 1, 0]])
    found = _Features(z, np.array([0, 1]), np.array([1, 1]), np.array([0.0, 1, 1]))
    matrix = found.correlations(z.T @ z, z.sum(0), 4)
    assert np.diagonal(matrix) == pytest.approx([1.0, 1 / 4, 3 / 4])  # of indicators 1 - p
    # covariances with the share of the second are 3/4 * (1 - 1) and 0; of the third 1/4 * (1 - 1)
    assert matrix[0, 1:] == pytest.approx([0.0, 0.0])
    assert matrix[1, 2] == pytest.approx(-(3 / 16) / (3 / 16) ** 0.5)
    norms = found.norms(np.array([[3.0, 4.0, 0.0], [1.0, 2.0, 2.0], [0.0, 2.0, 0.0]]))
    assert norms == pytest.approx(np.array([[3.0, 4.0], [1.0, 12**0.5]]))
    wide = _Features(z, np.array([0, 1]), np.array([4, 9]), np.array([0.0, 1, 1]))
    assert wide.norms(np.ones((3, 3))) == pytest.approx(np.array([[0.5, 2**0.5 / 2], [2**0.5 / 2, 2 / 3]]))


@pytest.mark.parametrize(("times", "varies"), [(0.9, False), (1.0, False), (1.05, True)])
def test_a_variance_of_a_millionth_is_none(times, varies):
    one = _Features(np.zeros((1, 1)), np.array([0]), np.array([1]), np.array([0.0]))
    found = one.correlations(np.array([[times * CONSTANT * 8]]), np.zeros(1), 8)
    assert found.tolist() == [[pytest.approx(1.0) if varies else 0.0]]
    assert CONSTANT == 1e-6


@pytest.mark.parametrize(
    ("work", "kinds", "permutations", "rows"),
    [
        (1.6e9, [("number", 1)] * 10, 1000, 2000),  # 20 features: 1.6e9 / (2 * 1000 * 400)
        (1.6e9, [("categorical", 2)] * 6 + [("date", 1)], 1000, 2000),  # 3 each, and 2
        (2.4e8, [("categorical", 40)] * 2 + [("number", 1)] * 3, 500, 600),  # 7 each, and 2
        (WORK, [("number", 1)] * 50, 999, 750),  # 1.5e10 / (2 * 999 * 100^2)
        (1e9, [("number", 1)] * 50, 999, 200),
        (1e12, [("number", 1)] * 2, 999, 5000),
    ],
)
def test_as_many_rows_are_compared_as_the_permutations_allow(work, kinds, permutations, rows):
    assert rows_within(work, tuple(column(*kind) for kind in kinds), permutations) == rows


def test_pairs_are_of_the_first_fifty_columns_and_named_by_their_measures():
    n = 8
    rows = {f"c{k}": np.random.default_rng(k).permutation(n).astype(float) for k in range(52)}
    table = fit_table(rows)
    encoded = table.encode(rows)
    found = column_pairs(table, encoded, encoded, 10, rng(), permutations=3)
    assert found is not None
    assert (len(found.names), found.left_out) == (50 * 49 // 2, 2)
    assert found.names[0] == ("c0", "c1")
    assert found.names[-1] == ("c48", "c49")
    number, category = column("number"), column("categorical")
    assert _measure(number, column("date")) == "rank correlation"  # pyright: ignore[reportArgumentType]
    assert _measure(number, category) == _measure(category, number) == "correlation ratio"  # pyright: ignore
    assert _measure(category, category) == "Cramer's V"  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("n", "m"), [(5, 9), (9, 5), (7, 7)])
def test_the_distance_of_a_pair_is_the_difference_of_its_rank_correlations(n, m):
    """Whichever set is smaller, and of all rows together in the ranks."""
    values = np.random.default_rng(3).permutation(np.arange(2.0 * (n + m))).reshape(2, -1)
    table = fit_table({"a": values[0], "b": values[1]})
    encoded = table.encode({"a": values[0], "b": values[1]})
    found = column_pairs(table, encoded[:n], encoded[n:], 100, rng(), permutations=9)
    assert found is not None
    ranks = values.argsort(1).argsort(1)
    one, other = (np.corrcoef(part[0], part[1])[0, 1] for part in (ranks[:, :n], ranks[:, n:]))
    assert found.of_samples == pytest.approx([one])
    assert found.of_heldout == pytest.approx([other])
    assert found.distance == pytest.approx([abs(one - other)])
    assert (found.samples, found.others, found.known) == (n, float(m), 100.0)


# single columns


@pytest.mark.parametrize(("columns", "rows"), [(1, 5000), (200, 5000), (201, 4975), (50_000, 20), (60_000, 20)])
def test_fewer_rows_of_many_columns_are_compared(columns, rows):
    assert rows_of_columns(columns) == rows


def test_cells_are_in_the_order_of_values_with_missing_numbers_last():
    assert _cells(np.array([5.0, np.nan, 1.0, 5.0]), True).tolist() == [1, 2, 0, 1]
    assert _cells(np.array([3, -1, 3, 7]), False).tolist() == [1, 0, 1, 2]
    for count, coarse in (
        (1024, np.arange(1024)),
        (2048, np.arange(2048) // 2),
        (1025, np.arange(1025) * 1024 // 1025),
    ):
        assert (_coarse(np.arange(count)) == coarse).all()
    assert _coarse(np.arange(5000)).max() == 1023


def test_distances_of_columns_are_those_of_their_distribution_functions():
    """Samples in cells 0, 0, 3 and held-out rows in 0, 1, 2, 3: F - G is 5/12, 1/6, -1/12, 0."""
    cells = np.array([0, 0, 3, 0, 1, 2, 3])
    names = np.array([[1.0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1]]).T
    found = _distances([cells, cells], [True, False], names)
    assert found[0] == pytest.approx([5 / 12, (5 + 3 + 3 + 1) / 24])
    # one and the same cells in the other arrangement: 1, 2, 3 against 0, 0, 3, 0
    assert found[1] == pytest.approx([3 / 4, (9 + 4 + 4 + 1) / 24])
    assert _distances([np.array([0, 1, 0, 1])], [True], np.array([[1.0], [1], [0], [0]])).tolist() == [[0.0]]


def test_shares_of_missing_values_are_those_of_either_set():
    rows = {"x": [1.0, 2.0, math.nan, 4.0], "c": ["a", "b", "a", "b"]}
    others = {"x": [1.0, 2.0, 3.0, 4.0], "c": ["a", "b", None, None]}
    table = fit_table(rows, others)
    found = column_shares(table, table.encode(rows), table.encode(others), 100, rng(), permutations=9)
    assert found.missing.tolist() == [[0.25, 0.0], [0.0, 0.5]]
    assert found.distance == pytest.approx([1 / 4, 1 / 2])  # the missing one is the largest: at 2, 2/4 of 3; and -1
    assert (found.names, found.samples, found.others, found.known) == (("x", "c"), 4, 4.0, 100.0)


def test_tests_that_do_not_vary_are_not_divided_by_zero():
    found = permuted_tests(np.array([0.0, 0.5]), np.array([[0.0, 0.5], [0.0, 0.5]]), 1.0)
    assert found.spread.tolist() == [1.0, 1.0]
    assert found.p_value.tolist() == [1.0, 1.0]
    near = permuted_tests(np.array([0.5 - 0.9e-6, 0.5 - 1.2e-6]), np.array([[0.5, 0.5]] * 3), 1.0)
    assert near.p_value.tolist() == [1.0, 1.0]
    above = permuted_tests(np.array([0.5 + 0.9e-6, 0.5 + 1.2e-6]), np.array([[0.5, 0.5]] * 3), 1.0)
    assert above.p_value.tolist() == [1.0, 1 / 4]  # nearer than a millionth is tied


# distances between rows


def test_the_distance_of_rows_is_the_mean_over_columns_with_missing_values_apart():
    train = [np.array([0.0, 4.0, np.nan]), np.array([2, -1, 5])]
    of = column_distances(train, [np.array([np.inf]), np.array([7])], np.array([False, True]))
    assert of.ranges.tolist() == [4.0, 1.0]
    queries = [np.array([1.0, np.nan, 9.0]), np.array([2, -1, 2])]
    ((chunk, parts),) = of.by_column(queries, train)
    assert chunk == slice(0, 3)
    assert parts[0].tolist() == [[0.25, 0.75, 1.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    assert parts[1].tolist() == [[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
    distance, index = of.nearest(queries, train, 2)
    assert distance.tolist() == [[0.125, 0.875], [0.5, 0.5], [0.5, 1.0]]
    assert index[:, 0].tolist() == [0, 1, 0]
    assert [part.tolist() for part in taken(train, np.array([2, 0]))][1] == [5, 2]


def test_parts_are_multiples_of_a_small_unit():
    of = ColumnDistances(np.array([False]), np.array([3.0]))
    ((_, parts),) = of.by_column([np.array([1.0])], [np.array([0.0])])
    assert parts.item() == round(UNIT / 3) / UNIT != 1 / 3


# coverage


def test_a_neighborhood_holds_the_rows_whose_nearest_heldout_example_is_in_it():
    held = torch.tensor([[0.0], [1.0], [5.0]])
    near = np.array([[1, 0], [1, 0], [2, 1]])
    inside = _inside(held, near, torch.tensor([[0.2], [0.9], [9.0], [4.0]]))
    assert inside.tolist() == [[True, True, False, False], [True, True, False, False], [False, True, True, True]]
    assert _inside(held, np.array([[1], [1], [0]]), torch.tensor([[0.1]]))[:, 0].tolist() == [True, False, True]


def test_the_p_value_of_coverage_is_a_share_of_permutations_that_cover_as_little():
    """Of two rows one covers all four neighborhoods and one none: half of the arrangements are as bad."""
    inside = np.array([[True, False]] * 4)
    best, deviation = _permuted(inside, 1, rng(), 199)
    assert best == 1.0
    assert deviation == pytest.approx(0.5, abs=0.01)  # of 0 and 1
    worst = _permuted(inside[:, ::-1].copy(), 1, rng(), 199)[0]
    assert worst * 200 == pytest.approx(round(worst * 200))
    assert abs(worst - 0.5) < 4 * (0.25 / 199) ** 0.5
    assert _permuted(np.ones((3, 4), dtype=bool), 2, rng(), 9) == (1.0, 0.0)


def test_what_remains_without_a_part_is_all_but_the_nearest_to_one_row():
    rows = torch.arange(20.0)[:, None] ** 2
    rest = _without_a_part(rows, 0.25, rng())
    assert len(rest) == 15
    missing = sorted(set(range(20)) - set(rest.tolist()))
    assert len(missing) == 5
    assert any(sorted(((rows - rows[k]).abs()[:, 0]).argsort()[:5].tolist()) == missing for k in range(20))
    assert len(_without_a_part(rows, 0.09, rng())) == 19
    assert len(_some(rows, 7, rng())) == 7


def test_as_many_samples_are_used_as_half_of_the_training_examples():
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    found = coverage(x[:90], x[100:180], x[200:300], 0.01, rng())
    assert (found.size, found.heldout, found.neighbors) == (40, 100, 7)  # 2.5 * 100 / 40 = 6.25
    again = coverage(x[:30], x[100:180], x[200:203], 0.01, rng())
    assert (again.size, again.heldout, again.neighbors) == (30, 3, 1)


def test_wide_rows_are_fewer_in_coverage(monkeypatch):
    """Two sets of them are held at a time."""
    asked = []
    monkeypatch.setattr("diffuscope.audit.coverage.few_enough", lambda *sizes: asked.append(sizes) or 20)
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    found = coverage(x[:50], x[50:150], x[150:], 0.01, rng())
    assert asked == [(2000, 6)]
    assert (found.size, found.heldout, found.neighbors) == (20, 20, 3)


def test_the_largest_distance_that_there_is_can_be_detected():
    """1 of two distributions, and 2 of two associations; of endless rows the critical value is what is detected."""
    endless = {"samples": 10**40, "others": 1e40, "known": 1e40}
    for most, of in ((1.0, columns), (2.0, pairs)):
        for critical, found in ((most, most), (most + 1e-9, math.inf)):
            tests = permuted_by_hand((0.3, 0.2, 0.1), center=(critical,) * 3, spread=(0.0,) * 3)
            assert np.max(of(tests=tests, **endless).detectable(0.01)) == found

"""Attacks on tables of a few rows: which predicates single out, which guesses are right, and how sure a risk is."""

import numpy as np
import pytest
from results_of_samples import in_order
from scipy import stats

from diffuscope.audit import standard_names, table_attacks
from diffuscope.audit.column_distances import column_distances
from diffuscope.audit.measure import Measure
from diffuscope.audit.name_permutations import NEIGHBORS
from diffuscope.audit.table_attacks import QUERIES, Z, _Predicates
from numbers_in_tests import rng

NUMBERS = np.array([False])


def excess(k, n, j, m):
    train, control = (k + Z**2 / 2) / (n + Z**2), (j + Z**2 / 2) / (m + Z**2)
    return (train - control) / (1 - control)


def test_a_number_is_described_by_the_side_of_the_median_that_it_is_on():
    """The median of 1, 2 and 9 is 2: one and two are upper ends, nine is a lower end, and two fits two samples."""
    predicates = _Predicates([np.array([1.0, 2.0, 9.0])], NUMBERS, rng())
    assert sorted(predicates.row[predicates.singling]) == [0, 2]
    rows = [np.array([0.0, 1.0, 2.0, 3.0, 9.0, 9.5, np.nan])]
    queries = np.array([int(np.flatnonzero(predicates.row == record)[0]) for record in range(3)])
    assert predicates.matching(rows, queries).tolist() == [
        [1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 0],
    ]  # fmt: skip


def test_a_missing_number_is_described_as_missing_and_repeated_samples_are_one():
    predicates = _Predicates([np.array([np.nan, 4.0, 4.0, 5.0, np.nan])], NUMBERS, rng())
    # the median of what is known is 4: at most 4 fits the two equal ones, and missing the other two
    described = predicates.samples[0][predicates.row[predicates.singling]]
    assert sorted(described.tolist(), key=str) == [4.0, 5.0, pytest.approx(np.nan, nan_ok=True)]
    known = np.unique(predicates.row, return_index=True)[1]
    found = predicates.matching([np.array([np.nan, 4.0, 5.0])], known)
    assert found.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_a_column_without_a_number_is_missing_everywhere():
    predicates = _Predicates([np.full(3, np.nan), np.array([1, 2, 2])], np.array([False, True]), rng())
    assert sorted(predicates.samples[1][predicates.row[predicates.singling]]) == [1, 2]
    rows = [np.array([np.nan, 1.0, np.nan]), np.array([1, 1, 2])]
    first = np.array([int(np.flatnonzero(predicates.row == 0)[0])])
    assert predicates.matching(rows, first).tolist() == [[1, 0, 0]]
    assert (predicates.columns.sum(1) == 2).all()


def test_at_most_three_columns_are_asked_and_five_hundred_predicates_kept():
    generator = rng()
    columns = [generator.permutation(100).astype(float) for _ in range(10)]
    predicates = _Predicates(columns, np.zeros(10, dtype=bool), rng())
    assert (predicates.columns.sum(1) == 3).all()
    assert len(predicates.singling) == QUERIES == 500
    assert len(predicates.row) == 10_000
    assert (np.diff(predicates.singling) > 0).all()  # the first ones
    categories = _Predicates([np.arange(900)], np.array([True]), rng())
    assert categories.singling.tolist() == np.sort(np.unique(categories.row, return_index=True)[1])[:500].tolist()


def test_no_description_of_one_sample_is_no_attack():
    twice = [np.array([1, 1, 2, 2])]
    assert len(_Predicates(twice, np.array([True]), rng()).singling) == 2  # of the two distinct ones
    same = [np.array([3.0, 3.0]), np.array([1.0, 1.0])]
    assert len(_Predicates(same, np.zeros(2, dtype=bool), rng()).singling) > 0
    both = [np.array([1.0, 2.0])]
    found = table_attacks.singling_out(both, [np.array([0.5, 9.0, 1.5, 1.5])], NUMBERS, in_order(2, 2), rng())
    # at most 1 fits the training row 0.5 alone, at least 2 the other one; no held-out row fits either
    assert "Of 2 descriptions that fit one sample, 100.0% fit one training row and 0.0% one held-out row." in (
        found[0].meaning
    )
    assert found[0].value == pytest.approx(excess(2, 2, 0, 2))


def test_a_description_that_fits_two_rows_of_a_set_is_no_success():
    both = [np.array([1.0, 2.0])]
    (found,) = table_attacks.singling_out(both, [np.array([0.5, 0.7, 1.5, 3.0])], NUMBERS, in_order(2, 2), rng())
    # at most 1 fits both training rows; at least 2 fits the held-out row 3
    assert "0.0% fit one training row and 50.0% one held-out row" in found.meaning
    assert found.value == pytest.approx(excess(0, 2, 1, 2))


def test_an_interval_is_as_wide_as_chance_among_names_or_as_wilsons_errors():
    n = 50
    named, linked = in_order(n, n), np.repeat([1.0, 0.0], n)

    def risk(successes):
        return table_attacks._risk("r", named, lambda names: table_attacks._sums(successes, names), rng(), "m")

    found = risk(linked)
    assert found.value == pytest.approx(excess(n, n, 0, n))
    k = np.arange(n + 1)
    chance, values = stats.hypergeom.pmf(k, 2 * n, n, n), excess(k, n, n - k, n)
    deviation = (chance @ values**2 - (chance @ values) ** 2) ** 0.5
    assert found.interval is not None
    assert found.value - found.interval[0] == pytest.approx(1.96 * deviation, rel=0.1)  # of 999 permutations
    assert found.interval[1] == 1.0  # at most all
    nothing = risk(np.zeros(2 * n))
    assert nothing.value == 0.0
    error = table_attacks._error(0.0, float(n), 0.0, float(n))
    assert nothing.interval == pytest.approx((-error, error))


def guessed(samples, targets, named, categorical=(False, False), names=("a", "b")):
    columns = [np.array(column) for column in targets]
    of = column_distances(columns, columns, np.array(categorical))
    return table_attacks.inference([np.array(column) for column in samples], columns, of, named, rng(), names)


def test_the_most_exposed_column_is_the_one_farthest_from_its_null():
    """A code is guessed from the number next to it: for training rows right, for the code 77 of the others wrong."""
    n = 40
    of_samples = 1.2 ** np.arange(n)
    numbers = np.tile(1.08 * of_samples, 2)  # nearest to their own, and not within 5% of it
    codes = np.concatenate([np.arange(n), np.full(n, 77)])
    mean, worst = guessed(
        [of_samples, np.arange(n)], [numbers, codes], in_order(n, n), (False, True), ("size", "kind {x}")
    )
    assert "the most exposed column, kind {x}: 100.0% and 0.0%;" in worst.meaning
    assert worst.value == pytest.approx(excess(n, n, 0, n))
    k = np.arange(n + 1)
    chance, values = stats.hypergeom.pmf(k, 2 * n, n, n), excess(k, n, n - k, n)
    deviation = (chance @ values**2 - (chance @ values) ** 2) ** 0.5
    assert table_attacks._error(40.0, 40.0, 0.0, 40.0) < 0.5 * 1.96 * deviation  # the names are the wider of the two
    assert worst.interval is not None
    assert worst.value - worst.interval[0] == pytest.approx(1.96 * deviation, rel=0.1)  # of 999 permutations
    assert worst.interval[1] == 1.0
    assert mean.value == pytest.approx(excess(n / 2, n, 0, n))
    assert "right for 50.0% of the training rows and 0.0% of the held-out rows" in mean.meaning


def test_columns_that_are_always_right_or_never_are_as_expected():
    n = 6
    constant = np.full(2 * n, 5.0)
    mean, worst = guessed([np.full(3, 5.0), np.full(3, 5.0)], [constant, constant], in_order(n, n))
    assert (mean.value, worst.value) == (0.0, 0.0)
    assert (worst.low, worst.high) == pytest.approx((0.0, 0.0))
    assert worst.p_value == 1.0
    assert mean.interval == pytest.approx((0.0, 0.0))  # the mean of columns has no error beyond that of the names
    error = table_attacks._error(*(4 * [float(n)]))
    assert worst.interval == pytest.approx((-error, min(1.0, error)))


@pytest.mark.parametrize(("rows", "neighbors"), [(2, 4), (60, NEIGHBORS)])
def test_as_many_neighbors_are_sought_as_ties_may_need_and_there_are_rows(rows, neighbors, monkeypatch):
    found = []

    def share(_, named, distance, index, __):
        found.append((len(named.index), distance.shape, index.shape))
        return object.__new__(Measure)

    monkeypatch.setattr(standard_names, "nearer_share", share)
    for attack in ("singling_out", "linkability", "inference"):
        monkeypatch.setattr(standard_names, attack, lambda *_: [])
    columns = [np.arange(float(rows)), np.zeros(rows)]
    standard_names.table_measures(columns, columns, columns, np.zeros(2, dtype=bool), rng())
    assert found == [(2 * rows, (rows, neighbors), (rows, neighbors))]


def test_a_single_column_is_neither_linked_nor_guessed():
    column = [np.array([1.0, 2.0])]
    of = column_distances(column, column, NUMBERS)
    assert table_attacks.linkability(column, column, of, in_order(1, 1), rng()) == []
    assert table_attacks.inference(column, column, of, in_order(1, 1), rng(), ["a"]) == []
    two = [np.array([1.0, 2.0])] * 2
    both = column_distances(two, two, np.zeros(2, dtype=bool))
    assert len(table_attacks.linkability(two, two, both, in_order(1, 1), rng())) == 1
    assert len(table_attacks.inference(two, two, both, in_order(1, 1), rng(), ["a", "b"])) == 2

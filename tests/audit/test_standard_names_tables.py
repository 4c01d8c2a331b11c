"""Attacks on tables: counted by hand, against brute force, at the ends of the scale, and under the null."""

import numpy as np
import pytest
from results_of_samples import in_order
from scipy import stats

from diffuscope.audit import table_attacks
from diffuscope.audit.column_distances import column_distances
from diffuscope.audit.exchanged_names import named_rows
from diffuscope.audit.standard_names import table_measures
from diffuscope.errors import InputError

CATEGORICAL = np.array([False, False, True, True, False])


def table(rng, n):
    """Three numeric columns, one with missing values, and two categorical ones; columns depend on each other."""
    first = 50 + 10 * rng.normal(size=n)
    second = np.where(rng.random(n) < 0.1, np.nan, first + 3 * rng.normal(size=n))
    code = rng.integers(5, size=n)
    return [first, second, code, np.where(rng.random(n) < 0.1, -1, (first > 50) + code), rng.normal(size=n)]


def by_name(measures):
    return {m.name: m for m in measures}


# distances


def test_distances_by_column_are_gowers_also_where_values_are_missing():
    rng = np.random.default_rng(0)
    queries, train, heldout = (table(rng, n) for n in (7, 30, 20))
    of = column_distances(train, heldout, CATEGORICAL)
    expected = np.zeros((7, 30))
    for c in range(5):
        both = np.concatenate([train[c], heldout[c]]).astype(float)
        spread = np.nanmax(both) - np.nanmin(both)
        for i in range(7):
            for j in range(30):
                a, b = float(queries[c][i]), float(train[c][j])
                if CATEGORICAL[c]:
                    part = float(a != b)
                elif np.isnan(a) or np.isnan(b):
                    part = float(np.isnan(a) != np.isnan(b))
                else:
                    part = min(abs(a - b) / spread, 1)
                expected[i, j] += part / 5
    distance, index = of.nearest(queries, train, 30)
    np.testing.assert_allclose(distance, np.sort(expected, axis=1), atol=1e-11)
    np.testing.assert_allclose(np.take_along_axis(expected, index, axis=1), distance, atol=1e-11)


def test_distances_are_exact_sums_whatever_the_order_of_columns():
    rng = np.random.default_rng(1)
    queries, train = ([rng.random(50) for _ in range(9)] for _ in range(2))
    one, other = (
        column_distances(a, a, np.zeros(9, bool)).nearest(b, a, 5)
        for a, b in ((train, queries), (train[::-1], queries[::-1]))
    )
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])


# risks


def test_the_rate_is_the_center_of_wilsons_interval_and_the_error_its_propagated_half_width():
    for k, n, j, m in ((3, 20, 1, 25), (0, 10, 0, 10), (10, 10, 4, 9)):
        (a, b), (c, d) = (stats.binomtest(x, of).proportion_ci(method="wilson") for x, of in ((k, n), (j, m)))
        train, control = (a + b) / 2, (c + d) / 2
        counts = float(k), float(n), float(j), float(m)
        assert float(table_attacks._excess(*counts)) == pytest.approx((train - control) / (1 - control))
        by_train, by_control = 1 / (1 - control), (train - 1) / (1 - control) ** 2
        expected = np.hypot((b - a) / 2 * by_train, (d - c) / 2 * by_control)
        assert table_attacks._error(*counts) == pytest.approx(expected)


def test_links_and_guesses_of_a_table_are_those_counted_by_hand():
    """Samples (0, 0) and (10, 10). The training row (0, 1) has both halves nearest to the first sample; (1, 9) has not,
    and each value leads to a wrong guess of the other. The held-out rows: (9, 10.2) is linked; (4, 7) is not."""
    samples = [np.array([0.0, 10.0]), np.array([0.0, 10.0])]
    targets = [np.array([0.0, 1.0, 9.0, 4.0]), np.array([1.0, 9.0, 10.2, 7.0])]
    of = column_distances(targets, targets, np.zeros(2, bool))
    named, rng = in_order(2, 2), np.random.default_rng(0)
    (linked,) = table_attacks.linkability(samples, targets, of, named, rng)
    assert "50.0% of the training rows and 50.0% of the held-out rows" in linked.meaning
    # 10.2 is within 5% of the guess 10, and 0 is the guess for the first value of (0, 1): 1 of 4 on either side
    mean, column = table_attacks.inference(samples, targets, of, named, rng, ["age", "{city}"])
    assert "25.0% of the training rows and 25.0% of the held-out rows" in mean.meaning
    assert mean.value == 0
    assert "{city}" in column.meaning or "age" in column.meaning


def test_descriptions_single_out_one_sample_and_match_what_a_loop_matches():
    rng = np.random.default_rng(0)
    samples, rows = table(rng, 40), table(rng, 25)
    predicates = table_attacks._Predicates(samples, CATEGORICAL, rng)
    queries = predicates.singling
    assert len(queries) > 100
    assert (predicates.columns[queries].sum(1) == 3).all()
    assert (predicates.matching(samples, queries).sum(1) == 1).all()
    found = predicates.matching(rows, queries)
    for q in range(0, len(queries), 7):
        record = predicates.row[queries[q]]
        for j in range(25):
            fits = True
            for c in np.flatnonzero(predicates.columns[queries[q]]):
                value, own = samples[c][record], rows[c][j]
                if CATEGORICAL[c]:
                    fits &= value == own
                elif np.isnan(value):
                    fits &= bool(np.isnan(own))
                elif value > np.nanmedian(samples[c]):
                    fits &= bool(own >= value)
                else:
                    fits &= bool(own <= value)
            assert found[q, j] == fits


# the ends of the scale


def test_a_table_that_is_the_training_set_is_linked_guessed_and_singled_out():
    rng = np.random.default_rng(0)
    train, heldout = (table(rng, 300) for _ in range(2))
    found = by_name(table_measures(train, train, heldout, CATEGORICAL, rng, names=["a", "b", "c", "d", "e"]))
    assert found["DCR share (Gower)"].value > 0.99  # a held-out row may be as near where rows coincide
    for name in ("singling-out risk", "linkability risk", "inference risk, mean of columns"):
        assert (found[name].p_value or 0) == pytest.approx(0.001)
        assert found[name].value > found[name].high
    assert "100.0% fit one training row" in found["singling-out risk"].meaning
    assert found["linkability risk"].value > 0.9  # a missing number and a category together are no single row
    assert (found["inference risk, most exposed column"].p_value or 0) == pytest.approx(0.001)


def test_copies_of_some_rows_are_found_and_held_out_rows_are_on_the_other_side():
    rng = np.random.default_rng(1)
    train, heldout, fresh = (table(rng, 400) for _ in range(3))
    samples = [np.concatenate([a[:100], b[:300]]) for a, b in zip(train, fresh, strict=True)]
    of_copies = by_name(table_measures(samples, train, heldout, CATEGORICAL, rng))
    assert (of_copies["linkability risk"].p_value or 0) <= 0.002
    leaked = by_name(table_measures(heldout, train, heldout, CATEGORICAL, rng))
    assert (leaked["linkability risk"].p_value or 0) > 0.99
    assert leaked["linkability risk"].value < leaked["linkability risk"].low


# under the null


def check_null(draws, patients):
    found = {}
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        samples, train, heldout = (table(rng, n) for n in (60, 80, 100))
        of_train = of_heldout = None
        if patients:  # four rows of each are one and the same
            train, heldout = ([column[np.arange(len(column)) // 4 * 4] for column in t] for t in (train, heldout))
            of_train, of_heldout = np.arange(80) // 4, 1000 + np.arange(100) // 4
        for m in table_measures(
            samples, train, heldout, CATEGORICAL, rng, train_groups=of_train, heldout_groups=of_heldout
        ):
            found.setdefault(m.name, []).append((m.value, m.null, m.low, m.high, m.p_value))
    assert len(found) == 5
    for name, of_draws in found.items():
        value, null, low, high, p_value = np.array(of_draws, dtype=float).T
        error = (value - null).std() / draws**0.5
        assert abs((value - null).mean()) <= 4 * error + 1e-12, f"{name}: the stated null"
        assert ((low <= value) & (value <= high)).mean() >= 0.95 - 4 * (0.05 * 0.95 / draws) ** 0.5, name
        for level in (0.05, 0.1, 0.25, 0.5):
            assert (p_value <= level).mean() <= level + 4 * (level * (1 - level) / draws) ** 0.5, f"{name}: {level}"


def test_p_values_are_valid_for_a_perfect_generator_of_tables(monkeypatch):
    monkeypatch.setattr("diffuscope.audit.exchanged_names.PERMUTATIONS", 199)
    check_null(10, patients=False)


@pytest.mark.slow
@pytest.mark.parametrize("patients", [False, True])
def test_p_values_are_valid_over_many_tables(patients, monkeypatch):
    monkeypatch.setattr("diffuscope.audit.exchanged_names.PERMUTATIONS", 199)
    check_null(300, patients)


# held wrong


def test_columns_that_cannot_be_right_are_one_line():
    rng = np.random.default_rng(0)
    rows = table(rng, 20)
    with pytest.raises(InputError, match=r"^columns: expected 5 of training and of held-out rows.* got 4 and 5$"):
        table_measures(rows, rows[:4], rows, CATEGORICAL, rng)
    with pytest.raises(InputError, match=r"^samples: expected 5 columns, as many as are described, got 3$"):
        table_measures(rows[:3], rows, rows, CATEGORICAL, rng)
    with pytest.raises(InputError, match=r"^train: expected columns of one length, got 3 and 20 rows$"):
        table_measures(rows, [rows[0][:3], *rows[1:]], rows, CATEGORICAL, rng)


def test_small_and_degenerate_tables_have_measures_without_significance():
    rng = np.random.default_rng(0)
    assert table_measures([], [], [], np.zeros(0, bool), rng) == []
    one = [np.zeros(5)]
    for samples in (one, [np.full(5, np.nan)]):
        found = table_measures(samples, one, one, np.array([False]), rng)
        assert [m.name for m in found] == ["DCR share (Gower)", "singling-out risk"]
        assert all(m.p_value is not None and m.p_value > 0.05 for m in found)
    constant = [np.zeros(6), np.zeros(6, dtype=int)]
    for m in table_measures(constant, constant, constant, np.array([False, True]), rng):
        assert np.isfinite([m.value, m.null, m.low, m.high]).all()
        assert m.p_value == 1
    assert len(named_rows(3, 0, rng).index) == 0

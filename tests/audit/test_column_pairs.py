"""Pairs of columns: the associations, the level and the power of their test, and what is named."""

import numpy as np
import pytest
from scipy import stats
from scipy.stats.contingency import association, crosstab

from diffuscope.audit.column_pairs import column_pairs, pairs_finding, pairs_table
from diffuscope.audit.column_shares import column_shares
from diffuscope.data import fit_table
from diffuscope.report import Table


def mixed(n, rng, correlation=0.6):
    x, noise = rng.normal(size=(2, n))
    y = correlation * x + (1 - correlation**2) ** 0.5 * noise
    c = np.where(x + rng.normal(size=n) > 0, "high", "low")
    d = np.where(rng.random(n) < 0.7, c, rng.choice(["high", "low", "middle"], n))
    return {"x": x, "y": y, "c": c, "d": d}


def pairs(table, samples, heldout, known, rng, **options):
    found = column_pairs(table, table.encode(samples), table.encode(heldout), known, rng, **options)
    assert found is not None
    return found


def test_the_associations_are_spearmans_and_cramers_and_the_correlation_ratio():
    """The samples have the same values in every column, so that ranks among both sets are ranks in each."""
    rng = np.random.default_rng(0)
    heldout = mixed(300, rng)
    samples = {name: column[rng.permutation(300)] for name, column in heldout.items()}
    table = fit_table(heldout)
    found = pairs(table, samples, heldout, 1000, rng, permutations=9)
    of = dict(zip(found.names, found.of_heldout.tolist(), strict=True))
    assert of["x", "y"] == pytest.approx(stats.spearmanr(heldout["x"], heldout["y"])[0])
    counts = crosstab(heldout["c"], heldout["d"]).count
    assert of["c", "d"] == pytest.approx(association(counts, method="cramer"))
    ranks = stats.rankdata(heldout["x"])
    members = [ranks[heldout["c"] == k] for k in ("high", "low")]
    between = sum(len(part) / 300 * (part.mean() - ranks.mean()) ** 2 for part in members)
    assert of["x", "c"] == pytest.approx((between / ranks.var()) ** 0.5)
    apart = dict(zip(found.names, found.distance.tolist(), strict=True))
    assert apart["x", "y"] == pytest.approx(abs(of["x", "y"] - stats.spearmanr(samples["x"], samples["y"])[0]))


def test_two_associations_of_one_strength_that_mean_the_opposite_are_apart():
    """Cramer's V is 1 in both; the two matrices are opposite, at distance 2."""
    coin = ["heads", "tails"] * 50
    table = fit_table({"a": coin, "b": coin})
    found = pairs(table, {"a": coin, "b": coin[::-1]}, {"a": coin, "b": coin}, 1000, np.random.default_rng(0))
    assert found.of_samples[0] == pytest.approx(found.of_heldout[0]) == pytest.approx(1)
    assert found.distance[0] == pytest.approx(2)
    assert pairs_finding(found, 0.01).tone == "attention"


def test_p_values_of_replayed_training_rows_are_uniform_and_the_correction_holds():
    """150 training, 100 held-out and 300 generated rows; 100 tables: a share of 0.05 has
    standard error 0.022."""
    rng, p_values, corrected = np.random.default_rng(1), [], []
    everything = mixed(20_000, rng)
    table = fit_table(everything)
    rows = table.encode(everything)
    for _ in range(100):
        train, heldout = (rows[rng.integers(0, len(rows), size)] for size in (150, 100))
        found = column_pairs(table, train[rng.integers(0, 150, 300)], heldout, 150, rng, permutations=99)
        assert found is not None
        p_values.append(found.tests.p_value)
        corrected.append(found.tests.corrected.min())
    p = np.array(p_values)
    for k in range(p.shape[1]):
        assert stats.kstest(p[:, k], "uniform").statistic < 1.63 / 100**0.5 + 0.01
    assert np.mean(np.array(corrected) <= 0.05) < 0.05 + 4 * 0.022


def test_a_pair_at_the_detectable_distance_is_found_as_often_as_stated():
    """Independent columns of the data, whose rank correlation among samples is as stated; 60 tables."""
    rng, found, level, shift = np.random.default_rng(2), [], 0.05, None
    table = fit_table(mixed(20_000, rng))
    for _ in range(60):
        heldout = mixed(400, rng, 0.0)
        if shift is None:
            shift = pairs(table, mixed(500, rng, 0.0), heldout, 10**6, rng).detectable(level)
            assert 0.1 < shift < 0.5
        pearson = 2 * np.sin(np.pi * shift / 6)  # whose rank correlation is `shift`, for normal variables
        result = pairs(table, mixed(500, rng, pearson), heldout, 10**6, rng, permutations=199)
        found.append(result.tests.corrected[result.names.index(("x", "y"))] < level)
    assert np.mean(found) > 0.95 - 4 * (0.95 * 0.05 / 60) ** 0.5


def test_a_shuffled_column_is_right_by_itself_and_named_by_its_pairs():
    rng = np.random.default_rng(3)
    train, heldout, samples = (mixed(1000, rng) for _ in range(3))
    samples["y"] = samples["y"][rng.permutation(1000)]
    table = fit_table(train, heldout)
    found = pairs(table, samples, heldout, 1000, rng)
    alone = column_shares(table, table.encode(samples), table.encode(heldout), 1000, rng)
    assert alone.tests.corrected.min() > 0.05
    finding = pairs_finding(found, 0.01)
    assert finding.tone == "attention"
    assert "rank correlation of 'x' and 'y'" in finding.verdict
    shown = pairs_table(found)
    assert isinstance(shown, Table)
    assert shown.rows[0][0] == "x and y"
    assert pairs_finding(pairs(table, train, heldout, 1000, rng), 0.01).tone == "good"


def test_one_column_has_no_pairs_and_a_constant_one_no_association():
    rng = np.random.default_rng(4)
    x = np.arange(40.0) ** 2
    one, two = fit_table({"x": x}), fit_table({"x": x, "c": ["a"] * 40})
    rows = one.encode({"x": x})
    assert column_pairs(one, rows, rows, 40, rng) is None
    found = pairs(two, {"x": x, "c": ["a"] * 40}, {"x": x, "c": ["a"] * 40}, 40, rng)
    assert found.of_samples.tolist() == found.distance.tolist() == [0]
    assert found.tests.corrected.tolist() == [1]

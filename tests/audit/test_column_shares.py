"""Columns of tables: the distances, the level and the power of their tests, and what is named."""

import numpy as np
import pandas
import pytest
import torch
from conftest import monte_carlo
from scipy import stats

from diffuscope.audit import audit_samples
from diffuscope.audit.column_permutations import effective_number, permuted_tests
from diffuscope.audit.column_shares import column_blocks, column_shares, columns_finding
from diffuscope.data import fit_table, load_data, load_samples
from diffuscope.report import Table


def mixed(n, rng):
    """Numbers, numbers with missing values, dates, and categories."""
    days = np.datetime64("2020-01-01") + rng.integers(0, 500, n).astype("timedelta64[D]")
    holes = np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n))
    return {
        "x": rng.normal(size=n),
        "holes": holes,
        "day": days,
        "c": rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1]),
    }


def taken(table, rows):
    return {name: column[rows] for name, column in table.items()}


def test_the_distances_are_those_of_kolmogorov_and_smirnov_and_total_variation():
    rng = np.random.default_rng(0)
    one, other = mixed(300, rng), mixed(200, rng)
    one["x"] += 0.3
    table = fit_table(one, other)
    found = column_shares(table, table.encode(one), table.encode(other), 1000, rng, permutations=9)
    for c, name in ((0, "x"), (2, "day")):
        expected = stats.ks_2samp(one[name].astype(float), other[name].astype(float), method="asymp")[0]
        assert found.distance[c] == pytest.approx(expected, abs=1e-12)
    shares = [np.array([(part["c"] == k).mean() for k in "abc"]) for part in (one, other)]
    assert found.distance[3] == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2, abs=1e-12)
    missing = [np.isnan(part["holes"]).mean() for part in (one, other)]
    assert found.missing[:, 1].tolist() == missing


def test_missing_values_count_as_larger_than_all_others():
    """Every value is there in the samples, a tenth is missing in the data: the distance is a tenth."""
    x = np.arange(100.0) ** 2
    table = fit_table({"x": np.where(x < 100, np.nan, x)})
    present = table.encode({"x": np.repeat(x[10:], 10)})
    heldout = table.encode({"x": np.where(x < 100, np.nan, x)})
    found = column_shares(table, present, heldout, 1000, np.random.default_rng(0), permutations=9)
    assert found.distance[0] == pytest.approx(0.1)


@pytest.mark.parametrize("sizes", [(80, 60, 400), (1000, 61, 67)], ids=str)
def test_p_values_of_replayed_training_rows_are_uniform_and_the_correction_holds(sizes):
    """Sizes of training, held-out and generated rows. 150 tables; the standard error of a share 0.05 is 0.018."""
    known, m, n = sizes
    rng, p_values, corrected = np.random.default_rng(1), [], []
    everything = mixed(20_000, rng)
    table = fit_table(everything)
    rows = table.encode(everything)
    for _ in range(150):
        train, heldout = (rows[rng.integers(0, len(rows), size)] for size in (known, m))
        samples = train[rng.integers(0, known, n)]
        tests = column_shares(table, samples, heldout, known, rng, permutations=99).tests
        p_values.append(tests.p_value)
        corrected.append(tests.corrected.min())
    p, level = np.array(p_values), 0.05
    for c in range(3):  # of numbers; the few values of total variations of three categories are often tied
        # p-values are multiples of 1/100; 1.63 / sqrt(150) is the 1% point of Kolmogorov's distance
        assert stats.kstest(p[:, c], "uniform").statistic < 1.63 / 150**0.5 + 0.01
    assert monte_carlo(torch.tensor(p[:, 3] <= level).double()).mean < level + 4 * 0.018
    assert np.mean(np.array(corrected) <= level) < level + 4 * 0.018


def test_rows_of_groups_are_as_many_as_are_independent():
    """Every held-out and training row ten times over: as rows they would be far from independent."""
    rng, found, naive = np.random.default_rng(2), [], []
    table = fit_table({"x": rng.normal(size=5000)})
    for _ in range(100):
        few = [np.repeat(rng.normal(size=30), 10) for _ in range(2)]
        train, heldout = (table.encode({"x": x}) for x in few)
        groups = torch.arange(300) // 10
        number = effective_number(300, groups)
        assert number == 30
        samples = train[rng.integers(0, 300, 300)]
        for kept, count in ((found, number), (naive, 300)):
            tests = column_shares(table, samples, heldout, count, rng, others=count, permutations=99).tests
            kept.append(tests.p_value[0] <= 0.05)
    assert np.mean(found) < 0.05 + 4 * (0.05 * 0.95 / 100) ** 0.5
    assert np.mean(naive) > 0.3


def test_a_column_at_the_detectable_distance_is_found_as_often_as_stated():
    """A share of the samples goes beyond all values, or to the category "z": 100 tables, standard error 0.022."""
    rng, found, level = np.random.default_rng(3), [], 0.05
    everything = {"x": rng.normal(size=20_000), "c": rng.choice(["a", "b", "z"], 20_000, p=[0.6, 0.3, 0.1])}
    table, shift = fit_table(everything), None
    for _ in range(100):
        train, heldout = (taken(everything, rng.integers(0, 20_000, size)) for size in (400, 300))
        samples = taken(train, rng.integers(0, 400, 500))
        if shift is None:
            none = column_shares(table, table.encode(samples), table.encode(heldout), 400, rng)
            shift = none.detectable(level)
            assert ((shift > 0.1) & (shift < 0.3)).all()
        samples["x"] = np.where(rng.random(500) < shift[0], 1e3, samples["x"])
        samples["c"] = np.where(rng.random(500) < shift[1] / 0.9, "z", samples["c"])  # a tenth is there already
        tests = column_shares(table, table.encode(samples), table.encode(heldout), 400, rng, permutations=199).tests
        found.append(tests.corrected < level)
    assert (np.mean(found, axis=0) > 0.95 - 4 * 0.022).all()


def test_a_planted_wrong_column_is_named_and_no_other():
    rng = np.random.default_rng(4)
    train, heldout, samples = (mixed(1000, rng) for _ in range(3))
    samples["holes"] = np.where(rng.random(1000) < 0.3, np.nan, samples["holes"])
    table = fit_table(train, heldout)
    found = column_shares(table, table.encode(samples), table.encode(heldout), 1000, rng)
    finding = columns_finding(found, 0.01)
    assert finding.tone == "attention"
    assert finding.verdict.startswith("1 of 4 columns does not have the distribution of the data: column 'holes'")
    assert "Missing in it: 3" in finding.verdict
    assert finding.value == found.distance[1] > 0.2
    good = columns_finding(column_shares(table, table.encode(train), table.encode(heldout), 1000, rng), 0.01)
    assert good.tone == "good"
    _, everything = column_blocks(found, 0.01)
    assert isinstance(everything, Table)
    assert everything.rows[0][0] == "holes"
    assert everything.folded


def test_the_correction_is_the_step_down_of_westfall_and_young():
    """The k-th largest statistic against the maximum over itself and all smaller ones, one by one."""
    rng = np.random.default_rng(5)
    permuted = rng.random((49, 3))
    observed = np.array([0.95, 0.5, 0.99])
    found = permuted_tests(observed, permuted, 1.0)
    t, all_t = ((x - permuted.mean(0)) / permuted.std(0) for x in (observed, permuted))
    largest, rest = 0.0, sorted(range(3), key=lambda k: -t[k])
    while rest:
        first = rest[0]
        largest = max(largest, (1 + sum(max(row[rest]) >= t[first] for row in all_t)) / 50)
        assert found.corrected[first] == pytest.approx(largest)
        rest = rest[1:]
    # beyond the critical value, and only there, the corrected p-value is below the level
    for level in (0.05, 0.1, 0.3):
        critical = found.critical(level)
        worst = int(t.argmax())
        for beyond in (True, False):
            alone = np.where(np.arange(3) == worst, critical + (1e-4 if beyond else -1e-4), 0.0)
            assert bool(permuted_tests(alone, permuted, 1.0).corrected[worst] < level) == beyond


def test_few_rows_or_permutations_are_no_all_clear():
    rng = np.random.default_rng(6)
    train = mixed(40, rng)
    table = fit_table(train)
    rows = table.encode(train)
    few = column_shares(table, rows[:20], rows[20:], 20, rng)
    assert columns_finding(few, 0.001).tone == "unknown"
    assert np.isinf(few.detectable(0.0001)).all()  # 999 permutations have no such p-value
    constant = fit_table({"c": ["a"] * 40, "x": np.arange(40.0) % 7})
    same = constant.encode({"c": ["a"] * 40, "x": np.arange(40.0) % 7})
    found = column_shares(constant, same, same, 40, rng)
    assert found.distance.tolist() == [0, 0]
    assert found.tests.corrected.tolist() == [1, 1]


@pytest.mark.slow  # a whole audit; the page on samples runs one by default
def test_an_audit_of_a_table_has_no_praise_beside_a_wrong_column(tmp_path):
    rng = np.random.default_rng(7)
    names = ["train", "heldout", "samples"]
    for name in names:
        rows = mixed(400, rng)
        if name == "samples":
            rows["c"] = rng.choice(["a", "b", "c"], 400, p=[0.3, 0.6, 0.1])
        pandas.DataFrame(rows).to_csv(tmp_path / f"{name}.csv", index=False)
    train, heldout, samples = (str(tmp_path / f"{name}.csv") for name in names)
    data = load_data(train, heldout=heldout)
    result = audit_samples(load_samples(samples, None, like=data), data)
    quality = result["quality"].findings
    assert {"fidelity.columns", "fidelity.pairs"} < {finding.name for finding in quality}
    assert "column 'c'" in quality[0].verdict
    assert quality[0].tone == "attention"
    assert result.verdict.word == "attention"

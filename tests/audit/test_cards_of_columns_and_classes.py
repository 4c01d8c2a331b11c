"""The numbers of the cards, charts and tables on columns, their pairs and classes, of results made by hand."""

# every block is of the kind that its card shows
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

import inspect
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from results_of_samples import columns, distance, fit, judged, pairs, quality_of

from diffuscope.audit import column_findings
from diffuscope.audit.class_fit import fit_finding
from diffuscope.audit.class_null import _finding as unconditional
from diffuscope.audit.class_samples import smallest_share
from diffuscope.audit.column_findings import findings_of_columns, with_wrong_columns
from diffuscope.audit.column_pairs import pairs_finding, pairs_table
from diffuscope.audit.column_permutations import permutations_for, permuted_tests
from diffuscope.audit.column_shares import column_blocks, columns_finding
from diffuscope.audit.measure import at_least
from diffuscope.report import Table
from numbers_in_tests import rng

# columns and pairs


def test_the_card_of_columns_names_the_farthest_beyond_chance():
    found = columns_finding(columns(), 0.01)
    # beyond chance by 1, 10 and 8 deviations
    assert (found.value, found.tone, found.p_value) == (0.3, "attention", 0.002)
    assert found.verdict == (
        "2 of 3 columns do not have the distribution of the data: column 'city' is at distance 0.300 from held-out "
        "rows (chance: up to 0.140). Also: 'a very long name'. Missing in it: 20.0% of the samples, 10.0% of "
        "held-out rows."
    )
    assert "of 1,000 independent training rows" in found.null
    # the 10th of 999 permutations has p = 0.01: ceil(0.01 * 1000) - 2 = 8, the ninth largest, is the last below it
    critical = np.array([0.1, 0.1, 0.1]) + np.linspace(4, 1, 999)[8] * np.array([0.01, 0.02, 0.01])
    least = critical + 1.6448536 * 0.5 * (1 / 400 + 1 / 300 + 1 / 1000.4) ** 0.5
    assert columns().detectable(0.01) == pytest.approx(least)
    assert found.power.startswith(
        f"A column at distance {least[1]:.3f} or more would have been found with probability 0.95; 'age' "
        f"at {least[0]:.3f}."
    )
    one = columns_finding(columns((0.3, 0.002, 0.01)), 0.01)
    assert one.verdict.startswith("1 of 3 columns does not have")
    good = columns_finding(columns((0.3, 0.2, 0.1)), 0.01)
    assert (good.tone, "Missing in it" in good.verdict) == ("good", False)
    few = columns_finding(columns((0.3, 0.2, 0.1), samples=1), 0.01)
    assert few.tone == "unknown"
    assert few.power.startswith("In 'city' not even the largest distance")
    assert np.isinf(columns().detectable(0.0009)).all()  # no permutation is that rare


def test_the_bars_and_the_table_of_columns_are_in_order():
    chart, table = column_blocks(columns(), 0.01)
    (bars,) = chart.panels[0].marks
    assert bars.names == ("city", "a very long n…", "age")
    assert bars.heights == ((0.3, 0.18, 0.11), (0.14, 0.13, 0.12))
    assert chart.panels[0].y_range == pytest.approx((0.0, 0.39))
    least = columns().detectable(0.01)
    assert table.rows[0] == ["city", "categorical", 0.3, 0.14, 0.001, 0.002, 20.0, 10.0, pytest.approx(least[1])]
    assert [row[0] for row in table.rows] == ["city", "a very long name", "age"]


def test_the_card_and_table_of_pairs_name_the_farthest_beyond_chance():
    found = pairs_finding(pairs(), 0.01)
    assert (found.value, found.tone, found.p_value) == (0.3, "attention", 0.002)
    assert found.verdict == (
        "2 of 3 pairs of columns do not belong together as in the data. Farthest beyond chance: Cramer's V of 'a' and "
        "'c': 0.310 among samples, 0.720 in held-out rows."
    )
    critical = 0.1 + np.linspace(4, 1, 999)[8] * 0.02
    least = critical + 1.6448536 * (1 / 400 + 1 / 300 + 1 / 1000.4) ** 0.5
    assert pairs().detectable(0.01) == pytest.approx(least)
    assert f"differs by about {least:.3f} would" in found.power
    assert "of 1,000 independent" in found.null
    assert pairs_finding(pairs((0.3, 0.002, 0.01)), 0.01).verdict.startswith("1 of 3 pairs of columns does not")
    assert pairs_finding(pairs((0.3, 0.2, 0.1)), 0.01).tone == "good"
    assert pairs_finding(pairs((0.3, 0.2, 0.1), samples=1, known=1.0), 0.0001).tone == "unknown"
    table = pairs_table(pairs())
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["a and c", "b and c", "a and b"]
    assert [cell for cell in table.rows[0] if isinstance(cell, float)][:3] == [0.31, 0.72, 0.3]
    assert list(table.rows[0][5:]) == [0.14, 0.001, 0.002]  # chance, p and its correction


def test_step_down_p_values_are_those_of_the_maximum_over_the_rest():
    """Three tests, four permutations, by hand. Studentized, column by column: mean 0 and deviation 1."""
    permuted = np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, -1.0]])
    found = permuted_tests(np.array([3.0, 1.0, 0.5]), permuted, 1.0)
    assert found.p_value.tolist() == [1 / 5, 3 / 5, 3 / 5]
    # maxima over all: 1, 1, 1, -1; over the second and third: 1, 1, 1, -1; over the third: 1, 1, -1, -1
    assert found.corrected.tolist() == [1 / 5, 4 / 5, 4 / 5]
    assert found.maxima.tolist() == [1.0, 1.0, 1.0, -1.0]
    shrunk = permuted_tests(np.array([3.0, 1.0, 0.5]), permuted + 2, 0.5)
    assert shrunk.center.tolist() == [4.0, 4.0, 4.0]
    assert shrunk.spread.tolist() == [2.0, 2.0, 2.0]
    assert shrunk.chance == pytest.approx(2 * np.quantile([1, 1, 3, 3], 0.95))
    assert shrunk.p_value.tolist() == [3 / 5, 1.0, 1.0]  # 3 / 2 = 1.5 is above two of four
    assert shrunk.farthest_first(np.array([3.0, 9.0, 5.0])).tolist() == [1, 2, 0]


@pytest.mark.parametrize(("level", "count"), [(0.01, 999), (0.001, 2000), (0.0005, 4000), (1e-5, 9999)])
def test_there_are_permutations_for_p_values_below_the_level(level, count):
    assert permutations_for(level) == count


def test_columns_and_pairs_share_the_significance(monkeypatch):
    """Half of it each, with as many permutations as p-values below that half need."""
    for name in ("column_shares", "column_pairs"):
        monkeypatch.setattr(column_findings, name, lambda *_, others, permutations: (others, permutations))
    x = torch.zeros(30, 2)
    subject = SimpleNamespace(table="a table", train=x, heldout=x[:20], train_groups=None, heldout_groups=None)
    compare = inspect.unwrap(column_findings.compare_columns)
    assert compare(x, subject, 0.001, rng()) == ((20.0, permutations_for(0.0005)),) * 2
    assert permutations_for(0.0005) == 4000
    assert compare(x, SimpleNamespace(table=None), 0.001, rng()) == (None, None)
    half = columns((0.3, 0.006, 0.5))
    assert [found.tone for found in findings_of_columns(half, None, 0.01)[0]] == [columns_finding(half, 0.005).tone]
    assert columns_finding(half, 0.01).tone != columns_finding(half, 0.005).tone
    of_pairs = pairs((0.3, 0.006, 0.5))
    assert [found.tone for found in findings_of_columns(None, of_pairs, 0.01)[0]] == [
        pairs_finding(of_pairs, 0.005).tone
    ]
    assert pairs_finding(of_pairs, 0.01).tone != pairs_finding(of_pairs, 0.005).tone


def test_a_wrong_column_is_no_good_news_for_whole_rows():
    wrong, right = columns_finding(columns(), 0.01), columns_finding(columns((0.3, 0.2, 0.1)), 0.01)
    close = quality_of(judged(distance(1.2)))
    both = with_wrong_columns(close, [right, wrong])
    assert (both.tone, both.verdict) == ("attention", f"{wrong.verdict} As whole rows: {close.verdict}")
    assert with_wrong_columns(close, [right]) is close
    far = quality_of(judged(distance(7.0)))
    assert with_wrong_columns(far, [wrong]) is far


# classes


@pytest.mark.parametrize(
    ("made", "tone"),
    [(fit(0.5), "good"), (fit(1.05001), "alarm"), (fit(1.04999), "attention"), (fit(1.3, best=0.76), "unknown"),
     (fit(1.0, spread=0.1), "unknown"), (fit(1.0, differs=0.0009), "unknown"), (fit(0.5, differs=0.0009), "unknown")],
)  # fmt: skip
def test_another_class_is_a_fault_if_it_denoises_better_beyond_chance(made, tone):
    found = fit_finding(made, 0.01, rng())
    assert found.tone == tone
    assert found.value == pytest.approx(made.ratio)


def test_the_card_of_the_class_names_ratio_and_power():
    found = fit_finding(fit(1.3, spread=0.1), 0.01, rng())
    assert "Class 3 of the model is not the data's: class 4 denoises" in found.verdict
    assert "the errors of class 3 are 1.30 times as large" in found.verdict
    assert found.interval == pytest.approx((1.3 - 1.96 * 0.2 / 8, 1.3 + 1.96 * 0.2 / 8), abs=0.006)
    # d = 0.3 +- 0.2: (2.3263 + 1.6449) * 0.2 / 8
    assert fit(1.3, spread=0.1).detectable(0.01) == pytest.approx((2.32635 + 1.64485) * 0.2 / 8, rel=1e-5)
    assert found.power == (
        "64 training examples at 2 noise levels; a difference of 9.9% would be found with probability 0.95. 9 other "
        "classes were tried."
    )
    good = fit_finding(fit(0.5, other=10), 0.01, rng()).verdict
    assert good.endswith(
        "better than any of the 9 others: the errors of the next best, no class, are 2 times as large."
    )


@pytest.mark.parametrize(
    ("ratio", "spread", "tone"),
    [(1.06, 0.0, "alarm"), (1.04, 0.0, "attention"), (0.9, 0.0, "good"), (1.0, 0.1, "unknown")],
)
def test_no_class_is_the_model_of_all_data_or_a_fault(ratio, spread, tone):
    found = unconditional(fit(ratio, spread=spread), 0.01, rng())
    assert (found.tone, found.value, found.unit) == (tone, pytest.approx(ratio), "x")
    if tone == "alarm":
        assert "without a class are 1.06 times as large" in found.verdict
        assert found.p_value == pytest.approx(1e-4)
    assert found.power.startswith("64 training examples of all labels at 2 noise levels")


def test_the_smallest_share_of_strays_is_the_first_significant_percent():
    """5 errors of 100 held-out examples; of 200 samples as many in a share of 5% and s more."""
    share = smallest_share(5, 100, 200, 0.01)
    percent = round(100 * share)
    assert at_least(round(200 * (0.05 + share)), 5, 200, 100) < 0.01
    assert at_least(round(200 * (0.05 + (percent - 1) / 100)), 5, 200, 100) >= 0.01
    assert smallest_share(50, 50, 20, 0.01) == math.inf

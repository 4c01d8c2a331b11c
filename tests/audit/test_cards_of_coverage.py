"""The numbers of the cards, charts and tables on coverage, labels, clusters and repeats, of results made by hand."""

# every block is of the kind that its card shows
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

import math
from dataclasses import replace

import numpy as np
import pytest
from results_of_samples import balance, covered

from diffuscope.audit.coverage import SHORT, coverage_finding, neighborhood_size
from diffuscope.audit.label_shares import label_block, label_finding
from diffuscope.audit.modes import Modes, SelfRepeats, modes_finding, repeats_finding
from diffuscope.findings import Chart, Groups

# diversity and labels


def test_the_card_of_coverage_has_both_coverages_and_its_interval():
    found = coverage_finding(covered(), 0.01)
    assert (found.value, found.unit, found.p_value, found.tone) == (pytest.approx(73.1), "%", 0.004, "attention")
    assert found.interval == pytest.approx((73.1 - 1.96 * 1.5, 73.1 + 1.96 * 1.5))
    assert found.verdict.startswith("Samples cover 73.1% of the held-out data, equally many training examples 80.2%:")
    assert found.null.startswith("80.2%: by 900 training examples, as many as samples, of 1,200 neighborhoods of 4 ")
    assert found.power.startswith("A missing 10% of the data")
    assert "Less than 3 percentage points" in found.power
    near = coverage_finding(covered(samples=0.99), 0.01).interval
    far = coverage_finding(covered(samples=0.01), 0.01).interval
    assert near is not None
    assert far is not None
    assert (near[1], far[0]) == (100.0, 0.0)


@pytest.mark.parametrize(
    ("changes", "tone"),
    [({"p_value": 0.01}, "good"), ({"p_value": 0.01, "detectable": math.inf}, "unknown"), ({"samples": 0.39}, "alarm"),
     ({"samples": 0.401}, "attention"), ({"samples": 0.0, "training": SHORT}, "good"),
     ({"samples": 0.5, "training": 0.5301}, "attention"), ({"detectable": math.inf}, "attention")],
)  # fmt: skip
def test_coverage_is_short_beyond_chance_and_beyond_the_bar(changes, tone):
    found = coverage_finding(covered(**changes), 0.01)
    assert found.tone == tone
    assert found.verdict.startswith("Cannot tell") == (tone == "unknown")
    if changes.get("detectable"):
        assert "not even a missing 20% of the data" in found.power


@pytest.mark.parametrize(("held", "drawn", "k"), [(100, 50, 5), (100, 49, 6), (10, 2, 10), (7, 100, 1), (40, 100, 1)])
def test_a_neighborhood_holds_two_and_a_half_samples_on_average(held, drawn, k):
    assert neighborhood_size(held, drawn) == k
    assert k == held or k * drawn / held >= 2.5


def test_the_card_of_labels_names_the_one_whose_shares_differ_most():
    found = label_finding(balance([0.5, 0.2, 0.3], [0.44, 0.33, 0.23]), 0.01)
    assert found.value == pytest.approx(13.0)  # (0.06 + 0.13 + 0.07) / 2
    assert (found.unit, found.p_value, found.tone) == ("%", 0.004, "attention")
    assert "20.0% of the samples have label 4, against 33.0% of held-out data" in found.verdict
    assert "No sample at all" not in found.verdict
    assert "of 2,500 training examples" in found.null
    short = balance([0.5, 0.2, 0.3], [0.44, 0.33, 0.23]).detectable(0.01)
    assert found.power.startswith(f"An average label {100 * short:.1f} percentage points short")
    good = label_finding(balance([0.5, 0.2, 0.3], [0.44, 0.33, 0.23], p_value=0.01), 0.01)
    assert (good.tone, good.verdict[:13]) == ("good", "No difference")


def test_labels_that_no_sample_has_are_named_up_to_five():
    shares = [0.0] * 6 + [1.0]
    found = label_finding(balance(shares, [0.1] * 6 + [0.4]), 0.01)
    assert found.verdict.endswith("No sample at all has label 3, 4, 5, 6, 7, ....")
    five = label_finding(balance([0.0] * 5 + [1.0], [0.1] * 5 + [0.5]), 0.01)
    assert five.verdict.endswith("No sample at all has label 3, 4, 5, 6, 7.")


def test_a_label_that_is_surely_missing_is_told_whatever_the_overall_test_says():
    """Of 900 samples none, of 400 held-out examples 40: its share is above 5%, and 0.95^900 = 1e-20."""
    assert label_finding(balance([0.0, 1.0], [0.1, 0.9], p_value=0.9), 0.01).tone == "attention"
    one = balance([0.0, 1.0], [1 / 400, 399 / 400], p_value=0.9)  # one held-out example: the interval begins near 0
    assert label_finding(one, 0.01).tone != "attention"
    few = balance([0.0, 1.0], [0.1, 0.9], p_value=0.9, known=40)  # the model knew 40 examples: 0.95^40 = 0.13
    assert label_finding(few, 0.01).tone != "attention"


def test_the_bars_of_labels_are_the_shares_in_percent():
    block = label_block(balance([0.5, 0.2, 0.3], [0.44, 0.33, 0.23]))
    assert isinstance(block, Chart)
    (panel,) = block.panels
    (bars,) = panel.marks
    assert isinstance(bars, Groups)
    assert bars.names == ("3", "4", "5")
    assert dict(zip(bars.labels, bars.heights, strict=True)) == {
        "held-out data": pytest.approx((44, 33, 23)), "samples": pytest.approx((50, 20, 30)),
    }  # fmt: skip
    assert panel.y_range == pytest.approx((0.0, 62.5))
    # of labels of share 1/3 each: sqrt(1/3 * 2/3 / 900) = 1.6 percentage points
    assert "The bars of 900 samples vary by about 1.6 percentage points" in block.how_to_read
    equal = [1 / 21] * 21
    assert (
        label_block(balance(equal, equal)) == "The shares of 21 labels are not drawn: more than 20 bars are unreadable."
    )
    assert isinstance(label_block(balance([0.05] * 20, [0.05] * 20)), Chart)


def test_clusters_without_samples_are_counted_and_else_the_farthest_is_named():
    def card(ours, theirs, **changes):
        return modes_finding(
            Modes(balance=replace(balance(ours, theirs), **changes), of_heldout=np.zeros(4, int)), 0.01
        )

    missing = card([0.0, 0.7, 0.0, 0.3], [0.1, 0.5, 0.2, 0.2])
    assert missing.verdict == "2 of 4 clusters of the data have no sample at all."
    assert missing.value == pytest.approx(30.0)
    other = card([0.2, 0.5, 0.3], [0.33, 0.44, 0.23])
    assert other.verdict.endswith("in one 20.0% instead of 33.0%.")
    assert other.tone == "attention"
    good = card([0.2, 0.5, 0.3], [0.33, 0.44, 0.23], p_value=0.01)
    assert (good.tone, good.verdict) == ("good", "Samples have the data's shares of 3 clusters, up to chance.")
    few = card([0.2, 0.5, 0.3], [0.33, 0.44, 0.23], p_value=0.01, samples=3, others=3)
    assert few.tone == "unknown"
    assert few.power.startswith("None:")
    least = 100 * balance([0.2, 0.5, 0.3], [0.33, 0.44, 0.23]).detectable(0.01)
    assert good.power.startswith(f"An average cluster {least:.1f} percentage points short")


def test_the_clusters_that_lack_samples_come_in_order_of_how_many():
    result = Modes(balance=balance([0.5, 0.1, 0.2, 0.2], [0.3, 0.2, 0.35, 0.15]), of_heldout=np.zeros(4, int))
    assert result.shortest == [2, 1]


def test_repeats_are_counted_in_pairs_and_their_card_has_both_shares():
    result = SelfRepeats(samples=91, training=20, size=1500, radius=0.3)
    # 46 pairs of 56 fair coins
    tail = sum(math.comb(56, k) for k in range(46, 57)) / 2**56
    assert result.p_value == pytest.approx(tail)
    found = repeats_finding(result, 0.01)
    assert found.value == pytest.approx(100 * 91 / 1500)
    assert (found.tone, found.unit) == ("attention", "%")
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1] < 10
    assert found.verdict == "6.1% of the samples nearly repeat another one; of equally many training examples 1.3% do."
    assert found.null.startswith("1.3%: among 1,500 training examples.")
    least = result.least_found
    # with the training examples' 10 pairs, the least a with P(X >= a of a + 10) < 0.01
    a = next(a for a in range(1, 100) if sum(math.comb(a + 10, k) for k in range(a, a + 11)) / 2 ** (a + 10) < 0.01)
    assert least == 2 * a
    assert found.power.startswith(f"{least} repeating samples would be significant at 0.01; from 1 percentage points")
    odd = SelfRepeats(samples=91, training=19, size=1500, radius=0.3)  # 19 are of 10 pairs at least
    assert (odd.p_value, odd.least_found) == (result.p_value, least)
    assert SelfRepeats(samples=0, training=0, size=10, radius=0.3).p_value == 1.0
    assert SelfRepeats(samples=0, training=8, size=10, radius=0.3).least_found == 11


def test_a_significant_share_within_a_percentage_point_is_no_fault():
    """At 1,000,000 samples any excess is significant: 2% against 1% is at the bar, 2.1% beyond it."""
    at = repeats_finding(SelfRepeats(samples=20_000, training=10_000, size=1_000_000, radius=1.0), 0.01)
    assert at.p_value is not None
    assert at.p_value < 1e-9
    assert (at.tone, at.verdict[-24:]) == ("good", ": no more than the data.")
    beyond = repeats_finding(SelfRepeats(samples=21_000, training=10_000, size=1_000_000, radius=1.0), 0.01)
    assert beyond.tone == "attention"

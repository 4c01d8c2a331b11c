"""The numbers of cards, charts and tables that compare with held-out data, of results made by hand."""

# every block is of the kind that its card shows
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffuscope.audit.attack_scores import ATTACKS, Attack, PairedLosses, areas_of, areas_of_each, whitening
from diffuscope.audit.copied_groups import copied_groups, groups_finding, groups_table
from diffuscope.audit.copy_search import Copies, copies_finding, why_unknown
from diffuscope.audit.copy_tables import SHOWN_ROWS, copies_tables, distances_chart
from diffuscope.audit.coverage import SHORT, Coverage, coverage_finding, neighborhood_size
from diffuscope.audit.denoising_gap import Gap, gap_blocks, gap_finding
from diffuscope.audit.epsilon import EpsilonBound, largest_bound
from diffuscope.audit.epsilon_finding import epsilon_finding, with_epsilon
from diffuscope.audit.exact_matches import exact_matches, near_matches
from diffuscope.audit.label_shares import LabelBalance, label_block, label_finding
from diffuscope.audit.membership import AttackMeasures, Membership, blocks, findings
from diffuscope.audit.modes import Modes, SelfRepeats, modes_finding, repeats_finding
from diffuscope.audit.nearness import Nearness, nearness_finding
from diffuscope.audit.owner_findings import NAMED, owners_finding, owners_table
from diffuscope.audit.owner_sets import OwnerTest, detectable_difference
from diffuscope.audit.repeats import Repeats
from diffuscope.audit.roc import FALSE_POSITIVES, Rate, roc_curve
from diffuscope.findings import Chart, Groups, Line, Points, Rule
from diffuscope.report import Table

# membership


def attack_measures(area, at_1, at_01, advantage, p=0.3):
    attack = Attack(np.array([3.0, 2.0, 1.5, 0.5]), np.array([1.0, 0.0, 2.5, 0.2]), area, np.array([0.5]))
    return AttackMeasures(
        attack=attack,
        area=Rate(area, area - 0.05, area + 0.07, p),
        true_positives={
            0.01: Rate(at_1, at_1 - 0.01, at_1 + 0.03, 0.004),
            0.001: Rate(at_01, at_01 - 0.001, at_01 + 0.002, 0.2),
        },
        advantage=Rate(advantage, advantage - 0.11, advantage + 0.13),
    )


def attacked(**changes):
    each = {
        "loss": attack_measures(0.55, 0.02, 0.003, 0.04),
        "relative loss": attack_measures(0.62, 0.043, 0.0081, 0.17),
        "likelihood ratio": attack_measures(0.58, 0.03, 0.004, 0.05),
    }
    joint = {name: replace(one, area=replace(one.area, low=one.area.value - 0.08)) for name, one in each.items()}
    made = Membership(each=each, joint=joint, p_value=0.002, detectable=0.56, memorizer=0.98, control=0.51, pairs=1234)
    return replace(made, **changes)


def test_the_card_of_membership_has_the_numbers_of_the_strongest_attack():
    first, at_1, at_01, best = findings(attacked(), 0.01)
    assert (first.value, first.unit, first.p_value, first.tone) == (0.62, "AUC", 0.002, "attention")
    assert first.interval == pytest.approx((0.54, 0.69))  # that holds for all attacks at once
    assert first.verdict == (
        "Its denoising loss reveals training examples: the attack by relative loss ranks one above a held-out one in "
        "62.0% of cases, and finds 4.3% of the former at 1% false positives."
    )
    assert "1234 pairs" in first.null
    assert "3 attacks corrected for" in first.null
    assert first.power == (
        "An AUC of 0.560 would have been found with probability 0.95. The loss of a perfect memorizer of this training "
        "set has an AUC of 0.980, that of a control too small to memorize 0.510."
    )
    assert (at_1.name, at_01.name) == ("membership.true_positives_0_01", "membership.true_positives_0_001")
    assert (at_1.value, at_01.value) == pytest.approx((4.3, 0.81))
    assert at_1.interval == pytest.approx((3.3, 7.3))
    assert at_01.interval == pytest.approx((0.71, 1.01))
    assert at_1.p_value == pytest.approx(0.012)  # three attacks
    assert at_01.p_value == pytest.approx(0.6)
    assert (at_1.tone, at_01.tone) == ("good", "good")
    assert findings(attacked(), 0.0121)[1].tone == "attention"
    assert findings(attacked(), 0.012)[1].tone == "good"
    assert "rate of 1%, 4.30% of the training" in at_1.verdict
    assert "rate of 0.1%, 0.81% of the training" in at_01.verdict
    assert (best.value, best.tone) == (0.17, "attention")
    assert best.interval == pytest.approx((0.06, 0.3))
    assert "true-positive rate that is +17.0% above" in best.verdict
    assert best.power.startswith("1234 examples of each kind; attack by relative loss;")


def test_a_control_as_good_as_the_attack_is_told_and_groups_are_called_so():
    text = findings(attacked(control=0.62, unit="groups"), 0.01)[0].verdict
    assert "reveals training groups:" in text
    assert text.endswith("So does a control too small to memorize: the two sets differ.")
    assert "So does" not in findings(attacked(control=0.6199), 0.01)[0].verdict


@pytest.mark.parametrize(
    ("p_value", "memorizer", "tone"),
    [(0.01, 0.56, "good"), (0.01, 0.5599, "unknown"), (0.0099, 0.5599, "attention")],
)
def test_nothing_found_is_good_only_where_a_memorizer_would_have_been(p_value, memorizer, tone):
    """A p-value at the level is not below it; a memorizer at the detectable area would be found."""
    first = findings(attacked(p_value=p_value, memorizer=memorizer), 0.01)[0]
    assert first.tone == tone
    if tone == "good":
        assert "ranks a training example above a held-out one in 62.0% of cases" in first.verdict
        assert "the best, by relative loss," in first.verdict
    if tone == "unknown":
        assert "with 1234 of each kind, not even" in first.verdict


def test_too_few_for_any_area_have_no_power():
    first = findings(attacked(p_value=0.5, detectable=math.inf), 0.01)[0]
    assert first.tone == "unknown"
    assert first.power.startswith("None: 1234 examples of each kind are too few for any AUC.")


def test_a_rate_that_the_examples_cannot_resolve_is_unknown():
    one = attack_measures(0.62, 0.043, math.nan, -0.02)
    found = findings(attacked(joint=attacked().joint | {"relative loss": one}), 0.01)
    assert found[2].tone == "unknown"
    assert math.isnan(found[2].value)
    assert "rate of 0.1% needs at least 1,000 held-out examples, of which 1,234 were attacked" in found[2].verdict
    assert found[3].tone == "neutral"  # its interval includes 0
    assert "-2.0% above" in found[3].verdict


def test_the_curves_and_the_table_of_membership_have_the_numbers_of_each_attack():
    model = np.stack([np.array([[0.1, 0.3], [0.5, 0.5]]), np.array([[0.4, 0.2], [0.9, 0.8]])])
    losses = PairedLosses(model, np.zeros((2, 2, 2, 1)))
    chart, table = blocks(attacked(), losses)
    assert isinstance(chart, Chart)
    assert isinstance(table, Table)
    marks = chart.panels[0].marks
    assert [mark.label for mark in marks if isinstance(mark, Line)] == [
        *ATTACKS, "control: a perfect memorizer", "guessing",
    ]  # fmt: skip
    x, y = roc_curve(np.array([3.0, 2.0, 1.5, 0.5]), np.array([1.0, 0.0, 2.5, 0.2]))
    planted, guessing = marks[3:]
    assert isinstance(marks[0], Line)
    assert isinstance(planted, Line)
    assert isinstance(guessing, Line)
    assert (marks[0].x, marks[0].y) == (tuple(x[y > 0].tolist()), tuple(y[y > 0].tolist()))
    # scores are minus the mean losses: members -0.2, -0.5, others -0.3, -0.85
    assert (planted.x, planted.y) == ((0.5, 1.0), (0.5, 1.0))
    assert guessing.x == guessing.y
    assert (guessing.x[0], guessing.x[-1]) == pytest.approx((1 / 1234, 1))
    row = table.rows[1]
    assert row[:5] == ["relative loss", 0.62, pytest.approx(0.57), pytest.approx(0.69), 0.3]  # each by itself
    assert row[5:8] == pytest.approx([4.3, 3.3, 7.3])
    assert row[8:11] == pytest.approx([0.81, 0.71, 1.01])
    assert row[11:] == pytest.approx([0.17, 0.06, 0.3])
    assert len(table.header) == len(row)
    assert list(table.header[5:]) == [
        "TPR, %, at 1%", "low at 1%", "high at 1%", "TPR, %, at 0.1%", "low at 0.1%", "high at 0.1%", "advantage",
        "low", "high",
    ]  # fmt: skip
    assert FALSE_POSITIVES == (0.01, 0.001)


def test_the_area_is_the_share_of_pairs_in_order_for_every_exchange():
    """By counting: members 3, 1 against others 2, 0; with the first pair exchanged 2, 1 against 3, 0."""
    scores, exchanged = np.array([[3.0, 1.0], [2.0, 0.0]]), np.array([[False, False], [True, False], [True, True]])
    expected = [3 / 4, 2 / 4, 1 / 4]
    assert areas_of(scores, exchanged) == pytest.approx(expected)
    assert areas_of_each(np.stack([scores] * 3), exchanged) == pytest.approx(expected)


def test_whitened_rows_have_the_identity_as_their_covariance():
    rows = np.random.default_rng(0).standard_normal((400, 3)) @ np.array([[2.0, 0.4, 0], [0, 1.0, 0.3], [0, 0, 0.7]])
    white = (rows - rows.mean(0)) @ whitening(rows)
    assert np.cov(white, rowvar=False) == pytest.approx(np.eye(3), abs=0.01)  # the ridge: 0.1% of the mean eigenvalue
    assert np.allclose(whitening(rows), whitening(rows).T)


# the gap in loss


def gap(**changes):
    made = Gap(
        ratios=np.array([20.0, 3.0, 0.4]),
        scale=1.7,
        share=np.array([0.01, 0.124, 0.03]),
        low=np.array([-0.02, 0.08, 0.01]),
        high=np.array([0.03, 0.2, 0.06]),
        p_values=np.array([0.2, 0.001, 0.04]),
        control=np.array([0.005, 0.021, 0.011]),
        mean_share=0.0547,
        mean_interval=(0.031, 0.082),
        p_value=0.0021,
        detectable=0.087,
        pairs=321,
    )
    return replace(made, **changes)


def test_the_gap_names_its_mean_and_its_most_significant_level():
    found = gap_finding(gap(), 0.01)
    assert (found.value, found.unit, found.p_value, found.tone) == (pytest.approx(5.47), "%", 0.0021, "attention")
    assert found.interval == pytest.approx((3.1, 8.2))
    assert "by 5.5% on average over noise levels and by 12.4% at σ/α = 3, where" in found.verdict
    assert "has a gap of 2.1%." in found.verdict
    assert found.power == "Memorization of 8.7% of the training data would have been found with probability 0.95."
    assert "321 pairs" in found.null
    tied = gap(p_values=np.array([0.001, 0.001, 0.001]), share=np.array([0.01, 0.02, 0.3]))
    assert "by 30.0% at σ/α = 0.4" in gap_finding(tied, 0.01).verdict  # of equal p-values the largest gap
    assert gap_finding(gap(), 0.0021).tone == "good"
    assert "the gap is +5.5% of the loss" in gap_finding(gap(), 0.0021).verdict
    assert gap_finding(gap(detectable=math.inf), 0.0021).tone == "unknown"
    assert gap_finding(gap(detectable=math.inf), 0.0021).power.startswith("None:")


def test_the_chart_and_table_of_the_gap_are_in_percent():
    chart, table = gap_blocks(gap())
    assert isinstance(chart, Chart)
    assert isinstance(table, Table)
    model, control, zero, scale = chart.panels[0].marks
    assert isinstance(model, Line)
    assert isinstance(control, Line)
    assert model.x == control.x == (20.0, 3.0, 0.4)
    assert (model.y, model.low, model.high) == (
        pytest.approx((1.0, 12.4, 3.0)), pytest.approx((-2.0, 8.0, 1.0)), pytest.approx((3.0, 20.0, 6.0)),
    )  # fmt: skip
    assert control.y == pytest.approx((0.5, 2.1, 1.1))
    assert (zero, scale) == (Rule(0.0), Rule(1.7, "x"))
    assert table.rows[1] == pytest.approx((3.0, 12.4, 8.0, 20.0, 2.1, 0.001))
    assert "321 pairs" in table.note


# diversity and labels


def covered(**changes):
    made = Coverage(
        samples=0.731, training=0.802, deviation=0.015, p_value=0.004, size=900, heldout=1200, neighbors=4,
        detectable=0.1,
    )  # fmt: skip
    return replace(made, **changes)


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


def balance(samples, heldout, **changes):
    made = LabelBalance(
        classes=torch.arange(len(samples)) + 3,
        of_samples=torch.tensor(samples, dtype=torch.float64),
        of_heldout=torch.tensor(heldout, dtype=torch.float64),
        samples=900, others=400, known=2500, p_value=0.004,
    )  # fmt: skip
    return replace(made, **changes)


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


# epsilon and owners


def bound(**changes):
    made = EpsilonBound(
        epsilon=1.234, delta=1e-5, confidence=0.9, canaries=1000, guessed=(60, 40), correct=87, p_value=0.0003
    )
    return replace(made, **changes)


def test_the_card_of_epsilon_has_the_guarantee_and_the_guesses():
    found = epsilon_finding(bound())
    assert (found.value, found.interval, found.confidence) == (1.234, (1.234, math.inf), 0.9)
    assert (found.p_value, found.tone) == (0.0003, "attention")
    assert found.verdict == (
        "With probability 90% over the coins, its training is not (ε, 1e-05)-differentially private for any ε below "
        "1.23: 87 of 100 guesses (60 in, 40 out, of 1000 canaries) were right."
    )
    assert f"would have shown ε above {largest_bound(1000, 1e-5):.2f};" in found.power
    verdict = replace(found, tone="good", verdict="Nothing.")
    both = with_epsilon(verdict, found)
    assert (both.tone, both.verdict) == ("attention", f"{found.verdict} Nothing.")
    none = epsilon_finding(bound(epsilon=0.0))
    assert none.tone == "neutral"
    assert "about 1000 canaries" in none.verdict
    assert with_epsilon(verdict, none) is verdict


def owner(number, p, corrected, published=30, unpublished=50):
    return OwnerTest(owner=number, published=published, unpublished=unpublished, p_value=p, corrected=corrected)


def test_the_card_of_owners_names_the_most_significant_first_and_counts_the_rest():
    tests = [owner(k, 0.001 * k, 0.0011 * k) for k in (7, 3, 5, 1, 2, 4, 6)] + [owner(9, 0.02, 0.04, 12, 60)]
    tests.append(owner(11, math.nan, math.nan, 3, 2))
    found = owners_finding(tests, 0.01)
    assert (found.value, found.unit, found.tone) == (7.0, "owners", "attention")
    assert found.p_value == pytest.approx(0.0011)
    assert "The training examples of 7 of 8 owners are denoised better" in found.verdict
    assert found.verdict.endswith(
        ": 1 (p = 0.0011), 2 (p = 0.0022), 3 (p = 0.0033), 4 (p = 0.0044), 5 (p = 0.0055) and 2 more."
    )
    size = detectable_difference(12, 60, 0.01 / 8)
    assert f"({found.power.split('(')[1].split(')')[0]})" == "(12 and 60)"
    assert f"of {size:.2f} standard deviations" in found.power
    five = owners_finding(tests[:NAMED], 0.01)
    assert " more" not in five.verdict
    none = owners_finding(tests, 0.0011)  # at the level is not below it
    assert (none.value, none.tone) == (0.0, "good")
    assert none.verdict.startswith("For none of 8 owners")
    unknown = owners_finding(tests[-1:] * 2, 0.01)
    assert (unknown.tone, unknown.p_value, unknown.power) == ("unknown", None, "None.")
    assert "for any of 2 owners: at least 10 training and 10 held-out" in unknown.verdict


def test_the_table_of_owners_has_the_smallest_p_value_first_and_the_untested_last():
    tests = [owner(4, math.nan, math.nan, 3, 2), owner(7, 0.3, 0.6), owner(3, 0.01, 0.02, 31, 52), owner(5, 0.3, 0.6)]
    (table,) = owners_table(tests)
    assert isinstance(table, Table)
    assert table.rows == [["3", 31, 52, 0.01, 0.02], ["5", 30, 50, 0.3, 0.6], ["7", 30, 50, 0.3, 0.6],
                          ["4", 3, 2, None, None]]  # fmt: skip


def test_the_power_of_owners_is_that_of_a_test_of_means():
    """(z_0.99 + z_0.95) sqrt(1/20 + 1/80) = (2.3263 + 1.6449) / 4."""
    assert detectable_difference(20, 80, 0.01) == pytest.approx((2.32635 + 1.64485) / 4, rel=1e-5)
    assert detectable_difference(20, 80, 0.01, power=0.5) == pytest.approx(2.32635 / 4, rel=1e-5)


# nearness and copies


def test_the_card_of_nearness_has_its_share_interval_and_both_p_values():
    made = Nearness(
        nearer=63, decided=90, references=250, interval=(0.61, 0.78), p_value=0.004, binomial_p_value=0.0012,
        planted=0.93, detectable=0.083,
    )  # fmt: skip
    found = nearness_finding(made, "pixels", "", 0.01)
    assert (found.value, found.unit, found.p_value, found.tone) == (pytest.approx(70), "%", 0.004, "attention")
    assert found.interval == pytest.approx((61, 78))
    assert found.verdict.startswith("70.0% of the samples")
    assert "share of 8.3% exact copies" in found.power
    assert "of planted ones, 93.0% are" in found.power
    assert found.null.startswith("50%: 250 references of each kind")
    assert "p = 0.0012" in found.null
    assert nearness_finding(made, "pixels", "", 0.004).tone == "good"
    blind = nearness_finding(replace(made, detectable=math.inf), "pixels", ".mine", 0.004)
    assert (blind.tone, blind.name) == ("unknown", "memorized.nearness.mine")
    assert "planted training examples 93.0% are" in blind.power
    tied = nearness_finding(replace(made, nearer=0, decided=0, detectable=math.inf), "pixels", "", 0.001)
    assert tied.value == 50.0
    assert tied.verdict == "Every sample is as far from training as from held-out examples."


def copies(**changes):
    listed = np.zeros(6, dtype=bool)
    listed[[1, 4]] = True
    made = Copies(
        p_values=np.array([0.5, 0.02, 0.3, 0.9, 0.01, 0.7]),
        listed=listed,
        nearest_training=np.array([10, 3, 12, 13, 7, 15]),
        nearest_heldout=np.arange(6),
        distance=np.array([5.0, 0.3, 4.0, 6.0, 0.1, 7.0]),
        next_distance=np.array([5.5, 3.3, 4.4, 6.6, 2.1, 7.7]),
        transformation=["", "mirrored", "", "", "", ""],
        null_distance=np.array([4.5, 5.0, 6.0]),
        null_next_distance=np.array([4.7, 5.2, 9.0]),
        heldout=np.array([0, 2, 3]),
        leaked={1: 8},
        repeats=Repeats(first=np.arange(16)),
        radius=0.01,
        rate=0.05,
        detectable={"exact": 0.004, "noisy": 0.031, "blurred": math.inf},
    )
    return replace(made, **changes)


def test_the_card_of_copies_has_the_listed_share_and_what_was_planted():
    found = copies_finding(copies(), "pixels")
    assert found.value == pytest.approx(100 / 3)
    assert (found.unit, found.tone, found.name) == ("%", "alarm", "memorized.copies")
    assert found.verdict.startswith("2 of 6 samples resemble")
    assert found.null.startswith("3 held-out examples treated as samples;")
    assert "false discoveries is at most 0.05." in found.null
    assert found.power == (
        "Copies of training examples were planted. At least one would be listed, with probability 0.95, if this share "
        "of the samples were copies: exact 0.40%, noisy 3.10%. Not found at any share: blurred."
    )
    assert found.p_value == pytest.approx(min(0.01 * 6, 0.02 * 6 / 2))  # Simes
    assert found.interval is not None
    assert found.interval[0] == pytest.approx(4.327, abs=1e-3)  # Clopper and Pearson's for 2 of 6
    assert found.interval[1] == pytest.approx(77.722, abs=1e-3)
    near = copies_finding(copies(near=(4, 1)), "pixels").verdict
    assert near.endswith("Near repeats of one: 4 of 6 samples, 1 of 3 held-out examples.")


def test_an_empty_list_tells_only_with_power():
    empty = np.zeros(6, dtype=bool)
    assert copies_finding(copies(listed=empty), "pixels").tone == "good"
    unknown = copies_finding(copies(listed=empty, detectable={"exact": 0.9}), "pixels")
    assert unknown.tone == "unknown"
    assert why_unknown(copies()) == "3 held-out examples do not tell 6 samples from copies"
    known = copies(leaked={1: 8, 5: 9}, listed=empty)  # 2 of 5: more than a third
    assert known.heldout_known
    assert why_unknown(known) == "2 of 5 held-out examples repeat training ones"
    assert not copies().heldout_known  # 1 of 4


def test_the_tables_of_copies_have_the_most_suspicious_first():
    listed, leaked = copies_tables(copies(), "pixels")
    assert isinstance(listed, Table)
    assert isinstance(leaked, Table)
    assert listed.rows == [[4, 7, 0.1, 2.1, 0.01, "as it is"], [1, 3, 0.3, 3.3, 0.02, "mirrored"]]
    assert (listed.note, listed.folded) == ("", False)
    assert leaked.rows == [[1, 8]]
    assert leaked.note.startswith("1 held-out examples repeat")
    many = SHOWN_ROWS + 1
    whole = copies(
        listed=np.ones(many, dtype=bool), p_values=np.full(many, 0.01), nearest_training=np.arange(many),
        nearest_heldout=np.arange(many), distance=np.ones(many), next_distance=np.ones(many),
        transformation=[""] * many,
    )  # fmt: skip
    (first, _) = copies_tables(whole, "pixels")
    assert isinstance(first, Table)
    assert (len(first.rows), first.folded) == (SHOWN_ROWS, True)
    assert first.note == f"The first {SHOWN_ROWS} of {many}; all are in audit.json."


def test_the_chart_of_distances_has_every_point_of_each_kind_once():
    (panel,) = distances_chart(copies(), "pixels").panels
    heldout, free, listed, diagonal = panel.marks
    for mark, label, expected in (
        (heldout, "held-out examples", {(4.7, 4.5), (5.2, 5.0), (9.0, 6.0)}),
        (free, "samples", {(5.5, 5.0), (4.4, 4.0), (6.6, 6.0), (7.7, 7.0)}),
        (listed, "samples listed as copies", {(3.3, 0.3), (2.1, 0.1)}),
    ):
        assert isinstance(mark, Points)
        assert mark.label == label
        assert set(zip(mark.x, mark.y, strict=True)) == expected
    assert panel.x_range == pytest.approx((0.0, 1.05 * 9.0))
    assert panel.y_range == pytest.approx((0.0, 1.05 * 7.0))
    assert isinstance(diagonal, Line)
    assert diagonal.x == diagonal.y == pytest.approx((0.0, 1.05 * 7.0))


def test_groups_are_reproduced_by_the_samples_that_copy_their_examples():
    groups = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2])  # examples 3 and 7, of groups 1 and 2
    assert copied_groups(copies(), groups) == {1: [1], 2: [4]}
    same = np.array([0, 0, 0, 5, 1, 1, 1, 5, 2, 2])
    assert copied_groups(copies(), same) == {5: [4, 1]}
    found = groups_finding(copies(), groups, "pixels")
    assert (found.value, found.tone) == (pytest.approx(200 / 3), "alarm")
    assert found.verdict == "Samples copy examples of 2 of 3 training groups."
    assert "at most 0.05 of the listed" in found.null
    (table,) = groups_table(copies(), same, ["a", "b", "c", "d", "e", "f"], "pixels", named=True)
    assert table.rows == [["f", 2, "4, 1"]]
    (hidden,) = groups_table(copies(), same, ["a", "b", "c", "d", "e", "f"], "pixels", named=False)
    assert hidden.rows == [["5", 2, "4, 1"]]


def test_exact_and_near_matches_are_counted_on_both_sides():
    found = copies(distance=np.array([0.0, 3.3e-6, 4.0, 6.0, 2.1e-6, 7.0]), null_distance=np.array([0.0, 5.0, 6.0]))
    exact = exact_matches(found)  # 3.3e-6 and 2.1e-6 are 1e-6 of the next distances, up to rounding of the product
    assert exact.heldout == (1, 3)
    assert exact.samples[1] == 6
    assert 1 <= exact.samples[0] <= 3
    assert not exact.alone
    alone = exact_matches(copies(distance=np.array([0.0, 1e-6, 4.0, 6.0, 1.0, 7.0])))
    assert (alone.samples, alone.heldout, alone.alone) == ((2, 6), (0, 3), True)
    assert alone.p_value == pytest.approx(math.comb(6, 2) / math.comb(9, 2))
    near = near_matches(copies(near=(4, 1)))
    assert (near.samples, near.heldout) == ((4, 6), (1, 3))
    none = near_matches(copies())
    assert (none.samples, none.heldout, none.p_value) == ((0, 6), (0, 3), 1.0)

"""Cards, charts and tables on membership, the gap in loss, epsilon and owners, of results made by hand."""

# every block is of the kind that its card shows
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

import math
from dataclasses import replace

import numpy as np
import pytest
from results_at_levels import gap

from diffuscope.audit.attack_scores import ATTACKS, Attack, PairedLosses, areas_of, areas_of_each, whitening
from diffuscope.audit.denoising_gap import gap_blocks, gap_finding
from diffuscope.audit.epsilon import EpsilonBound, largest_bound
from diffuscope.audit.epsilon_finding import epsilon_finding, with_epsilon
from diffuscope.audit.membership import AttackMeasures, Membership, blocks, findings
from diffuscope.audit.owner_findings import NAMED, owners_finding, owners_table
from diffuscope.audit.owner_sets import OwnerTest, detectable_difference
from diffuscope.audit.roc import FALSE_POSITIVES, Rate, roc_curve
from diffuscope.findings import Chart, Line, Rule
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


@pytest.mark.parametrize(("detectable", "tone"), [(0.75, "good"), (0.7501, "unknown"), (0.923, "unknown")])
def test_attacks_that_might_have_missed_an_area_of_three_quarters_are_no_good_news(detectable, tone):
    first = findings(attacked(p_value=0.3, detectable=detectable), 0.01)[0]
    assert first.tone == tone
    assert ("find nothing" in first.verdict) == (tone == "good")
    if tone == "unknown":
        assert first.verdict == (
            "Cannot tell whether it reveals training examples: with 1234 of each kind, an AUC below "
            f"{detectable:.3f} might be missed."
        )


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

"""Verdicts of results that are exactly at a threshold, and names of what is none, one or exactly the most."""

# every block is of the kind that its card shows
# pyright: reportAttributeAccessIssue=false

import math
from dataclasses import replace

import numpy as np
import pytest
from made_by_hand import by_name
from results_at_levels import FOUND, curves, decided, equation, position, reading, skill, split
from results_of_samples import columns, distance, judged, quality_of, units_by_hand
from test_cards_of_membership import attacked
from test_cards_of_standing import outlook, standing
from test_classes_by_hand import labeled

from diffuscope.audit import skill as skills
from diffuscope.audit.column_permutations import Permuted
from diffuscope.audit.column_shares import MOST_DRAWN, MOST_NAMED, _power, column_blocks, columns_finding
from diffuscope.audit.component_levels import EMERGED, ComponentLevels
from diffuscope.audit.entropy_budget import information_findings
from diffuscope.audit.frechet_ratio import BAR
from diffuscope.audit.judged_quality import Judged
from diffuscope.audit.membership import findings as membership_findings
from diffuscope.audit.questions import loss, order, quality, wiring
from diffuscope.audit.reading_search import EXPLAINS
from diffuscope.audit.roc import Rate
from diffuscope.audit.score_consistency import consistency_findings
from diffuscope.audit.skill import DRIFT, WORSE, drift_finding, skill_finding
from diffuscope.audit.standing import Position
from diffuscope.audit.units import FARTHER

JUST_BELOW, JUST_ABOVE = math.nextafter(1.0, 0.0), math.nextafter(1.0, 2.0)

# is the model read as it was trained?


@pytest.mark.parametrize(
    ("doubt", "fault", "tone"),
    [(2.0, 4.0, "attention"), (2.01, 4.0, "good"), (1.0, 2.0, "alarm"), (1.0, 2.01, "attention")],
)  # fmt: skip
def test_another_reading_is_a_doubt_or_a_fault_from_exactly_its_cost_on(doubt, fault, tone, monkeypatch):
    found = reading(2.0)
    assert found.cost == 2.0
    monkeypatch.setattr(wiring, "DOUBT", doubt)
    monkeypatch.setattr(wiring, "FAULT", fault)
    assert wiring.reading_finding(found).tone == tone


@pytest.mark.parametrize(("factor", "denoises"), [(1.0, True), (JUST_BELOW, False)])
def test_a_reading_with_exactly_the_largest_share_of_the_formulas_errors_denoises(factor, denoises, monkeypatch):
    """Errors 1/2 of a formula with 1: the ratio is exactly 1/2."""
    monkeypatch.setattr("diffuscope.audit.reading_search.EXPLAINS", 0.5 * factor)
    assert reading().denoises == denoises
    assert EXPLAINS < 1


def test_a_level_is_named_where_errors_are_larger_than_the_limit_not_where_they_equal_it():
    """The lowest level is 0.06 at scale 1.6, the highest 20: neither matters."""
    made = skill()
    for low, level, text in (
        (WORSE, 0, "it is worse than the mean of the data"),
        (WORSE * (made.ratios[3] / made.scale) ** 2, 3, "it is worse than its own input"),
    ):
        at, beyond = made.low.copy(), made.low.copy()
        at[level], beyond[level] = low, low * (1 + 1e-15)
        assert "reservation" not in skill_finding(replace(made, low=at)).verdict
        assert text in skill_finding(replace(made, low=beyond)).verdict


@pytest.mark.parametrize("sign", [1, -1])
def test_a_shift_of_exactly_the_largest_that_is_not_told_is_none(sign):
    shift = np.zeros((4, 2))
    made = skill(drift=shift, drift_error=np.zeros((4, 2)))
    shift[1, 0] = sign * DRIFT
    assert drift_finding(made).tone == "good"
    shift[1, 0] = sign * DRIFT * (1 + 1e-15)
    assert drift_finding(made).tone == "attention"
    assert skills.MATTERS[0] < made.ratios[1] / made.scale < skills.MATTERS[1]


# what it learned


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (0.0, "lies 0% of the way from the Gaussian's"), (-1e-9, "less than the Gaussian's"),
        (1.0, "lies 100% of the way from the Gaussian's"), (1 + 1e-9, "more than that of the training set"),
    ],
)  # fmt: skip
def test_information_of_exactly_the_gaussian_or_the_training_set_lies_between_the_two(place, text):
    found = information_findings(replace(FOUND, place=(place, -0.5, 1.5)), 0.01)
    (verdict,) = (
        finding.verdict
        for finding in found
        if " of the way from " in finding.verdict or "does not lie" in finding.verdict
    )
    assert text in verdict
    assert ("it does not lie between the two" in verdict) == (place < 0 or place > 1)


@pytest.mark.parametrize(("typical", "power"), [(1.0, "At a typical noise level 100.0% would"), (1.001, "None: at a")])
def test_an_error_of_all_terms_of_the_equation_is_one_that_would_have_been_found(typical, power):
    assert consistency_findings(equation(detectable=np.full(2, typical)))[0].power.startswith(power)


@pytest.mark.parametrize(
    ("emerged", "predicted", "one_step"),
    [
        (EMERGED, 0.0, True), (math.nextafter(EMERGED, 0), 0.0, False),
        (EMERGED, math.nextafter(EMERGED / 2, 0), True), (EMERGED, EMERGED / 2, False),
    ],
)  # fmt: skip
def test_one_step_is_half_emerged_where_a_gaussian_is_below_a_quarter(emerged, predicted, one_step, monkeypatch):
    for name, value in (("emerged", emerged), ("predicted", predicted)):
        monkeypatch.setattr(ComponentLevels, name, property(lambda _, value=value: np.full((1, 3), value)))
    assert decided(*curves(n=2, count=4)).one_step == one_step


def test_a_component_is_late_where_its_interval_ends_below_the_limit():
    ratios, squares = curves(n=2, count=50)
    made = decided(ratios, squares)
    for upper, tone in ((order.LATE, "neutral"), (math.nextafter(order.LATE, 0), "attention")):
        assert order._late(made, np.full((5, 3), upper)).tone == tone


# where it stands


def test_a_loss_that_may_be_equal_on_both_sets_has_a_position():
    found = standing(outlook(standing=(-0.1, -0.2, 0.0)))["position"]
    assert (found.tone, found.value) == ("neutral", 0.0)
    assert standing(outlook(standing=(-0.1, -0.2, -1e-9)))["position"].tone == "unknown"


@pytest.mark.parametrize(("detectable", "tone"), [(1.0, "neutral"), (JUST_ABOVE, "unknown")])
def test_a_position_is_told_where_no_less_than_the_optimum_would_be_found(detectable, tone, monkeypatch):
    monkeypatch.setattr(Position, "detectable", lambda *_: detectable)
    assert standing(outlook(position=position()))["position"].tone == tone


@pytest.mark.parametrize(
    ("held", "excess", "tone"),
    [
        (2.0, (0.5, 0.4, 1.0), "neutral"), (2.0 + 1e-9, (0.5, 0.4, 1.0), "attention"),
        (2.0, (0.5 - 1e-9, 0.4, 1.0), "attention"),
        (2.0, (1.5, 1.0, 1.0), "neutral"), (2.0, (1.5, 1 + 1e-9, 2.0), "good"),
        (2.0, (1.0, 0.5, 2.0), "neutral"), (2.0, (1.0, 0.5 - 1e-9, 2.0), "unknown"),
        (2.0, (1.0, 0.5, 2 + 1e-9), "unknown"), (2.0, (0.6, 0.4, 1.0), "neutral"), (2.0, (0.6, 0.4, 1.01), "unknown"),
    ],
)  # fmt: skip
def test_losses_within_exactly_the_margin_are_about_the_same(held, excess, tone, monkeypatch):
    """Within a factor of 2, which is exact in the reciprocal too."""
    monkeypatch.setattr(loss, "MARGIN", 2.0)
    made = split(excess=excess)
    made.value["heldout"]["memorizer"] = held * made.value["training"]["memorizer"]
    assert loss.findings(made, copying=False)[0].tone == tone


@pytest.mark.parametrize(("low", "tone"), [(0.0, "neutral"), (1e-9, "attention")])
def test_an_advantage_that_may_be_none_needs_no_attention(low, tone):
    made = attacked()
    for each in made.joint.values():
        object.__setattr__(each, "advantage", Rate(0.2, low, 0.4))
    found = by_name(membership_findings(made, 0.01), "membership")
    assert found["advantage"].tone == tone


# samples


def test_samples_at_exactly_the_bar_are_close():
    """Distances that are known exactly have intervals of one point."""
    at = distance(BAR, error=0.0)
    assert at.interval == (BAR, BAR)
    assert quality_of(judged(at)).tone == "good"
    assert [quality._place(ends) for ends in ((BAR, BAR), (BAR, 3.0), (BAR + 1e-9, 3.0))] == ["close", "between", "far"]
    assert quality_of(judged(distance(BAR + 1e-9, error=0.0))).tone == "attention"


@pytest.mark.parametrize(("ratio", "tone"), [(5.0, "attention"), (5.0 + 1e-9, "alarm")])
def test_samples_exactly_as_far_as_a_planted_fault_are_not_farther_than_every_one(ratio, tone):
    faults = {"a blur": distance(5.0, error=0.0), "one class": distance(3.0, error=0.0)}
    found = quality_of(Judged("labels", distance(ratio, error=0.0), faults))
    assert found.tone == tone
    assert ("farther than every planted fault" in found.verdict) == (tone == "alarm")


@pytest.mark.parametrize(("strays", "tone"), [(50, "attention"), (51, "alarm")])
def test_half_of_the_samples_with_another_label_are_not_most(strays, tone):
    """Label 2 is the lower one of two that are equally frequent, and so the commonest."""
    found = labeled([2] * strays + [5] * (100 - strays), [5] * 100, y=5).findings[0]
    assert (found.tone, "most have label 2" in found.verdict) == (tone, tone == "alarm")


@pytest.mark.parametrize(("p_value", "fault"), [(FARTHER, False), (math.nextafter(FARTHER, 0), True)])
def test_samples_are_farther_where_the_p_value_is_below_the_limit(p_value, fault):
    found = units_by_hand(name="[0, 1]", nearer=1.0, before=1.0, after=0.1, no_farther=p_value)
    assert found.fault == fault


# columns


def many_columns(count, **changes):
    ones = (0.1,) * count
    tests = Permuted(
        p_value=np.full(count, 0.001), corrected=np.full(count, 0.001), center=np.array(ones),
        spread=np.full(count, 0.01), chance=np.array(ones), maxima=np.linspace(4, 1, 999),
    )  # fmt: skip
    names = tuple(f"c{k:02}" for k in range(count))
    return columns(
        names=names, kinds=("number",) * count, distance=np.linspace(0.9, 0.5, count), missing=np.zeros((2, count)),
        tests=tests, **changes,
    )  # fmt: skip


@pytest.mark.parametrize(("others", "more"), [(MOST_NAMED, ""), (MOST_NAMED + 1, " and 1 more")])
def test_as_many_columns_as_fit_are_named_and_the_rest_counted(others, more):
    named = ", ".join(repr(f"c{k:02}") for k in range(1, MOST_NAMED + 1))
    assert f" Also: {named}{more}." in columns_finding(many_columns(1 + others), 0.01).verdict


@pytest.mark.parametrize(
    ("count", "drawn"), [(MOST_DRAWN, "All columns"), (MOST_DRAWN + 1, f"{MOST_DRAWN} of {MOST_DRAWN + 1} columns")]
)
def test_as_many_columns_as_fit_are_all_columns(count, drawn):
    chart = column_blocks(many_columns(count), 0.01)[0]
    assert chart.how_to_read.startswith(f"{drawn}, those farthest")


def test_of_columns_that_are_equally_hard_one_is_named():
    made = columns()
    assert "; 'age' at 0.2" in _power(made, np.array([0.2, 0.3, 0.3]), 1)
    assert ";" not in _power(made, np.array([0.3, 0.3, 0.3]), 0)

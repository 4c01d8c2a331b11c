"""Cards and charts on how a model is read, on its skill and its drift, of results made by hand."""

# every block is of the kind that its card shows
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

import math

import numpy as np
import pytest
from results_at_levels import RATIOS, reading, skill, units

from diffuscope.audit.ends import STARTS, Start
from diffuscope.audit.manners import Fault
from diffuscope.audit.questions import wiring
from diffuscope.audit.skill import DRIFT, MATTERS, WORSE, drift_chart, drift_finding, error_chart, skill_finding
from diffuscope.findings import Rule

# how it is read


@pytest.mark.parametrize(
    ("changes", "tone"),
    [({}, "alarm"), ({"denoises": False}, "neutral"), ({"p_value": wiring.SIGNIFICANT}, "good"),
     ({"cost": wiring.FAULT}, "alarm"), ({"cost": wiring.FAULT - 1e-6}, "attention"),
     ({"cost": wiring.DOUBT}, "attention"), ({"cost": wiring.DOUBT - 1e-6}, "good"),
     ({"cost": wiring.DOUBT, "denoises": False}, "neutral")],
)  # fmt: skip
def test_other_units_are_a_fault_if_they_cost_enough_beyond_chance(changes, tone):
    found = wiring.units_finding(units(**changes))
    assert found.tone == tone
    assert found.value == units(**changes).cost
    if tone == "alarm" and not changes:
        assert (
            "are 1.5 times those it has on data with values in [0, 255], where data = 0.1 × value − 1." in found.verdict
        )
        assert found.p_value == 0.0004
        assert found.power.startswith("17 affine maps;")
        assert f"by a factor of {wiring.FAULT:g} would" in found.power


@pytest.mark.parametrize(
    ("changes", "tone"),
    [({}, "alarm"), ({"cost": wiring.FAULT + 1e-6}, "alarm"), ({"cost": wiring.FAULT - 1e-6}, "attention"),
     ({"cost": wiring.DOUBT + 1e-6}, "attention"), ({"cost": wiring.DOUBT - 1e-6}, "good"),
     ({"denoises": False}, "neutral"), ({"p_value": wiring.SIGNIFICANT}, "good")],
)  # fmt: skip
def test_another_reading_is_a_fault_or_a_doubt_by_its_cost(changes, tone):
    found = wiring.reading_finding(reading(**changes))
    assert found.tone == tone
    assert (found.value, found.p_value) == (pytest.approx(changes.get("cost", 1.8)), changes.get("p_value", 0.0003))


def test_the_card_of_the_reading_names_it_and_its_cost():
    found = wiring.reading_finding(reading())
    assert found.verdict.endswith(
        "Read with the time t of the schedule VP as its time and its output read as noise, its errors are 1.8 times "
        "smaller."
    )
    assert found.power == (
        "A noise level wrong by a factor of 1.25 would have been noticed, by 1.5 as a fault. 411 readings were tried, "
        "of the network itself."
    )
    doubt = wiring.reading_finding(reading(1.14, convention=wiring.DECLARED))
    assert (
        doubt.verdict == "Its errors are 14% larger than they would be if it were read with its output read as noise."
    )
    inside = wiring.reading_finding(reading(network=False, reading=wiring.DATA, seen=math.inf, noticed=math.inf))
    assert "Read at the time t of the schedule VP, its" in inside.verdict
    assert inside.power.startswith("A noise level wrong by a factor of up to 5 would not be noticed")
    assert inside.power.endswith("of the wrapper; the network inside could not be reached.")


def test_units_that_cost_little_are_named_as_a_doubt():
    found = wiring.units_finding(units(cost=1.1))
    assert found.verdict == (
        "The data may not be in the model's units: its errors are 10% larger than on data with values in [0, 255], "
        "where data = 0.1 × value − 1."
    )


@pytest.mark.parametrize(("noticed", "fits"), [(1.25, True), (2.0, True), (3.0, False), (math.inf, False)])
def test_a_time_is_said_to_fit_only_where_a_wrong_one_would_show(noticed, fits):
    found = wiring.reading_finding(reading(1.0, seen=math.inf, noticed=noticed))
    assert ("and by up to 5 not be a fault." in found.power) == math.isfinite(noticed)
    assert found.tone == ("good" if fits else "neutral")
    assert ("but a wrong noise level would hardly show" in found.verdict) == (not fits)
    whole = wiring.verdict([found, skill_finding(skill())])
    assert whole.tone == found.tone
    assert whole.verdict.startswith("It is read as it was trained" if fits else found.verdict)


@pytest.mark.parametrize(
    ("shift", "error", "tone"),
    [(0.0, 0.01, "good"), (0.11, 0.02, "good"), (0.1101, 0.02, "attention"), (-0.13, 0.02, "attention")],
)
def test_a_shift_by_the_start_is_told_beyond_three_standard_errors(shift, error, tone):
    found = wiring.start_finding(Start(ratio=23.0, displacement=0.31, shift=shift, shift_error=error))
    assert found.tone == tone
    assert (found.value, found.unit) == (shift, "standard deviations")
    assert found.interval == pytest.approx((shift - 1.96 * error, shift + 1.96 * error))
    assert "23 standard deviations of the data, moves samples by 0.31 standard" in found.verdict
    assert f"and their mean by {shift:+.2g}" in found.verdict
    assert found.power == f"{STARTS} samples; a shift of {0.05 + 3 * error:.2g} standard deviations would be reported."


def test_faults_of_manners_are_counted_the_grave_ones_first():
    light, grave = Fault("a", "mend a", False), Fault("b", "mend b", True)
    found = wiring.manners_finding([light, grave])
    assert (found.value, found.unit, found.tone) == (2.0, "faults", "alarm")
    assert found.verdict.endswith(": b (mend b); a (mend a).")
    assert wiring.manners_finding([light]).tone == "attention"
    assert wiring.manners_finding([]).tone == "good"
    assert wiring.manners_finding([]).value == 0.0


# skill and drift


def test_skill_is_the_largest_ratio_where_it_matters():
    factor = np.array([5.0, 0.8, 0.9, 7.0])
    result = skill(error=factor * skill().isotropic, low=np.full(4, 1e-9))
    found = skill_finding(result)
    assert (found.value, found.tone, found.unit) == (pytest.approx(0.9), "good", "x")
    assert found.interval == pytest.approx((1e-9 / result.isotropic[2], 0.9))
    assert found.power == "272 training examples at each of 4 noise levels."
    assert "from 0.25 to 3 standard deviations" in found.null
    assert skill().matters.tolist() == [False, True, True, False]


def test_one_worse_level_of_three_is_attention_and_half_of_them_no_denoiser():
    ratios = np.array([20.0, 4.0, 2.0, 0.7, 0.06])
    isotropic = ratios**2 / (ratios**2 + 1.6**2)

    def finding(*worse):
        low = np.where(np.isin(ratios, worse), 1.05, 0.7) * isotropic
        zeros = np.zeros((5, 1))
        return skill_finding(
            skill(ratios=ratios, isotropic=isotropic, gaussian=isotropic, error=1.2 * low, low=low, high=1.5 * low,
                  drift=zeros, drift_error=zeros)
        )  # fmt: skip

    one = finding(2.0)
    assert one.tone == "attention"
    assert one.verdict.startswith("At σ/α = 2 its errors are 1.26 times those of a formula")
    assert one.interval == pytest.approx((1.05, 1.575))
    two = finding(4.0, 0.7)
    assert two.tone == "alarm"
    assert "mean and standard deviation, 1.26 times at σ/α = " in two.verdict
    assert finding(20.0, 0.06).tone == "good"  # these do not matter


def test_worse_is_beyond_two_percent_by_the_lower_end():
    at = skill(low=1.02 * skill().isotropic, high=2 * skill().isotropic)
    assert not at.worse.any()
    assert skill(low=1.0201 * skill().isotropic).worse.all()


def test_levels_that_decide_little_are_a_reservation():
    low = 0.7 * skill().isotropic
    low[0] = 1.03  # above the constant mean's error, at 20
    low[3] = 1.03 * (0.06 / 1.6) ** 2  # above the input's, at 0.06
    text = skill_finding(skill(low=low)).verdict
    assert text.endswith(
        ", with a reservation: from σ/α = 20 upward it is worse than the mean of the data, and below σ/α = 0.06 it is "
        "worse than its own input."
    )
    assert "reservation" not in skill_finding(skill(low=np.minimum(low, 0.99 * skill().isotropic))).verdict


def test_the_largest_drift_is_beyond_three_standard_errors_and_told_beyond_the_bar():
    drift, error = skill().drift.copy(), skill().drift_error.copy()
    found = drift_finding(skill())
    assert found.tone == "good"
    assert found.power.startswith(f"A shift of {0.05 + 3 * 0.02:.2g} standard deviations")
    assert "of 8." in found.null
    drift[0, 1], drift[2, 0] = -0.5, 0.2  # 0.5 - 0.036 at a level that decides little, 0.2 - 0.06 at one that matters
    found = drift_finding(skill(drift=drift))
    assert (found.value, found.tone, found.unit) == (0.2, "attention", "standard deviations")
    assert found.interval == pytest.approx((0.2 - 1.96 * 0.02, 0.2 + 1.96 * 0.02))
    assert found.verdict == "Its answers drift: at σ/α = 0.7 their mean is off by +0.2 standard deviations of the data."
    drift[2, 0] = 0.1
    error[2, 0] = 0.02  # 0.1 - 0.06 is within the bar
    found = drift_finding(skill(drift=drift, drift_error=error))
    assert (found.value, found.tone) == (-0.5, "neutral")
    assert found.verdict.endswith("off by -0.5 standard deviations of the data, at a noise level that decides little.")


def test_a_drift_at_the_bar_and_an_error_at_its_limit_are_not_told():
    drift, error = np.zeros((4, 1)), np.zeros((4, 1))
    drift[0], drift[2] = -0.5, DRIFT  # the second at a level that matters
    at_the_bar = skill(drift=drift, drift_error=error)
    assert at_the_bar.largest_drift == (0, 0)
    assert drift_finding(at_the_bar).tone == "neutral"
    drift[2] = 1.01 * DRIFT
    assert skill(drift=drift, drift_error=error).largest_drift == (2, 0)
    drift[:, 0] = 0.1, -0.2, 0.3, 0.0
    within = skill(drift=drift, drift_error=np.array([[0.1], [0.1], [0.2], [0.1]]))
    assert (within.largest_drift, drift_finding(within).tone) == ((1, 0), "good")  # 0.1 within three standard errors
    isotropic = skill().isotropic
    assert not skill(low=WORSE * isotropic).worse.any()
    ends = np.array([MATTERS[1], 1.0, MATTERS[0], 0.1])
    assert skill(ratios=ends, scale=1.0).matters.tolist() == [False, True, False, False]


def test_the_figures_of_skill_and_drift_have_their_curves():
    result = skill()
    (panel,) = error_chart(result).panels
    model, gaussian, isotropic, one, scale = panel.marks
    assert (model.x, model.y, model.low, model.high) == tuple(
        tuple(x) for x in (RATIOS, result.error, result.low, result.high)
    )
    assert (gaussian.label, gaussian.y) == ("Gaussian", tuple(result.gaussian))
    assert (isotropic.label, isotropic.y) == ("mean and standard deviation only", tuple(result.isotropic))
    assert (one.at, scale) == (1.0, Rule(1.6, "x"))
    first, second, zero, _ = drift_chart(result).panels[0].marks
    assert (first.label, second.label, zero.at) == ("channel 0", "channel 1", 0.0)
    assert second.y == (-0.02, -0.04, 0.01, 0.0)
    assert second.low == pytest.approx((-0.044, -0.06, -0.01, -0.02))
    assert second.high == pytest.approx((0.004, -0.02, 0.03, 0.02))

"""The numbers of the cards, charts and tables on steps and on the order of decisions, of results made by hand."""

# every block is of the kind that its card shows
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

import dataclasses
import math

import numpy as np
import pytest
from results_at_levels import SAMPLER_NAMES, curves, decided, hand_made, of_order

from chart_reading import marks_of
from diffuscope.audit.questions import order
from diffuscope.audit.questions.steps import (
    BUDGETS,
    ENOUGH,
    SAMPLERS,
    Steps,
    _numbers,
    budgets_chart,
    findings,
    recommended,
    reduced,
    rms,
    teleport_chart,
)
from diffuscope.audit.step_measures import steps_within
from diffuscope.findings import Line, Points, Rule
from numbers_in_tests import rng


def test_the_root_mean_square_is_over_seeds():
    table = np.array([[[3.0, 1.0]], [[4.0, 7.0]]])
    assert rms(table) == pytest.approx(np.array([[12.5**0.5, 5.0]]))


def test_the_card_names_sampler_budget_error_and_grid():
    result = hand_made()
    first, where, error = findings(result, rng())
    assert first.name == "steps.enough"
    assert (first.value, first.unit, first.tone) == (20.0, "NFE", "good")
    # (20 - 1) // 2 steps of two evaluations, from the highest level to the lowest
    assert first.verdict == (
        "20 NFE are enough: Heun ends 0.0600 standard deviations from the finely integrated result, at most 0.0600 "
        "with 95% confidence (up to 0.1 counts as enough). Times: 9 steps, equal in (σ/α)^(1/7), from σ/α = 80 to 0.3, "
        "and a final denoiser call: model_times(denoiser, 9, high=80, low=0.3)."
    )
    assert first.power == "2 trajectories; the reference is accurate to 0.002."
    measured, estimate = (0.03**2 / 2 + 0.05**2 / 2) ** 0.5, (0.03**2 / 2 + 0.04**2 / 2) ** 0.5
    assert (where.value, where.unit, where.tone) == (2.5, "σ/α", "good")
    assert f"down to σ/α = 2.5: the estimated error is {estimate:.3f} " in where.verdict
    assert where.verdict.endswith(f"the measured error {measured:.3f}.")
    assert where.null == "Tolerance: 0.08 standard deviations of the data. The estimate alone suggests σ/α = 0.9."
    assert error.value == pytest.approx(measured)
    assert error.interval == pytest.approx((0.03, 0.05))  # of two trajectories: both the one or both the other
    assert f"end {measured:.3f} standard" in error.verdict
    assert error.null == f"Estimated at {estimate:.3f} beforehand; the reference is accurate to 0.002."


def test_of_equal_budgets_the_least_error_and_of_unequal_ones_the_least_budget_is_recommended():
    result = hand_made()
    result.teleported[:, 1, 4] = 0.05  # DDIM, teleported, at the same budget
    best = recommended(result, rng())
    assert best is not None
    assert (best.sampler, best.nfe, best.teleported, best.steps) == ("DDIM", 20, True, 19)
    assert (best.high, best.low) == (2.5, 0.3)
    assert best.error == best.upper == pytest.approx(0.05)
    assert "DDIM after teleportation to σ/α = 2.5 ends 0.0500 " in findings(result, rng())[0].verdict
    result.plain[:, 4, 1] = ENOUGH  # the owner's sampler at 8 evaluations, just at the bar
    best = recommended(result, rng())
    assert best is not None
    assert (best.sampler, best.nfe, best.teleported, best.steps, best.high) == ("module:own", 8, False, 6, 80.0)
    result.plain[:, 4, 1] = ENOUGH + 1e-9
    assert recommended(result, rng()).nfe == 20


def test_the_upper_end_allows_for_all_cells_of_one_budget():
    """Of n trajectories one is off: at 1 - 0.05 / 10 some resamples have it more often than at 95%."""
    n = 40
    plain = np.full((n, 5, len(BUDGETS)), 0.9)
    plain[:, 3, 0] = 0.0
    plain[0, 3, 0] = 0.34
    # 3 of 40 with it in 98.1% of resamples, 4 in 99.6%: the ends at 97.5% and at 99.75%
    assert 0.34 * (3 / n) ** 0.5 < ENOUGH < 0.34 * (4 / n) ** 0.5
    result = hand_made(
        plain=plain, teleported=np.full_like(plain, 0.9), estimated=np.zeros((n, 4)), measured=np.zeros(n)
    )
    assert recommended(result, rng()) is None
    plain[0, 3, 0] = 0.2  # of 9, more than any resample has, 0.095
    assert recommended(result, rng()).nfe == BUDGETS[0]


def test_where_nothing_suffices_the_least_error_of_both_tables_is_named():
    result = hand_made(plain=np.full((2, 5, 6), 0.5), teleported=np.full((2, 5, 6), 0.7))
    assert "with up to 35, samples end 0.500 standard" in findings(result, rng())[0].verdict
    result = hand_made(plain=np.full((2, 5, 6), 0.8), teleported=np.full((2, 5, 6), 0.7))
    first = findings(result, rng())[0]
    assert "with up to 35, samples end 0.700 standard" in first.verdict
    assert (first.tone, first.unit) == ("attention", "")
    assert math.isnan(first.value)


def test_without_a_jump_the_estimate_one_level_down_is_named():
    (_, where) = findings(hand_made(skip=80.0), rng())
    estimate = (0.01**2 / 2 + 0.03**2 / 2) ** 0.5
    assert (where.value, where.tone, where.null) == (80.0, "attention", "")
    assert "an error of at most 0.08 standard deviations" in where.verdict
    assert where.verdict.endswith(f"the estimated error is {estimate:.2g}.")


def test_charts_and_table_have_the_numbers_of_the_result():
    result = hand_made()
    chart = budgets_chart(result)
    assert chart.shared_y
    assert chart.panels[1].title == "teleported to σ/α = 2.5"
    for panel, table in zip(chart.panels, (result.plain, result.teleported), strict=True):
        assert panel.x_ticks == tuple(map(float, BUDGETS))
        for mark, name, row in zip(panel.marks, SAMPLER_NAMES, rms(table), strict=True):
            assert isinstance(mark, Line)
            assert (mark.label, mark.x, mark.y) == (name, panel.x_ticks, tuple(row.tolist()))
    rows = _numbers(result).rows
    assert [row[0] for row in rows] == [*SAMPLER_NAMES, *(f"{name}, teleported" for name in SAMPLER_NAMES)]
    assert rows[2][1:] == rms(result.plain)[2].tolist()
    assert rows[7][1:] == rms(result.teleported)[2].tolist()
    note = _numbers(result).note
    assert "Root mean square over 2 trajectories" in note
    assert "Reference: Heun, 128 steps, accurate to 0.002" in note
    assert "from σ/α = 80 to 0.3; teleported ones start at 2.5." in note


@pytest.mark.parametrize("skip", [2.5, 80.0])
def test_the_chart_of_teleportation_starts_below_the_start(skip):
    result = hand_made(skip=skip)
    (panel,) = teleport_chart(result).panels
    estimated, *rest, tolerance, _ = panel.marks
    assert isinstance(estimated, Line)
    assert estimated.x == (7.0, 2.5, 0.3)
    assert estimated.y == pytest.approx(rms(result.estimated)[1:])
    assert tolerance == Rule(0.08)
    assert [(mark.x, mark.y) for mark in rest if isinstance(mark, Points)] == (
        [((2.5,), (pytest.approx(float(rms(result.measured))),))] if skip < 80 else []
    )
    assert panel.y_range is not None
    assert panel.y_range[0] < float(rms(result.estimated)[1:].min())
    assert panel.y_range[1] == 3.0
    low = teleport_chart(hand_made(estimated=np.full((2, 4), 1e-9))).panels[0].y_range
    assert low == (1e-5, 3.0)


def test_the_stored_arrays_keep_their_names_and_the_owner_is_last():
    arrays = {
        f.name: np.asarray(getattr(hand_made(), f.name))
        for f in dataclasses.fields(Steps)
        if f.name not in ("scale", "samplers", "budgets", "tolerance")
    }
    made = reduced(arrays, 1.6, 0.08, "module:own")
    assert made.samplers == SAMPLER_NAMES
    assert (made.scale, made.tolerance, made.skip, made.lowest) == (1.6, 0.08, 2.5, 0.3)
    arrays["plain"] = arrays["plain"][:, :4]
    assert reduced(arrays, 1.6, 0.08, "module:own").samplers == tuple(SAMPLERS)


@pytest.mark.parametrize(("budget", "each", "steps"), [(10, 1, 9), (10, 2, 4), (9, 2, 4), (2, 2, 1), (35, 3, 11)])
def test_one_evaluation_is_left_for_the_final_call(budget, each, steps):
    assert steps_within(budget, each) == steps
    assert steps * each + 1 <= budget or steps == 1


# the order of decisions


def test_the_order_is_told_with_its_levels_and_those_of_the_gaussian():
    found = of_order(decided(*curves((3.2, 2.0, 1.1))))
    first = found["components"]
    assert first.value == pytest.approx(1.0)
    assert first.interval == pytest.approx((1.0, 1.0))
    assert first.verdict.startswith("Outline first: its 3 leading principal components are decided in the order of")
    assert "(rank correlation 1.00), the first at σ/α = 3.2 and the last at 1.1;" in first.verdict
    assert "the exact Gaussian decides the first at 3 and the last at 1." in first.verdict
    assert first.power == "20 trajectories; the standard error of an emergence level is 0.0% (median)."
    assert first.confidence == 0.95
    reverse = of_order(decided(*curves((1.1, 2.0, 3.2))))["components"]
    assert reverse.value == pytest.approx(-1.0)
    assert reverse.verdict.startswith("Not outline first: its 3 ")
    assert "are decided hardly in the order" in reverse.verdict


def test_a_component_decided_above_the_highest_level_is_counted_and_not_placed():
    ratios, squares = curves((1e9, 3.0, 2.0, 1.0), (5.0, 3.0, 2.0, 1.0))
    first = of_order(decided(ratios, squares, variances=(25.0, 9.0, 4.0, 1.0)))["components"]
    assert "its 3 leading" in first.verdict
    assert "the first at 3 and the last at 1; 1 more are decided above the highest audited level." in first.verdict


def test_components_decided_within_one_step_of_the_levels_have_no_order():
    ratios = np.array([100.0, 10.0, 1.0, 0.01])
    share = np.array([[0.001, 0.002, 0.003], [0.01, 0.02, 0.03], [0.9, 0.92, 0.94], [1.0, 1.0, 1.0]])
    first = of_order(decided(ratios, np.tile(share, (9, 1, 1))))["components"]
    assert first.verdict.startswith("All at once: its 3 ")
    assert "between the same two audited levels, σ/α = 10 and 1, so" in first.verdict


def test_two_known_components_have_no_order():
    ratios, squares = curves((1e9, 2.0, 1.0))
    first, plane = order.findings(decided(ratios, squares), rng())
    assert (first.tone, plane.name) == ("unknown", "order.dimension")
    assert "of the principal components 2 emerge" in first.verdict
    assert "an order needs 3" in first.verdict


def test_late_is_an_upper_end_below_the_bar_and_its_number_is_the_share_of_the_bound():
    ratios, squares = curves((3.0, 1.5, 1.0), (3.0, 2.0, 1.0))
    late = of_order(decided(ratios, squares))["late"]
    assert late.value == pytest.approx(0.75, rel=1e-3)
    assert (late.tone, late.unit) == ("attention", "x")
    assert late.interval == pytest.approx((0.75, 0.75), rel=1e-3)
    assert late.confidence == round(1 - 0.05 / 3, 4)
    assert late.verdict.startswith("Components 2 are decided later than denoisers of one distribution allow, component")
    assert "component 2 at 0.75 times the bound" in late.verdict
    assert "corrected for 3 components, intervals end 0.00x above" in late.power
    within = of_order(decided(*curves((3.0, 1.94, 1.0))))["late"]  # 0.97 of its bound
    assert within.tone == "neutral"
    assert "component 2 comes nearest, at 0.97 times the bound." in within.verdict
    assert of_order(decided(*curves((3.0, 1.88, 1.0))))["late"].tone == "attention"  # 0.94


def test_the_dimension_counts_components_for_the_share_and_says_plane_only_beyond_it():
    result = decided(*curves())
    found = of_order(result)["dimension"]
    # 0.97 + 0.02 + 0.008 = 0.998 needs a fourth; 0.95 + 0.04 + 0.0095 = 0.9995 does not
    assert found.value == 3.5
    assert found.interval == (3.0, 4.0)
    assert found.verdict == (
        "Two principal components hold 99.00% of the variance of a trajectory, and 3.5 on average hold 99.9%."
    )
    assert found.null == "3 for the exact Gaussian from the same starts, at these 200 levels."  # (2 + 4) / 2
    assert found.power == "2 trajectories."
    plane = of_order(decided(*curves(), shares=np.array([[0.97, 0.025, 0.004, 0.001]] * 2)))["dimension"]
    assert plane.verdict.startswith("Its trajectories are nearly plane: two principal components hold 99.50% of the")


@pytest.mark.parametrize(
    ("dimension", "reason"),
    [(2, "in 2 dimensions every trajectory lies in a plane"), (3, "200 noise levels are too few, expected 8")],
)
def test_without_shares_the_reason_is_told(dimension, reason):
    empty = np.zeros((0, 4))
    found = of_order(decided(*curves(), shares=empty, gaussian_shares=empty, dimension=dimension))["dimension"]
    assert found.tone == "unknown"
    assert reason in found.verdict


def test_the_jump_counts_what_is_decided_above_it():
    result = decided(*curves())
    jump = of_order(result)["jump"]
    assert (jump.value, jump.unit) == (1.5, "σ/α")
    nearest = result.ratios[np.argmin(abs(result.ratios - 1.5))]
    share = (1 + (result.ratios[-1] / 3) ** 2) ** 0.5 / (1 + (nearest / 3) ** 2) ** 0.5
    assert "Down to σ/α = 1.5 the" in jump.verdict
    assert "(within 0.05 standard deviations of the data): 2 of 3 components are decided by then" in jump.verdict
    assert f"and {share:.0%} of the first is in the estimate." in jump.verdict
    assert "within 0.05 standard deviations" in of_order(decided(*curves(), skip=100.0))["jump"].verdict


def test_a_one_step_map_is_known_by_its_answer_at_the_highest_noise():
    ratios = np.geomspace(100, 0.01, 12)
    found = order.findings(decided(ratios, np.full((5, 12, 3), 2.0)), rng())
    assert [f.name for f in found] == ["order.components"]
    assert "departs from the mean 1.00 times as far as at the lowest" in found[0].verdict


def test_the_charts_of_the_order_have_its_curves_levels_and_shares():
    result = decided(*curves(count=30), skip=1.5)
    shares, levels = order.emergence_chart(result, rng()).panels
    lines = marks_of(shares, Line)
    assert [mark.label for mark in lines] == ["component 1", "component 2", "Gaussian", ""]
    for mark, k in zip(lines[:2], (0, 1), strict=True):
        for values in (mark.y, mark.low, mark.high):  # all trajectories are alike
            assert values == pytest.approx(result.emerged[:, k])
    for mark, k in zip(lines[2:], (0, 1), strict=True):
        assert mark.y == pytest.approx(result.predicted[:, k])
    assert marks_of(shares, Rule) == [
        Rule(1.5, "x", label="closed form"),
        Rule(1.7, "x"),
    ]
    measured, bound, gaussian = levels.marks
    assert measured.x == bound.x == gaussian.x == (9.0, 4.0, 1.0)
    assert measured.y == pytest.approx(result.levels)
    assert bound.y == pytest.approx((3, 2, 1), rel=1e-4)  # the sizes of the samples
    assert gaussian.y == pytest.approx(result.gaussian_levels)
    (panel,) = order.dimension_chart(result).panels
    own, closed, rule = panel.marks
    assert own.x == closed.x == (1.0, 2.0, 3.0)
    assert own.y == pytest.approx((0.04, 0.01, 0.00125))
    assert closed.y == pytest.approx((0.1, 0.01025, 0.0025))
    assert isinstance(rule, Rule)
    assert rule.at == pytest.approx(0.001)
    rows = order._numbers(result).rows
    assert rows[1] == [2, 4.0, pytest.approx(result.levels[1]), pytest.approx(result.gaussian_levels[1]),
                       pytest.approx(2, rel=1e-4)]  # fmt: skip

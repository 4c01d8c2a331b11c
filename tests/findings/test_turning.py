"""The turning point of a residual: level, coverage and power on known curves, and closed forms of its parts."""

import math

import numpy as np
import pytest
from scipy import stats

from diffuscope.errors import InputError
from diffuscope.findings import TurningPoint, bootstrap_sums, turning_point

STEPS = np.arange(1, 9)
FLAT = np.ones(8)
TO_A_PLATEAU = np.array([4.0, 3, 2, 1.5, 1, 1, 1, 1])
TURNS = np.array([1.6, 1.3, 1.1, 1, 1.03, 1.1, 1.2, 1.3])


def residuals(mean, points, rng, kept=0.8):
    """Skewed residuals (chi-square with 4 degrees of freedom), correlated from step to step, of the given means."""
    drawn = rng.standard_normal((points, len(mean), 4))
    for k in range(1, len(mean)):
        drawn[:, k] = kept * drawn[:, k - 1] + np.sqrt(1 - kept**2) * drawn[:, k]
    return (drawn**2).mean(2) * mean


def found(mean, points, repeats, seed, significance=0.05):
    rng = np.random.default_rng(seed)
    return [
        turning_point(residuals(mean, points, rng), STEPS, rng, significance=significance, resamples=199)
        for _ in range(repeats)
    ]


def share(hits):
    return np.mean(list(hits))


@pytest.mark.parametrize("mean", [FLAT, TO_A_PLATEAU], ids=["flat", "to-a-plateau"])
def test_a_curve_that_does_not_rise_raises_an_alarm_no_more_often_than_the_level(mean):
    alarms = share(seen.p_rise <= 0.05 for seen in found(mean, 60, 160, seed=0))
    assert alarms < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 160)


def test_the_last_step_tested_against_the_least_as_if_it_were_chosen_beforehand_is_no_test():
    """What the maximum over the steps is for: the naive test at 5 % is wrong in a flat curve far more often."""
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(160):
        drawn = residuals(FLAT, 60, rng, kept=0)
        rise = drawn[:, -1] - drawn[:, drawn.mean(0).argmin()]
        alarms += rise.mean() > stats.norm.isf(0.05) * rise.std(ddof=1) / np.sqrt(60)
    assert alarms / 160 > 0.05 + 4 * np.sqrt(0.05 * 0.95 / 160)


def test_a_curve_that_only_falls_raises_no_alarm():
    assert share(seen.p_rise <= 0.05 for seen in found(np.linspace(2, 1, 8), 60, 100, seed=1)) == 0


def coverage_of_kept(mean, points=60, repeats=160):
    """Of one step of least expected residual; where there are several, of the first."""
    least = STEPS[mean.argmin()]
    return share(least in seen.kept for seen in found(mean, points, repeats, seed=2))


@pytest.mark.parametrize("mean", [FLAT, TURNS, TO_A_PLATEAU], ids=["flat", "turns", "to-a-plateau"])
def test_the_kept_steps_cover_the_step_of_least_expected_residual(mean):
    """At least 95%, up to 3 standard errors of 160 repetitions; the interval runs a look farther on either side."""
    assert coverage_of_kept(mean) >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 160)


def test_another_confidence_covers_less_often(monkeypatch):
    """In a flat curve every hypothesis holds with equality: what is kept covers as often as it says, not more."""
    monkeypatch.setattr("diffuscope.findings.turning.CONFIDENCE", 0.2)
    assert coverage_of_kept(FLAT) < 0.95 - 3 * np.sqrt(0.05 * 0.95 / 160)


def test_the_interval_runs_to_the_steps_beside_those_that_are_kept():
    for seen in found(TURNS, 400, 10, seed=11):
        first, last = max(seen.kept[0] - 1, STEPS[0]), min(seen.kept[-1] + 1, STEPS[-1])
        assert seen.interval == (first, last)
        assert seen.step in seen.kept


def test_percentiles_of_the_resampled_argmin_do_not_cover_where_the_curve_is_flat():
    """Why the interval inverts a test."""
    rng, covered = np.random.default_rng(3), 0
    for _ in range(100):
        least = bootstrap_sums(residuals(FLAT, 60, rng, kept=0), rng, 199).argmin(1)
        covered += np.quantile(least, 0.025) <= 0 <= np.quantile(least, 0.975)
    assert covered / 100 < 0.8


def test_the_interval_shrinks_onto_the_step_as_points_are_added():
    (few,), (many,) = found(TURNS, 100, 1, seed=4), found(TURNS, 20_000, 1, seed=4)
    assert many.step == 4
    assert many.interval == (3, 5)
    assert few.interval[0] <= 3
    assert few.interval[1] >= 5
    assert many.found


def one_comparison(points, rise, rng):
    """Two earlier steps that differ by a number: every comparison with the last step is the same one."""
    early, late = rng.standard_normal((2, points)) + 10
    return np.stack([early + 1, early, late + rise], 1)


def test_with_one_comparison_the_p_value_is_that_of_the_paired_normal_test():
    rng = np.random.default_rng(5)
    for rise in (0.05, 0.1, 0.15):
        drawn = one_comparison(800, rise, rng)
        difference = drawn[:, 2] - drawn[:, 1]
        exact = float(stats.norm.sf(difference.mean() / (difference.std() / np.sqrt(800))))
        seen = turning_point(drawn, np.arange(3), rng, resamples=1999)
        assert difference.mean() > 0
        # 4 standard errors of the resampling; 800 points are normal to about 1/800
        assert seen.p_rise == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 1999) + 2 / 800)


def test_with_one_comparison_the_detectable_rise_is_that_of_the_normal_test_and_has_the_stated_power():
    rng = np.random.default_rng(6)
    error = np.sqrt(2 / 200)
    exact = (stats.norm.isf(0.05) + stats.norm.isf(0.05)) * error
    seen = [
        turning_point(one_comparison(200, exact, rng), np.arange(3), rng, significance=0.05, resamples=299)
        for _ in range(160)
    ]
    assert np.median([at.detectable_rise for at in seen]) == pytest.approx(exact, rel=0.05)
    assert share(at.p_rise <= 0.05 for at in seen) == pytest.approx(0.95, abs=4 * np.sqrt(0.05 * 0.95 / 160))


def test_a_difference_that_is_the_same_at_every_point_is_beyond_doubt():
    rng = np.random.default_rng(7)
    drawn = rng.random((30, 1)) + np.array([3.0, 2, 1, 1, 2, 3])
    seen = turning_point(drawn, np.arange(6), rng)
    assert (seen.p_fall, seen.p_rise) == (1 / 2000, 1 / 2000)
    assert seen.interval == (1, 4)  # steps 2 and 3 are equal; the least may be as far as the next looks
    assert seen.last - seen.least == pytest.approx(2)


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_steps_that_do_not_differ_at_all_give_no_alarm_and_no_warning(constant):
    with np.errstate(all="raise"):
        seen = turning_point(np.full((30, 4), constant), np.arange(4), np.random.default_rng(0))
    assert (seen.p_fall, seen.p_rise) == (1, 1)
    assert seen.interval == (0, 3)


def test_a_residual_in_other_units_has_the_same_turning_point():
    drawn = residuals(TURNS, 200, np.random.default_rng(8))
    one, other = (turning_point(scale * drawn, STEPS, np.random.default_rng(9)) for scale in (1.0, 1e-6))
    assert (one.step, one.interval, one.p_fall, one.p_rise) == (other.step, other.interval, other.p_fall, other.p_rise)
    assert other.detectable_rise == pytest.approx(1e-6 * one.detectable_rise)


def test_the_verdict_states_what_was_found_or_was_detectable():
    seen = TurningPoint(20.0, (20.0,), (10.0, 40.0), 2.0, 3.0, 0.001, 0.001, 0.5, 0.01)
    assert seen.found
    assert "least at step 20 (95% interval 10 to 40), then it rises by 50%" in seen.verdict
    missed = TurningPoint(20.0, (20.0,), (10.0, 40.0), 2.0, 2.1, 0.001, 0.3, 0.5, 0.01)
    assert not missed.found
    assert "no rise is found (p = 0.3); a rise of 25% would have been found with probability 0.95" in missed.verdict
    late = TurningPoint(1.0, (1.0,), (1.0, 2.0), 2.0, 3.0, 1.0, 0.001, 0.5, 0.01)
    assert not late.found
    assert "before the first logged step" in late.verdict


@pytest.mark.parametrize(
    ("shape", "steps", "options", "reason"),
    [
        ((19, 4), [1, 2, 3, 4], {}, "at least 20 points and 3 steps, got 19 points and 4 steps"),
        ((30, 2), [1, 2], {}, "got 30 points and 2 steps"),
        ((30, 3), [1, 2, 2], {}, r"expected 3 that increase, one per column of the residuals, got \[1 2 2\]"),
        ((30, 3), [1, 2, 3], {"resamples": 50}, "with 50 resamples, got 0.01"),
    ],
)
def test_untestable_input_is_refused_in_one_line(shape, steps, options, reason):
    with pytest.raises(InputError, match=reason):
        turning_point(np.ones(shape), np.array(steps), np.random.default_rng(0), **options)


def test_a_residual_that_is_not_finite_is_refused():
    drawn = np.ones((30, 3))
    drawn[4, 1] = np.nan
    with pytest.raises(InputError, match="finite"):
        turning_point(drawn, np.arange(3), np.random.default_rng(0))


def test_the_detectable_rise_is_in_the_units_of_the_residuals_and_falls_with_the_root_of_their_number():
    drawn = residuals(TURNS, 60, np.random.default_rng(0))
    one, ten, more = (
        turning_point(rows, STEPS, np.random.default_rng(1), significance=0.05, resamples=199)
        for rows in (drawn, 10 * drawn, np.tile(drawn, (16, 1)))
    )
    assert ten.detectable_rise == pytest.approx(10 * one.detectable_rise)
    assert (ten.step, ten.p_rise, ten.rise) == (one.step, one.p_rise, pytest.approx(one.rise))
    # critical values differ by what resampling adds
    assert more.detectable_rise == pytest.approx(one.detectable_rise / 4, rel=0.2)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_one_residual_that_is_not_finite_is_refused(wrong):
    drawn = residuals(TURNS, 20, np.random.default_rng(0))
    drawn[3, 4] = wrong
    with pytest.raises(InputError, match="residuals: expected finite numbers, got NaN or infinity"):
        turning_point(drawn, STEPS, np.random.default_rng(1))


def test_the_fewest_points_steps_and_resamples_are_enough():
    drawn = residuals(TURNS[:3], 20, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    found = turning_point(drawn, STEPS[:3], rng, significance=0.25, resamples=3)
    assert found.least == pytest.approx(float(drawn.mean(0).min()))
    assert found.last == pytest.approx(float(drawn.mean(0)[-1]))
    for rows, steps in ((drawn[:19], STEPS[:3]), (drawn[:, :2], STEPS[:2])):
        with pytest.raises(InputError, match="expected at least 20 points and 3 steps"):
            turning_point(rows, steps, rng)
    with pytest.raises(InputError, match=r"significance: expected 0\.25 to 1 with 3 resamples, got 0\.24"):
        turning_point(drawn, STEPS[:3], rng, significance=0.24, resamples=3)
    with pytest.raises(InputError, match="steps: expected 3 that increase"):
        turning_point(drawn, np.array([1, 2, 2]), rng)

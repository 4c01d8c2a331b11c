"""Areas, true-positive rates and advantages of Gaussian scores against their closed forms, and their intervals."""

import itertools

import numpy as np
import pytest
from scipy import stats

from diffuscope.audit.roc import (
    advantage,
    auc,
    auc_with_interval,
    best_threshold,
    fewest_for,
    null_deviation,
    roc_curve,
    true_positives,
)


def gaussian_scores(shift, n, m, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, n), rng.normal(0, 1, m)


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_the_area_for_two_gaussians_is_phi_of_d_over_the_square_root_of_two(shift):
    exact = stats.norm.cdf(shift / np.sqrt(2))
    areas = [auc(*gaussian_scores(shift, 200, 300, seed)) for seed in range(50)]
    assert abs(np.mean(areas) - exact) < 4 * np.std(areas) / 50**0.5


def test_the_area_is_the_share_of_pairs_with_ties_counted_half():
    rng = np.random.default_rng(0)
    members, others = rng.integers(0, 5, 13).astype(float), rng.integers(0, 4, 7).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(members, others)]
    assert auc(members, others) == pytest.approx(np.mean(pairs), abs=1e-14)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_the_interval_of_the_area_covers_the_truth_in_95_percent(shift):
    """500 runs: the standard error of the coverage is 1%."""
    exact = stats.norm.cdf(shift / np.sqrt(2))
    covered = 0
    for seed in range(500):
        _, low, high = auc_with_interval(*gaussian_scores(shift, 80, 120, seed))
        covered += low <= exact <= high
    assert covered >= 500 * (0.95 - 3 * 0.01)


def test_delongs_variance_is_that_of_the_area():
    """At a shift of 1, from 400 runs: a standard deviation is known to 3.5%, DeLong's own mean to less."""
    areas, widths = [], []
    for seed in range(400):
        area, low, high = auc_with_interval(*gaussian_scores(1.0, 150, 100, seed))
        areas.append(area)
        logit = np.log(high / (1 - high)) - np.log(low / (1 - low))
        widths.append(logit / (2 * 1.96) * area * (1 - area))
    assert np.mean(widths) == pytest.approx(np.std(areas), rel=4 * 0.035)


def test_an_area_of_one_has_the_interval_of_disjoint_pairs():
    """All of 50 independent pairs on one side: Clopper and Pearson's lower end is 0.025^(1/50)."""
    area, low, high = auc_with_interval(np.arange(50.0) + 100, np.arange(60.0))
    assert (area, high) == (1.0, 1.0)
    assert low == pytest.approx(0.025 ** (1 / 50))
    area, low, high = auc_with_interval(np.arange(50.0), np.arange(60.0) + 100)
    assert (area, low) == (0.0, 0.0)
    assert high == pytest.approx(1 - 0.025 ** (1 / 50))


def test_the_deviation_under_the_null_is_that_of_all_arrangements():
    """5 of 9 ranks are the members': the deviation over all 126 choices."""
    areas = [(sum(chosen) - 15) / 20 for chosen in itertools.combinations(range(1, 10), 5)]
    assert null_deviation(5, 4) == pytest.approx(np.std(areas), rel=1e-12)


@pytest.mark.parametrize(
    ("shift", "rate"),
    [(1.5, 0.01), pytest.param(0.0, 0.01, marks=pytest.mark.slow), pytest.param(3.0, 0.001, marks=pytest.mark.slow)],
)
def test_the_interval_of_true_positives_covers_the_truth_with_the_error_of_the_threshold(shift, rate):
    """True rate Phi(d - z): at least 95% of 100 runs, less three standard errors of 2.2%."""
    exact = stats.norm.cdf(shift - stats.norm.isf(rate))
    found = [true_positives(*gaussian_scores(shift, 300, 5000, seed), rate) for seed in range(100)]
    assert np.mean([f.low <= exact <= f.high for f in found]) >= 0.95 - 3 * 0.022
    # the threshold's own rate is k / (m + 1), so that the estimate is nearly unbiased
    spread = np.std([f.value for f in found]) / 100**0.5
    assert abs(np.mean([f.value for f in found]) - exact) < 4 * spread + 0.05 * exact


def test_the_p_value_of_true_positives_is_that_of_all_arrangements():
    """3 members among 6 + 3 ranks, rate 0.3: the threshold is the second largest of the six others."""
    arrangements = list(itertools.combinations(range(9), 3))

    found = []
    for chosen in arrangements:
        members = np.array(chosen, dtype=float)
        found.append(true_positives(members, np.setdiff1d(np.arange(9.0), members), 0.3))
    values = np.array([f.value for f in found])
    for f in found:
        assert f.p_value == pytest.approx(np.mean(values >= f.value), rel=1e-9)


def test_too_few_others_give_no_rate():
    assert (fewest_for(0.01), fewest_for(0.001)) == (99, 999)
    none = true_positives(np.arange(500.0), np.arange(998.0), 0.001)
    assert np.isnan(none.value)
    assert (none.low, none.high) == (0.0, 1.0)
    assert not np.isnan(true_positives(np.arange(500.0), np.arange(999.0), 0.001).value)


def test_the_advantage_for_two_gaussians_is_two_phi_of_half_the_shift_minus_one():
    exact = 2 * stats.norm.cdf(0.75) - 1
    found = [advantage(*gaussian_scores(1.5, 400, 400, seed), np.random.default_rng(seed)) for seed in range(200)]
    # the threshold is estimated, which costs a little
    assert exact - 0.02 < np.mean([f.value for f in found]) < exact + 4 * 0.03 / 200**0.5
    assert np.mean([f.low <= exact <= f.high for f in found]) >= 0.95 - 3 * 0.0155


def test_the_advantage_has_mean_zero_where_there_is_nothing_to_find():
    found = [advantage(*gaussian_scores(0.0, 50, 50, seed), np.random.default_rng(seed)) for seed in range(400)]
    values = np.array([f.value for f in found])
    assert abs(values.mean()) < 4 * values.std() / 400**0.5
    assert np.mean([f.low <= 0 <= f.high for f in found]) >= 0.95 - 3 * 0.011


def test_the_best_threshold_and_the_curve_are_those_of_every_threshold():
    members, others = gaussian_scores(1.0, 30, 40, 1)
    every = np.concatenate([members, others])
    rates = [((members >= t).mean(), (others >= t).mean()) for t in every]
    best = best_threshold(members, others)
    assert (members >= best).mean() - (others >= best).mean() == pytest.approx(max(t - f for t, f in rates))
    false, true = roc_curve(members, others)
    for f, t in zip(false, true, strict=True):
        assert any(np.isclose(t, a) and np.isclose(f, b) for a, b in rates)

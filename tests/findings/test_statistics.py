"""The statistics of the audit against exact enumeration, closed forms and their own guarantees."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from diffuscope.errors import InputError
from diffuscope.findings import (
    binomial_p_value,
    bootstrap_sums,
    chi_squared_permutation,
    conformal_p_values,
    detectable_shift,
    exact_share_interval,
    false_discovery,
    label_permutation,
    paired_permutation,
)
from diffuscope.findings.statistics import bonferroni


@pytest.mark.parametrize(("count", "total"), [(5, 3), (-1, 3), (0, 0)])
def test_a_share_of_nothing_is_one_clear_line(count, total):
    with pytest.raises(InputError, match=f"^count: expected a number out of a positive total, got {count} of {total}$"):
        exact_share_interval(count, total)


def test_paired_permutation_equals_the_enumeration_of_all_sign_changes():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.4, 1, size=(10, 3))
    every = np.array(list(product([-1.0, 1.0], repeat=10)))
    means = every @ differences / 10
    exact = (means >= differences.mean(0) - 1e-12).mean(0)
    scale = np.sqrt((differences**2).mean(0))
    exact_overall = ((means / scale).max(1) >= (differences.mean(0) / scale).max() - 1e-12).mean()
    per_level, overall = paired_permutation(differences, rng, permutations=40_000)
    # standard error of a share from 40,000 draws is at most .0025
    assert np.abs(per_level - exact).max() < 4 * 0.0025
    assert abs(overall - exact_overall) < 4 * 0.0025


def test_chi_squared_permutation_equals_the_enumeration_of_all_tables():
    """Seven members and five, of three classes and one that does not occur; the statistic is scipy's."""
    counts, rng = np.array([[5, 0, 1, 1], [1, 0, 3, 1]]), np.random.default_rng(0)
    members = np.repeat(np.arange(4), counts.sum(0))

    def pearson(table):
        return np.asarray(stats.contingency.chi2_contingency(table[:, [0, 2, 3]], correction=False)[0])

    def chi_squared(first):
        rows = np.stack([np.bincount(first, minlength=4), counts.sum(0) - np.bincount(first, minlength=4)])
        return pearson(rows)

    every = np.array([chi_squared(members[list(chosen)]) for chosen in combinations(range(12), 7)])
    for share in (1.0, 0.5):
        observed = share * pearson(counts)
        exact = (every >= observed - 1e-9).mean()
        found = chi_squared_permutation(counts, share, rng, permutations=40_000)
        assert 0.05 < exact < 1
        assert abs(found - exact) < 4 * 0.0025


def test_label_permutation_equals_the_enumeration_of_all_labelings():
    hits = np.array([5, 0, 2, 1, 0, 3, 0, 1])
    is_training = np.array([True, False, True, False, True, False, True, False])
    shares = np.array([hits[list(chosen)].sum() for chosen in combinations(range(8), 4)])
    exact = (shares >= hits[is_training].sum()).mean()
    p, deviation = label_permutation(hits, is_training, np.random.default_rng(0), permutations=40_000)
    assert abs(p - exact) < 4 * 0.0025
    assert abs(deviation - (shares / hits.sum()).std()) < 0.005


def test_labels_are_permuted_within_cells():
    """Two cells of four: the enumeration has 6 x 6 labelings instead of 70."""
    hits = np.array([5, 0, 2, 1, 0, 3, 0, 1])
    is_training = np.array([True, False, True, False, True, False, True, False])
    cells = np.repeat([3, 7], 4)
    halves = [[hits[list(chosen)].sum() for chosen in combinations(range(a, a + 4), 2)] for a in (0, 4)]
    sums = np.add.outer(*halves).flatten()
    exact = (sums >= hits[is_training].sum()).mean()
    p, deviation = label_permutation(hits, is_training, np.random.default_rng(0), permutations=40_000, cells=cells)
    assert abs(p - exact) < 4 * 0.0025
    assert abs(deviation - (sums / hits.sum()).std()) < 0.005


def test_binomial_test_is_too_sure_where_samples_share_neighbors_and_label_permutation_is_not():
    """Ten samples to a reference: the coin-flip model claims independence that is not there."""
    rng = np.random.default_rng(1)
    binomial, permuted = [], []
    for _ in range(200):
        is_training = rng.permutation(np.arange(60) < 30)
        clustered = 10 * rng.multinomial(60, np.full(60, 1 / 60))
        binomial.append(binomial_p_value(int(clustered[is_training].sum()), 600))
        permuted.append(label_permutation(clustered, is_training, rng, permutations=499)[0])
    # under the null 5% should fall below .05; four standard errors above that is .112
    assert np.mean(np.array(binomial) < 0.05) > 0.2
    assert np.mean(np.array(permuted) <= 0.05) < 0.112


def test_conformal_p_values_count_the_calibration_draws_below():
    p = conformal_p_values(np.array([0.0, 1.0, 2.5, 9.0]), np.array([1.0, 2.0, 3.0]))
    assert np.allclose(p, [1 / 4, 2 / 4, 3 / 4, 1])


def test_conformal_p_values_of_exchangeable_draws_are_uniform():
    rng = np.random.default_rng(0)
    p = [float(conformal_p_values(rng.normal(size=1), rng.normal(size=99))[0]) for _ in range(2000)]
    # 1.63/sqrt(n) is the Kolmogorov bound at p = .01; the p-values sit on a grid of 1/100
    assert stats.kstest(p, "uniform").statistic < 1.63 / 2000**0.5 + 0.01


def test_false_discovery_keeps_the_textbook_set():
    # Benjamini & Hochberg 1995, the thrombolysis example: 4 of 15 at rate .05
    p = np.array(
        [
            0.0001,
            0.0004,
            0.0019,
            0.0095,
            0.0201,
            0.0278,
            0.0298,
            0.0344,
            0.0459,
            0.3240,
            0.4262,
            0.5719,
            0.6528,
            0.7590,
            1.0,
        ]
    )
    assert false_discovery(p, 0.05).sum() == 4
    assert not false_discovery(np.array([0.2, 0.9]), 0.05).any()


def test_false_discovery_rate_of_conformal_p_values_is_at_most_the_stated_rate():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(300):
        null = rng.normal(size=400)
        observed = np.concatenate([rng.normal(size=150), np.full(50, -9.0)])
        kept = false_discovery(conformal_p_values(observed, null), 0.1)
        shares.append(kept[:150].sum() / max(1, kept.sum()))
    shares = np.array(shares)
    assert shares.mean() <= 0.1 + 4 * shares.std() / 300**0.5


def test_exact_share_interval_has_the_tail_probabilities_it_claims():
    low, high = exact_share_interval(7, 50)
    assert stats.binom.sf(6, 50, low) == pytest.approx(0.025, abs=1e-9)
    assert stats.binom.cdf(7, 50, high) == pytest.approx(0.025, abs=1e-9)
    assert exact_share_interval(0, 50)[0] == 0
    assert exact_share_interval(50, 50)[1] == 1


def test_the_bootstrap_standard_deviation_of_a_mean_is_its_standard_error():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 2))
    resampled = bootstrap_sums(values, rng, resamples=4000)
    assert np.allclose(resampled.std(0), values.std(0) / 500**0.5, rtol=4 / (2 * 4000) ** 0.5, atol=0)


def test_the_stated_shift_is_found_with_the_stated_probability():
    shift = detectable_shift(0.1, level=0.01)
    draws = np.random.default_rng(0).normal(shift, 0.1, size=20_000)
    assert abs((draws > stats.norm.isf(0.01) * 0.1).mean() - 0.95) < 4 * 0.0016


def test_a_p_value_of_several_tests_is_multiplied_and_at_most_one():
    assert [bonferroni(0.25, tests) for tests in (1, 3, 4, 5)] == [0.25, 0.75, 1.0, 1.0]

import math

import pytest
import scipy
import torch

from diffuscope.errors import InputError
from diffuscope.exact import Empirical
from diffuscope.physics import at_nodes
from diffuscope.physics.grading import Grader, finite_case
from diffuscope.physics.grading.metrics import (
    Marginals,
    coverage,
    crps,
    distances,
    energy_score,
    expected_total_variation,
    gaussian_crps,
    multinomial_test,
    order_interval,
    total_variation,
)
from numbers_in_tests import normal


def weighted(D: int, K: int) -> Marginals:
    weights = normal(K, seed=9).abs()
    return Marginals(normal(D, K, seed=1), weights / weights.sum())


def test_mean_distances_and_probabilities_are_those_of_the_sums():
    truth, x = weighted(3, 7), normal(5, 3, seed=2)
    apart = (x[:, :, None] - truth.values).abs()
    torch.testing.assert_close(truth.distance(x), apart @ truth.weights)
    at = truth.values.T[2:3]  # on a value of every number
    torch.testing.assert_close(truth.below(at, inclusive=True), ((truth.values <= at.T).double() @ truth.weights)[None])
    torch.testing.assert_close(truth.below(at, inclusive=False), ((truth.values < at.T).double() @ truth.weights)[None])


def test_the_fair_crps_is_that_of_its_double_sum():
    truth, x = weighted(3, 7), normal(5, 3, seed=2)
    first = ((x[:, :, None] - truth.values).abs() @ truth.weights).mean(0)
    pairs = (x[:, None] - x).abs().sum((0, 1)) / (2 * 5 * 4)
    torch.testing.assert_close(crps(x, truth), first - pairs)


def test_the_crps_of_a_gaussian_is_the_squared_distance_of_distribution_functions():
    def integrand(z: float) -> float:
        return (scipy.stats.norm.cdf(z, 0.3, 1.7) - (z >= 1.1)) ** 2

    expected = sum(scipy.integrate.quad(integrand, *ends)[0] for ends in ((-20, 1.1), (1.1, 20)))
    found = gaussian_crps(*(torch.tensor([v], dtype=torch.float64) for v in (0.3, 1.7, 1.1)))
    assert float(found) == pytest.approx(expected, abs=1e-8)


def test_the_fair_crps_is_unbiased_for_that_of_the_gaussian_it_is_drawn_from():
    """3 draws, 40,000 numbers: 4 standard errors."""
    x, truth = 0.3 + 1.7 * normal(3, 40_000), torch.full((40_000, 1), 1.1, dtype=torch.float64)
    found = crps(x, Marginals(truth, torch.ones(1, dtype=torch.float64)))
    exact = gaussian_crps(*(torch.tensor([v], dtype=torch.float64) for v in (0.3, 1.7, 1.1)))
    assert abs(float(found.mean() - exact)) < 4 * float(found.std()) / 200


def test_the_energy_score_in_one_dimension_is_the_crps():
    truth, x = weighted(1, 7), normal(5, 1, seed=2)
    assert energy_score(x, truth.values.T, truth.weights) == pytest.approx(float(crps(x, truth)), abs=1e-7)


def test_distances_are_those_of_the_norm():
    x, y = 50 + normal(5, 4), 50 + normal(6, 4, seed=1)
    torch.testing.assert_close(distances(x, y), torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist"))


@pytest.mark.parametrize("n", [9, 64, 128])
def test_order_statistics_cover_their_probability_of_a_continuous_truth(n: int):
    """4,000 intervals; the coverage of one has a beta distribution, so 4 standard errors."""
    low, high, expected = order_interval(normal(n, 4000), 0.9)
    inside = (torch.special.ndtr(high) - torch.special.ndtr(low)).double()
    assert abs(float(inside.mean()) - expected) < 4 * float(inside.std()) / 4000**0.5
    assert abs(expected - 0.9) <= 1 / (n + 1) + 1e-12


def test_coverage_counts_the_ends_of_an_interval():
    truth = Marginals(torch.tensor([[0.0, 1.0, 2.0]]).double(), torch.tensor([0.2, 0.5, 0.3]).double())
    found = coverage(torch.tensor([[1.0], [1.0], [2.0]]).double(), truth)
    assert float(found.share) == pytest.approx(0.8)
    assert found.expected == pytest.approx(0.5)


def test_cells_are_pooled_to_an_expectation_of_five():
    probabilities = torch.tensor([0.6, 0.02, 0.03, 0.05, 0.3], dtype=torch.float64)
    counts = torch.tensor([50, 4, 3, 13, 30])
    # expected 60, 2, 3, 5, 30: {2, 3}, {5}, {30}, {60}
    statistic = (7 - 5) ** 2 / 5 + (13 - 5) ** 2 / 5 + 0 + (50 - 60) ** 2 / 60
    found = multinomial_test(counts, probabilities)
    assert found.statistic == pytest.approx(statistic)
    assert found.degrees == 3
    assert found.p_value == pytest.approx(scipy.stats.chi2.sf(statistic, 3))


def test_draws_that_are_no_point_count_against_a_sampler():
    probabilities = torch.tensor([0.5, 0.5, 0.0]).double()
    assert multinomial_test(torch.tensor([50, 50, 0]), probabilities).statistic == 0
    assert multinomial_test(torch.tensor([20, 20, 60]), probabilities).p_value < 1e-6


def test_total_variation_of_exact_counts_has_its_closed_form():
    p, n = torch.tensor([0.2, 0.7, 0.1]).double(), 5
    exact = sum(float(scipy.stats.binom.pmf(k, n, q)) * abs(k / n - q) / 2 for q in p.tolist() for k in range(n + 1))
    assert expected_total_variation(n, p) == pytest.approx(exact, rel=1e-12)
    assert total_variation(torch.tensor([1, 3, 1]), p) == pytest.approx(0.1)


def test_one_draw_and_impossible_levels_are_refused():
    truth = weighted(1, 3)
    with pytest.raises(InputError, match="at least two"):
        crps(normal(1, 1), truth)
    with pytest.raises(InputError, match="between 0 and 1"):
        coverage(normal(3, 1), truth, 1.0)
    with pytest.raises(InputError, match="counts"):
        multinomial_test(torch.tensor([0, 0]), torch.tensor([0.5, 0.5]).double())
    assert math.isfinite(energy_score(normal(2, 1), truth.values.T, truth.weights))


@pytest.mark.parametrize(("points", "dimension"), [(4, 7), (9, 3)])
def test_the_directions_that_are_scored_are_orthonormal_and_diagonalize_the_posterior_covariance(points, dimension):
    """Fewer points than numbers, and more. An observation with noise of 1e6 moves them by less than 1e-5."""
    x, weights = normal(points, dimension), 0.2 + normal(points, seed=1).abs()
    weights = weights / weights.sum()
    flat = at_nodes(torch.tensor([0]), (dimension,), noise=1e6)
    directions, variances = Grader(finite_case("a-0", Empirical(x, weights), flat))._leading
    centered = x - weights @ x
    covariance = (centered * weights[:, None]).T @ centered
    identity = torch.eye(directions.shape[1], dtype=torch.float64)
    torch.testing.assert_close(directions.T @ directions, identity, rtol=0, atol=1e-12)
    torch.testing.assert_close(covariance @ directions, directions * variances, rtol=0, atol=1e-5)
    assert 0.99 <= float(variances.sum() / covariance.trace()) <= 1 + 1e-5

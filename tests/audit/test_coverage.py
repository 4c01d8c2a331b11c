"""Coverage against its exact expectation, the level of its test, its power, and what it does not take for a fault."""

from itertools import combinations

import numpy as np
import pytest
import torch
from conftest import monte_carlo
from scipy import stats

from diffuscope.audit.coverage import coverage, coverage_finding, expected_coverage, least_neighbors


def drawn(generator, *sizes, d=3):
    return tuple(torch.randn(n, d, generator=generator) for n in sizes)


def test_the_expectation_counts_the_orders_of_held_out_examples_and_samples():
    """m - 1 = 3 others and n = 2 samples around a center: of 10 orders those are uncovered whose first k are others."""
    places = list(combinations(range(5), 2))  # of the two samples in the order of distances
    for k in (1, 2, 3):
        empty = sum(min(pair) >= k for pair in places) / len(places)
        assert expected_coverage(4, 2, k) == pytest.approx(1 - empty, rel=1e-12)
    assert expected_coverage(10**6, 10**6, 4) == pytest.approx(1 - 2**-4, abs=1e-5)
    assert least_neighbors(10**6 // 1000, 1000) == 4
    assert expected_coverage(1000, 1000, 3) < 0.9 <= expected_coverage(1000, 1000, 4)


def test_coverage_of_fresh_draws_has_the_exact_expectation_and_uniform_p_values(generator):
    rng = np.random.default_rng(0)
    found = [coverage(*drawn(generator, 60, 180, 80), 0.01, rng) for _ in range(80)]
    for values in ([one.samples for one in found], [one.training for one in found]):
        assert monte_carlo(torch.tensor(values)).agrees_with(found[0].expected)
    # ties make the p-value too large rather than too small
    p_values = np.array([one.p_value for one in found])
    for level in (0.05, 0.2, 0.5):
        standard_error = (level * (1 - level) / len(p_values)) ** 0.5
        assert (p_values <= level).mean() <= level + 3 * standard_error
    assert 0.35 < p_values.mean() < 0.75


def test_the_deviation_is_that_of_independent_draws(generator):
    """Half of both sets, at random: the permutation's deviation is that of a fresh set of samples given the balls."""
    rng = np.random.default_rng(1)
    (held,) = drawn(generator, 100)
    found = [coverage(*drawn(generator, 80, 240), held, 0.01, rng) for _ in range(40)]
    spread = np.std([one.samples for one in found])
    # standard error of a deviation of 40 draws: 11 %
    assert np.mean([one.deviation for one in found]) == pytest.approx(spread, rel=0.35)


def test_a_missing_part_is_found_as_often_as_stated_and_named(generator):
    rng = np.random.default_rng(2)
    samples, train, heldout = drawn(generator, 900, 1600, 800, d=2)
    short = samples[samples[:, 0] < float(stats.norm.ppf(0.8))]  # a fifth of the data is missing
    found = coverage(short, train, heldout, 0.01, rng)
    assert found.detectable <= 0.2
    assert found.missing(0.01)
    finding = coverage_finding(found, 0.01)
    assert finding.tone == "attention"
    assert "has no samples" in finding.verdict
    whole = coverage(samples, train, heldout, 0.01, rng)
    assert not whole.missing(0.01)
    assert coverage_finding(whole, 0.01).tone == "good"


def test_samples_at_one_place_are_an_alarm_and_few_examples_cannot_tell(generator):
    rng = np.random.default_rng(3)
    _, train, heldout = drawn(generator, 1, 1200, 600)
    one_place = coverage(0.01 * torch.randn(400, 3, generator=generator), train, heldout, 0.01, rng)
    assert coverage_finding(one_place, 0.01).tone == "alarm"
    few = coverage(*drawn(generator, 20, 40, 25), 0.01, rng)
    assert np.isinf(few.detectable)
    finding = coverage_finding(few, 0.01)
    assert finding.tone == "unknown"
    assert finding.verdict.startswith("Cannot tell")
    assert finding.power.startswith("None")


def test_rows_that_repeat_are_covered_by_their_like():
    """Where all rows are of four kinds, a ball of radius 0 holds the samples of its kind."""
    rng = np.random.default_rng(4)
    kinds = torch.eye(4)
    held, train = kinds.repeat(30, 1), kinds.repeat(60, 1)
    assert coverage(kinds.repeat(25, 1), train, held, 0.01, rng).samples == 1.0
    assert coverage(kinds[:3].repeat(25, 1), train, held, 0.01, rng).samples == pytest.approx(0.75)

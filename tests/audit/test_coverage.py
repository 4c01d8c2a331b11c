"""Coverage in countable cases, the level of its test, its power, and what it does not take for a fault."""

import numpy as np
import pytest
import torch
from conftest import monte_carlo
from scipy import stats

from diffuscope.audit.coverage import MEAN, coverage, coverage_finding, neighborhood_size


def drawn(generator, n, n_train, n_heldout, d=3):
    return tuple(torch.randn(size, d, generator=generator) for size in (n, n_train, n_heldout))


def test_neighborhoods_on_a_line_are_counted():
    """Ten held-out examples near 0 .. 9 and 20 samples near 0 .. 3, in neighborhoods of two."""
    held, train = torch.arange(10.0)[:, None], torch.arange(200.0)[:, None] % 10 + 0.01
    assert neighborhood_size(10, 20) == 2
    assert neighborhood_size(1000, 1000) == int(np.ceil(MEAN))
    samples = torch.arange(20.0)[:, None] % 4 + 0.1
    found = coverage(samples, train, held + 0.001 * held**2, 0.01, np.random.default_rng(0))
    # gaps grow to the right, so that the nearest other one is to the left: 1 .. 4 hold one of 0 .. 3, and 0 itself
    assert (found.samples, found.training) == (0.5, 1.0)


def test_coverage_by_equal_cells_has_its_expectation_and_p_values_of_fresh_draws_are_valid(generator):
    rng = np.random.default_rng(0)
    circle = torch.linspace(0, 2 * torch.pi, 81)[:-1].double()
    held = torch.stack([circle.cos(), circle.sin()], 1)  # cells of equal mass for a uniform angle
    values, p_values = [], []
    for _ in range(80):
        angles = 2 * torch.pi * torch.rand(3 * 60 + 60, generator=generator, dtype=torch.float64)
        rows = torch.stack([angles.cos(), angles.sin()], 1)
        found = coverage(rows[:60], rows[60:], held, 0.01, rng)
        values += [found.samples, found.training]
        p_values.append(found.p_value)
    k = neighborhood_size(80, 60)
    assert monte_carlo(torch.tensor(values)).agrees_with(1 - (1 - k / 80) ** 60)
    p_values = np.array(p_values)
    for level in (0.05, 0.2, 0.5):
        standard_error = (level * (1 - level) / len(p_values)) ** 0.5
        assert (p_values <= level).mean() <= level + 3 * standard_error  # ties make p-values too large
    assert 0.35 < p_values.mean() < 0.75


def test_samples_off_the_data_cover_it_all_the_same(generator):
    """Noise in a hundred dimensions moves every sample out of every ball around held-out examples."""
    rng = np.random.default_rng(5)
    samples, train, heldout = (torch.zeros(n, 100) for n in (400, 1200, 600))
    for x in (samples, train, heldout):
        x[:, :2] = torch.randn(len(x), 2, generator=generator)
    noisy = samples + 0.2 * torch.randn(samples.shape, generator=generator)  # of length 2
    found = coverage(noisy, train, heldout, 0.01, rng)
    assert not found.missing(0.01)
    assert abs(found.short) < 0.06


def test_the_deviation_is_that_of_independent_draws(generator):
    """Half of both sets, at random: the permutation's deviation is that of a fresh set of samples given the balls."""
    rng = np.random.default_rng(1)
    held = torch.randn(100, 3, generator=generator)
    sets = [torch.randn(320, 3, generator=generator).split([80, 240]) for _ in range(40)]
    found = [coverage(samples, train, held, 0.01, rng) for samples, train in sets]
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
    samples, train, heldout = drawn(generator, 20, 40, 25)
    few = coverage(samples, train, heldout, 0.01, rng)
    assert np.isinf(few.detectable)
    finding = coverage_finding(few, 0.01)
    assert finding.tone == "unknown"
    assert finding.verdict.startswith("Cannot tell")
    assert finding.power.startswith("None")


def test_rows_that_repeat_are_covered_by_their_like():
    """Where all rows are of four kinds, a neighborhood holds the samples of its kind."""
    rng = np.random.default_rng(4)
    kinds = torch.eye(4)
    held, train = kinds.repeat(30, 1), kinds.repeat(60, 1)
    assert coverage(kinds.repeat(25, 1), train, held, 0.01, rng).samples == 1.0
    assert coverage(kinds[:3].repeat(25, 1), train, held, 0.01, rng).samples == pytest.approx(0.75)

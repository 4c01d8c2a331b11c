"""Repeated looks: exact p-values of ranks, levels that add up, and the power of both rules together."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from diffuscope.audit.planting import smallest_share_found
from diffuscope.errors import InputError
from diffuscope.findings import conformal_p_values, false_discovery
from diffuscope.monitor.repeated_looks import PLACES, level_of_look, rank_bounds, rank_p_value
from immutable import long_positional


def test_the_levels_of_all_looks_add_up_to_the_probability_of_a_false_stop():
    levels = [level_of_look(k, 0.01) for k in range(1, 10_001)]
    assert sum(levels) == pytest.approx(0.01 * (1 - 1 / 10_001), rel=1e-12)  # 1/(k(k+1)) telescopes
    with pytest.raises(InputError, match=r"look: expected a whole number >= 1, got 0"):
        level_of_look(0, 0.01)


def test_the_p_value_is_the_probability_among_all_orders_of_samples_and_heldout_examples():
    """5 samples among 4 held-out examples have 126 equally likely orders: P(p <= a) <= a."""
    found = []
    for places in combinations(range(9), 5):
        samples = np.array(places, dtype=float)
        heldout = np.array([i for i in range(9) if i not in places], dtype=float)
        found.append(rank_p_value(conformal_p_values(samples, heldout), 4))
    p_values = np.array(found)
    assert len(p_values) == 126
    for level in np.unique(p_values):
        assert (p_values <= level).mean() <= level + 1e-12
    # j = 1 and j = 2 count here: all samples first is 1 of 126 orders for j = 1, and one of 6 for j = 2
    assert p_values.min() == pytest.approx(2 / 126)


@pytest.mark.parametrize("values", [(0, 0, 0, 1, 1, 2, 2, 2, 3), (0, 0, 0, 0, 0, 0, 1, 2, 3), (5,) * 9])
def test_ties_and_duplicates_make_the_test_no_less_careful(values):
    """Nine values, of which any four are the held-out examples': 126 equally likely choices, P(p <= a) <= a."""
    found = []
    for chosen in combinations(range(9), 5):
        samples = np.array([values[i] for i in chosen], dtype=float)
        heldout = np.array([values[i] for i in range(9) if i not in chosen], dtype=float)
        found.append(rank_p_value(conformal_p_values(samples, heldout), 4))
    p_values = np.array(found)
    for level in np.unique(p_values):
        assert (p_values <= level).mean() <= level + 1e-12
    if len(set(values)) == 1:
        assert (p_values == 1).all()  # who is as close is not closer


def test_samples_below_all_heldout_examples_have_the_probability_of_their_draw():
    for x, m in ((3, 40), (12, 898)):
        p_values = np.full(50, 1.0)
        p_values[:x] = 1 / (m + 1)
        assert rank_p_value(p_values, m) == pytest.approx(len(PLACES) * comb(50, x) / comb(50 + m, x))


def test_without_enough_heldout_examples_nothing_is_significant():
    assert rank_p_value(np.full(100, 0.5), 1) == 1.0
    assert rank_p_value(np.full(100, 1.0), 0) == 1.0


@pytest.mark.parametrize(("samples", "calibration"), [(30, 20), (200, 898), (100, 35)])
def test_the_bounds_are_the_same_rule_as_the_p_value(samples, calibration):
    rng = np.random.default_rng(0)
    both = 0
    for level in (0.3, 0.05, 1e-4):
        bounds = rank_bounds(samples, calibration, level)
        for _ in range(200):
            copies = rng.random(samples) < rng.choice([0.02, 0.1, 0.4])
            s = np.where(copies, rng.beta(0.4, 8, samples), rng.random(samples))
            p_values = conformal_p_values(s, rng.random(calibration))
            kept = bool((np.sort(p_values) <= bounds).any())
            assert kept == (rank_p_value(p_values, calibration) <= level * (1 + 1e-9))
            both += kept
    assert 100 < both < 500


def test_bounds_are_midway_between_two_p_values():
    """p-values are k / (m + 1). Of 4 and 4, all samples below all held-out examples has the probability 1 / 70."""
    assert rank_bounds(4, 4, 2 / 69).tolist() == [0.0, 0.0, 0.0, 0.3]
    bounds = rank_bounds(40, 60, 0.01)
    assert set((bounds * 61 - 0.5).round(9).tolist()) <= {-0.5, *PLACES}
    assert (np.diff(bounds) >= 0).all()
    assert bounds[-1] == pytest.approx((max(j for j in PLACES if j <= 30) + 0.5) / 61)


def test_under_the_null_hypothesis_hardly_a_run_of_100_looks_is_stopped():
    """The held-out examples are the same at every look. 2,000 runs, alpha = 5%: at most 5% + 4 standard errors."""
    rng, stopped, runs, samples, m = np.random.default_rng(1), 0, 2000, 40, 60
    levels = np.array([level_of_look(k, 0.05) for k in range(1, 101)])
    bounds = {level: rank_bounds(samples, m, float(level)) for level in levels}
    for _ in range(runs):
        heldout = np.sort(rng.random(m))
        s = np.sort(rng.random((100, samples)), axis=1)
        p_values = (1 + np.searchsorted(heldout, s, side="right")) / (1 + m)
        stopped += any((p <= bounds[level]).any() for p, level in zip(p_values, levels, strict=True))
    assert 0 < stopped <= runs * 0.05 + 4 * (runs * 0.05 * 0.95) ** 0.5


def test_the_share_of_copies_that_is_stated_is_found_by_both_rules():
    """Copies with the stated probability, planted p-values all 1/(m + 1): found with probability 0.95 or more."""
    samples, m, rate, level = 500, 898, 0.05, level_of_look(20, 0.01)
    rng = np.random.default_rng(2)
    bounds = rank_bounds(samples, m, level)
    share = smallest_share_found(np.full(2000, 1 / (m + 1)), samples, rate, rng, also=bounds)
    alone = smallest_share_found(np.full(2000, 1 / (m + 1)), samples, rate, rng)
    assert alone <= share < 0.05
    found = 0
    for _ in range(2000):
        p_values = np.where(rng.random(samples) < share, 1 / (m + 1), 1.0)
        found += bool(false_discovery(p_values, rate).any() and rank_p_value(p_values, m) <= level)
    assert found / 2000 >= 0.95 - 4 * (0.95 * 0.05 / 2000) ** 0.5
    # far more copies than one level is asked for are needed where the level is far smaller
    strict = smallest_share_found(np.full(2000, 1 / (m + 1)), samples, rate, rng, also=rank_bounds(samples, m, 1e-30))
    assert strict > 2 * share


def test_records_of_monitor_are_made_by_names():
    assert long_positional("monitor") == set()

"""The exact tests of a class, on counts whose probabilities are ratios of binomials."""

import math

import numpy as np
import pytest

from diffuscope.audit.class_correction import exceedance_p_value
from diffuscope.audit.class_samples import smallest_share


def test_samples_behind_every_heldout_example_have_a_p_value_of_one():
    assert exceedance_p_value(np.array([1.0, 1.0, 1.0]), 4) == 1.0


@pytest.mark.parametrize(("samples", "heldout"), [(2, 2), (3, 5), (4, 1)])
def test_samples_before_every_heldout_example_are_one_order_of_all_at_twice_its_probability(samples, heldout):
    """With j = 0 alone: 2 / C(n + m, n); the p-values are the smallest that m held-out examples give."""
    found = exceedance_p_value(np.full(samples, 1 / (heldout + 1)), heldout)
    assert found == pytest.approx(min(1.0, 2 / math.comb(samples + heldout, samples)), rel=1e-12)


def test_samples_behind_one_heldout_example_are_judged_by_the_second_at_four_times_its_probability():
    """At most one of five held-out examples among the first four of eight: 5 of C(8, 4) choices."""
    found = exceedance_p_value(np.full(3, 2 / 6), 5)
    assert found == pytest.approx(4 * 5 / math.comb(8, 4), rel=1e-12)


def test_the_smallest_share_of_strays_is_the_first_that_fishers_test_finds():
    """k of 100 samples against none of 100 held-out examples: C(100, k) / C(200, k)."""
    p = [math.comb(100, k) / math.comb(200, k) for k in range(8)]
    for level in (0.07, 0.05, 0.02):
        first = next(k for k in range(8) if p[k] < level)
        assert smallest_share(0, 100, 100, level) == pytest.approx(first / 100, rel=1e-12)
    assert smallest_share(0, 100, 1, 0.005) == math.inf


def test_one_stray_of_a_hundred_is_the_smallest_share_that_is_tried():
    """C(100, 1) / C(200, 1) = 1/2."""
    assert smallest_share(0, 100, 100, 0.5001) == 0.01

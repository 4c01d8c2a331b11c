"""Permutations and resamples that are all listed: their p-values and means by counting."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest

from diffuscope.findings import (
    bootstrap_sums,
    chi_squared_permutation,
    conformal_p_values,
    detectable_shift,
    exact_share_interval,
    label_permutation,
    paired_permutation,
    percentile_interval,
    rank_correlation,
)
from diffuscope.findings.turning import TurningPoint, _test


class Listed(np.random.Generator):
    """A generator that draws what it is given, in its order."""

    def __init__(self, draws):
        super().__init__(np.random.PCG64(0))
        self.draws, self.asked = np.array(draws), []

    def _next(self, *asked, size):
        self.asked.append(asked)
        drawn, self.draws = self.draws[:size], self.draws[size:]
        assert len(drawn) == size
        return drawn

    def choice(self, a, size: Any = None):  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._next(a.tolist(), size=size[0])

    def multinomial(self, n, pvals: Any, size=None):
        return self._next(n, pvals.tolist(), size=size)

    def multivariate_hypergeometric(self, colors, nsample, size=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._next(colors.tolist(), nsample, size=size)


def test_a_p_value_of_pairs_is_the_share_of_signs_that_reach_their_sum():
    """3 + 1 - 2 = 2 is reached by 2, 4 and 6 of the eight sums; 1 + 1 + 1 by itself; 0 by every sum of zeros."""
    differences, signs = np.array([[3.0, 1, 0], [1, 1, 0], [-2, 1, 0]]), list(product([1.0, -1.0], repeat=3))
    rng = Listed(signs)
    each, overall = paired_permutation(differences, rng, permutations=8)
    assert rng.asked == [([-1.0, 1.0],)]
    assert each.tolist() == [4 / 9, 2 / 9, 1.0]
    assert overall == 2 / 9  # of the studentized means, 0.31 and 1, the larger one is reached once
    each, overall = paired_permutation(differences[:, [0, 2]], Listed(signs), permutations=8)
    assert (each.tolist(), overall) == ([4 / 9, 1.0], 4 / 9)
    negative = paired_permutation(-differences[:, :1], Listed(signs), permutations=8)
    assert (negative[0].tolist(), negative[1]) == ([7 / 9], 7 / 9)  # six sums are -2 or more


def test_a_p_value_of_labels_is_the_share_of_divisions_that_reach_the_hits_of_training():
    """2, 0, 1 and 0 hits, two of the four training references: sums 0, 1, 1, 2, 2, 3, of which one is 3."""
    draws = [[2, 0, 0], [1, 1, 0], [1, 1, 0], [1, 0, 1], [1, 0, 1], [0, 1, 1]]  # with 0, 1 and 2 hits
    hits, is_training = np.array([2, 0, 1, 0]), np.array([True, False, True, False])
    rng = Listed(draws)
    p_value, deviation = label_permutation(hits, is_training, rng, permutations=6)
    assert rng.asked == [([2, 1, 1], 2)]
    assert p_value == 2 / 7
    assert deviation == pytest.approx(math.sqrt((2 * 1.5**2 + 4 * 0.5**2) / 6) / 3)
    assert label_permutation(hits, ~is_training, Listed(draws), permutations=6)[0] == 1.0
    cells, in_cells = np.array([4, 4, 9, 9]), Listed([[0, 1], [1, 0], [1, 0], [0, 1]])
    p_value, deviation = label_permutation(hits, is_training, in_cells, permutations=2, cells=cells)
    assert in_cells.asked == [([1, 1], 1), ([1, 1], 1)]
    assert (p_value, deviation) == (1 / 3, pytest.approx(0.5 / 3))  # 2 + 0 and 0 + 1, and 3 is reached by neither


def test_a_p_value_of_a_table_is_the_share_of_tables_of_its_margins_that_reach_its_chi_squared():
    """2 and 2 of two classes: chi^2 = 4 for (2, 0) and (0, 2), and 0 for the four tables (1, 1)."""
    draws, counts = [[2, 0], [0, 2], *[[1, 1]] * 4], np.array([[2, 0, 0], [0, 0, 2]])
    for share, p_value in ((1.0, 3 / 7), (0.25, 3 / 7), (0.0, 1.0)):
        rng = Listed(draws)
        assert chi_squared_permutation(counts, share, rng, permutations=6) == p_value
        assert rng.asked == [([2, 2], 2)]
    # 3 of 4 and 1 of 4: (3 - 2)^2 / 4 twice, times 64 / 16: 2, which (2, 2) does not reach, and three quarters of it
    rows, others = np.array([[3, 1], [1, 3]]), [[3, 1], [2, 2], [4, 0]]
    assert chi_squared_permutation(rows, 1.0, Listed(others), permutations=3) == 3 / 4
    unequal = np.array([[3, 0], [1, 4]])  # 5 of the second row: 64 / 15 (1.5^2 / 4 + 1.5^2 / 4) = 4.8
    assert chi_squared_permutation(unequal, 1.0, Listed([[3, 0], [2, 1], [1, 2]]), permutations=3) == 2 / 4


def test_a_resampled_mean_weighs_rows_by_how_often_they_are_drawn():
    rng = Listed([[2, 0, 0], [0, 1, 1]])
    found = bootstrap_sums(np.array([[3.0, 0.0], [6.0, 3.0], [0.0, 9.0]]), rng, resamples=2)
    assert found.tolist() == [[2.0, 0.0], [2.0, 4.0]]
    assert rng.asked == [(3, [1 / 3] * 3)]


def test_percentiles_leave_half_of_the_rest_on_either_side():
    low, high = percentile_interval(np.arange(1001.0))
    assert (float(low), float(high)) == (pytest.approx(25), pytest.approx(975))
    low, high = percentile_interval(np.stack([np.arange(11.0), -np.arange(11.0)], 1), 0.8)
    assert low.tolist() == pytest.approx([1, -9])
    assert high.tolist() == pytest.approx([9, -1])


def test_what_equals_a_value_of_the_null_is_no_smaller():
    assert conformal_p_values(np.array([0.9, 1.0, 3.0]), np.array([3.0, 1.0, 1.0])).tolist() == [1 / 4, 3 / 4, 1.0]


def test_a_share_of_one_is_an_interval_in_closed_form():
    """P(1 of 1) = low = 0.05, and P(0 of 1) = 1 - high = 0.05."""
    assert exact_share_interval(1, 1, 0.9) == (pytest.approx(0.05), 1.0)
    assert exact_share_interval(0, 1, 0.9) == (0.0, pytest.approx(0.95))
    assert exact_share_interval(1, 1)[0] == pytest.approx(0.025)


def test_the_detectable_shift_is_that_of_two_quantiles():
    """1.281552 and 1.644854 of the normal distribution at 0.1 and 0.05; at one half there is none."""
    assert detectable_shift(3.0, 0.1) == pytest.approx(3 * (1.2815516 + 1.6448536))
    assert detectable_shift(3.0, 0.1, 0.5) == pytest.approx(3 * 1.2815516)


def test_rank_correlations_of_ties_and_of_several_rows():
    """Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: covariance 4.5, lengths 4.5 and 5."""
    x, y = np.array([1.0, 5.0, 5.0, 9.0]), np.array([0.0, 1.0, 2.0, 3.0])
    assert float(rank_correlation(x, y)) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    rows = rank_correlation(x, np.stack([y, -y, np.zeros(4), np.array([0.0, np.nan, 1.0, 2.0])]))
    assert rows.tolist() == pytest.approx([0.9486833, -0.9486833, np.nan, np.nan], nan_ok=True)
    assert np.isnan(rank_correlation(np.array([np.nan, 1.0, 2.0, 3.0]), y))


def test_resamples_of_two_points_are_studentized_by_their_own_deviations():
    """Differences 0 and (2, 4): mean 3 and error 1/2^(1/2); each point twice has no deviation but rounding, 5^(1/2)."""
    differences, counts = np.array([[0.0, 2.0], [0.0, 4.0]]), np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]])
    p_value, distribution, errors = _test(differences, counts)
    assert p_value == 2 / 4
    assert distribution.tolist() == pytest.approx([0, 0, math.sqrt(2) / (math.sqrt(5) * 1e-12)], rel=1e-6)
    assert errors.tolist() == pytest.approx([math.sqrt(5) * 1e-12 / math.sqrt(2), 1 / math.sqrt(2)])
    assert _test(-differences, counts)[0] == 1.0
    exact = _test(np.array([[0.0, 1.0], [0.0, -1.0]]), counts[:1])  # a mean of zero is reached by one of zero
    assert exact[0] == 1.0
    assert _test(np.zeros((2, 2)), counts)[2].tolist() == pytest.approx([1e-150 / math.sqrt(2)] * 2, rel=1e-9)


def test_a_turn_is_found_where_fall_and_rise_are_both_significant():
    def turn(p_fall: float, p_rise: float) -> TurningPoint:
        return TurningPoint(2.0, (2.0,), (1.0, 3.0), 4.0, 5.0, p_fall, p_rise, 0.5, 0.01)

    assert [turn(*p).found for p in ((0.01, 0.01), (0.011, 0.01), (0.01, 0.011))] == [True, False, False]
    assert (turn(0.01, 0.01).rise, turn(0.01, 0.01).smallest_rise) == (0.25, 0.125)
    assert "no rise is found (p = 0.011); a rise of 12% would have been found" in turn(0.01, 0.011).verdict
    assert "no fall before it is found" in turn(0.011, 0.01).verdict
    assert "no fall" not in turn(0.01, 0.01).verdict

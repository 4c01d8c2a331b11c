"""Fractions, correlations and residuals of sums that are nothing, or at the ends of their ranges."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from results_at_levels import equation

from diffuscope.audit.column_pairs import _Features
from diffuscope.audit.column_permutations import Permuted, drawn_sets, permuted_names
from diffuscope.audit.leaked import Repeating, _least_fresh
from diffuscope.audit.level_charts import Curve
from diffuscope.audit.level_measures import LevelMeasures
from diffuscope.audit.measure import permuted_range
from diffuscope.audit.score_consistency import (
    LARGE,
    SMALL,
    consistency_chart,
    consistency_findings,
    residuals,
)
from diffuscope.audit.unexplained_variance import LARGEST, _bands, _columns, _fractions, explained_range
from numbers_in_tests import rng

# unexplained variance


def sums(norm, gap, *, exact=1.0, dot=0.0):
    """Of two points and one model."""
    each = {"norm": norm, "score_norm": norm, "gap": [[gap]] * 2, "score_gap": [[gap]] * 2, "dot": [[dot]] * 2}
    each |= {"exact_norm": [[exact]] * 2}
    return {f"heldout.{key}": np.array(value, dtype=float) for key, value in each.items()}


def test_a_network_that_answers_the_mean_leaves_at_most_ten_times_all_unexplained():
    found = _columns(sums([4.0, 0.0], 1.0, dot=2.0), "heldout")
    per_sample, cosine = found[:, 4], found[:, 5]
    assert per_sample.tolist() == [0.25, 2 * LARGEST]  # so that the mean of two points is LARGEST
    assert cosine[0] == 1.0
    nothing = _columns(sums([0.0, 0.0], 0.0, exact=0.0), "heldout")
    assert nothing.tolist() == [[0.0] * 6] * 2


@pytest.mark.parametrize(
    ("norm", "gap", "fraction"), [(2.0, 1.0, 0.5), (0.0, 1.0, LARGEST), (0.01, 1.0, LARGEST), (0.0, 0.0, 0.0)]
)
def test_fractions_of_nothing_are_bounded(norm, gap, fraction):
    found = _fractions(np.array([[norm, norm, gap, gap, 3.0, 0.7], [norm, norm, gap, gap, 12.0, 0.7]]))
    assert found["pooled"][:, 0] == pytest.approx([fraction] * 2)
    assert found["score"][:, 0] == pytest.approx([fraction] * 2)
    assert found["per_sample"][:, 0].tolist() == [3.0, LARGEST]
    assert found["cosine"][:, 0].tolist() == [0.7, 0.7]


def test_a_level_that_is_explained_altogether_ends_beside_the_next():
    """The line of logarithms from 1 to 10^-300 meets 0.1 after a 300th of the way."""
    low, high = explained_range(np.array([4.0, 2.0, 1.0]), np.array([1.0, 0.0, 0.0]))
    assert low == 1.0
    assert high == pytest.approx(4 * 0.5 ** (1 / 300))
    assert all(math.isnan(end) for end in explained_range(np.array([4.0, 2.0]), np.array([1.0, 0.5])))


@pytest.mark.parametrize(("whole", "rest"), [(2.0, 0.5), (1.5, 0.0), (1.4, 0.0)])
def test_the_rest_of_truncated_bands_is_not_negative(whole, rest):
    level = {
        "heldout.gap_bands": np.array([[[1.0, 0.5]]]), "heldout.norm_bands": np.array([[0.5, 1.0]]),
        "heldout.gap": np.array([[whole]]), "heldout.norm": np.array([whole]),
    }  # fmt: skip
    made = LevelMeasures(
        ratios=np.array([1.0]), scale=1.0, dimension=9, models=("Gaussian",), sums=[level], components=3
    )
    gap, norm = _bands(made)
    assert gap.tolist() == [[[1.0, 0.5, rest]]]
    assert norm.tolist() == [[0.5, 1.0, rest]]
    assert _bands(replace(made, components=None))[0].tolist() == [[[1.0, 0.5]]]


# the equation of the score


@pytest.mark.parametrize(
    ("low", "high", "tone"),
    [
        (0.0, 0.99 * SMALL, "good"), (0.0, SMALL, "neutral"), (LARGE, 1.0, "neutral"), (1.01 * LARGE, 1.0, "attention"),
    ],
)  # fmt: skip
def test_residuals_are_good_below_a_tenth_and_need_attention_above_a_half(low, high, tone):
    middle = (low + high) / 2
    of_terms, _ = consistency_findings(equation(mean_residual=(middle, low, high)))
    assert of_terms.tone == tone


def test_a_derivative_that_is_not_known_leaves_every_share_possible():
    def level(error):
        each = {"equation": np.ones((5, 4)), "curl": np.ones((5, 3)), "rate_error": np.full(5, error)}
        each |= {"probe_noise": np.zeros(5)}
        return {f"{name}.{key}": x for name in ("this model", "an exact mixture") for key, x in each.items()}

    found = residuals([level(0.0), level(100.0)], np.array([2.0, 1.0]), 1.0, 0.01, rng())
    assert (found.residual.low[1, 0], found.residual.high[1, 0]) == (0.0, 1.0)
    assert 0 < found.residual.low[0, 0] == found.residual.value[0, 0] == found.residual.high[0, 0] < 1
    assert found.mean_residual[1:] == (0.0, 1.0)
    sure = residuals([level(0.0)] * 2, np.array([2.0, 1.0]), 1.0, 0.01, rng())
    assert sure.mean_residual == pytest.approx((sure.residual.value[0, 0],) * 3)
    assert sure.detectable == pytest.approx([1e-3] * 2)  # rounding


@pytest.mark.parametrize(
    ("high", "tone", "text"),
    [(0.99 * SMALL, "good", "It is close to the gradient"), (SMALL, "neutral", "No density has exactly this score.")],
)
def test_a_curl_of_a_tenth_is_not_small(high, tone, text):
    found = consistency_findings(equation(mean_curl=(0.05, 0.0, high)))[1]
    assert found.tone == tone
    assert text in found.verdict


@pytest.mark.parametrize(("scale", "top"), [(1.0, 44.0), (0.1, 11.0)])
def test_the_chart_shows_ten_percent_at_least(scale, top):
    part = np.full((2, 2), 0.4 * scale)
    made = equation(residual=Curve(part, part, part), curl=Curve(part, part, part))
    assert [panel.y_range for panel in consistency_chart(made).panels] == [pytest.approx((0.0, top))] * 2


# repeats and columns


def test_no_near_repeat_is_no_natural_one():
    none, one = np.zeros(3, dtype=bool), np.array([True, False, False])
    assert not Repeating(near=none, leaked=none, radius=1.0, limit=0.5).all_natural
    assert Repeating(near=one, leaked=none, radius=1.0, limit=0.5).all_natural
    assert not Repeating(near=one, leaked=one, radius=1.0, limit=0.5).all_natural


def test_a_tail_without_a_power_law_expects_no_value():
    assert _least_fresh(np.ones(50)) == 0.0
    assert _least_fresh(np.zeros(50)) == 0.0
    spread = np.concatenate([np.zeros(10), np.linspace(1, 5, 40)])  # a fifth are 0: the lower tail begins at 0
    assert 0 < _least_fresh(spread) < 1


def test_the_lower_tail_of_a_power_law_is_extrapolated():
    """F(s) = s^2: 0.1 of n values are expected below (0.1 / n)^(1/2)."""
    values = ((np.arange(1000) + 0.5) / 1000) ** 0.5
    assert _least_fresh(values) == pytest.approx((0.1 / 1000) ** 0.5, rel=0.02)


def test_a_column_that_does_not_vary_goes_with_no_other():
    z = np.array([[1.0, 3.0], [-1.0, 3.0], [2.0, 3.0], [-2.0, 3.0]])
    made = _Features(z, np.array([0, 1]), np.array([1, 1]), np.zeros(2))
    assert made.correlations(z.T @ z, z.sum(0), 4).tolist() == [[pytest.approx(1.0), 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("most", "others", "known", "counts"), [(10, None, 4.0, (3, 4)), (2, None, 2.0, (2, 2)), (2, 3.0, 1.5, (2, 2))]
)
def test_effective_rows_are_drawn_as_rows_are(most, others, known, counts):
    first, second, effective = drawn_sets(torch.zeros(3, 1), torch.zeros(4, 1), others, most, rng())
    assert (effective, (len(first), len(second))) == (known, counts)


@pytest.mark.parametrize(("at_once", "blocks"), [(4, [4, 4, 2]), (1, [1] * 10), (99, [10])])
def test_names_are_exchanged_in_blocks(at_once, blocks):
    parts = list(permuted_names(2, 3, 10, rng(), at_once))
    assert [len(part) for part in parts] == blocks
    assert all((part.sum(1) == 2).all() for part in parts)


def test_a_fifth_of_nine_permutations_has_a_critical_value_and_a_tenth_has_none():
    one, maxima = np.ones(1), np.arange(9.0, 0, -1)
    made = Permuted(p_value=one, corrected=one, center=one, spread=2 * one, chance=one, maxima=maxima)
    assert made.critical(0.2).tolist() == [1 + 2 * 9.0]
    assert made.critical(0.3).tolist() == [1 + 2 * 8.0]
    assert made.critical(0.1).tolist() == [np.inf]


def test_the_range_of_permutations_leaves_a_fortieth_at_either_end():
    assert permuted_range(np.arange(399.0)) == (9.0, 389.0)
    assert permuted_range(np.arange(5.0)) == (0.0, 4.0)

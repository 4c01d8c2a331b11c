"""Epsilon, rates of attacks and what a search would find against enumeration and closed forms."""

import math

import numpy as np
import pytest
from scipy import stats

from diffuscope.audit.epsilon import (
    default_guesses,
    epsilon_lower_bound,
    guess_p_value,
    largest_rejected,
    require_delta,
)
from diffuscope.audit.planting import smallest_share_found
from diffuscope.audit.roc import advantage, best_threshold, true_positives
from diffuscope.audit.table_attacks import Z, _error, _excess, _is_right, _measured, _sums
from diffuscope.errors import InputError
from numbers_in_tests import rng

# epsilon


@pytest.mark.parametrize(("guessed", "correct", "epsilon"), [(7, 5, 0.4), (10, 3, 1.2)])
def test_without_delta_the_p_value_is_a_binomial_tail(guessed, correct, epsilon):
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    tail = sum(math.comb(guessed, k) * q**k * (1 - q) ** (guessed - k) for k in range(correct, guessed + 1))
    assert guess_p_value(30, guessed, correct, epsilon, 0.0) == pytest.approx(tail)


def test_with_delta_the_largest_terms_of_the_sum_are_added():
    m, r, v, epsilon, delta = 40, 6, 5, 0.7, 1e-3
    q = math.exp(epsilon) / (1 + math.exp(epsilon))

    def term(n, k):
        return math.comb(n, k) * q**k * (1 - q) ** (n - k)

    tail = sum(term(r, k) for k in range(v, r + 1))
    extra = sum(max(term(n, k) for k in range(max(0, v - r + n), min(n, v - 1) + 1)) for n in range(r))
    assert guess_p_value(m, r, v, epsilon, delta) == pytest.approx(tail + m / r * delta * (1 - q) * extra)
    assert guess_p_value(m, r, 0, epsilon, delta) == 1.0


def test_the_bound_is_where_the_p_value_meets_its_level():
    bound = largest_rejected(100, 40, 38, 1e-4, 0.01)
    assert guess_p_value(100, 40, 38, bound, 1e-4) <= 0.01
    assert guess_p_value(100, 40, 38, bound + 1e-9, 1e-4) > 0.01
    assert largest_rejected(100, 40, 20, 1e-4, 0.01) == 0.0


def test_of_the_grid_the_best_guess_is_reported_and_its_p_value_corrected():
    included = np.arange(40) % 2 == 0
    scores = np.where(included, 1.0, 0.0)
    scores[[0, 2]] = -1.0  # two of those that are in rank last
    bound = epsilon_lower_bound(scores, included, delta=0.0, guesses=[(10, 0), (4, 10)], confidence=0.9)
    assert (bound.guessed, bound.correct) == ((4, 10), 12) or (bound.guessed, bound.correct) == ((10, 0), 10)
    level = 0.1 / 2
    each = [largest_rejected(40, 10, 10, 0.0, level), largest_rejected(40, 14, 12, 0.0, level)]
    assert bound.epsilon == max(each)
    assert bound.p_value == pytest.approx(2 * min(0.5**10, sum(math.comb(14, k) for k in (12, 13, 14)) / 2**14))
    assert (bound.confidence, bound.canaries, bound.delta) == (0.9, 40, 0.0)


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_a_confidence_is_strictly_between_0_and_1(confidence):
    with pytest.raises(InputError, match="confidence: expected a number between 0 and 1"):
        epsilon_lower_bound(np.arange(20.0), np.arange(20) % 2 == 0, delta=0.0, confidence=confidence)


def test_canaries_deltas_and_guesses_at_their_limits():
    included = np.arange(20) % 2 == 0
    assert epsilon_lower_bound(np.arange(20.0), included, delta=0.0, guesses=[(20, 0)]).correct == 10
    for guesses, told in (((21, 0), "21 in and 0 out"), ((0, 0), "0 in and 0 out"), ((-1, 3), "-1 in and 3 out")):
        with pytest.raises(InputError, match=f"expected 1 to 20 guesses, none negative, got {told}"):
            epsilon_lower_bound(np.arange(20.0), included, delta=0.0, guesses=[guesses])
    with pytest.raises(InputError, match="canaries: expected at least 20, got 19"):
        epsilon_lower_bound(np.arange(19.0), included[:19], delta=0.0)
    require_delta(0.0249, 20)
    with pytest.raises(InputError, match=r"expected a number from 0 to 0\.025 \(1 / 2 canaries\), got 0\.025"):
        require_delta(0.025, 20)
    assert default_guesses(40) == ((1, 1), (4, 4), (10, 10), (20, 20), (2, 0), (8, 0))


# rates and attacks on tables


def test_true_positives_are_those_above_the_threshold_of_the_rate():
    others = np.arange(99.0)  # the threshold of 1%: the largest of 99
    found = true_positives(np.array([98.0, 98.5, 99.0, 12.0]), others, 0.01)
    assert found.value == 0.5
    # P(X <= 0): both of the two largest of 103 are members
    assert found.p_value == pytest.approx(math.comb(4, 2) / math.comb(103, 2))
    assert math.isnan(true_positives(np.arange(4.0), np.arange(98.0), 0.01).value)


def test_the_advantage_is_newcombes_and_its_threshold_the_best():
    assert best_threshold(np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 4.5])) == 3.0
    found = advantage(np.full(40, 2.0), np.full(60, 1.0), rng())
    assert found.value == 1.0
    z2 = stats.norm.isf(0.025) ** 2
    low, high = 1 - z2 / (40 + z2), z2 / (60 + z2)  # Wilson's, of 40 of 40 and of 0 of 60
    assert found.low == pytest.approx(1 - math.hypot(1 - low, high))
    assert found.high == pytest.approx(1.0)


def test_the_risk_of_an_attack_and_its_error_are_propagated_wilson_intervals():
    z2 = Z**2
    assert pytest.approx(1.959964) == Z
    rate, control = (30 + z2 / 2) / (50 + z2), (12 + z2 / 2) / (60 + z2)
    assert _excess(30, 50, 12, 60) == pytest.approx((rate - control) / (1 - control))
    train, heldout = (
        stats.binomtest(30, 50).proportion_ci(0.95, "wilson"),
        stats.binomtest(12, 60).proportion_ci(0.95, "wilson"),
    )
    a, b = (train.high - train.low) / 2, (heldout.high - heldout.low) / 2
    expected = math.hypot(a / (1 - control), b * (1 - rate) / (1 - control) ** 2)
    assert _error(30.0, 50.0, 12.0, 60.0) == pytest.approx(expected)
    found = _measured("risk", (30.0, 50.0, 12.0, 60.0), np.linspace(-0.2, 0.2, 99), 0.3, "{train} of {heldout}")
    assert found.meaning == "60.0% of 20.0%"
    assert found.interval == pytest.approx((found.value - 0.3, found.value + 0.3))
    assert found.copies == "high"


def test_successes_are_counted_under_either_name():
    successes, names = np.array([1.0, 0.0, 1.0, 1.0, 0.0]), np.array([[1.0, 0], [1, 0], [0, 1], [0, 1], [0, 0]])
    counts = [np.asarray(part).tolist() for part in _sums(successes, names)]
    assert counts == [[1.0, 2.0], [2.0, 2.0], [2.0, 1.0], [3.0, 3.0]]


def test_a_guess_is_right_within_five_percent_of_itself():
    guess, secret = np.array([20.0, 20.0, -20.0, np.nan, np.nan]), np.array([21.0, 21.01, -19.0, np.nan, 1.0])
    assert _is_right(guess, secret, False).tolist() == [True, False, True, True, False]
    assert _is_right(np.array([1, 2]), np.array([1, 3]), True).tolist() == [True, False]


def test_the_share_of_copies_that_is_found_is_that_of_a_binomial():
    """Every planted p-value is 0 but for the confidence limit: one copy among 40 samples is found if it is drawn."""
    found = smallest_share_found(np.zeros(10**4), 40, 0.05, rng())
    assert found == pytest.approx(1 - 0.05 ** (1 / 40), rel=1e-3)
    half = smallest_share_found(np.zeros(10**4), 40, 0.05, rng(), power=0.5)
    assert half == pytest.approx(1 - 0.5 ** (1 / 40), rel=1e-3)
    # ranks that ask for three small ones: P(Binomial(40, pi) >= 3) = 0.95
    also = np.where(np.arange(40) < 2, -1.0, 0.5)
    three = smallest_share_found(np.zeros(10**4), 40, 0.05, rng(), also=also)
    assert stats.binom.sf(2, 40, three) == pytest.approx(0.95, abs=1e-3)
    assert smallest_share_found(np.ones(100), 40, 0.05, rng()) == math.inf

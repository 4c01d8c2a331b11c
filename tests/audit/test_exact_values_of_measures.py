"""Measures, attacks and tests against enumeration and closed forms, in small unsymmetric cases."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from diffuscope.audit.closeness import Neighborhood, neighborhood
from diffuscope.audit.column_permutations import drawn_sets, effective_number, shrinking
from diffuscope.audit.conventions import (
    INVERSES,
    READINGS,
    Instant,
    black_box_conventions,
    declared,
    gaussian_error,
    relative_errors,
    shifted_levels,
)
from diffuscope.audit.data_gaussian import CONVERGED, Truncation, batch_size, fitted_examples
from diffuscope.audit.distance_measures import LEAST_IN_CELL, copying_test, distinct_rows
from diffuscope.audit.ends import channel_means, level_errors, matched_start
from diffuscope.audit.epsilon import (
    default_guesses,
    epsilon_lower_bound,
    guess_p_value,
    largest_rejected,
    require_delta,
)
from diffuscope.audit.exchanged_names import named_rows
from diffuscope.audit.feature_likelihood import fitted_variances, log_likelihood
from diffuscope.audit.measure import at_least, permuted_measure, permuted_range, quantile_measure, share_measure
from diffuscope.audit.name_permutations import adversarial_accuracy, nearer_share
from diffuscope.audit.owner_sets import owner_p_value
from diffuscope.audit.planting import smallest_share_found
from diffuscope.audit.roc import advantage, best_threshold, true_positives
from diffuscope.audit.rows_of import AT_ONCE, RowsOf, at_once, few_enough, nearest_rows, part_of, rows_of
from diffuscope.audit.second_model import Translated, shared_levels, translated
from diffuscope.audit.standard_names import measures_table
from diffuscope.audit.subject import Levels
from diffuscope.audit.table_attacks import Z, _error, _excess, _is_right, _measured, _sums
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, nearest_neighbors
from diffuscope.schedules import VE, VP, RectifiedFlow


def rng(seed=0):
    return np.random.default_rng(seed)


# measures


def chance_of_at_least(k, marked, n, m):
    """P(X >= k), X of n draws among n + m of which `marked` are: by counting."""
    ways = [math.comb(marked, x) * math.comb(n + m - marked, n - x) for x in range(n + 1)]
    return sum(ways[k:]) / math.comb(n + m, n)


@pytest.mark.parametrize(("x", "y", "copies"), [(7, 2, "high"), (1, 9, "low"), (4, 3, None)])
def test_a_share_is_tested_by_counting(x, y, copies):
    n, m = 12, 15
    found = share_measure("x", np.arange(n) < x, np.arange(m) < y, copies=copies, meaning="m", reader="images")
    p_high = [chance_of_at_least(k, k + y, n, m) for k in range(n + 1)]
    p_low = [1 - chance_of_at_least(k + 1, k + y, n, m) for k in range(n + 1)]
    inside = [k for k in range(n + 1) if p_high[k] > 0.025 and p_low[k] > 0.025]
    assert (found.low, found.high) == pytest.approx((100 * inside[0] / n, 100 * inside[-1] / n))
    assert (found.value, found.null) == pytest.approx((100 * x / n, 100 * y / m))
    expected = {"high": p_high[x], "low": p_low[x], None: None}[copies]
    assert found.p_value == (None if expected is None else pytest.approx(expected))
    assert at_least(x, y, n, m) == pytest.approx(p_high[x])
    ends = stats.beta.ppf([0.025, 0.975], [x, x + 1], [n - x + 1, n - x])
    assert found.interval == pytest.approx(tuple(100 * ends))
    assert (found.copies, found.reader, found.meaning) == (copies, "images", "m")


@pytest.mark.parametrize("level", [0.05, 0.5])
def test_a_quantile_is_tested_by_the_precedence_of_order_statistics(level):
    n, m = 41, 60
    samples, fresh = rng(1).normal(-0.3, 1, n), rng(2).normal(0, 1, m)
    found = quantile_measure("q", samples, fresh, level, (-9.0, 9.0), copies="low", meaning="m")
    ordered, reference = np.sort(samples), np.sort(fresh)
    k = math.floor((n - 1) * level + 1e-9) + 1  # 3 and 21
    before = int((fresh <= ordered[k - 1]).sum())
    assert found.p_value == pytest.approx(chance_of_at_least(k, k + before, n, m))
    below = [chance_of_at_least(k, k + j - 1, n, m) for j in range(1, m + 1)]
    lower = [j for j in range(m) if below[j] <= 0.025]
    upper = [j for j in range(m) if below[j] >= 0.975]
    assert found.low == (reference[lower[-1]] if lower else -9.0)
    assert found.high == (reference[upper[0]] if upper else 9.0)
    ranks = stats.binom.ppf([0.025, 0.975], n, level).astype(int)
    assert found.interval == (ordered[ranks[0] - 1] if ranks[0] else -9.0, ordered[ranks[1]])
    assert (found.value, found.null) == (np.quantile(samples, level), np.quantile(fresh, level))
    assert quantile_measure("q", samples, fresh, level, (-9.0, 9.0), copies=None, meaning="m").p_value is None
    few = quantile_measure("q", samples[:3], fresh[:3], 0.5, (-9.0, 9.0), copies="low", meaning="m")
    assert few.interval == (-9.0, 9.0)
    assert (few.low, few.high) == (-9.0, 9.0)  # P(V <= W_1) = 1/5, P(V <= W_3) = 4/5


def test_a_permuted_statistic_is_compared_on_the_side_of_copies_within_its_bounds():
    permuted = np.linspace(0.1, 0.9, 81)  # steps of 0.01
    high = permuted_measure("s", 0.88, permuted, copies="high", meaning="", bounds=(0.0, 1.0))
    assert high.p_value == pytest.approx((1 + 3) / 82)  # 0.88, 0.89 and 0.9: a tie counts
    low = permuted_measure("s", 0.115, permuted, 0.4, copies="low", meaning="", bounds=(0.0, 1.0), half=0.2)
    assert low.p_value == pytest.approx((1 + 2) / 82)
    assert (low.null, low.interval) == (0.4, pytest.approx((0.0, 0.315)))
    assert high.null == pytest.approx(0.5)
    reach = 1.96 * float(permuted.std())
    assert high.interval == pytest.approx((0.88 - reach, 1.0))
    assert reach > 0.12
    free = permuted_measure("s", 0.5, permuted, copies="high", meaning="")
    assert free.interval == pytest.approx((0.5 - reach, 0.5 + reach))
    assert (free.low, free.high) == pytest.approx((0.11, 0.89))  # 0.025 * 82 = 2.05: the second of either end
    tied = permuted_measure("s", 0.5, np.full(9, 0.5 - 5e-7), copies="high", meaning="")
    assert tied.p_value == 1.0
    assert permuted_measure("s", 0.5, np.full(9, 0.5 - 5e-7), copies="high", meaning="", tied=1e-9).p_value == 0.1
    assert permuted_range(np.arange(1.0, 120)) == (3.0, 117.0)  # 0.025 * 120 = 3
    assert permuted_range(np.arange(1.0, 10)) == (1.0, 9.0)


def test_the_table_of_measures_groups_readers_and_writes_intervals():
    samples = np.array([True] * 3 + [False] * 7)
    shared: dict[str, Any] = {"copies": "high", "meaning": "m"}
    measures = [
        share_measure("c", samples, samples, **shared, reader="images"),
        share_measure("a", samples, samples, **shared),
        permuted_measure("b", math.nan, np.arange(9.0), copies="high", meaning="m"),
    ]
    rows = measures_table(measures, "pixels").rows
    assert [row[:2] for row in rows] == [["both", "a"], ["tables", "b"], ["images", "c"]]
    assert rows[0][2] == "30 (7 to 65)"
    assert rows[0][4] == "0.69"
    assert rows[1][2:5] == [None, None, None]


# the two tests of a copying test, names and owners


def test_the_copying_test_is_the_mann_whitney_statistic_of_every_cell():
    ours = np.concatenate([np.arange(20.0), np.arange(25.0), np.zeros(3)])
    theirs = np.concatenate([np.arange(30.0) + 2.5, np.arange(20.0) // 2, np.ones(9)])
    cells = np.repeat([0, 1, 2], [20, 25, 3]), np.repeat([0, 1, 2], [30, 20, 9])
    found = copying_test(ours, theirs, cells)
    z = []
    for a, b in ((ours[:20], theirs[:30]), (ours[20:45], theirs[30:50])):
        u = sum((x > y) + 0.5 * (x == y) for x, y in itertools.product(a, b))
        both, n, m = np.concatenate([a, b]), len(a), len(b)
        # the variance of a rank sum of sampling without replacement, of ranks averaged over ties
        ranks = stats.rankdata(both)
        z.append((u - n * m / 2) / (n * m / (n + m) * ranks.var(ddof=1)) ** 0.5)
    share = np.array([0.6, 0.4])  # of the held-out examples of cells with enough
    deviation = (share**2).sum() ** 0.5
    assert found.value == pytest.approx(share @ z)
    assert (found.low, found.high) == pytest.approx((-1.96 * deviation, 1.96 * deviation))
    assert found.interval == pytest.approx((found.value - 1.96 * deviation, found.value + 1.96 * deviation))
    assert found.p_value == pytest.approx(stats.norm.cdf(found.value / deviation))
    few = LEAST_IN_CELL - 1
    assert math.isnan(copying_test(np.zeros(few), np.ones(99), (np.zeros(few, int), np.zeros(99, int))).value)
    enough = copying_test(np.zeros(20), np.ones(20), (np.zeros(20, int), np.zeros(20, int)))
    assert enough.value < -5


def test_names_are_taken_of_equally_many_units_of_either_set():
    named = named_rows(np.array([4, 4, 7, 9]), 3, rng())
    assert named.is_first.tolist() == [True] * 3 + [False] * 3
    assert sorted(named.index.tolist()) == [0, 1, 2, 3, 4, 5, 6]
    assert (named.index[named.first] < 4).all()
    assert (named.index[~named.first] >= 4).all()
    units = dict(zip(named.index.tolist(), named.unit.tolist(), strict=True))
    assert units[0] == units[1]  # of one group
    assert len({units[k] for k in range(7)}) == 6
    few = named_rows(9, 5, rng(), most=2)
    assert (len(few.index), int(few.first.sum())) == (4, 2)
    with pytest.raises(InputError, match=r"got 7 in both \(1 in all\)"):
        named_rows(np.array([4, 7]), np.array([7, 8]), rng())


def test_permuted_names_keep_groups_together_and_the_observed_ones_come_first():
    named = named_rows(np.array([4, 4, 7]), np.array([1, 2, 2]), rng())
    observed, permuted = named.permuted(
        lambda names: np.stack([names.sum(0), names[named.unit == 0].std(0)]), rng(), 50
    )
    assert observed[0] == named.first.sum()
    assert permuted.shape == (2, 50)
    assert not permuted[1].any()
    assert set(permuted[0].tolist()) <= {2.0, 3.0, 4.0}


def test_a_tie_counts_half_in_the_share_nearer_to_training():
    named = named_rows(2, 2, rng())
    place = {int(k): i for i, k in enumerate(named.index)}  # 0 and 1 are training rows
    index = np.array([[place[0], place[2]], [place[2], place[0]], [place[1], place[3]], [place[3], place[1]]])
    distance = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 1.0], [0.5, 3.0]])
    found = nearer_share("n", named, distance, index, rng())
    assert found.value == (1 + 0 + 0.5 + 0) / 4
    assert (found.null, found.copies) == (0.5, "high")


def test_the_accuracy_of_points_on_a_line_is_counted():
    """Training 0, 1, 10, 11; samples 20, 21, 30, 0.4: of eight rows five have a nearest other of their name."""
    train = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    samples = torch.tensor([[20.0], [21.0], [30.0], [0.4]])
    accuracy, identified = adversarial_accuracy(samples, train, rng())
    # 0 and 1 are nearest to 0.4, which is nearest to 0; 30 is nearest to 21
    assert accuracy.value == pytest.approx(5 / 8)
    assert accuracy.null == pytest.approx(3 / 7)
    assert identified.value == pytest.approx(2 / 4)  # 0 and 1
    assert identified.null == pytest.approx(4 / 7)
    assert (accuracy.copies, identified.copies) == ("low", "high")


def test_tied_neighbors_count_with_the_chance_that_all_have_the_name():
    """Three equal rows of either name: each has five others at distance 0, and only two of these have its name."""
    accuracy, identified = adversarial_accuracy(torch.zeros(3, 2), torch.zeros(3, 2), rng())
    assert (accuracy.value, accuracy.null) == (0.0, 0.0)
    assert (identified.value, identified.null) == (0.0, 0.0)
    # pairs of equal rows, one of each name: the nearest other one is of the other name; with 2 n = 4: (1/3), (2/3)
    pairs = torch.tensor([[0.0], [5.0]])
    accuracy, identified = adversarial_accuracy(pairs, pairs, rng())
    assert (accuracy.value, identified.value) == (0.0, 1.0)
    assert (accuracy.null, identified.null) == pytest.approx((1 / 3, 2 / 3))


def test_an_owner_s_p_value_is_a_share_of_permutations_with_itself():
    generator = rng(5)
    published, unpublished = generator.normal(0, 1, (12, 3)), generator.normal(0, 1, (15, 3))
    value = owner_p_value(published, unpublished, rng(1), permutations=49)
    assert round(value * 50) == pytest.approx(value * 50)
    assert value >= 1 / 50
    # raising what was not published makes the difference larger, and the chance smaller
    assert owner_p_value(published, unpublished + 1.0, rng(1), permutations=49) <= value


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


# neighbors, rows and permutations


def test_closeness_is_the_smaller_of_position_and_ratio():
    """Training 0, 4 and (0, 3); the query (1, 0): c_2 = 1/4, c_3 = 0, b = (1/9 + 1/10) / 4."""
    train = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]])
    found = neighborhood(torch.tensor([[1.0, 0.0]]), train, 3)
    assert found.distance[0].tolist() == pytest.approx([1.0, 3.0, 10**0.5])
    assert found.between[0].tolist() == pytest.approx([0.0, 4.0, 3.0])
    # c_j = 1/2 + (d_1^2 - d_j^2) / (2 |y_1 - y_j|^2) = 1/2 - 8/32 = 1/4 and 1/2 - 9/18 = 0
    a, b = 0.25, (1 / 9 + 1 / 10) / 4
    assert found.closeness(0.0)[0] == pytest.approx(min(a, b) + b / 2)
    assert found.relative(0.0)[0] == pytest.approx(1 / 3)
    assert found.relative(3.5)[0] == pytest.approx(1 / 3)  # the row at 3 of the first is one with it
    assert found.relative(4.0)[0] == 0.0  # none is different: 1 / infinity
    assert np.isnan(found.closeness(4.0)[0])
    half = neighborhood(torch.tensor([[1.9, 0.0]]), train, 3)
    ratio = (1.9**2 / 2.1**2 + 1.9**2 / (1.9**2 + 9)) / 4
    position = 0.5 + (1.9**2 - 2.1**2) / 32
    assert position > ratio
    assert half.closeness(0.0)[0] == pytest.approx(1.5 * ratio)


def test_the_smaller_of_both_is_the_position_near_one_of_two_far_examples():
    train = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    found = neighborhood(torch.tensor([[0.1, 5.0]]), train, 2)
    ratio = (0.01 + 25) / (0.81 + 25) / 2
    assert found.closeness(0.0)[0] == pytest.approx(0.1 + ratio / 2)


def test_isolation_counts_rows_as_often_as_they_occur_and_not_itself():
    found = Neighborhood(
        index=np.zeros((1, 3), int), distance=np.zeros((1, 3)), between=np.array([[0.0, 1.0, 2.0]]),
        times=np.array([[3, 4, 50]]),
    )  # fmt: skip
    # two more of itself at 0, four at 1, and ten of the last at 2 to make 16
    assert found.isolation[0] == pytest.approx((2 * 0 + 4 * 1 + 10 * 4) / 16)
    assert found.closeness(0.0)[0] == pytest.approx(-44 / 16)
    assert found.part(np.array([0])).isolation.tolist() == found.isolation.tolist()


def test_rows_made_when_they_are_read_have_the_neighbors_of_rows_that_are_held():
    events = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([5, 1, 39, 7, 7, 20])
    lazy = RowsOf(events, index, lambda x: 2 * x[:, :4], 4)
    held = 2 * events[index, :4]
    assert lazy.shape == held.shape == (6, 4)
    assert torch.equal(lazy[torch.tensor([[0, 3], [5, 2]])], held[torch.tensor([[0, 3], [5, 2]])])
    assert torch.equal(torch.cat(list(lazy.split(4))), held)
    distance, place = nearest_rows(events[:3, :4], lazy, 2)
    expected = nearest_neighbors(events[:3, :4], held, 2)
    assert torch.allclose(distance, expected[0])
    assert torch.equal(place, expected[1])
    part = part_of(lazy, torch.tensor([2, 0]))
    assert torch.equal(part[torch.arange(2)], held[[2, 0]])
    assert torch.equal(rows_of(events, lazy.function, index), held)  # pyright: ignore[reportArgumentType]


def test_no_more_rows_are_made_at_a_time_than_fit():
    assert at_once(AT_ONCE // 8) == 2
    assert at_once(AT_ONCE) == 1
    assert few_enough(300, AT_ONCE) == 256
    assert few_enough(100, AT_ONCE) == 100
    assert few_enough(10**9, AT_ONCE // 4 // 700) == 700


def test_repeated_rows_are_left_out_in_their_order():
    rows = torch.tensor([[3.0], [1.0], [3.0], [2.0]])
    assert distinct_rows(rows)[:, 0].tolist() == [3.0, 1.0, 2.0]  # pyright: ignore[reportArgumentType]
    assert distinct_rows(rows[:2]) is not None


def test_the_effective_number_of_rows_shrinks_with_their_groups():
    assert effective_number(5, torch.tensor([1, 1, 1, 2, 3])) == pytest.approx(25 / 11)
    n, m, others, known = 40, 30, 20, 90
    assert shrinking(n, m, others, known) == pytest.approx(math.sqrt((1 / 40 + 1 / 30) / (1 / 40 + 1 / 20 + 1 / 90)))
    samples, heldout = torch.zeros(9, 2), torch.zeros(8, 2)
    few, fewer, number = drawn_sets(samples, heldout, 6.0, 4, rng())
    assert (len(few), len(fewer), number) == (4, 4, 3.0)  # half of the held-out rows
    assert drawn_sets(samples, heldout, None, 100, rng())[2] == 8.0


def test_the_variances_of_gaussians_around_samples_follow_the_rows_they_explain():
    """Two far clusters, each around a sample: a variance is the mean squared distance over the dimension."""
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).double()
    centers = torch.tensor([[-6000.0, 0.0], [6000.0, 0.0]]).double()
    rows = torch.cat([centers[0] + 0.3 * corners, centers[1] + 1.2 * corners])
    square = torch.cdist(rows, centers).square()
    fitted = fitted_variances(square, rows)
    assert fitted.tolist() == pytest.approx([0.3**2, 1.2**2], rel=1e-6)
    density = log_likelihood(square[:1], fitted, 2)
    exact = math.log(0.5) - math.log(2 * math.pi * float(fitted[0])) - float(square[0, 0]) / (2 * float(fitted[0]))
    assert float(density[0]) == pytest.approx(exact)


# conventions and second models


@pytest.mark.parametrize("schedule", [VP(), VE(0.01, 50.0), RectifiedFlow()], ids=["VP", "VE", "flow"])
@pytest.mark.parametrize("name", list(INVERSES))
def test_what_a_network_says_is_inverted_by_its_reading(name, schedule):
    t = 0.37 * (schedule.t_max - schedule.t_min) + schedule.t_min
    instant = Instant(*(float(f(t)) for f in (schedule.alpha, schedule.sigma, schedule.alpha_dot, schedule.sigma_dot)))
    clean, noise = torch.tensor([[0.7, -1.3]]).double(), torch.tensor([[-0.4, 2.2]]).double()
    x = instant.alpha * clean + instant.sigma * noise
    said = INVERSES[name](x, clean, instant)
    meant = {
        "clean data": clean, "noise": noise, "noise times sigma": instant.sigma * noise,
        "velocity dx/dt": instant.alpha_dot * clean + instant.sigma_dot * noise,
        "v = alpha noise - sigma data": instant.alpha * noise - instant.sigma * clean, "score": -noise / instant.sigma,
    }[name]  # fmt: skip
    assert torch.allclose(said, meant, rtol=1e-9)
    assert torch.allclose(READINGS[name](x, said, instant), clean, rtol=1e-9)
    assert instant.ratio == pytest.approx(instant.sigma / instant.alpha)


def test_the_error_of_a_reading_is_relative_to_the_gaussians_and_clipped():
    variances = torch.tensor([4.0, 1.0], dtype=torch.float64)
    assert gaussian_error(variances, 2.0) == pytest.approx(16 / 8 + 4 / 5)

    class Off:
        schedule = VE(0.01, 50.0)

        def __call__(self, x_t, t):
            del t
            return torch.zeros_like(x_t)

    clean = torch.tensor([[3.0, 1.0], [0.0, 2.0]])
    found = relative_errors(declared(Off()), {"data": READINGS["clean data"]}, 2.0, clean, torch.zeros(2, 2), variances)
    assert found[0] == pytest.approx(np.array([10.0, 4.0]) / 2.8, rel=1e-5)
    beyond = relative_errors(declared(Off()), READINGS, 500.0, clean, torch.zeros(2, 2), variances)
    assert (beyond == 1e12).all()  # no level of the schedule is near


def test_shifted_levels_ask_at_so_many_times_the_noise():
    schedule = VE(0.01, 50.0)
    moved = shifted_levels(schedule)
    assert len(moved) == 10
    for factor in (0.2, 1 / 1.5, 1.25, 3.0):
        shift = moved[f"the declared time of {factor:.3g} times the noise"]
        assert float(schedule.noise_to_signal(shift(0.4))) == pytest.approx(
            factor * float(schedule.noise_to_signal(0.4))
        )


def test_a_black_box_is_asked_at_reversed_times_within_its_range():
    class Asked:
        schedule = VP()

        def __init__(self):
            self.times = []

        def __call__(self, x_t, t):
            self.times.append(float(t))
            return x_t

    asked = Asked()
    first, last = asked.schedule.t_min, asked.schedule.t_max
    named = {c.name: c for c in list(black_box_conventions(asked))[:14]}
    x = torch.ones(1, 2)
    named["the reversed time t_max + t_min - t"].answer(x, 0.3)
    assert asked.times[-1] == pytest.approx(first + last - 0.3)
    named["the reversed time t_max - t"].answer(x, 0.3)
    assert asked.times[-1] == pytest.approx(last - 0.3)
    named["the reversed time t_max + t_min - t"].answer(x, first)  # at the very end
    assert asked.times[-1] == pytest.approx(last)
    with pytest.raises(ValueError, match="outside"):
        named["the reversed time t_max - t"].answer(x, last)
    assert len(asked.times) == 3


class Ranged(ExactDenoiser):
    """A denoiser of data in a stated range."""

    def __init__(self, distribution, schedule, data_range):
        super().__init__(distribution, schedule)
        object.__setattr__(self, "data_range", data_range)


@pytest.mark.parametrize("own", [VE(0.001, 900.0), VP(), RectifiedFlow()], ids=["VE", "VP", "flow"])
def test_a_model_of_other_units_and_schedule_is_translated_exactly(own):
    """Of N(mu, S) in [0, 4], asked for its data as y = 2 x + 2 in [-1, 1]: the posterior mean is affine too."""
    mean, deviation = torch.tensor([1.5, 2.5]).double(), torch.tensor([0.4, 1.1]).double()

    def gaussian(scale, shift):
        x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).double() * 0.75**0.5
        return Gaussian.fit([scale * (mean + x * deviation) + shift])

    schedule = VP()
    first = Ranged(gaussian(0.5, -1.0), schedule, (-1.0, 1.0))
    second = Ranged(gaussian(1.0, 0.0), own, (0.0, 4.0))
    made = translated(second, first)
    assert (made.scale, made.shift) == (2.0, 2.0)
    x_t = torch.tensor([[0.3, -0.8], [-1.2, 0.6]]).double()
    for t in (0.2, 0.5):
        assert torch.allclose(made(x_t, t), first(x_t, t).double(), atol=1e-6)
        assert float(made.mismatch(t)) == pytest.approx(1.0, abs=1e-9)


def test_levels_are_shared_within_the_second_models_range_in_its_units():
    second = Translated(ExactDenoiser(Gaussian.fit([torch.randn(9, 2).double()]), VE(0.1, 8.0)), VE(0.01, 50.0), 2.0)
    ratios = torch.tensor([4.01, 4.0, 1.0, 0.05, 0.0499]).double()
    assert shared_levels(second, Levels(ratios, ratios)).tolist() == [False, True, True, True, False]


# starts and Gaussians


def test_a_matched_start_has_the_covariance_of_noised_data():
    x = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).double() + torch.tensor([2.0, -1.0])
    gaussian = Gaussian.fit([x])
    alpha, sigma = 0.6, 1.7
    moved = matched_start(gaussian, alpha, sigma, torch.eye(2).double())
    root = (moved - alpha * gaussian.mean).mT  # the map is linear and symmetric
    covariance = alpha**2 * torch.cov(x.mT, correction=0) + sigma**2 * torch.eye(2)
    assert torch.allclose(root @ root.mT, covariance, rtol=1e-6)
    assert torch.allclose(root, root.mT)


def test_errors_by_level_are_squares_and_means_per_channel():
    class Constant:
        schedule = VE(0.01, 50.0)

        def __call__(self, x_t, t):
            del t
            return torch.ones_like(x_t)

    times = torch.tensor([0.5, 0.2]).double()
    clean = torch.tensor([[[[1.0, 3.0]], [[2.0, 6.0]]]])
    found = level_errors(Constant(), Levels(times, times), clean, torch.zeros_like(clean))
    assert found["squares"].tolist() == [[0 + 4 + 1 + 25]] * 2
    assert found["means"].tolist() == [[[-1.0, -3.0]]] * 2
    assert channel_means(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == [[1.0, 2.0, 6.0]]
    assert channel_means(torch.tensor([[1.0, 2.0, 6.0, 7.0]])).tolist() == [[4.0]]


def test_a_truncated_gaussian_says_what_it_holds():
    made = Truncation(pairs=40, dimension=12_288, share=0.876, converged=31, examples=5000)
    assert made.name == "a Gaussian of 40 principal components, with one variance for the rest,"
    text = str(made)
    assert "In 12,288 dimensions" in text
    assert (
        "40 leading principal components of 5,000 examples (87.6% of their variance; 31 of them converged to 1%)"
        in text
    )
    assert "for the other 12,248 directions" in text
    assert CONVERGED == 0.01
    whole = Truncation(pairs=40, dimension=12_288, share=0.876, converged=40, examples=5000)
    assert "; all of them converged" in str(whole)
    assert batch_size(2**23) == 1
    assert batch_size(2**21) == 4
    assert batch_size(1) == 4096
    assert fitted_examples(4, 2**28, torch.Generator()) is None
    assert len(fitted_examples(5, 2**28, torch.Generator().manual_seed(0))) == 4  # pyright: ignore[reportArgumentType]

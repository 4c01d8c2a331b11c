"""Guesses about canaries, classes, copies and labels exactly where one answer passes into another."""

import math

import numpy as np
import pytest
import torch
from results_of_samples import copies
from scipy import special, stats

from diffuscope.audit.class_correction import DEEPEST, exceedance_p_value
from diffuscope.audit.class_samples import smallest_share
from diffuscope.audit.copied_groups import group_name
from diffuscope.audit.copied_heldout import near_copies
from diffuscope.audit.epsilon import epsilon_lower_bound, guess_p_value, require_delta
from diffuscope.audit.exact_matches import ExactMatches
from diffuscope.audit.label_shares import LabelBalance, label_finding
from diffuscope.audit.measure import at_least, permuted_measure
from diffuscope.audit.owner_sets import holm, owner_p_value
from diffuscope.audit.roc import auc_with_interval, true_positives
from diffuscope.errors import InputError

# guesses about canaries

COINS = np.arange(20) % 2 == 0


def bound(scores=None, confidence=0.95, guesses=None):
    scores = np.arange(20.0) if scores is None else scores
    return epsilon_lower_bound(scores, COINS, delta=0.0, confidence=confidence, guesses=guesses)


def test_twenty_canaries_and_a_guess_for_each_are_enough():
    assert bound(guesses=[(20, 0)]).guessed == (20, 0)
    assert bound(guesses=[(0, 20)]).guessed == (0, 20)


@pytest.mark.parametrize("guesses", [(-1, 5), (5, -1)])
def test_a_negative_number_of_guesses_is_refused_on_either_side(guesses):
    with pytest.raises(InputError, match=f"none negative, got {guesses[0]} in and {guesses[1]} out"):
        bound(guesses=[guesses])


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_a_confidence_is_between_none_and_certainty(confidence):
    with pytest.raises(InputError, match=f"confidence: expected a number between 0 and 1, got {confidence:g}"):
        bound(confidence=confidence)


def test_wrong_guesses_have_p_value_one_and_no_bound():
    found = bound(np.where(COINS, 0.0, 1.0))
    assert (found.p_value, found.epsilon, found.correct) == (1.0, 0.0, 0)
    assert bound(np.where(COINS, 1.0, 0.0), guesses=[(10, 10)]).p_value == pytest.approx(0.5**20)


def test_half_a_canary_is_the_first_delta_that_is_refused():
    require_delta(0.0, 30)
    require_delta(math.nextafter(1 / 60, 0), 30)
    with pytest.raises(InputError, match="delta: expected a number from 0 to"):
        require_delta(1 / 60, 30)


@pytest.mark.parametrize("epsilon", [0.0, 0.7, 3.0])
def test_the_correction_is_the_sum_over_the_largest_probabilities_in_their_ranges(epsilon):
    """At the top of the file: of W_n = k for k from max(0, v - r + n) to min(n, v - 1)."""
    m, r, delta = 20, 5, 0.001
    q = special.expit(epsilon)
    for v in range(1, r + 1):
        largest = [max(stats.binom.pmf(k, n, q) for k in range(max(0, v - r + n), min(n, v - 1) + 1)) for n in range(r)]
        exact = stats.binom.sf(v - 1, r, q) + m / r * delta * (1 - q) * sum(largest)
        assert guess_p_value(m, r, v, epsilon, delta) == pytest.approx(min(1.0, exact), rel=1e-9)


def test_a_probability_is_at_most_one():
    assert guess_p_value(20, 20, 1, 0.0, 0.02) == 1.0  # the correction alone is 0.02 / 2 * (1 + 1 + 1/2 + ...)


# classes


def test_a_copy_behind_a_dozen_heldout_examples_comes_too_late():
    """Of 1,000 held-out examples, so many are as near as any sample: all samples are before the next one."""
    behind = [np.full(1000, (before + 1) / 1001) for before in (0, DEEPEST - 1, DEEPEST)]
    assert exceedance_p_value(behind[0], 1000) < 1e-100
    assert exceedance_p_value(behind[1], 1000) < 1e-100
    assert exceedance_p_value(behind[2], 1000) == 1.0


def test_no_more_than_all_samples_are_strays():
    """Of 10 samples, all strays against 50 errors of 100: C(55, 10) / C(110, 10) or more; no level is below 0."""
    assert smallest_share(50, 100, 10, 1e-9) == math.inf
    assert smallest_share(0, 100, 100, 0.01) == 0.07  # 1 / 2^7 < 0.01 < 1 / 2^6, nearly


def test_strays_at_the_level_itself_are_not_significant():
    level = at_least(1, 0, 1, 1)  # one half
    assert smallest_share(0, 1, 1, level) == math.inf
    assert smallest_share(0, 1, 1, math.nextafter(level, 1)) == 0.51


def test_the_first_group_has_a_name_and_one_beyond_the_last_has_none():
    assert group_name(0, ("a", "b"), named=True) == "a"
    assert group_name(2, ("a", "b"), named=True) == "2"
    assert group_name(-1, ("a", "b"), named=True) == "-1"


# copies


def ranked(*parts):
    """So many values each."""
    return np.concatenate([np.full(count, float(value)) for count, value in parts])


@pytest.mark.parametrize(
    ("heldout", "train", "copied"),
    [
        (ranked((300, 0), (200, 1)), ranked((300, 0), (200, 1)), False),  # both repeat exactly as often
        (ranked((300, 0), (100, 0.1), (100, 1)), ranked((300, 0), (200, 1)), True),  # apart from these, one is nearer
        (ranked((9, 0.1)), ranked((80, 1)), False),  # too few on either side
        (ranked((10, 0.1)), ranked((80, 1)), True),
        (ranked((500, 0.1)), ranked((9, 1)), False),
        (ranked((250, 0.1), (250, 1)), ranked((250, 0.1), (250, 1)), False),  # as near on both sides
        (ranked((150, 0.1), (350, 1)), ranked((50, 0.1), (450, 1)), True),  # three times as often
        (ranked((147, 0.1), (353, 1)), ranked((50, 0.1), (450, 1)), False),
    ],
)
def test_heldout_examples_are_near_copies_if_three_times_as_many_are_near(heldout, train, copied):
    assert near_copies(heldout, train) == copied


def test_a_third_of_the_heldout_examples_is_known_if_they_repeat_training_ones():
    for leaked, used, known in ((1, 2, True), (1, 3, False), (0, 0, False)):
        places, distance = np.arange(used), np.ones(used)
        found = copies(
            leaked=dict.fromkeys(range(leaked), 8), heldout=places, null_distance=distance, null_next_distance=distance
        )
        assert found.heldout_known == known


def test_a_share_found_at_the_limit_can_be_told():
    assert copies(detectable={"exact": 0.25}).can_tell
    assert not copies(detectable={"exact": 0.2501}).can_tell
    assert "noisy 100.00%." in copies(detectable={"exact": 0.1, "noisy": 1.0}).power


@pytest.mark.parametrize(
    ("samples", "heldout", "alone"),
    [((1, 5), (0, 5), True), ((0, 5), (0, 5), False), ((1, 5), (1, 5), False), ((1, 5), (0, 0), False)],
)
def test_samples_alone_equal_training_examples_if_there_are_heldout_ones_that_do_not(samples, heldout, alone):
    assert ExactMatches(samples=samples, heldout=heldout).alone == alone


# labels


def balance(of_samples, of_heldout, samples=1000, others=1000, known=1000, p_value=0.5):
    shares = [torch.tensor(part, dtype=torch.float64) for part in (of_samples, of_heldout)]
    return LabelBalance(
        classes=torch.arange(len(of_samples)), of_samples=shares[0], of_heldout=shares[1],
        samples=samples, others=others, known=known, p_value=p_value,
    )  # fmt: skip


def test_the_label_that_differs_most_may_be_too_rare():
    found = balance([0.1, 0.5, 0.4], [0.6, 0.2, 0.2])
    assert found.farthest == 0
    assert found.variation == pytest.approx(0.5)


def test_a_label_of_nobody_is_not_missing_and_does_not_count():
    found = balance([1.0, 0.0, 0.0], [0.5, 0.5, 0.0])
    assert found.missing == [1]
    two = balance([1.0, 0.0], [0.5, 0.5])
    assert found.detectable(0.01) == two.detectable(0.01) < math.inf
    assert balance([1.0, 0.0], [1.0, 0.0]).detectable(0.01) == math.inf


@pytest.mark.parametrize(("samples", "known", "missing"), [(1000, 1000, True), (5, 1000, False), (1000, 5, False)])
def test_a_label_is_surely_missing_of_many_samples_of_a_model_that_knows_many(samples, known, missing):
    """0.5^5 is 3%."""
    assert balance([1.0, 0.0], [0.5, 0.5], samples=samples, known=known).surely_missing(0.01) == missing


def test_a_p_value_of_the_level_is_not_below_it():
    assert label_finding(balance([0.5, 0.5], [0.4, 0.6], p_value=0.01), 0.01).tone == "good"
    assert label_finding(balance([0.5, 0.5], [0.4, 0.6], p_value=0.0099), 0.01).tone == "attention"


def test_five_missing_labels_are_all_named():
    few = label_finding(balance([1.0] + [0.0] * 5, [0.5] + [0.1] * 5), 0.01).verdict
    many = label_finding(balance([1.0] + [0.0] * 6, [0.4] + [0.1] * 6), 0.01).verdict
    assert few.endswith("No sample at all has label 1, 2, 3, 4, 5.")
    assert many.endswith("No sample at all has label 1, 2, 3, 4, 5, ....")


# owners, areas and permuted statistics


def test_corrected_p_values_are_at_most_one():
    assert holm({1: 0.9, 2: 0.8}) == {2: 1.0, 1: 1.0}
    assert holm({1: 0.3, 2: 0.1}) == {2: 0.2, 1: 0.3}


def test_ten_examples_of_an_owner_and_one_permutation_are_the_fewest():
    rows = np.random.default_rng(0).normal(size=(20, 2))
    p_value = owner_p_value(rows[:10], rows[10:], np.random.default_rng(1), permutations=1)
    assert p_value in (0.5, 1.0)
    for published, unpublished in ((9, 10), (10, 9)):
        with pytest.raises(InputError, match="expected at least 10 examples, got 9"):
            owner_p_value(rows[:published], rows[10 : 10 + unpublished], np.random.default_rng(1))
    with pytest.raises(InputError, match="permutations: expected at least 1, got 0"):
        owner_p_value(rows[:10], rows[10:], np.random.default_rng(1), permutations=0)


def test_losses_that_do_not_vary_have_no_order():
    """All statistics are 0, or rounding: every permutation is as extreme."""
    assert owner_p_value(np.zeros((10, 2)), np.zeros((12, 2)), np.random.default_rng(1), permutations=19) == 1.0


def test_permutations_are_the_same_in_blocks(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(25, 2)) + np.arange(25)[:, None] / 20
    at_once, in_blocks = [], []
    for held, found in ((10**6, at_once), (60, in_blocks), (1, in_blocks)):
        monkeypatch.setattr("diffuscope.audit.owner_sets.CHUNK", held)
        found.append(owner_p_value(rows[:12], rows[12:], np.random.default_rng(1), permutations=39))
    assert in_blocks == at_once * 2


@pytest.mark.parametrize(("n", "m"), [(5, 40), (40, 5)])
def test_an_area_of_everything_or_nothing_is_bounded_by_the_fewer(n, m):
    """If all are in order, the area is below 1 - a with probability at most (1 - a)^min(n, m)."""
    high, low = np.arange(float(n)) + 100, np.arange(float(m))
    area, least, most = auc_with_interval(high, low)
    assert (area, most) == (1.0, 1.0)
    assert 1 - least == pytest.approx(1 - 0.025 ** (1 / 5))
    area, least, most = auc_with_interval(low, high)
    assert (area, least) == (0.0, 0.0)
    assert most == pytest.approx(1 - 0.025 ** (1 / 5))


def test_ninety_nine_others_resolve_a_rate_of_one_percent():
    assert not math.isnan(true_positives(np.arange(50.0), np.arange(99.0), 0.01).value)
    assert math.isnan(true_positives(np.arange(50.0), np.arange(98.0), 0.01).value)


def test_a_p_value_of_true_positives_is_never_zero():
    """All of 20,000 above all others: 1 in binom(40,000, 20,000) would be 0 in floating point."""
    found = true_positives(np.arange(20_000.0) + 20_000, np.arange(20_000.0), 0.01)
    assert found.value == 1.0
    assert 0 < found.p_value < 1e-300
    assert true_positives(np.arange(200.0), np.arange(200.0), 0.01).p_value > 0.3


@pytest.mark.parametrize(("half", "interval"), [(0.2, (0.3, 0.7)), (0.9, (0.0, 1.0))])
def test_the_interval_of_a_permuted_statistic_stays_in_its_bounds(half, interval):
    found = permuted_measure(
        "share", 0.5, np.linspace(0.1, 0.9, 39), copies="high", meaning="", bounds=(0.0, 1.0), half=half
    )
    assert found.interval == pytest.approx(interval)


def test_values_within_the_tolerance_are_tied():
    found = permuted_measure("share", 0.5, np.array([0.25]), copies="high", meaning="", tied=0.25)
    assert found.p_value == 1.0

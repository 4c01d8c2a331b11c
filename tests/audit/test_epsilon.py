"""The lower bound of epsilon: exact where it can be enumerated, never above the truth too often, published values."""

import itertools

import numpy as np
import pytest
import torch
from scipy import optimize, special, stats

from diffuscope.audit.canary_scores import canary_levels, canary_scale, canary_scores
from diffuscope.audit.epsilon import (
    default_guesses,
    epsilon_lower_bound,
    guess_p_value,
    largest_rejected,
)
from diffuscope.audit.epsilon_finding import epsilon_finding, with_epsilon
from diffuscope.audit.level_measures import TRIVIAL
from diffuscope.audit.subject import noise_levels
from diffuscope.data import Canaries, load_data, make_canaries
from diffuscope.denoisers import MLP, ExactDenoiser, Preconditioned
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian
from diffuscope.schedules import VE
from diffuscope.training import TrainingSettings, averaged, train


def best_mechanism(m, guesses, correct, epsilon, delta):
    """max P(at least `correct` right) over all (epsilon, delta)-private mechanisms with that many guesses: a program.

    The mechanism's output is post-processed to its guesses t, so that its probabilities P(t | s) are all there is.
    Privacy for neighbors s, s': sum_t max(0, P(t|s) - e^eps P(t|s')) <= delta, with slack variables for the maxima.
    """
    coins = list(itertools.product((-1, 1), repeat=m))
    outputs = [t for t in itertools.product((-1, 0, 1), repeat=m) if sum(map(abs, t)) == guesses]
    neighbors = [(a, b) for a, b in itertools.permutations(range(len(coins)), 2)
                 if sum(x != y for x, y in zip(coins[a], coins[b], strict=True)) == 1]  # fmt: skip
    n_p, n_t = len(coins) * len(outputs), len(outputs)
    size = n_p + len(neighbors) * n_t
    gain = np.zeros(size)
    for a, s in enumerate(coins):
        for k, t in enumerate(outputs):
            right = sum(x == y for x, y in zip(s, t, strict=True))
            gain[a * n_t + k] = (right >= correct) / len(coins)
    above, limits = [], []
    for j, (a, b) in enumerate(neighbors):
        total = np.zeros(size)
        for k in range(n_t):
            row = np.zeros(size)
            slack = n_p + j * n_t + k
            row[a * n_t + k], row[b * n_t + k], row[slack] = 1.0, -np.exp(epsilon), -1.0
            total[slack] = 1.0
            above.append(row)
            limits.append(0.0)
        above.append(total)
        limits.append(delta)
    sums = np.zeros((len(coins), size))
    for a in range(len(coins)):
        sums[a, a * n_t : (a + 1) * n_t] = 1.0
    solved = optimize.linprog(-gain, np.array(above), limits, sums, np.ones(len(coins)))
    assert solved.success
    return -solved.fun


@pytest.mark.parametrize(("m", "guesses"), [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3)])
def test_no_private_mechanism_guesses_better_and_one_is_as_good(m, guesses):
    for correct, epsilon, delta in itertools.product(range(1, guesses + 1), (0.0, 0.7), (0.0, 0.02)):
        best = best_mechanism(m, guesses, correct, epsilon, delta)
        bound = guess_p_value(m, guesses, correct, epsilon, delta)
        assert best <= bound + 1e-9
        if guesses <= 2 or delta == 0:
            assert bound == pytest.approx(best, abs=1e-7)


@pytest.mark.parametrize("correct", [0, 3, 7, 8])
def test_the_tail_is_that_of_all_patterns_of_right_guesses(correct):
    """8 guesses of randomized response at epsilon = 1.3, all 256 patterns."""
    q = special.expit(1.3)
    patterns = list(itertools.product((0, 1), repeat=8))
    exact = sum(q ** sum(p) * (1 - q) ** (8 - sum(p)) for p in patterns if sum(p) >= correct)
    assert guess_p_value(20, 8, correct, 1.3, 0.0) == pytest.approx(exact, rel=1e-12)


def published(m, r, v, epsilon, delta):
    """The right-hand side of Theorem 5.2 of Steinke et al. 2023, as in their Appendix D."""
    q = special.expit(epsilon)
    below = np.cumsum(stats.binom.pmf(np.arange(v - 1, -1, -1), r, q))
    return stats.binom.sf(v - 1, r, q) + 2 * m * delta * max(below / np.arange(1, v + 1))


def test_a_private_mechanism_exceeds_the_published_correction_but_not_ours():
    """Two coins by randomized response; the second is revealed with probability delta / (1 - q) if the first is wrong.

    At epsilon = 3 and delta = 0.01. Every hockey-stick divergence of neighbors is at most delta, and at least one right
    guess has the probability 1 - (1 - q)^2 + delta (1 - q).
    """
    epsilon, delta = 3.0, 0.01
    q = special.expit(epsilon)
    reveal = delta / (1 - q)

    def probability(s, t):
        first, second = (q if x == y else 1 - q for x, y in zip(s, t, strict=True))
        return first * (second if s[0] == t[0] else (1 - reveal) * second + reveal * (s[1] == t[1]))

    pairs = list(itertools.product((-1, 1), repeat=2))
    for s, other in itertools.permutations(pairs, 2):
        if (s[0] == other[0]) != (s[1] == other[1]):
            excess = [probability(s, t) - np.exp(epsilon) * probability(other, t) for t in pairs]
            assert sum(max(0.0, x) for x in excess) <= delta + 1e-12
    right = np.mean([sum(probability(s, t) for t in pairs if s[0] == t[0] or s[1] == t[1]) for s in pairs])
    assert right == pytest.approx(1 - (1 - q) ** 2 + delta * (1 - q), rel=1e-12)
    assert published(2, 2, 1, epsilon, delta) < right <= guess_p_value(2, 2, 1, epsilon, delta)


@pytest.mark.parametrize(("m", "r", "v"), [(1000, 100, 75), (1000, 1000, 990), (200, 50, 49), (100, 10, 10)])
def test_bisection_finds_the_largest_epsilon_that_is_rejected(m, r, v):
    grid = np.linspace(0, 10, 1001)
    rejected = [guess_p_value(m, r, v, epsilon, 1e-5) <= 0.05 for epsilon in grid]
    assert largest_rejected(m, r, v, 1e-5, 0.05) == pytest.approx(grid[np.flatnonzero(rejected)[-1]], abs=0.01)


@pytest.mark.parametrize("r", [1, 5, 40, 1000])
def test_all_right_guesses_have_the_closed_form(r):
    """q^r = level: epsilon = log(q / (1 - q)) with q = level^(1/r), and 0 where that is below 1/2."""
    q = 0.05 ** (1 / r)
    exact = max(0.0, np.log(q / (1 - q)))
    assert largest_rejected(1000, r, r, 0.0, 0.05) == pytest.approx(exact, abs=1e-9)


def test_one_right_guess_less_has_the_closed_form():
    """At the bound, the p-value is the level: q^r + r q^(r-1) (1 - q) = 0.05."""
    epsilon = largest_rejected(1000, 60, 59, 0.0, 0.05)
    q = special.expit(epsilon)
    assert q**60 + 60 * q**59 * (1 - q) == pytest.approx(0.05, rel=1e-9)


@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3])
def test_the_bound_grows_with_right_guesses_and_shrinks_with_delta(delta):
    counts = range(0, 101, 4)
    bounds, half = ([largest_rejected(200, 100, v, d, 0.05) for v in counts] for d in (delta, delta / 2))
    assert bounds == sorted(bounds)
    assert bounds[0] == 0 < bounds[-1]
    assert all(b <= h for b, h in zip(bounds, half, strict=True))


def test_a_positive_bound_is_rare_without_any_leak():
    """1,000 runs of scores that know nothing: 5% and two standard errors are 64."""
    rng = np.random.default_rng(0)
    positive = sum(
        epsilon_lower_bound(rng.normal(size=100), rng.random(100) < 0.5, delta=1e-5).epsilon > 0 for _ in range(1000)
    )
    assert positive <= 64


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_the_bound_exceeds_the_epsilon_of_randomized_response_in_at_most_5_percent(epsilon):
    """Each score is the coin, turned with probability 1 / (1 + e^eps); 120 runs, three standard errors of 2%."""
    rng = np.random.default_rng(1)
    bounds = []
    for _ in range(120):
        included = rng.random(300) < 0.5
        told = included ^ (rng.random(300) < special.expit(-epsilon))
        bounds.append(epsilon_lower_bound(told + 1e-3 * rng.random(300), included, delta=0.0).epsilon)
    assert (np.array(bounds) > epsilon).mean() <= 0.05 + 3 * 0.02
    assert np.median(bounds) > (0 if epsilon < 1 else 0.6 * epsilon)  # and it is not empty


def test_a_guess_chosen_after_the_fact_would_break_the_guarantee():
    """The best of all counts without a correction: far more than 5% of 100 runs are positive; the grid's are not."""
    rng = np.random.default_rng(2)
    chosen = corrected = 0
    for _ in range(100):
        scores, included = rng.normal(size=100), rng.random(100) < 0.5
        right = np.cumsum(included[np.argsort(-scores)])
        chosen += min(guess_p_value(100, k, int(right[k - 1]), 0.0, 0.0) for k in range(1, 101)) <= 0.05
        grid = [(k, 0) for k in range(10, 101, 10)]
        corrected += epsilon_lower_bound(scores, included, delta=0.0, guesses=grid).epsilon > 0
    assert chosen / 100 > 0.15
    assert corrected / 100 <= 0.05


def test_a_few_memorized_canaries_are_seen_by_guesses_in_alone():
    """50 of 500 included canaries stand out: right guesses "in", while half of the guesses "out" are wrong."""
    rng = np.random.default_rng(3)
    included = np.arange(1000) % 2 == 0
    scores = rng.normal(size=1000) + 20 * (included & (np.arange(1000) < 100))
    bound = epsilon_lower_bound(scores, included, delta=1e-5)
    assert bound.guessed[1] == 0
    assert bound.epsilon > 0.5


def test_the_order_of_canaries_and_a_monotone_map_of_scores_change_nothing():
    rng = np.random.default_rng(4)
    included = rng.random(400) < 0.5
    scores = rng.normal(size=400) + included
    bound = epsilon_lower_bound(scores, included, delta=1e-5)
    order = rng.permutation(400)
    assert epsilon_lower_bound(np.exp(scores[order]), included[order], delta=1e-5) == bound


@pytest.mark.parametrize("m", [20, 33, 1000])
def test_the_grid_never_guesses_more_than_there_are(m):
    grid = default_guesses(m)
    assert all(0 < sum(pair) <= m for pair in grid)
    assert len(set(grid)) == len(grid)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scores": np.zeros(19), "included": np.ones(19, dtype=bool)}, "canaries: expected at least 20, got 19"),
        ({"included": np.ones(29, dtype=bool)}, r"included: expected one coin per canary \(30\), got 29"),
        ({"scores": np.full(30, np.nan)}, "scores: expected finite numbers"),
        ({"delta": 0.02}, r"delta: expected a number from 0 to 0.0167 \(1 / 2 canaries\), got 0.02"),
        ({"delta": -1e-9}, "delta: expected"),
        ({"confidence": 1.0}, "confidence: expected a number between 0 and 1, got 1"),
        ({"guesses": [(20, 11)]}, "guesses: expected 1 to 30 guesses, none negative, got 20 in and 11 out"),
        ({"guesses": [(0, 0)]}, "guesses: expected 1 to 30"),
        ({"guesses": []}, "guesses: expected at least one pair of numbers of guesses, in and out, got none"),
        # of 0 and 1, not 0 is -1: right guesses would be counted as wrong ones, and nothing would be found
        (
            {"included": np.arange(30) % 2},
            "included: expected booleans, True for a canary in the training set, got int64",
        ),
    ],
)
def test_mistakes_are_one_line(changed, message):
    arguments = {"scores": np.arange(30.0), "included": np.arange(30) % 2 == 0, "delta": 1e-5} | changed
    with pytest.raises(InputError, match=message):
        epsilon_lower_bound(arguments.pop("scores"), arguments.pop("included"), **arguments)


def canaries_of_digits():
    data = load_data("digits").in_range(-1.0, 1.0)
    return data.train, make_canaries(data, 1000, seed=1)


def bound_of(denoiser, canaries):
    scores = canary_scores(denoiser, canaries, 6, torch.Generator().manual_seed(0))
    return epsilon_lower_bound(scores, canaries.included.numpy(), delta=1e-5)


def test_the_exact_memorizer_of_canaries_has_an_epsilon_of_at_least_two():
    train, canaries = canaries_of_digits()
    whole = torch.cat([train[:200], canaries.examples[canaries.included]])
    assert bound_of(ExactDenoiser(Empirical(whole), VE()), canaries).epsilon >= 2
    never = bound_of(ExactDenoiser(Gaussian.fit([train]), VE()), canaries)
    assert never.epsilon == 0
    assert never.p_value > 0.05


def test_scores_of_canaries_do_not_know_the_coins():
    """The same model, other coins: the same scores, bit for bit."""
    train, canaries = canaries_of_digits()
    other = Canaries(canaries.examples, ~canaries.included, canaries.data_range)
    denoiser = ExactDenoiser(Gaussian.fit([train]), VE())
    scores = [canary_scores(denoiser, c, 6, torch.Generator().manual_seed(0)) for c in (canaries, other)]
    assert (scores[0] == scores[1]).all()


def test_canaries_are_scored_where_denoising_them_is_not_trivial():
    """Their Gaussian loss, rho^2 / (rho^2 + s^2), between 0.25% and 95% of their variance: rho from s/20 to 4.4 s."""
    train, canaries = canaries_of_digits()
    s = canary_scale(canaries)
    levels = canary_levels(ExactDenoiser(Gaussian.fit([train]), VE()), canaries, 30)
    assert len(levels) > 8
    assert float(levels.ratios.min()) >= s * (0.0025 / 0.9975) ** 0.5
    assert float(levels.ratios.max()) <= s * (0.95 / 0.05) ** 0.5


def test_a_bound_is_told_with_its_guarantee_and_no_bound_is_no_all_clear():
    included = np.arange(1000) % 2 == 0
    found = epsilon_finding(epsilon_lower_bound(included.astype(float), included, delta=1e-5))
    assert found.tone == "attention"
    assert "With probability 95% over the coins" in found.verdict
    assert "5.31" in found.power
    none = epsilon_finding(epsilon_lower_bound(np.arange(1000.0), included, delta=1e-5))
    assert (none.value, none.tone) == (0, "neutral")
    assert "does not show privacy" in none.verdict
    verdict = with_epsilon(none, found)
    assert verdict.tone == "attention"
    assert with_epsilon(none, none) is none


@pytest.mark.slow  # 800 steps of training
def test_a_network_trained_until_it_memorizes_has_an_epsilon_of_at_least_two():
    """A small network, 100 digits and half of 1,000 canaries; the same network at its start shows nothing."""
    digits, canaries = canaries_of_digits()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MLP((1, 8, 8), width=512, depth=2)
    model = Preconditioned(network, VE(0.02, 20.0), 0.75, event_shape=(1, 8, 8), data_range=(-1.0, 1.0))
    assert bound_of(model.eval(), canaries).epsilon == 0
    settings = TrainingSettings(steps=800, batch_size=128, learning_rate=2e-3, average_decay=0.99)
    whole = torch.cat([digits[:100], canaries.examples[canaries.included]])
    *_, last = train(model.train(), whole, settings, checkpoint=None)
    assert bound_of(averaged(model, last.average).eval(), canaries).epsilon >= 2


def test_canaries_are_scored_where_a_gaussians_loss_is_a_share_of_their_variance_between_the_two_ends():
    """r^2 / (r^2 + s^2) of an isotropic one of deviation s: from s / sqrt(1 / 0.0025 - 1) to s / sqrt(1 / 0.95 - 1)."""
    examples = torch.tensor([[-3.0, 3.0], [3.0, -3.0]]).repeat(10, 1)
    canaries = Canaries(examples=examples, included=torch.arange(20) % 2 == 0, data_range=(-3.0, 3.0))
    assert canary_scale(canaries) == 3.0
    model = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), VE(1e-4, 1e4))
    every = noise_levels(model, 3.0, 60).ratios
    inside = (every >= 3 / (1 / TRIVIAL[0] - 1) ** 0.5) & (every <= 3 / (1 / TRIVIAL[1] - 1) ** 0.5)
    assert 0 < inside.sum() < 60
    assert canary_levels(model, canaries, 60).ratios.tolist() == every[inside].tolist()

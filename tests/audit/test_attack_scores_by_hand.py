"""Attacks on membership against loops over pairs, folds and exchanges, and scores of canaries against regressions."""

import math

import numpy as np
import pytest
import torch
from made_by_hand import made

from counting_denoisers import Multiple
from diffuscope.audit.attack_scores import (
    ATTACKS,
    Attack,
    PairedLosses,
    areas_of,
    areas_of_each,
    attacks,
    discriminant,
    log_losses,
    residuals,
    whitening,
)
from diffuscope.audit.canary_scores import canary_levels, canary_scale, canary_scores
from diffuscope.audit.difficulty import difficulty
from diffuscope.audit.subject import Levels, noise_levels, noised
from diffuscope.data import Canaries
from diffuscope.schedules import VE
from numbers_in_tests import rng


def area(members, others):
    """The share of pairs in which the member has the higher score; a tie counts half."""
    return np.mean([(a > b) + 0.5 * (a == b) for a in members for b in others])


def exchanged_area(scores, exchanged):
    """With the labels of these pairs exchanged."""
    members = [scores[1 if swap else 0, i] for i, swap in enumerate(exchanged)]
    others = [scores[0 if swap else 1, i] for i, swap in enumerate(exchanged)]
    return area(members, others)


SCORES = np.array([[3.0, 1.0, 1.0], [2.0, 1.0, 5.0]])
EXCHANGED = np.array([[False, False, False], [True, False, False], [False, True, True], [True, True, True]])


def test_areas_are_counted_over_all_pairs_of_a_member_and_another():
    assert areas_of(SCORES, EXCHANGED) == pytest.approx([exchanged_area(SCORES, swap) for swap in EXCHANGED])
    assert areas_of(SCORES, EXCHANGED)[0] == pytest.approx((2.0 + 0.5 + 0.5) / 9)
    of_draws = np.stack([SCORES, SCORES + 1, -SCORES, SCORES**2])
    expected = [exchanged_area(scores, swap) for scores, swap in zip(of_draws, EXCHANGED, strict=True)]
    assert areas_of_each(of_draws, EXCHANGED) == pytest.approx(expected)


def likelihood_ratio(whitened, folds, exchanged):
    """By loops: of every row with the summed differences of the pairs of other folds."""
    scores = np.zeros(whitened.shape[:2])
    for i, fold in enumerate(folds):
        others = [j for j in range(len(folds)) if folds[j] != fold]
        weights = sum((-1 if exchanged[j] else 1) * (whitened[0, j] - whitened[1, j]) for j in others)
        scores[:, i] = whitened[:, i] @ weights
    return scores


def test_the_likelihood_ratio_of_a_pair_is_that_of_the_other_folds():
    whitened, folds = rng().normal(size=(2, 5, 3)), np.array([0, 1, 0, 2, 1])
    swaps = np.array([[False] * 5, [True, False, False, True, True]])
    found = discriminant(whitened, folds, swaps)
    for scores, swap in zip(found, swaps, strict=True):
        assert scores == pytest.approx(likelihood_ratio(whitened, folds, swap))


@pytest.mark.parametrize(("pairs", "permutations"), [(7, 29), (12, 3)])
def test_all_attacks_are_those_of_the_loops_with_one_p_value_for_the_largest(pairs, permutations):
    model, easy = rng().normal(size=(2, pairs, 2)), np.random.default_rng(1).normal(size=(2, pairs, 2, 1))
    model[0] -= 0.4
    found, p_value = attacks(PairedLosses(model, easy), rng(), permutations)
    generator = rng()  # the same folds and exchanges
    folds = generator.permutation(np.arange(pairs) % 5)
    exchanged = generator.random((1 + permutations, pairs)) < 0.5
    exchanged[0] = False
    left = np.empty((2 * pairs, 2))
    for level in range(2):
        x, y = easy[:, :, level, 0].ravel(), model[:, :, level].ravel()
        slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
        left[:, level] = y - y.mean() - slope * (x - x.mean())
    white = (left @ whitening(left)).reshape(2, pairs, 2)
    scores = {"loss": -model.mean(2), "relative loss": -left.reshape(2, pairs, 2).mean(2)}
    areas = {name: np.array([exchanged_area(each, swap) for swap in exchanged]) for name, each in scores.items()}
    ratios = [likelihood_ratio(white, folds, swap) for swap in exchanged]
    areas["likelihood ratio"] = np.array([exchanged_area(x, swap) for x, swap in zip(ratios, exchanged, strict=True)])
    largest = np.max([(a - 0.5) / np.sqrt(((a - 0.5) ** 2).mean()) for a in areas.values()], axis=0)
    assert p_value == pytest.approx(sum(x >= largest[0] - 1e-9 for x in largest) / (1 + permutations))
    for name in ATTACKS:
        assert found[name].area == pytest.approx(areas[name][0])
        assert found[name].permuted == pytest.approx(areas[name][1:])
    assert found["relative loss"].members == pytest.approx(scores["relative loss"][0])
    assert found["likelihood ratio"].others == pytest.approx(ratios[0][1])


def test_a_permuted_area_that_is_tied_counts():
    attack = Attack(np.zeros(4), np.zeros(4), 0.7, np.array([0.7, 0.7 - 1e-13, 0.6]))
    assert attack.p_value == 3 / 4


def test_the_floor_of_a_loss_is_a_millionth_of_the_variance():
    assert log_losses(np.array([0.0, 2.0]), 5.0).tolist() == pytest.approx([math.log(5e-6), math.log(2 + 5e-6)])


# canaries


X = torch.randn(24, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 3.0])


def test_the_deviation_of_canaries_is_that_of_a_coordinate():
    x = torch.tensor([[1.0, 10.0], [3.0, 10.0], [5.0, 16.0], [7.0, 16.0]])
    assert canary_scale(made(Canaries, examples=x)) == pytest.approx(7**0.5)  # the variances are 5 and 9


def test_canaries_are_asked_where_their_denoising_is_not_trivial():
    """rho^2 / (rho^2 + s^2) from 0.25% to 95%: rho from s / sqrt(399) to s sqrt(19)."""
    canaries = made(Canaries, examples=X)
    s, levels = canary_scale(canaries), canary_levels(Multiple(0.5), canaries, 60)
    every = noise_levels(Multiple(0.5), s, 60).ratios
    kept = [r for r in every.tolist() if s / 399**0.5 < r < s * 19**0.5]
    assert levels.ratios.tolist() == kept
    assert len(levels.times) == len(kept) < 60


def test_levels_at_the_ends_of_what_is_not_trivial_are_asked(monkeypatch):
    """Of deviation 9, rho^2 / (rho^2 + 81) is 0.95 and 0.0025 to the last digit."""
    high, low = 9 * math.sqrt(19), 9 * math.sqrt(1 / 399)
    ratios = torch.tensor([1.001 * high, high, low, 0.999 * low], dtype=torch.float64)
    monkeypatch.setattr("diffuscope.audit.canary_scores.noise_levels", lambda *_: Levels(ratios, ratios))
    canaries = made(Canaries, examples=torch.tensor([[9.0], [-9.0]]).repeat(10, 1))
    assert canary_levels(Multiple(0.5), canaries, 4).ratios.tolist() == [high, low]


def test_the_score_of_a_canary_is_what_its_difficulty_leaves_of_its_loss():
    canaries, model = made(Canaries, examples=X), Multiple(0.5)
    found = canary_scores(model, canaries, 6, torch.Generator().manual_seed(3))
    levels, generator = canary_levels(Multiple(0.5), canaries, 6), torch.Generator().manual_seed(3)
    assert len(model.asked) == 2 * len(levels)
    left, floor = [], 1e-6 * 3 * canary_scale(canaries) ** 2
    for _ in range(2):
        noise = torch.randn(3, generator=generator).expand_as(X)
        easy = difficulty(X, noise, levels, VE(0.01, 50.0)).numpy()
        squares = [(0.5 * noised(VE(0.01, 50.0), X, noise, t) - X).double().square().sum(1) for t, _ in levels]
        losses = np.log(torch.stack(squares, 1).numpy() + floor)
        left.append(residuals(losses, np.log(easy + floor)).mean(1))
    assert found == pytest.approx(-(left[0] + left[1]) / 2)
    assert found.sum() == pytest.approx(0.0, abs=1e-9)
    far = canary_scores(model, made(Canaries, examples=500.0 * X), 6, torch.Generator())
    assert far.tolist() == [0.0] * 24  # from a twentieth of 500 deviations on: beyond its noise

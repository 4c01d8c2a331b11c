"""The generalization gap against a fit written out in NumPy, modes that are compared, and features by their names."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from diffuscope.audit import modes as modes_module
from diffuscope.audit.feature_likelihood import _gap, generalization_gap
from diffuscope.audit.label_shares import LabelBalance
from diffuscope.audit.modes import SelfRepeats, modes, repeats_finding
from numbers_in_tests import rng


def log_density(square, variance, d):
    return -square / (2 * variance) - d / 2 * np.log(2 * math.pi * variance)


def written_out(rows, samples, training):
    """The gap in hundredths of a nat per feature, by eight steps of expectation maximization."""
    t, (m, d) = rows[training], samples.shape
    square = ((t[:, None] - samples) ** 2).sum(2)
    broad = 0.81 * ((t - t.mean(0)) ** 2).sum(1)
    squares, weights = np.column_stack([square, broad]), np.append(np.full(m, 1 / m), 1.0)
    variance = np.append((square.min(0) + 0.001) / d, 1.0)
    for _ in range(8):
        log_share = np.log(weights) + log_density(squares, variance, d)
        share = np.exp(log_share - logsumexp(log_share, axis=1, keepdims=True))
        variance = np.maximum((share * squares).sum(0) / (d * share.sum(0)), math.exp(-40))
    log_densities = log_density(((rows[:, None] - samples) ** 2).sum(2), variance[:m], d)
    log_q = np.asarray(logsumexp(log_densities, axis=1)) - math.log(m)
    return 100 / d * (log_q[~training].mean() - log_q[training].mean())


def test_the_gap_is_that_of_a_fit_written_out():
    rows, samples = rng().normal(size=(14, 3)), rng(1).normal(size=(5, 3))
    training = np.arange(14) % 3 > 0
    square = torch.from_numpy(((rows[:, None] - samples) ** 2).sum(2))
    found = _gap(square, torch.from_numpy(rows), torch.from_numpy(training))
    assert found == pytest.approx(written_out(rows, samples, training))


def test_features_are_standardized_over_both_sets_and_the_names_are_exchanged():
    """Of one scale or another, and beside a constant, which counts as a feature; the null is of 99 permutations."""
    train, heldout, samples = (rng(seed).normal(size=(12, 2)) for seed in range(3))
    both = np.concatenate([train, heldout])
    center, scale = both.mean(0), both.std(0, ddof=1)
    rows, chosen = (both - center) / scale, (samples - center) / scale
    training = np.arange(24) < 12
    ours, known, others = (torch.from_numpy(100 * x + 7).float() for x in (samples, train, heldout))
    found = generalization_gap(ours, known, others, rng())
    assert found.value == pytest.approx(written_out(rows, chosen, training), rel=1e-3)
    assert found.p_value is not None
    assert found.p_value * 100 == pytest.approx(round(found.p_value * 100))
    assert (found.copies, found.reader) == ("low", "images")
    constant = (torch.cat([x, torch.full((12, 1), 3.0)], 1) for x in (ours, known, others))
    of_ours, of_known, of_others = constant
    wide_rows, wide_chosen = (np.column_stack([x, np.zeros(len(x))]) for x in (rows, chosen))
    wide = generalization_gap(of_ours, of_known, of_others, rng())
    assert wide.value == pytest.approx(written_out(wide_rows, wide_chosen, training), rel=1e-3)
    copied = generalization_gap(known, known, others, rng())
    assert copied.p_value == 0.01
    assert copied.value < -1000  # every training row has a sample of hardly any variance


# modes


def balance(classes, p_value=0.5, others=1000):
    share = torch.full((classes,), 1 / classes, dtype=torch.float64)
    return LabelBalance(
        classes=torch.arange(classes), of_samples=share, of_heldout=share, samples=others, others=others, known=others,
        p_value=p_value,
    )  # fmt: skip


@pytest.mark.parametrize("enough", [20, 10, 5, 3, 0])
def test_there_are_as_many_clusters_as_tell_an_average_one_and_three_at_least(monkeypatch, enough):
    asked = []

    def kmeans(rows, count, seed):
        asked.append((len(rows), count, seed))
        return lambda x: np.full(len(x), count)

    def label_balance(classes, samples, heldout, known, _):
        assert (classes.tolist(), len(samples), len(heldout), known) == (list(range(len(classes))), 7, 8, 9)
        return balance(len(classes), others=10**6 if len(classes) <= enough else 3)

    monkeypatch.setattr(modes_module, "kmeans", kmeans)
    monkeypatch.setattr(modes_module, "label_balance", label_balance)
    found = modes(torch.zeros(7, 2), torch.zeros(9, 2), torch.zeros(8, 2), 0.01, rng())
    counts = [count for count in (20, 10, 5, 3) if count >= enough] if enough else [20, 10, 5, 3]
    assert [count for _, count, _ in asked] == counts
    assert len(found.balance.classes) == counts[-1]
    assert found.of_heldout.tolist() == [counts[-1]] * 8
    seeds = [seed for *_, seed in asked]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert {size for size, *_ in asked} == {9}


def test_clusters_are_fitted_to_ten_thousand_training_examples_at_random(monkeypatch):
    asked = []

    def kmeans(rows, count, _):
        asked.append(rows[:, 0])
        return lambda x: np.arange(len(x)) % count

    monkeypatch.setattr(modes_module, "kmeans", kmeans)
    some = torch.arange(400.0)[:, None]
    modes(some, torch.arange(10_003.0)[:, None], some, 0.01, rng())
    assert len(asked[0]) == len(asked[0].unique()) == 10_000


@pytest.mark.parametrize(("samples", "tone"), [(130, "good"), (131, "attention")])
def test_more_than_one_percent_beyond_the_data_is_a_fault(samples, tone):
    """Of 10,000: 30 training examples repeat each other, and 130 are a hundredth more."""
    made = SelfRepeats(samples=samples, training=30, size=10_000, radius=1.0)
    assert made.p_value < 1e-6
    assert repeats_finding(made, 0.01).tone == tone

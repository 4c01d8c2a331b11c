"""Copies are found, innocents are not accused, and p-values mean what they say."""

import numpy as np
import pytest
import torch
from scipy import stats

from audit_subjects import digits
from diffuscope.audit.copy_search import _closeness, _nearest, copies, findings, nearness
from diffuscope.exact import Gaussian, nearest_neighbors
from diffuscope.findings import conformal_p_values


def split(seed, *sizes):
    """Disjoint random parts of the digits, flattened."""
    x = digits(seed).flatten(1)
    return torch.split(x[: sum(sizes)], list(sizes))


def test_five_percent_of_copies_among_fresh_digits_are_called_copying_in_at_least_95_of_100_draws():
    """1,000 samples, 50 of them copied from training; the list holds them at the stated false-discovery rate."""
    called, false_shares, missed = 0, [], []
    for seed in range(100):
        fresh, train, heldout = split(seed, 950, 420, 427)
        copied = train[torch.randperm(420, generator=torch.Generator().manual_seed(seed))[:50]]
        found = copies(torch.cat([copied, fresh]), train, heldout, 10_000, 0.05, seed)
        called += bool(found.listed.any())
        false_shares.append(found.listed[50:].sum() / max(1, found.listed.sum()))
        missed.append((~found.listed[:50]).sum())
        if found.listed.any():
            assert (found.nearest_training[:50] == torch.cdist(copied, train).argmin(1).numpy()).all()
    false_shares = np.array(false_shares)
    assert called >= 95
    assert false_shares.mean() <= 0.05 + 4 * false_shares.std() / 10
    assert np.mean(missed) < 5


def test_conformal_p_values_of_fresh_digits_are_uniform_in_each_sense_and_never_too_small_in_all():
    each, largest = [], []
    for seed in range(200):
        samples, train, heldout = split(1000 + seed, 1, 600, 600)
        null = _closeness(_nearest(heldout, train, 2)[0], _nearest(heldout, heldout, 2)[0][:, 1])
        observed = _closeness(_nearest(samples, train, 2)[0], _nearest(samples, heldout, 1)[0][:, 0])
        each.append([conformal_p_values(o, n)[0] for o, n in zip(observed, null, strict=True)])
        largest.append(copies(samples, train, heldout, 10_000, 0.05, seed).p_values[0])
    for p_values in np.array(each).T:
        assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert np.allclose(largest, np.max(each, axis=1))
    # the largest of three valid p-values is valid: P(p <= u) <= u, within four standard errors
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(largest) <= level) <= level + 4 * (level * (1 - level) / 200) ** 0.5


def test_nearness_p_values_are_uniform_over_200_audits_of_a_model_that_saw_neither_set():
    x = digits(1)
    model = Gaussian.fit([x[:597]])
    pool = x[597:].flatten(1)
    generator = torch.Generator().manual_seed(2)
    p_values = []
    for seed in range(200):
        chosen = pool[torch.randperm(len(pool), generator=generator)]
        samples = model.sample(200, generator=generator).float().flatten(1)
        p_values.append(nearness(samples, chosen[:400], chosen[400:800], 0.01, seed).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_the_stated_share_of_copies_is_found_with_the_stated_probability():
    model_rows = digits(5).flatten(1)
    model = Gaussian.fit([model_rows[:300]])
    found = []
    for seed in range(60):
        train, heldout = split(300 + seed, 500, 500)
        generator = torch.Generator().manual_seed(seed)
        samples = model.sample(400, generator=generator).float()
        share = nearness(samples, train, heldout, 0.01, seed).detectable
        planted = torch.rand(400, generator=generator) < share
        samples[planted] = train[torch.randint(500, (int(planted.sum()),), generator=generator)]
        found.append(nearness(samples, train, heldout, 0.01, seed).p_value < 0.01)
    # stated: .95; the normal approximation and 60 draws (standard error .028) leave this much
    assert np.mean(found) > 0.95 - 4 * 0.028


def test_smooth_samples_are_not_listed_although_they_are_near_everything():
    """Local averages of held-out digits are closer to training data than such digits are, and copies of none."""
    first, second, train, heldout = split(7, 150, 447, 600, 600)
    smooth = second[nearest_neighbors(first, second, 3)[1]].mean(1)
    found = copies(smooth, train, heldout, 10_000, 0.05, 0)
    null_median = np.median(found.null_distance)
    assert np.median(found.distance) < null_median
    assert found.listed.mean() < 0.01


def test_a_twin_in_the_training_set_does_not_hide_or_invent_copies():
    samples, train, heldout = split(8, 100, 400, 400)
    doubled = torch.cat([train, train[:50]])
    found = copies(samples, doubled, heldout, 10_000, 0.05, 0)
    assert not found.listed.any()


def test_samples_that_are_heldout_examples_are_no_copies():
    """At distance 0 from a held-out example and not from training ones: infinitely farther from those."""
    train, heldout = split(9, 400, 400)
    with np.errstate(all="raise"):
        found = copies(heldout[:100], train, heldout, 10_000, 0.05, 0)
    assert not found.listed.any()
    _, _, relative = _closeness(np.array([[0.5, 1.0]]), np.zeros(1))
    assert relative[0] == np.inf


def test_a_copy_of_a_training_example_that_has_a_twin_is_listed():
    """Both distances are 0; their ratio counts as 0, like a copy's."""
    train, heldout, fresh = split(10, 400, 400, 100)
    with np.errstate(all="raise"):
        found = copies(torch.cat([train[:20], fresh]), torch.cat([train, train[:20]]), heldout, 10_000, 0.05, 0)
    assert found.listed[:20].all()
    _, second, _ = _closeness(np.zeros((1, 2)), np.ones(1))
    assert second[0] == 0


def test_references_are_of_equal_size_and_ties_are_left_out():
    train = torch.eye(6)[:4]
    heldout = torch.eye(6)[:3]
    near = nearness(torch.eye(6)[:3] + 0.01, train[:3], heldout, 0.01, 0)
    assert near.references == 3
    assert near.decided == 0
    assert near.p_value == 1
    assert near.share == 0.5
    (nearer, _) = findings(near, copies(torch.eye(6)[:3] + 0.01, train, heldout, 3, 0.05, 0), "pixels", 0.01)
    assert nearer.verdict == "Every sample is as far from training as from held-out examples."
    assert "inf" not in nearer.power


def test_copies_need_at_least_a_pair_of_training_examples():
    with pytest.raises(ValueError, match="k"):
        copies(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(3, 2), 10, 0.05, 0)

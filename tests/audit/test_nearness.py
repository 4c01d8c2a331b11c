"""Nearness to training data: uniform under the null, blind to the mix of classes, with a power that plants confirm."""

from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits

from audit_subjects import digits
from diffuscope.audit.nearness import clusters, nearness, nearness_finding
from diffuscope.exact import Gaussian
from diffuscope.findings import label_permutation


@pytest.fixture
def _fewer_permutations(monkeypatch):
    fewer = partial(label_permutation, permutations=999)
    monkeypatch.setattr("diffuscope.audit.nearness.label_permutation", fewer)


@pytest.fixture
def without_power(monkeypatch):
    """Where copies need not be planted to know the power."""

    @contextmanager
    def planting_nothing():
        with monkeypatch.context() as patch:
            patch.setattr("diffuscope.audit.nearness.PLANTED", 2)
            yield

    return planting_nothing


DIGITS = digits(0).flatten(1)


def split(seed, *sizes):
    """Disjoint random parts of the digits, flattened."""
    order = torch.randperm(len(DIGITS), generator=torch.Generator().manual_seed(seed))
    return torch.split(DIGITS[order[: sum(sizes)]], list(sizes))


@pytest.mark.usefixtures("_fewer_permutations")
@pytest.mark.parametrize("cells", [pytest.param(False, marks=pytest.mark.slow), True])
def test_nearness_p_values_are_uniform_over_audits_of_a_model_that_saw_neither_set(cells, without_power):
    x = digits(1)
    model = Gaussian.fit([x[:597]])
    pool = x[597:].flatten(1)
    generator = torch.Generator().manual_seed(2)
    p_values = []
    for seed in range(60):
        chosen = pool[torch.randperm(len(pool), generator=generator)]
        samples = model.sample(200, generator=generator).float().flatten(1)
        parts = chosen[:400], chosen[400:800]
        with without_power():
            p_values.append(nearness(samples, *parts, 0.01, seed, clusters(*parts, seed) if cells else None).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.usefixtures("_fewer_permutations")
@pytest.mark.parametrize("sizes", [(500, 500), pytest.param((700, 500), marks=pytest.mark.slow)])
def test_the_stated_share_of_copies_is_found_in_at_least_44_of_50_draws(sizes, without_power):
    """Copies of random training examples, of which not all are references where held-out examples are fewer.

    With the stated probability, 0.95, fewer than 44 of 50 are found once in 80 such tests.
    """
    model = Gaussian.fit([digits(5).flatten(1)[:300]])
    found = []
    for seed in range(50):
        train, heldout = split(300 + seed, *sizes)
        generator = torch.Generator().manual_seed(seed)
        samples = model.sample(400, generator=generator).float()
        share = nearness(samples, train, heldout, 0.01, seed).detectable
        assert share <= 1
        planted = torch.rand(400, generator=generator) < share
        samples[planted] = train[torch.randint(len(train), (int(planted.sum()),), generator=generator)]
        with without_power():
            found.append(nearness(samples, train, heldout, 0.01, seed).p_value < 0.01)
    assert np.sum(found) >= 44


def test_no_power_is_claimed_where_copies_are_rarely_near_references():
    """Of 1,600 training examples 60 are references: a copy is hardly more often near these than near held-out ones."""
    train, heldout, samples = split(3, 1600, 60, 100)
    near = nearness(samples, train, heldout, 0.01, 0)
    assert near.references == 60
    assert np.isinf(near.detectable)
    finding = nearness_finding(near, "pixels", "", 0.01)
    assert finding.tone == "unknown"
    assert finding.power.startswith("None")


def test_another_mix_of_classes_is_not_called_leaning():
    """Training data and samples are mostly zeros to fours, held-out data mostly fives to nines; nothing is copied."""
    labels = torch.from_numpy(load_digits(return_X_y=True)[1]).long()
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))]
    x, small = digits(3).flatten(1), labels < 5
    low, high = small.nonzero()[:, 0], (~small).nonzero()[:, 0]
    train, heldout = torch.cat([low[:400], high[:100]]), torch.cat([low[400:500], high[100:500]])
    samples = x[torch.cat([low[500:800], high[500:575]])]
    sets = x[train], x[heldout]
    assert nearness(samples, *sets, 0.01, 0).p_value < 0.01
    assert nearness(samples, *sets, 0.01, 0, (labels[train].numpy(), labels[heldout].numpy())).p_value > 0.01
    assert nearness(samples, *sets, 0.01, 0, clusters(*sets, 0)).p_value > 0.01


def test_references_are_of_equal_size_and_ties_are_left_out():
    train, heldout = torch.eye(6)[:4], torch.eye(6)[:3]
    near = nearness(torch.eye(6)[:3] + 0.01, train[:3], heldout, 0.01, 0)
    assert near.references == 3
    assert near.decided == 0
    assert near.p_value == 1
    assert near.share == 0.5
    finding = nearness_finding(near, "pixels", "", 0.01)
    assert finding.verdict == "Every sample is as far from training as from held-out examples."
    assert finding.tone == "unknown"
    assert "inf" not in finding.power

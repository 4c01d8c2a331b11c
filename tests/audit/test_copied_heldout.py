"""Held-out examples that are near-copies of training examples give no all-clear; honest ones are not accused."""

from functools import partial

import numpy as np
import pytest
import torch
from made_by_hand import other_tools_are_quick  # noqa: F401

import audit_subjects
from diffuscope.audit import Settings, audit_samples
from diffuscope.audit.copied_heldout import MOST, SIGNIFICANT, halves, near_copies
from diffuscope.audit.copy_queries import Search
from diffuscope.audit.copy_search import among_half, closeness_of_both, copies, copies_finding
from diffuscope.audit.transformations import NAMES, transformations
from diffuscope.data import DataSet

IMAGES = transformations(NAMES, (1, 8, 8))
SCANS, DRAWS = 4, 100
FLAT = torch.nn.Flatten()


DIGITS = audit_subjects.digits()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def digits(seed):
    """All digits in random order."""
    return DIGITS[torch.randperm(len(DIGITS), generator=generator(seed))]


def noisy(x, seed=0):
    """Noise of 0.02 standard deviations."""
    return x + 0.02 * x.std(0).mean() * torch.randn(x.shape, generator=generator(seed))


def accused(train, heldout, seed=0, chosen=(), groups=None):
    """What an audit asks of these sets before it believes an empty list."""
    return near_copies(*among_half(train, heldout, FLAT, chosen, groups, np.random.default_rng(seed)))


def rows(n, seed):
    """A table: five numbers of which two are correlated, and whole numbers."""
    x = torch.randn(n, 6, generator=generator(seed))
    return torch.stack([*x[:, :4].unbind(1), x[:, 0] + 0.3 * x[:, 4], x[:, 5].round()], 1)


def coarse(n, seed):
    """Throws of six unfair dice: about half of the rows equal others."""
    return (6 * torch.rand(n, 6, generator=generator(seed)) ** 4).floor()


def scans(patients, seed):
    """Four nearly equal scans of every patient, and whose they are."""
    centers = torch.randn(patients, 8, generator=generator(seed)).repeat_interleave(SCANS, 0)
    return centers + 0.02 * torch.randn(centers.shape, generator=generator(seed + 10**6))


def order(n):
    """A random order of n examples."""
    return torch.randperm(n, generator=generator())


HONEST = {
    "digits": lambda seed: (*digits(seed).flatten(1)[:500].split([300, 200]), None),
    "table": lambda seed: (*rows(600, seed).split([400, 200]), None),
    "coarse table": lambda seed: (*coarse(600, seed).split([400, 200]), None),
    "scans by patient": lambda seed: (scans(300, seed), scans(300, seed + 500)[::SCANS], np.arange(300).repeat(SCANS)),
    "scans without patients": lambda seed: (*scans(100, seed)[order(400)].split([200, 200]), None),
    "repeated training rows": lambda seed: (rows(300, seed).repeat(2, 1), rows(200, seed + 500), None),
}


@pytest.mark.parametrize("kind", HONEST)
def test_honest_heldout_examples_are_not_accused(kind):
    """The sides are drawn anew for one half of the training examples; then four draws of everything.

    0.1 accusations at most are expected of 100 draws; two or more have probability 0.005.
    """
    train, heldout, groups = HONEST[kind](0)
    rng = np.random.default_rng(0)
    known, others = map(torch.from_numpy, halves(len(train), groups, rng))
    both, found = Search(train[known], FLAT, ())(torch.cat([train[others], heldout])), 0
    for _ in range(DRAWS):
        drawn = np.split(rng.permutation(len(both.rows)), [len(others)])
        found += near_copies(*closeness_of_both(both.part(drawn[1]), both.part(drawn[0])))
    assert found <= 1
    for seed in range(1, 5):
        train, heldout, groups = HONEST[kind](seed)
        assert not accused(train, heldout, seed, groups=groups)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("kind", ["digits", "table", "scans by patient", "repeated training rows"])
def test_near_copies_are_found_whether_they_are_all_half_or_a_third(kind, share):
    for seed in range(2):
        train, heldout, groups = HONEST[kind](seed)
        some = torch.randperm(len(train), generator=generator(seed))[: int(share * len(heldout))]
        assert accused(train, torch.cat([noisy(train[some], seed), heldout[len(some) :]]), seed, groups=groups)


def test_coarse_rows_that_were_moved_a_little_are_found():
    train, heldout = coarse(1200, 0).split([800, 400])
    assert 0.3 < len(train.unique(dim=0)) / len(train) < 0.7
    assert accused(train, noisy(train[:400]))
    assert accused(train, torch.cat([noisy(train[:200]), heldout[200:]]))


def test_mirrored_near_copies_are_found_where_images_are_searched_under_transformations():
    train = digits(0)[:300]
    mirrored = noisy(train[:150]).flip(3)
    assert accused(train, mirrored, chosen=IMAGES)
    assert not accused(train, mirrored)
    assert not accused(train, digits(0)[300:450], chosen=IMAGES)


def test_groups_are_on_one_side_as_a_whole_and_have_one_example_among_the_others():
    groups = np.array(["b", "a", "c", "a", "d"]).repeat(300)
    known, others = halves(len(groups), groups, np.random.default_rng(0))
    assert not set(groups[known]) & set(groups[others])
    assert len(others) == len(set(groups[others])) == 2
    known, others = halves(2001, None, np.random.default_rng(0))
    assert len(known) == 1001
    assert len(others) == MOST
    assert not set(known) & set(others)


def test_few_and_equal_values_accuse_nobody():
    ones = np.ones(400)
    for heldout, train in ((ones, ones), (0 * ones, 0 * ones), (np.inf * ones, np.inf * ones), (0 * ones[:5], ones)):
        assert not near_copies(heldout, train)
    assert near_copies(0 * ones, ones)
    assert SIGNIFICANT <= 0.001  # the level that the tests above state


@pytest.fixture
def quick(monkeypatch):
    """The search for copies, with little power measured."""
    monkeypatch.setattr("diffuscope.audit.copy_search.PLANTED", 20)
    return partial(copies, calibration=10_000, rate=0.05, seed=0)


def test_the_card_says_cannot_tell_and_honest_heldout_examples_still_give_an_all_clear(quick):
    train, heldout, others = digits(1)[:1650].split([800, 700, 150])
    samples = torch.cat([noisy(train[700:710], 3), others])
    finding = copies_finding(quick(samples, train, noisy(train[:700])), "pixels")
    assert finding.tone == "unknown"
    assert "Cannot tell: the held-out examples are near-copies of training examples" in finding.verdict
    assert finding.power.startswith("None")
    assert copies_finding(quick(samples, train, heldout), "pixels").tone == "alarm"
    assert copies_finding(quick(others, train, heldout), "pixels").tone == "good"


def test_an_audit_of_samples_says_cannot_tell_where_heldout_rows_are_near_copies(quick):
    """The generator copies, with as much noise as was added to the held-out rows."""
    del quick
    train, others = rows(600, 1).split([400, 200])
    data = DataSet(
        name="rows",
        train=train,
        heldout=noisy(train, 5),
        data_range=(float(train.min()), float(train.max())),
        provenance="made",
        train_index=torch.arange(400),
        heldout_index=torch.arange(400),
        kind="vectors",
    )
    result = audit_samples(torch.cat([noisy(train[:20], 9), others]), data, Settings())
    found = result.findings["memorized"]
    assert found[0].tone == "unknown"
    assert found[0].verdict.startswith("Cannot tell whether it memorized: the held-out examples are near-copies")
    assert not [finding for finding in found if finding.tone == "good"]
    assert result.verdict.word == "cannot-tell"
    assert result.as_json()["heldout_are_copies"] == {"pixels": True}

"""Data that repeat themselves nearly: fresh samples that do so are no copies, copies are found, leaks are left out."""

import inspect
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from audit_subjects import digits
from diffuscope.audit import copy_search, planting
from diffuscope.audit.copy_search import copies, copies_finding
from diffuscope.audit.exact_matches import near_matches
from diffuscope.audit.leaked import NEAR_CHANCE, _exact_repeats
from diffuscope.audit.memorization import Memorization, verdict
from diffuscope.audit.nearness import nearness
from diffuscope.audit.transformations import NAMES, transformations

DIMENSIONS, CLUSTERS, JITTER = 16, 10, 0.02
TRAIN, HELDOUT, SAMPLES, DRAWS, RATE = 500, 500, 300, 25, 0.05
MOST = int(stats.binom.isf(0.003, DRAWS, RATE))  # events of probability RATE; more than so many have one below 0.003
LEAKS, COPIED, SCANS = 50, 15, 2
searched = partial(copies, calibration=10_000, rate=RATE)


@pytest.fixture(autouse=True)
def _little_power_is_measured(monkeypatch):
    monkeypatch.setattr(copy_search, "PLANTED", 10)
    monkeypatch.setattr(planting, "DRAWS", 10)


def moved(x, seed):
    """A little."""
    return x + JITTER * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def drawn(seed, repeated, times=1, heldout=HELDOUT):
    """Training, held-out and sampled points of clusters; a share `repeated` is others, each of these `times`, moved."""
    generator, n = torch.Generator().manual_seed(seed), TRAIN + heldout + SAMPLES
    centers = 3 * torch.randn(CLUSTERS, DIMENSIONS, generator=generator)
    x = centers[torch.randint(CLUSTERS, (n,), generator=generator)] + torch.randn(n, DIMENSIONS, generator=generator)
    count = int(repeated * n) // times
    x[: times * count] = moved(x[n - count :].repeat(times, 1), seed + 1000)
    return x[torch.randperm(n, generator=generator)].split([TRAIN, heldout, SAMPLES])


@pytest.mark.parametrize(
    ("repeated", "times"),
    [pytest.param(0.1, 1, id="twice"), pytest.param(0.12, 4, id="five times", marks=pytest.mark.slow)],
)
def test_fresh_samples_of_data_that_repeat_themselves_are_listed_no_more_often_than_stated(repeated, times):
    """Held-out points are exchangeable with samples and, given half of the training points, with the other half.

    Without the rule the list is non-empty in 38 draws of 40 or more.
    """
    lists = accused = natural = suspected = 0
    for seed in range(DRAWS):
        train, heldout, samples = drawn(seed, repeated, times)
        found = searched(samples, train, heldout, seed=seed)
        lists, accused, natural = lists + found.listed.any(), accused + bool(found.leaked), natural + found.natural
        suspected += near_matches(found).p_value <= RATE
    assert NEAR_CHANCE <= RATE
    assert lists <= MOST
    assert accused <= MOST
    assert suspected <= MOST
    assert natural / DRAWS > 0.5 * repeated * HELDOUT


def test_one_copy_in_a_hundred_samples_of_data_that_repeat_themselves_is_found():
    """2,500 held-out points: 3 exact copies among 300 samples have p = 1 / 2501 < 0.05 * 3 / 300 if none is as near."""
    for seed in range(5):
        train, heldout, samples = drawn(seed, 0.1, heldout=2500)
        found = searched(torch.cat([train[:3], samples[3:]]), train, heldout, seed=seed)
        assert found.natural > 50
        assert np.flatnonzero(found.listed).tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_near_copies_beyond_natural_repeats_are_reported_although_none_is_listed(seed):
    """4% of the points repeat others, and 30 of 300 samples are training points, moved as much: too few to list."""
    train, heldout, samples = drawn(seed, 0.04)
    copying = torch.cat([moved(train[:30], seed), samples[30:]])
    found = searched(copying, train, heldout, seed=seed)
    assert not found.listed.any()
    assert near_matches(found).p_value < 0.01
    assert near_matches(searched(samples, train, heldout, seed=seed)).p_value > 0.01
    near = nearness(copying, train, heldout, 0.01, 0)
    said = verdict(Memorization(None, {"pixels": near}, {"pixels": found}), 0.01)
    assert found.near is not None
    a, b = found.near
    assert 30 <= a <= 60
    assert b == found.natural
    assert f"Near repeats of one: {a} of 300 samples, {b} of 500 held-out" in copies_finding(found, "values").verdict
    assert said.tone == "alarm"
    assert said.verdict.startswith(f"Copies training examples: {a} of 300 samples nearly repeat one, and {b} of 500 ")


def test_all_leaks_are_left_out_where_training_points_do_not_repeat_each_other():
    for seed in range(5):
        train, heldout, samples = drawn(seed, 0.0)
        leaking = torch.cat([moved(train[:LEAKS], seed), heldout[LEAKS:]])
        found = searched(torch.cat([moved(train[-COPIED:], -1 - seed), samples]), train, leaking, seed=seed)
        assert set(range(LEAKS)) <= set(found.leaked)
        assert len(found.leaked) <= LEAKS + 2
        assert found.listed[:COPIED].all()


def test_leaks_beyond_natural_repeats_are_left_out_and_fresh_samples_that_repeat_are_still_not_listed():
    """6% of the points repeat others, and every tenth held-out point is leaked: about 25 and 50.

    If all near repeats were left out, the list would be non-empty in 15 of these draws.
    """
    lists, left_out = 0, []
    for seed in range(DRAWS):
        train, heldout, samples = drawn(seed, 0.06)
        leaking = torch.cat([moved(train[:LEAKS], seed), heldout[LEAKS:]])
        found = searched(samples, train, leaking, seed=seed)
        lists += found.listed.any()
        left_out.append(len(found.leaked))
        assert found.natural > 0
    assert lists <= MOST
    assert np.mean(left_out) > LEAKS / 2  # of at most the leaked ones, with a standard error of 4


def test_natural_repeats_across_groups_stay_and_those_within_a_group_are_none_of_them():
    """Two scans of every patient, nearly alike; one patient in ten looks like another one."""
    lists = natural = 0
    for seed in range(DRAWS // 2):
        train, heldout, samples = drawn(seed, 0.1)
        scans = [moved(part.repeat_interleave(SCANS, 0), seed + 2000 + k) for k, part in enumerate((train, heldout))]
        patients = [np.arange(len(part)).repeat(SCANS) for part in (train, heldout)]
        found = searched(samples, *scans, seed=seed, train_groups=patients[0], heldout_groups=patients[1])
        assert found.calibration + len(found.leaked) == HELDOUT
        lists, natural = lists + found.listed.any(), natural + found.natural
    assert lists <= MOST
    assert natural > 25 * (DRAWS // 2)


def test_images_that_repeat_each_other_under_transformations_are_natural_and_the_finding_says_so():
    """Every fifth digit is there once more, mirrored and with a little noise; exact copies still stand out."""
    images, generator = digits(3)[:1500], torch.Generator().manual_seed(0)
    mixed = torch.cat([images, moved(images[::5].flip(3), 0)])[torch.randperm(1800, generator=generator)]
    train, heldout, samples = mixed.split([600, 900, 300])
    chosen = transformations(NAMES, (1, 8, 8))
    found = searched(torch.cat([train[:20], samples[20:]]), train, heldout, seed=0, chosen=chosen)
    assert found.natural > 60
    assert found.listed[:20].all()
    assert found.listed.sum() <= 22  # one false entry is expected at most
    stated = copies_finding(found, "pixels").null
    assert f"{found.natural} of which nearly repeat a training example" in stated
    assert "exact" in copies_finding(found, "pixels").power


@pytest.mark.parametrize(
    ("of_heldout", "of_training", "others", "repeats"),
    [(5, 1, 10_000, 3), (1, 50, 2, 30)],
    ids=["held-out", "training"],
)
def test_values_that_are_coarse_in_one_set_alone_explain_no_repeats(of_heldout, of_training, others, repeats):
    """By chance as many coincide as in the set with fewer pairs: with none seen, at most 4.6 at the level of 1%."""
    rows = torch.arange(100 // of_heldout).repeat(of_heldout)[:, None].float()
    distance = np.where(np.arange(100) < repeats, 0.0, 1.0)
    fresh = SimpleNamespace(distance=distance, rows=rows, times=np.full(others, of_training))
    exact = inspect.unwrap(_exact_repeats)(fresh)
    assert exact.sum() == repeats
    coarse = np.full(300, 50 if of_training == 1 else 1)  # now coarse in both, or in neither: as many held-out pairs
    both = SimpleNamespace(distance=distance, rows=rows, times=coarse)
    assert inspect.unwrap(_exact_repeats)(both).sum() == (0 if of_training == 1 else repeats)

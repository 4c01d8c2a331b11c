"""Samples without a model: a good set is not suspected, no faulty one is called sound, innocent repeats are no copies.

Faults are of the kind that the test names; the sets are small, so that a missing answer ('cannot tell') is allowed
where the fault itself is among the findings.
"""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from audit_subjects import digits
from diffuscope.audit import Settings, audit_samples
from diffuscope.audit.copy_queries import Search
from diffuscope.audit.leaked import find_leaked
from diffuscope.audit.questions import memorized
from diffuscope.data import DataSet, fit_table
from diffuscope.findings import conformal_p_values, false_discovery

TRAIN, HELDOUT, SAMPLES = 800, 800, 300


@pytest.fixture(autouse=True)
def _nothing_that_decides_nothing(monkeypatch):
    """The measures under other names take half of the time, and no verdict rests on them."""
    monkeypatch.setattr(memorized, "_measures", lambda *_: [])


def data_set(train, heldout, kind="vectors"):
    ends = float(min(train.min(), heldout.min())), float(max(train.max(), heldout.max()))
    index = torch.arange(len(train)), torch.arange(len(heldout))
    return DataSet("made", train, heldout, ends, "made", *index, kind=kind)


def modes(n, seed):
    """Eight clusters of deviation 0.1 on a circle of radius 1, and which of them each point is of."""
    generator = torch.Generator().manual_seed(seed)
    mode = torch.randint(8, (n,), generator=generator)
    angle = mode * torch.pi / 4
    center = torch.stack([angle.cos(), angle.sin()], 1)
    return center + 0.1 * torch.randn(n, 2, generator=generator), mode


def found(samples, data):
    """The verdict's word and the names of the findings that are faults."""
    result = audit_samples(samples, data, Settings())
    findings = [finding for answer in result.answers.values() for finding in answer.findings]
    return result.verdict.word, {finding.name for finding in findings if finding.tone in ("alarm", "attention")}


@pytest.fixture(scope="module")
def plane():
    return data_set(modes(TRAIN, 0)[0], modes(HELDOUT, 1)[0])


def test_fresh_samples_are_neither_broken_nor_copies(plane):
    word, faults = found(modes(SAMPLES, 2)[0], plane)
    assert word in ("sound", "cannot-tell")
    assert not faults


def test_a_missing_mode_is_found(plane):
    samples, mode = modes(2 * SAMPLES, 2)
    word, faults = found(samples[mode > 0][:SAMPLES], plane)
    assert word != "sound"
    assert faults & {"diversity.modes", "diversity.coverage"}


def test_samples_of_which_half_repeat_others_are_found(plane):
    samples = modes(SAMPLES // 2, 2)[0]
    word, faults = found(samples.repeat(2, 1), plane)
    assert word != "sound"
    assert "diversity.repeats" in faults


def test_a_gaussian_in_place_of_the_data_is_found(plane):
    samples = torch.randn(SAMPLES, 2, generator=torch.Generator().manual_seed(2)) * plane.train.std(0)
    word, faults = found(samples, plane)
    assert word in ("broken", "attention")
    assert faults & {"diversity.modes", "diversity.coverage"}


def test_blurred_images_are_found():
    train, heldout, samples = digits(0)[:1797].split([700, 700, 397])
    blurred = torch.from_numpy(gaussian_filter(samples.numpy(), (0, 0, 1, 1)))
    word, faults = found(blurred, data_set(train, heldout, "images"))
    assert word in ("broken", "attention")
    assert faults


def table_columns(n, seed):
    rng = np.random.default_rng(seed)
    income = np.exp(rng.normal(10, 0.8, n))
    return {"age": rng.integers(18, 90, n), "income": income, "city": rng.choice(["A", "B", "C"], n, p=[0.6, 0.3, 0.1])}


@pytest.mark.slow
def test_wrong_marginals_of_a_column_are_found():
    table = fit_table(table_columns(2_000, 0))
    train, heldout = table.encode(table_columns(2_000, 0)), table.encode(table_columns(2_000, 1))
    columns = table_columns(500, 2)
    columns["income"] *= 2
    word, faults = found(table.encode(columns), data_set(train, heldout, "vectors"))
    assert word != "sound"
    assert faults


def coarse_rows(n, seed):
    """Rows of four columns of ten unit vectors, of shares 2^-k: the last categories are rare."""
    p = 0.5 ** np.arange(10)
    codes = np.random.default_rng(seed).choice(10, (n, 4), p=p / p.sum())
    return torch.eye(10)[torch.from_numpy(codes)].flatten(1), codes.sum(1)


def test_innocent_repeats_are_told_from_copies_of_rare_rows():
    """Above half of the fresh rows equal a training row; the rarest training rows do so once in a million."""
    train, rarity = coarse_rows(2_000, 0)
    search = Search(train, lambda x: x, ())
    queries = search(coarse_rows(2_200, 1)[0])
    assert (queries.distance == 0).mean() > 0.5
    leaked, radius = find_leaked(queries)
    assert not leaked.any()
    fresh, rng = queries.statistic(radius), np.random.default_rng(0)
    copied = search(train[torch.from_numpy(np.argsort(-rarity)[:10].copy())]).statistic(radius)
    nonempty = found = 0
    for _ in range(200):
        samples, null = np.split(rng.permutation(fresh), [200])
        nonempty += false_discovery(conformal_p_values(samples, null), 0.05).any()
        samples[:10] = copied
        found += false_discovery(conformal_p_values(samples, null), 0.05)[:10].any()
    # at most 5% in expectation, and three standard errors
    assert nonempty <= 200 * (0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5)
    assert found >= 180

"""Missing clusters and samples that repeat each other: exact cases, the level, and the stated power."""

import numpy as np
import pytest
import torch
from scipy import stats

from diffuscope.audit.modes import SelfRepeats, modes, modes_finding, repeats_finding, self_repeats

CENTERS = torch.tensor([[0.0, 0], [9, 0], [0, 9], [9, 9], [4.5, 20]])


def blobs(n, generator, shares=(1, 1, 1, 1, 1)):
    labels = torch.multinomial(torch.tensor(shares).double(), n, True, generator=generator)
    return CENTERS[labels] + 0.3 * torch.randn(n, 2, generator=generator)


def test_a_missing_cluster_is_named_and_a_whole_set_is_not(generator):
    rng = np.random.default_rng(0)
    train, heldout = blobs(2000, generator), blobs(1000, generator)
    found = modes(blobs(500, generator, (1, 1, 1, 1, 0)), train, heldout, 0.01, rng)
    finding = modes_finding(found, 0.01)
    assert finding.tone == "attention"
    assert "have no sample at all" in finding.verdict
    lacking = heldout[torch.from_numpy(np.isin(found.of_heldout, found.balance.missing))]
    assert (lacking - CENTERS[4]).norm(dim=1).max() < 3  # the missing blob and nothing else
    assert set(found.shortest[: len(found.balance.missing)]) == set(found.balance.missing)
    whole = modes_finding(modes(blobs(500, generator), train, heldout, 0.01, rng), 0.01)
    assert (whole.tone, whole.p_value is not None and whole.p_value > 0.01) == ("good", True)


def test_there_are_as_many_clusters_as_an_average_one_can_be_missed(generator):
    rng = np.random.default_rng(1)
    many = modes(blobs(1000, generator), blobs(2000, generator), blobs(1000, generator), 0.01, rng)
    assert len(many.balance.classes) == 20
    few = modes(blobs(60, generator), blobs(100, generator), blobs(60, generator), 0.01, rng)
    assert len(few.balance.classes) < 20
    least = few.balance.detectable(0.01)
    assert np.isfinite(least) or len(few.balance.classes) == 3


def test_repeats_are_counted_exactly():
    """1,000 points of a lattice, at distance 1 from each other; 100 samples lie on ten places of it."""
    lattice = torch.cartesian_prod(*[torch.arange(10.0)] * 3)
    shifted = [lattice + torch.tensor([0.0, 0, k]) for k in (20, 40)]
    samples = torch.cat([lattice[:900], lattice[:10].repeat(10, 1)])
    found = self_repeats(samples, shifted[0], shifted[1], np.random.default_rng(0))
    assert (found.size, found.radius) == (1000, 1.0)
    assert found.samples == found.training == 1000  # all are at distance 1 or 0: the radius says nothing here
    jittered = [
        x + 0.2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(k)) for k, x in enumerate(shifted)
    ]
    kept = torch.cat([lattice[:900] * 3, lattice[:10].repeat(10, 1) * 3])
    found = self_repeats(kept, *jittered, np.random.default_rng(0))
    assert found.samples == 110  # ten places, each with its first point and ten more
    assert found.training == pytest.approx(50, abs=35)  # 5 %, in pairs


def test_the_p_value_is_the_binomial_one_of_pairs_and_the_power_its_inverse():
    found = SelfRepeats(samples=40, training=20, size=400, radius=1.0)
    assert found.p_value == pytest.approx(stats.binom.sf(19, 30, 0.5), rel=1e-12)
    least = found.least_found
    p_values = [SelfRepeats(samples=n, training=20, size=400, radius=1.0).p_value for n in (least - 2, least)]
    assert p_values[0] >= 0.01 > p_values[1]


def test_the_level_of_the_repeats_and_a_collapse(generator):
    rng = np.random.default_rng(3)
    p_values = []
    for _ in range(300):
        sets = [torch.randn(150, 3, generator=generator) for _ in range(3)]
        p_values.append(self_repeats(*sets, rng).p_value)
    for level in (0.05, 0.2):
        standard_error = (level * (1 - level) / len(p_values)) ** 0.5
        assert np.mean(np.array(p_values) <= level) <= level + 3 * standard_error
    samples, train, heldout = (torch.randn(400, 3, generator=generator) for _ in range(3))
    collapsed = torch.cat([samples[:200], samples[:200] + 1e-3])
    finding = repeats_finding(self_repeats(collapsed, train, heldout, rng), 0.01)
    assert (finding.tone, finding.value) == ("attention", 100.0)
    assert repeats_finding(self_repeats(samples, train, heldout, rng), 0.01).tone == "good"

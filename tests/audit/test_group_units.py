"""Groups as units: valid p-values where the scans of a patient are nearly the same, and copied patients by name."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from diffuscope.audit import Settings, audit_samples
from diffuscope.audit.copy_search import copies, copies_finding
from diffuscope.audit.nearness import nearness
from diffuscope.data import DataSet
from diffuscope.findings import label_permutation

SCANS, DIMENSION = 8, 5
QUICK = Settings(generated=50, transformations=("none",))


def patients(count, generator):
    """(count * 8, 5): the nearly identical scans of patients, those of one beside each other."""
    centers = torch.randn(count, DIMENSION, generator=generator).repeat_interleave(SCANS, 0)
    return centers + 0.01 * torch.randn(centers.shape, generator=generator)


def scans(train, heldout, generator):
    """A data set of patients."""
    parts = patients(train, generator), patients(heldout, generator)
    groups = torch.arange(train + heldout).repeat_interleave(SCANS).split([train * SCANS, heldout * SCANS])
    return DataSet(
        name="scans",
        train=parts[0],
        heldout=parts[1],
        data_range=(-6.0, 6.0),
        provenance="made",
        train_index=torch.arange(len(parts[0])),
        heldout_index=torch.arange(len(parts[1])),
        kind="vectors",
        train_groups=groups[0],
        heldout_groups=groups[1],
        group_names=tuple(f"patient {k}" for k in range(train + heldout)),
    )


@pytest.fixture(scope="module")
def searches():
    """The search for copies among 20 samples of a perfect generator, with and without groups, 60 times."""
    found = {True: [], False: []}
    generator = torch.Generator().manual_seed(0)
    groups = np.arange(50).repeat(SCANS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffuscope.audit.copy_search.PLANTED", 2)  # power is not looked at
        patch.setattr("diffuscope.audit.copy_search.smallest_share_found", lambda *_: 1.0)
        for seed in range(60):
            train, heldout = patients(60, generator), patients(50, generator)
            samples = patients(20, generator)[::SCANS]
            searched = partial(copies, samples, train, heldout, calibration=10_000, rate=0.05, seed=seed)
            for grouped, listed in found.items():
                listed.append(searched(heldout_groups=groups if grouped else None))
    return found


def test_with_groups_a_list_of_a_perfect_generator_is_seldom_not_empty_and_without_it_is_often(searches):
    alarms = {grouped: np.mean([found.listed.any() for found in listed]) for grouped, listed in searches.items()}
    # at most 5% in expectation, and three standard errors of 60 draws
    assert alarms[True] <= 0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5
    # one of 20 samples is below all of 50 patients with probability 20 / 70, and then below all of 400 scans
    assert alarms[False] >= 20 / 70 - 3 * (20 * 50 / 70**2 / 60) ** 0.5


def test_with_groups_p_values_of_a_perfect_generator_are_uniform(searches):
    rng = np.random.default_rng(0)
    p_values = np.array([found.p_values[0] for found in searches[True]])
    m = np.array([found.calibration for found in searches[True]])
    steps = (np.round(p_values * (m + 1)) - rng.random(len(m))) / (m + 1)  # of the discrete uniform distribution
    assert stats.kstest(steps, "uniform").pvalue > 0.01
    # the least p-value, 1 / (m + 1) by right, is that of 1 sample in 51 of either search
    for grouped, right in ((True, 1 / 51), (False, 1 / 401)):
        least = [(found.p_values < 1.5 / (found.calibration + 1)).mean() for found in searches[grouped]]
        error = 3 * np.std(least) / 60**0.5
        assert (np.mean(least) <= right + error) == grouped


def test_one_heldout_example_of_each_group_calibrates(searches):
    for found in searches[True]:
        assert len(np.unique(found.heldout // SCANS)) == found.calibration <= 50
        assert "held-out examples, one of each group, treated as samples" in str(copies_finding(found, "pixels").null)


def test_nearness_p_values_are_uniform_with_one_scan_of_each_patient_and_not_with_all(monkeypatch):
    monkeypatch.setattr("diffuscope.audit.nearness.label_permutation", partial(label_permutation, permutations=199))
    generator = torch.Generator().manual_seed(1)
    units, examples = [], []
    for seed in range(60):
        train, heldout = (patients(30, generator) for _ in range(2))
        samples = torch.randn(1000, DIMENSION, generator=generator)
        units.append(nearness(samples, train[::SCANS], heldout[::SCANS], 0.01, seed, copied=train).p_value)
        examples.append(nearness(samples, train, heldout, 0.01, seed).p_value)
    assert stats.kstest(units, "uniform").pvalue > 0.01
    assert np.mean(np.array(examples) < 0.05) > 0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5


@pytest.fixture(scope="module")
def copying():
    """Samples of which 8 copy scans of two patients, and the audit of them."""
    generator = torch.Generator().manual_seed(2)
    data = scans(120, 120, generator)
    samples = patients(60, generator)[::SCANS]
    samples[:5], samples[5:8] = data.train[3 * SCANS : 3 * SCANS + 5], data.train[77 * SCANS : 77 * SCANS + 3]
    return samples, data


def test_the_copied_patients_are_counted_and_named(copying, tmp_path):
    samples, data = copying
    answer = audit_samples(samples, data, QUICK, out=tmp_path)["memorized"]
    found = {finding.name: finding for finding in answer.findings}["memorized.groups"]
    assert found.value == 100 * 2 / 120
    assert found.tone == "alarm"
    # Clopper & Pearson's interval for 2 of 120
    assert found.interval == pytest.approx(
        (100 * stats.beta.ppf(0.025, 2, 119), 100 * stats.beta.ppf(0.975, 3, 118)), rel=1e-6
    )
    assert answer.facts["copied_groups"] == {
        "pixels": [
            {"group": "patient 3", "samples": [0, 1, 2, 3, 4]},
            {"group": "patient 77", "samples": [5, 6, 7]},
        ]
    }
    table = next(block for block in answer.blocks if getattr(block, "title", "").startswith("Reproduced"))
    assert [row[0] for row in table.rows] == ["patient 3", "patient 77"]


def test_without_examples_no_patient_is_named(copying):
    samples, data = copying
    result = audit_samples(samples, data, replace(QUICK, examples=False))
    assert "patient 3" not in str(result["memorized"].facts)
    assert "patient 3" not in str([getattr(block, "rows", "") for block in result["memorized"].blocks])


def test_a_perfect_generator_of_patients_is_as_good_and_diverse_as_the_data():
    """With scans as units, half of the held-out data would be far nearer to the other half than any sample is."""
    generator = torch.Generator().manual_seed(3)
    data = scans(300, 300, generator)
    samples = patients(300, generator)[::SCANS]
    result = audit_samples(samples, data, QUICK)
    assert result["diversity"].findings[0].tone == "good"
    assert result["memorized"].findings[0].tone == "good"
    assert all(finding.tone != "alarm" for finding in result["quality"].findings)
    assert result["quality"].result.judged[0].samples.size <= 150

"""Groups as units: valid p-values where the scans of a patient are nearly the same, and copied patients by name."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from made_by_hand import other_tools_are_quick  # noqa: F401
from scipy import stats

from audit_subjects import asked
from diffuscope.audit import Settings, audit_samples
from diffuscope.audit.copy_search import copies, copies_finding
from diffuscope.audit.nearness import nearness
from diffuscope.data import DataSet
from diffuscope.errors import InputError
from diffuscope.findings import label_permutation
from diffuscope.report import Table

SCANS, DIMENSION = 8, 5
QUICK = Settings(generated=50, transformations=("none",))


def patients(count, generator, dimension=DIMENSION, spread=0.01):
    """(count * 8, dimension): the nearly identical scans of patients, those of one beside each other."""
    centers = torch.randn(count, dimension, generator=generator).repeat_interleave(SCANS, 0)
    return centers + spread * torch.randn(centers.shape, generator=generator)


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
    """Of 12 patients on either side every one has many samples near one of its scans."""
    monkeypatch.setattr("diffuscope.audit.nearness.label_permutation", partial(label_permutation, permutations=199))
    monkeypatch.setattr("diffuscope.audit.nearness.PLANTED", 2)  # power is not looked at
    generator = torch.Generator().manual_seed(1)
    units, examples = [], []
    for seed in range(50):
        train, heldout = (patients(12, generator, dimension=10, spread=0.1) for _ in range(2))
        samples = torch.randn(1000, 10, generator=generator)
        units.append(nearness(samples, train[::SCANS], heldout[::SCANS], 0.01, seed, copied=train).p_value)
        examples.append(nearness(samples, train, heldout, 0.01, seed).p_value)
    assert stats.kstest(units, "uniform").pvalue > 0.01
    outer = np.abs(np.array(examples) - 0.5) > 0.4  # 20% of uniform p-values
    assert outer.mean() > 0.2 + 3 * (0.2 * 0.8 / 50) ** 0.5


@pytest.fixture(scope="module")
def copying():
    """Samples of which 8 copy scans of two patients, and the audit of them."""
    generator = torch.Generator().manual_seed(2)
    data = scans(120, 120, generator)
    samples = patients(40, generator)[::SCANS]
    samples[:5], samples[5:8] = data.train[3 * SCANS : 3 * SCANS + 5], data.train[77 * SCANS : 77 * SCANS + 3]
    return samples, data


def test_the_copied_patients_are_counted_and_named(copying, tmp_path):
    samples, data = copying
    with asked("memorized"):
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
    table = next(block for block in answer.blocks if isinstance(block, Table) and block.title.startswith("Reproduced"))
    assert [row[0] for row in table.rows] == ["patient 3", "patient 77"]


def test_without_examples_no_patient_is_named(copying):
    samples, data = copying
    with asked("memorized"):
        result = audit_samples(samples, data, replace(QUICK, examples=False))
    assert "patient 3" not in str(result["memorized"].facts)
    assert "patient 3" not in str([getattr(block, "rows", "") for block in result["memorized"].blocks])


def test_quality_and_diversity_compare_with_one_scan_of_each_patient():
    """With all scans as units, the halves of the held-out data would be nearer to each other than any sample is."""
    generator = torch.Generator().manual_seed(3)
    data = scans(100, 100, generator)
    samples = patients(50, generator)[::SCANS]
    with asked("quality", "diversity"):
        result = audit_samples(samples, data, QUICK)
    assert result["diversity"].result.coverage.heldout == 100
    assert result["quality"].result.judged[0].samples.size == 50
    assert {finding.tone for name in ("quality", "diversity") for finding in result[name].findings} <= {
        "good",
        "unknown",
    }


def test_too_few_heldout_groups_give_no_verdict_and_the_reason():
    generator = torch.Generator().manual_seed(4)
    data = scans(100, 15, generator)
    result = audit_samples(patients(50, generator)[::SCANS], data, QUICK)
    memorized, quality = result["memorized"].findings[0], result["quality"].findings[0]
    assert memorized.tone == quality.tone == "unknown"
    assert "15 held-out groups do not tell 50 samples from copies" in memorized.verdict
    assert "expected at least 20 training and 20 held-out groups, got 100 and 15" in quality.verdict


def test_groups_of_one_part_are_refused():
    data = scans(30, 30, torch.Generator().manual_seed(5))
    with pytest.raises(InputError, match=r"^train_groups: expected groups of both parts, got heldout_groups alone$"):
        audit_samples(data.train[:30], replace(data, train_groups=None), QUICK)

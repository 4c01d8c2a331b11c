"""Metrics of samples in batches: the numbers of the audit of all of them, however they came."""

import math
from dataclasses import replace

import pytest
import torch
from made_by_hand import other_tools_are_quick, plane  # noqa: F401

from diffuscope import SampleMetrics
from diffuscope.audit import Settings, audit_samples
from diffuscope.audit.sample_metrics import NAMES
from diffuscope.data import DataSet, data_from_arrays
from diffuscope.errors import InputError


@pytest.fixture(scope="module")
def data() -> DataSet:
    return data_from_arrays(plane(150, 0).numpy(), plane(150, 1).numpy())


def same(one: dict[str, float], other: dict[str, float]) -> bool:
    return one.keys() == other.keys() and all(one[k] == other[k] or math.isnan(one[k]) for k in one)


def test_the_values_are_those_of_the_audit_of_all_samples(data):
    """A copied fifth among them; in three batches, and from two processes merged in order."""
    samples, settings = torch.cat([data.train[:20], plane(80, 2)]), Settings(seed=5)
    whole, first, second = (SampleMetrics(data, settings) for _ in range(3))
    for batch in samples.split(40):
        whole.update(batch)
    values = whole.compute()
    findings = [f for found in audit_samples(samples, data, settings).findings.values() for f in found]
    assert {*NAMES} <= {finding.name for finding in findings}
    for finding in findings:
        assert values[finding.name] == finding.value or math.isnan(finding.value)
        assert values.get(f"{finding.name}.p_value") == finding.p_value
    assert values["memorized.copies"] >= 15
    first.update(samples[:70].double())  # any precision
    second.update(samples[70:])
    first.merge_state([second])
    assert torch.equal(first.samples, samples)
    assert same(first.compute(), values)


def test_a_reset_forgets_and_an_update_keeps_no_reference(data):
    metrics = SampleMetrics(data)
    batch = plane(30, 3)
    metrics.update(batch)
    batch.zero_()
    assert float(metrics.samples.abs().sum()) > 0
    metrics.reset()
    assert metrics.count == len(metrics.samples) == 0
    with pytest.raises(InputError, match="samples: expected at least 20 examples, got 0"):
        metrics.compute()


def test_samples_that_are_none_of_these_data_have_no_values(data):
    metrics = SampleMetrics(data)
    metrics.update(1000 * plane(50, 4))
    values = metrics.compute()
    assert all(math.isnan(values[name]) for name in NAMES)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (torch.zeros(3, 4), r"samples: expected examples of shape \(2,\), got \(4,\)"),
        (torch.zeros(3, 2, dtype=torch.int64), "samples: expected floating-point numbers"),
        (torch.full((3, 2), math.nan), "samples: expected finite values, got NaN or infinity"),
    ],
    ids=["shape", "integers", "nan"],
)
def test_a_batch_that_cannot_be_is_refused_before_it_is_kept(data, samples, message):
    metrics = SampleMetrics(data)
    with pytest.raises(InputError, match=message):
        metrics.update(samples)
    assert metrics.count == 0


def test_metrics_of_other_data_are_not_merged(data):
    metrics, equal, other = (SampleMetrics(d) for d in (data, replace(data), data.in_range(0, 1)))
    equal.update(plane(5, 6))
    metrics.merge_state(equal)
    assert metrics.count == 5
    with pytest.raises(InputError, match="others: expected metrics of the same training and held-out examples"):
        metrics.merge_state([equal, other])
    assert metrics.count == 5

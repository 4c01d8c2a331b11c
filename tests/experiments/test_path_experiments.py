"""Experiments on most likely paths: their claims hold, and they fail where the computation is spoiled."""

import math

import numpy as np
import pytest
import torch
from answering import failures

from diffuscope.experiments import drift_diffusion, find, ornstein_uhlenbeck
from diffuscope.theory.paths import Dynamics

OU, DECISION = ornstein_uhlenbeck.EXPERIMENT, drift_diffusion.EXPERIMENT


@pytest.mark.parametrize("name", ["ornstein-uhlenbeck", pytest.param("drift-diffusion", marks=pytest.mark.slow)])
def test_every_claim_holds(name):
    outcome = find(name).run(seed=1)
    assert [(claim.name, claim.measured, claim.requirement) for claim in outcome.failures] == []


def test_an_attraction_off_by_a_thousandth_is_caught(monkeypatch):
    monkeypatch.setattr(ornstein_uhlenbeck, "PROCESS", Dynamics(lambda x: -1.001 * x, 1.0))
    monkeypatch.setattr(ornstein_uhlenbeck, "DURATIONS", (1.0, 10.0))
    assert {"E-1", "L-1", "S-1"} <= failures(OU, "closed-forms")


def test_a_drift_without_rotation_symmetry_is_no_invariant(monkeypatch):
    stretched = Dynamics(lambda x: -x * torch.tensor([1.0, 1.1], dtype=torch.float64), 1.0)
    monkeypatch.setattr(ornstein_uhlenbeck, "PROCESS", stretched)
    assert "invariants" in failures(OU, "conservation")


def test_another_drift_has_another_momentum(monkeypatch):
    monkeypatch.setattr(drift_diffusion, "DRIFT", 0.11)
    assert failures(DECISION, "most-likely") == {"momentum"}


def test_the_series_just_after_the_start_is_at_the_start_and_just_before_the_passage_at_the_bound():
    early, late = drift_diffusion.exact_mean(np.array([0.01, 0.999]), 1.0)
    assert early == pytest.approx(drift_diffusion.START, abs=0.02)
    assert late == pytest.approx(-1 + math.sqrt(8 * 0.001 / math.pi), abs=2e-3)  # E of a Bessel(3) at h - t


def test_monitoring_in_steps_pulls_late_passages_toward_the_bound():
    """Monitoring every 0.025 moves the bounds outward by 0.58 sigma sqrt(dt): fewer runs are absorbed early."""
    rng = np.random.default_rng(0)
    noise, uniform = rng.standard_normal((40, 50_000)), rng.random((40, 50_000))
    seen, exact = drift_diffusion.simulate(noise), drift_diffusion.simulate(noise, uniform)
    assert (seen.states[:, -1] <= -1).all()
    assert seen.mean[36] < exact.mean[36] - 4 * exact.standard_error[36]

"""Experiments on most likely paths: their claims hold, and they fail where the computation is spoiled."""

import math

import numpy as np
import pytest
import torch
from answering import failures

from diffuscope.experiments import (
    drift_diffusion,
    find,
    maier_stein,
    ornstein_uhlenbeck,
    ring_diffusion,
    two_unit_network,
)
from diffuscope.theory.paths import Dynamics

OU, DECISION = ornstein_uhlenbeck.EXPERIMENT, drift_diffusion.EXPERIMENT


SLOW = ("drift-diffusion", "maier-stein", "two-unit-network", "ring-diffusion")


@pytest.mark.parametrize("name", ["ornstein-uhlenbeck", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
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


def test_below_beta_four_nobody_leaves_the_axis(monkeypatch):
    """With another term of the drift the barrier is another."""
    straight_out = maier_stein.way_out(2.0)
    assert float(straight_out.curve[:, 1].abs().max()) < 1e-8
    exact = maier_stein.dynamics
    monkeypatch.setattr(maier_stein, "dynamics", lambda beta: exact(1.1 * beta))
    assert abs(maier_stein.way_out(5.0).extrapolated - 0.483) > 5e-3


def test_each_quadrant_of_the_network_has_an_attractor_and_its_drift_vanishes_there():
    ends, shares = two_unit_network.attractors(8)
    assert len(ends) == 4
    assert float(shares.sum()) == pytest.approx(1.0)
    f = two_unit_network.network().drift_at(two_unit_network.ATTRACTORS, torch.zeros(4, dtype=torch.float64))
    assert float(f.abs().max()) < 1e-9  # the layers are 25 widths away


def test_a_switch_with_soft_layers_costs_less():
    wide = two_unit_network.curve(0.3, 1e-3, None)
    narrow = two_unit_network.curve(0.2, 1e-3, wide.found.curve)
    assert 0 < wide.action < narrow.action < 2.17


def test_the_code_s_density_in_polar_coordinates_is_that_of_the_plane():
    g = torch.Generator().manual_seed(0)
    r, angle, t = (
        1 + 5 * torch.rand(20, dtype=torch.float64, generator=g),
        torch.linspace(0, 6, 20).double(),
        torch.linspace(0.4, 9, 20).double(),
    )
    v = torch.randn(20, 2, dtype=torch.float64, generator=g)
    outward, around = torch.stack([angle.cos(), angle.sin()], 1), torch.stack([-angle.sin(), angle.cos()], 1)
    flat = v[:, :1] * outward + (r * v[:, 1])[:, None] * around
    in_polar = ring_diffusion.polar(torch.stack([r, angle], 1), v, t)
    torch.testing.assert_close(
        in_polar, ring_diffusion.cartesian(r[:, None] * outward, flat, t), rtol=1e-12, atol=1e-12
    )


def test_without_its_offset_the_code_s_density_is_the_formula(monkeypatch):
    monkeypatch.setattr(ring_diffusion, "OFFSET", 0.0)
    y, v = torch.tensor([[4.0, 0.3], [9.0, 2.0]]).double(), torch.tensor([[1.0, -0.2], [0.5, 0.7]]).double()
    t = torch.tensor([0.4, 30.0]).double()
    torch.testing.assert_close(ring_diffusion.coded(y, v, t), ring_diffusion.polar(y, v, t), rtol=1e-12, atol=0)


def test_another_offset_is_caught(monkeypatch):
    monkeypatch.setattr(ring_diffusion, "OFFSET", 1.1e-3)
    assert failures(ring_diffusion.EXPERIMENT, "through") == {"coded"}


def test_the_left_rule_conserves_angular_momentum_however_coarse():
    p = ring_diffusion.angular_momentum(ring_diffusion.published(0.0)[0])
    assert float((p - p.mean()).abs().max()) < 1e-8 * float(p.mean())


def test_a_narrower_ring_is_caught(monkeypatch):
    monkeypatch.setattr(ring_diffusion, "RING", ring_diffusion.Ring(5.0, 0.4))
    assert "momenta" in failures(ring_diffusion.EXPERIMENT, "through")

"""The reverse diffusion as a bridge: noised data have their own derivatives, and spoiled scores are caught."""

import math

import pytest
import torch
from answering import failures

from diffuscope.experiments import reverse_diffusion_is_a_bridge as bridge
from diffuscope.experiments.noised_data import Mixture, Noised, Ring
from diffuscope.theory.paths.lagrangian import divergence

MODES = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]], dtype=torch.float64)
MIXTURE = Mixture(MODES, torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))


@pytest.mark.slow
def test_every_claim_holds():
    outcome = bridge.EXPERIMENT.run(seed=1)
    assert [(claim.name, claim.measured, claim.requirement) for claim in outcome.failures] == []


@pytest.mark.parametrize("data", [Ring(2.0, 0.4), MIXTURE, Mixture(MODES, torch.zeros(3, dtype=torch.float64))])
def test_the_score_is_the_gradient_and_log_p_is_normalized(data: Noised):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2, dtype=torch.float64, generator=g).requires_grad_()
    t = 0.3 + torch.rand(40, dtype=torch.float64, generator=g)
    (gradient,) = torch.autograd.grad(data.log_prob(x, t).sum(), x)
    torch.testing.assert_close(data.score(x, t).detach(), gradient, rtol=1e-10, atol=1e-12)
    axis = torch.linspace(-8, 8, 401, dtype=torch.float64)
    plane = torch.cartesian_prod(axis, axis)
    mass = data.log_prob(plane, torch.full((len(plane),), 0.5, dtype=torch.float64)).exp().sum() * (16 / 400) ** 2
    assert float(mass) == pytest.approx(1.0, abs=1e-9)


def test_the_divergence_in_closed_form_is_that_of_the_score():
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    t = torch.linspace(0.2, 2.0, 20, dtype=torch.float64)
    exact = divergence(MIXTURE.score(x, t), x)
    torch.testing.assert_close(MIXTURE.divergence(x, t), exact, rtol=1e-11, atol=1e-11)


def test_a_score_off_by_a_thousandth_has_no_bridge(monkeypatch):
    exact = Ring.score
    monkeypatch.setattr(Ring, "score", lambda self, x, t: 1.001 * exact(self, x, t))
    case = bridge.ring_case()
    points = bridge.random_points(case, torch.Generator().manual_seed(0))
    assert bridge.identity_error(case, *points) > 1e-6
    path, action = bridge.most_likely(case, "OM")
    assert case.off_bridge(path) > 5e-4
    assert not math.isclose(action, case.action, rel_tol=1e-4)


def test_a_mixture_follows_its_bridge_with_the_divergence_only():
    case = bridge.mixture_case()
    assert case.off_bridge(bridge.most_likely(case, "OM")[0]) < 5e-4
    assert case.off_bridge(bridge.most_likely(case, "FW")[0]) > 0.1


def test_without_a_gauge_translations_are_no_symmetry(monkeypatch):
    monkeypatch.setattr(
        bridge, "gauged_translation", lambda case: bridge.translation([1.0] + [0.0] * (len(case.start) - 1))
    )
    monkeypatch.setattr(bridge, "cases", lambda part: {"ring": bridge.ring_case()})  # noqa: ARG005
    assert failures(bridge.EXPERIMENT, "free-motion") == {"gauge"}

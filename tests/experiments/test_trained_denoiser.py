"""The most likely path of a learned score: its equation of motion, and faults that the claims catch."""

import math

import pytest
import torch
from answering import failures
from swirling_score import swirling

from diffuscope.experiments import find
from diffuscope.experiments import trained_denoiser as experiment
from diffuscope.experiments.noised_data import Ring
from diffuscope.experiments.trained_denoiser import RING, Learned, bent, case, momentum


def test_the_score_is_learned_from_draws_of_the_ring_that_the_other_experiments_know(monkeypatch):
    """Its radius has the mean 5 and the square 25 + 2 * 0.55^2: within 4.5 standard errors of 20,000 examples."""
    assert Ring() == RING
    for other in ("ring-diffusion", "reverse-diffusion-is-a-bridge"):
        assert f"radius {RING.radius:g}, width {RING.width}" in str(find(other).settings["ring"])
    seen = []

    def kept(untrained, data, settings):  # noqa: ARG001
        seen.append(data)
        return untrained

    monkeypatch.setattr(experiment, "fit", kept)
    experiment.trained.__wrapped__(1, 0)
    squares = seen[0].double().square().sum(1)
    assert len(squares) == 20_000
    error = float(squares.std()) / math.sqrt(len(squares))
    assert float(squares.mean()) == pytest.approx(25 + 2 * 0.55**2, abs=4.5 * error)
    assert float(squares.std()) == pytest.approx(math.sqrt(4 * 25 * 0.55**2 + 4 * 0.55**4), rel=0.03)  # 4.5 errors


def test_the_gauge_of_the_momentum_is_minus_the_score_without_its_graph():
    known = case()
    x, u = known.bridge[3:6], known.times[3:6]
    gauge = momentum(Learned(known, swirling), 1).gauge
    assert gauge is not None
    found = gauge(x, u)
    assert not found.requires_grad
    assert torch.equal(found, -swirling(x, known.level(u)).detach()[:, 1])


@pytest.mark.slow
def test_every_claim_holds():
    outcome = experiment.EXPERIMENT.run(seed=1)
    assert [(claim.name, claim.measured, claim.requirement) for claim in outcome.failures] == []


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "trained", lambda steps, seed: swirling)  # noqa: ARG005


@pytest.mark.usefixtures("untrained")
def test_the_claims_hold_for_any_score():
    for part in ("force", "deviation"):
        assert failures(experiment.EXPERIMENT, part) == set()


@pytest.mark.usefixtures("untrained")
def test_a_force_without_its_curl_is_noticed(monkeypatch):
    whole = Learned.force
    monkeypatch.setattr(Learned, "force", lambda self, x, v, u: whole(self, x, 0 * v, u))
    assert "motion" in failures(experiment.EXPERIMENT, "force")


def test_of_an_exact_score_another_noise_level_bends_the_path():
    known = case(40)
    exact, late = (Learned(known, lambda x, t, c=c: RING.score(x, c * t)) for c in (1.0, 1.1))
    x, v = known.bridge, torch.ones(41, 2, dtype=torch.float64)
    assert float(exact.force(x, v, known.times).detach().abs().max()) < 1e-12
    assert float(late.force(x, v, known.times).detach().abs().max()) > 3e-4


def test_a_path_under_a_constant_force_is_a_parabola():
    known = case(60)
    u, end = known.times, known.times[-1]
    y = bent(known, torch.full((61, 2), 0.5, dtype=torch.float64))
    exact = u * (u - end) / 2  # y'' = 1
    torch.testing.assert_close(y, exact[:, None].expand(61, 2), rtol=1e-10, atol=1e-10)

"""The samplers' experiment: every claim holds, and fails where the computation is spoiled."""

import torch

import diffuscope.experiments.samplers_compared as compared
from diffuscope.denoisers import score_to_denoised
from diffuscope.experiments import find
from diffuscope.samplers import Euler

FEWER = 10_000  # particles; the claims state their standard errors


def failures(answer):
    return {claim.name for claim in answer.claims if not claim.holds}


def test_every_claim_holds(monkeypatch):
    monkeypatch.setattr(compared, "PARTICLES", FEWER)
    outcome = find("samplers").run(seed=0)
    assert [(claim.name, claim.measured, claim.requirement) for claim in outcome.failures] == []


def test_the_claims_about_the_modes_fail_with_the_clean_score(monkeypatch, generator):
    monkeypatch.setattr(compared, "PARTICLES", FEWER)
    monkeypatch.setattr(compared, "DENOISER", compared.CleanScore())
    assert failures(compared.modes(generator)) == {"mode-euler", "mode-heun"}


def test_the_claims_about_the_fault_fail_with_the_right_score(monkeypatch, generator):
    monkeypatch.setattr(compared, "PARTICLES", FEWER)
    monkeypatch.setattr(compared, "CleanScore", lambda: compared.DENOISER)
    assert {"collapse-x", "too-narrow", "with-noise", "noise-variance"} <= failures(compared.what_goes_wrong(generator))


def test_a_one_step_method_in_disguise_fails_its_order_and_the_comparison(monkeypatch, generator):
    monkeypatch.setattr(compared, "Heun", Euler)
    assert "heun-order" in failures(compared.equal_cost(generator))
    monkeypatch.setattr(compared, "UniPC", lambda **_: Euler())
    monkeypatch.setattr(compared, "DPMSolverPP3M", Euler)
    monkeypatch.setattr(compared, "NoiseAdamsBashforth", lambda _: Euler())
    assert "multistep" in failures(compared.equal_cost(generator))


def test_the_expected_side_of_a_point_recovers_the_mode():
    # E[x tanh(m.x / v)] = m under 1/2 N(+-m, v I): posterior mean of the side times x
    x = compared.DATA.sample(200_000, generator=torch.Generator().manual_seed(2))
    mean, error = compared.right_mode(x)
    assert bool(((mean - compared.MODE).abs() <= 4 * error).all())


def test_the_fault_is_the_score_of_the_data_at_every_time():
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(-1, 1).expand(-1, 2)
    fault = compared.CleanScore()
    expected = score_to_denoised(x, compared.DATA.score(x, 1.0, 1e-9), compared.SCHEDULE, 0.3)
    torch.testing.assert_close(fault(x, 0.3), expected, rtol=0, atol=0)

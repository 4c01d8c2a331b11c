"""The experiment on samplers: every claim holds, and fails where the computation is spoiled."""

import math

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.denoisers import score_to_denoised
from diffuscope.experiments import samplers
from diffuscope.experiments.samplers import CleanScore, ends, relative_entropies, right_mode
from diffuscope.samplers import Euler, EulerMaruyama, Heun

HERE = "diffuscope.experiments.samplers"


@pytest.fixture(autouse=True, scope="module")
def _smaller():
    """Fewer particles: the standard errors in the claims follow."""
    with planted(f"{HERE}.PARTICLES", 10_000), planted(f"{HERE}.BUDGETS", (8, 16)):
        yield


@pytest.mark.parametrize("part", [part.name for part in samplers.EXPERIMENT.parts])
def test_every_claim_holds(part):
    answer = answered(samplers.EXPERIMENT, part)
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}


def test_the_claim_about_the_modes_fails_with_the_clean_score():
    with planted(f"{HERE}.DENOISER", CleanScore()):
        assert failures(samplers.EXPERIMENT, "modes") == {"mode-heun"}


def test_the_claims_about_the_fault_fail_with_the_right_score():
    with planted(f"{HERE}.CleanScore", lambda: samplers.DENOISER):
        caught = failures(samplers.EXPERIMENT, "what-goes-wrong")
    assert caught >= {"collapse-x", "too-narrow", "with-noise", "noise-variance"}


def test_multistep_methods_in_disguise_fail_the_comparison():
    with planted(f"{HERE}.MULTISTEP", {"UniPC": (Euler(), 1)}):
        assert failures(samplers.EXPERIMENT, "equal-cost") == {"multistep"}


def test_little_noise_throughout_fails_the_claim_about_early_noise():
    with planted(f"{HERE}.late", lambda t: 0.2):  # noqa: ARG005
        assert failures(samplers.EXPERIMENT, "hybrid") == {"early-noise"}


def test_no_dial_raises_the_relative_entropy():
    """The grid adds 1e-6 nats to what is left of 3e-4."""
    begun, left = relative_entropies()
    assert max(left.values()) <= begun


def test_noise_finds_the_mode_with_the_right_score_alone(generator):
    """4 standard errors, and 0.03 for 50 steps and the start at T = 4."""
    for denoiser, finds in ((samplers.DENOISER, True), (CleanScore(), False)):
        mean, error = right_mode(ends(EulerMaruyama(), denoiser, 50, generator))
        assert bool(((mean - samplers.MODE).abs() <= 4 * error + 0.03).all()) == finds


def test_the_flow_with_the_clean_score_contracts_onto_its_fixed_point(generator):
    """m / (1 - v) at the rate (1/v - 1)/2 over T = 4; a fifth more, for the valley between the modes is slower."""
    x = ends(Heun(), CleanScore(), 25, generator, samplers.FAR)
    fixed = samplers.MODE / (1 - samplers.VARIANCE)
    mean = (x * torch.sign(x @ samplers.MODE)[:, None]).mean(0)
    left = math.exp(-(1 / samplers.VARIANCE - 1) / 2 * 4)
    assert float((mean - fixed).norm() / fixed.norm()) < 1.2 * left
    assert float((samplers.MODE - fixed).norm() / fixed.norm()) > 1.2 * left  # the data's mode does not


def test_the_expected_side_of_a_point_recovers_the_mode():
    """E[x tanh(m.x / v)] = m under 1/2 N(+-m, v I): posterior mean of the side times x."""
    mean, error = right_mode(samplers.DATA.sample(200_000, generator=torch.Generator().manual_seed(2)))
    assert bool(((mean - samplers.MODE).abs() <= 4 * error).all())


def test_the_fault_is_the_score_of_the_data_at_every_time():
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(-1, 1).expand(-1, 2)
    expected = score_to_denoised(x, samplers.DATA.score(x, 1.0, 1e-9), samplers.SCHEDULE, 0.3)
    torch.testing.assert_close(CleanScore()(x, 0.3), expected, rtol=0, atol=0)

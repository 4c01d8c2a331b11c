"""The experiments on the noise of learned scores: their claims, their small parts, and faults they must catch."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from answering import answered, failures, planted
from scipy.stats import spearmanr

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.experiments import find, kernel_flow, variance_on_digits
from diffuscope.schedules import VE

KERNEL, DIGITS = "diffuscope.experiments.kernel_flow", "diffuscope.experiments.variance_on_digits"


def test_they_are_found_by_their_names():
    assert find("kernel-flow") is kernel_flow.EXPERIMENT
    assert find("variance-on-digits") is variance_on_digits.EXPERIMENT


# kernel gradient flow


def test_the_features_are_those_of_the_kernel():
    """The series of the exponential, to 1e-9 up to |x| = 3.2."""
    x = torch.linspace(-3.2, 3.2, 60, dtype=torch.float64)[:, None]
    phi, t = kernel_flow.features(x), torch.zeros(60, dtype=torch.float64)
    assert torch.allclose(phi @ phi.T, kernel_flow.KERNEL(x, t, x, t), atol=1e-9)


def test_a_flow_of_short_time_has_moved_by_its_slope(generator):
    """Twice the time is twice the score, up to the square of rate x time, 1e-3."""
    with planted(f"{KERNEL}.RUNS", 3):
        once, twice = kernel_flow.trained(50, (1e-3, 2e-3), generator)
    assert torch.allclose(twice, 2 * once, rtol=2e-3, atol=0)
    assert float(once.abs().min()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("part", ["covariance", "start", "samples"])
def test_every_claim_about_kernel_flow_holds(part):
    assert failures(kernel_flow.EXPERIMENT, part) == set()


def without_misfit(flow):
    terms = flow.contributions(kernel_flow.POINTS, kernel_flow.LEVEL, kernel_flow.POINTS, kernel_flow.LEVEL)
    return type(terms)(terms.target, torch.zeros_like(terms.misfit), terms.initial)


def test_a_theory_without_misfit_fails_its_claims():
    """With 50 flows, where it is off by many standard errors all the same."""
    with planted(f"{KERNEL}.RUNS", 50), planted(f"{KERNEL}.predicted", without_misfit):
        assert failures(kernel_flow.EXPERIMENT, "covariance") >= {"median", "points"}


def forgotten(flow):
    return kernel_flow.KernelFlow(flow.population, flow.kernel, samples=flow.samples, time=flow.time).contributions(
        kernel_flow.POINTS, kernel_flow.LEVEL, kernel_flow.POINTS, kernel_flow.LEVEL
    )


def test_a_theory_that_forgets_the_start_fails_its_claim():
    with planted(f"{KERNEL}.RUNS", 20), planted(f"{KERNEL}.predicted", forgotten):
        assert "start" in failures(kernel_flow.EXPERIMENT, "start")


# an ensemble on digits


def known(predicted, spread, nearest):
    """Measures that are known: the same for the halves, with errors of a tenth."""
    ones = torch.ones_like(predicted)
    return variance_on_digits.Compared(predicted, 0.1 * ones, predicted, spread, nearest, 0 * ones)


@pytest.mark.parametrize("associated", [True, False])
def test_an_association_is_found_where_there_is_one_and_not_where_there_is_none(associated):
    generator = torch.Generator().manual_seed(4)
    predicted, noise, other = torch.rand(3, 128, dtype=torch.float64, generator=generator)
    spread = predicted + 0.2 * noise if associated else noise
    nearest = predicted + 0.5 * other if associated else other
    with planted(f"{DIGITS}.compared", lambda seed: known(predicted, spread, nearest)):  # noqa: ARG005
        found = {name: failures(variance_on_digits.EXPERIMENT, name) for name in ("spread", "novelty")}
    assert ("associated" in found["spread"]) is not associated
    assert ("novel" in found["novelty"]) is not associated


def test_the_rank_correlation_is_spearmans_and_its_interval_covers():
    """The interval covers Spearman's 6/pi asin(rho/2) of a normal pair in 95% of 120 draws, within 3 errors."""
    rng, rho, covered = np.random.default_rng(1), 0.5, 0
    exact = 6 / math.pi * math.asin(rho / 2)
    with planted(f"{DIGITS}.PERMUTATIONS", 1), planted(f"{DIGITS}.RESAMPLES", 199):
        for _ in range(120):
            x, noise = torch.from_numpy(rng.standard_normal((2, 100)))
            y = rho * x + math.sqrt(1 - rho**2) * noise
            found = variance_on_digits.association(x, y, rng)
            covered += found.low <= exact <= found.high
            assert found.value == pytest.approx(spearmanr(x.numpy(), y.numpy())[0], abs=1e-12)
    assert abs(covered - 114) <= 3 * math.sqrt(120 * 0.95 * 0.05)


def test_the_p_value_of_independent_values_is_uniform():
    """Of 200, a tenth are below 0.1, within 3.5 standard errors."""
    rng = np.random.default_rng(2)
    with planted(f"{DIGITS}.PERMUTATIONS", 199), planted(f"{DIGITS}.RESAMPLES", 10):
        p = [
            variance_on_digits.association(x, y, rng).p_value
            for x, y in torch.from_numpy(rng.standard_normal((200, 2, 40)))
        ]
    assert abs(np.mean(np.array(p) <= 0.1) - 0.1) <= 3.5 * math.sqrt(0.1 * 0.9 / 200)


def test_samples_of_members_are_those_of_their_own_ode():
    """Gaussian members in VE: Euler's product of 1 - h t / (v + t^2), exactly."""
    schedule = VE(0.1, 5.0)
    variances = (0.5, 1.0, 2.0)
    members = [ExactDenoiser(Gaussian.isotropic(torch.zeros(2, dtype=torch.float64), v), schedule) for v in variances]
    times = torch.tensor([5.0, 2.0, 1.0, 0.1], dtype=torch.float64)
    x = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
    ends = variance_on_digits.samples_of(members, x, times)
    for v, end in zip(variances, ends, strict=True):
        factor = math.prod(1 - float(t - s) * float(t) / (v + float(t) ** 2) for t, s in pairwise(times))
        assert torch.allclose(end, factor * x, rtol=1e-12, atol=0)


@pytest.mark.slow
def test_every_claim_about_digits_holds():
    for part in ("spread", "novelty", "halves"):
        answer = answered(variance_on_digits.EXPERIMENT, part)
        assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}

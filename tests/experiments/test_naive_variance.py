"""The naive model's experiment: claims hold for another seed, a planted fault makes its claim fail."""

import math

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.experiments import find, naive_variance
from diffuscope.experiments.naive_variance import EXPERIMENT, SHOWN_LEVELS, difference, solved, two_examples
from diffuscope.theory.variance import Naive
from diffuscope.times import karras_times

HERE = "diffuscope.experiments.naive_variance"
AMPLITUDE = "diffuscope.theory.variance.naive.Naive.amplitude"
sound = Naive.amplitude


@pytest.fixture(autouse=True)
def _smaller(request, monkeypatch):
    """One kappa, fewer samples and steps; the bars stay. A slow test takes it whole."""
    if request.node.get_closest_marker("slow"):
        return
    monkeypatch.setattr(naive_variance, "GAUSSIAN_SAMPLES", 10_000)
    monkeypatch.setattr(naive_variance, "SAMPLED_STEPS", 100)
    monkeypatch.setattr(naive_variance, "KAPPAS", (0.0, 2.0))
    monkeypatch.setattr(naive_variance, "SAMPLES", 1_000)
    monkeypatch.setattr(naive_variance, "STEPS", 80)
    monkeypatch.setattr(naive_variance, "CELLS", 800)
    monkeypatch.setattr(naive_variance, "DENSITY_STEPS", 60)


def test_it_is_found_by_its_name():
    assert find("naive-variance") is EXPERIMENT


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_every_claim_holds_at_full_size(seed):
    outcome = EXPERIMENT.run(seed=seed)
    assert [(claim.name, claim.measured, claim.requirement) for claim in outcome.failures] == []


@pytest.mark.parametrize("part", ["variance", "gap"])
def test_every_claim_holds(part):
    answer = answered(EXPERIMENT, part)
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}
    if part == "gap":
        assert answer.text.startswith("No. Expected: the noise is largest between the examples")


def test_noise_that_is_three_tenths_too_strong_is_caught():
    """kappa is the variance per time: the samples of Gaussian data tell."""

    def stronger(kernel, x, t):
        return sound(kernel, x, t).scaled(torch.tensor(1.3))

    with planted(AMPLITUDE, stronger):
        assert failures(EXPERIMENT, "variance") == {"samples"}


def test_noise_that_is_the_same_everywhere_is_caught():
    """A constant amplitude does fill the gap: more than the solved density allows, and at small noise too."""

    class Constant:
        def __init__(self, x):
            self.x = x

        def draw(self, *, generator):
            return torch.randn(self.x.shape, dtype=torch.float64, generator=generator)

    def constant(kernel, x, t):
        del kernel, t
        return Constant(x)

    with planted(AMPLITUDE, constant):
        assert {"gap-samples", "empty"} <= failures(EXPERIMENT, "gap")


def test_the_recursion_without_noise_is_the_exact_flow():
    """kappa = 0 and many steps: v + e^2; order 1 leaves 2e-4."""
    times = karras_times(naive_variance.VE(), 10.0, 0.1, 20_000)
    assert naive_variance.recursion(2.0, 0.0, times) == pytest.approx(2.0 + 0.1**2, rel=1e-3)


def test_the_solved_density_keeps_its_mass_and_gains_the_second_moment_of_the_noise():
    """Mass to 1e-9. d E[x^2] / dt integrates to what samples have: 1 + e^2 without noise (5e-3), and more with it."""
    moments = []
    for kappa in naive_variance.KAPPAS:
        for found in solved(kappa).values():
            h = float(found.x[1] - found.x[0])
            assert float(found.p.sum()) * h == pytest.approx(1, abs=1e-9)
        last = list(solved(kappa).values())[-1]
        moments.append(float((last.p * last.x.square()).sum() * (last.x[1] - last.x[0])))
    assert moments[0] == pytest.approx(1 + SHOWN_LEVELS[-1] ** 2, rel=5e-3)
    assert moments == sorted(moments)


def test_the_solved_density_converges_to_the_exact_one_without_noise(monkeypatch):
    """Twice the cells: less than 0.6 of the largest error (first order, upwind)."""

    def error():
        found = solved(0.0)[SHOWN_LEVELS[-1]]
        return float((found.p - two_examples(found.x, SHOWN_LEVELS[-1])).abs().max())

    monkeypatch.setattr(naive_variance, "CELLS", 400)
    coarse = error()
    monkeypatch.setattr(naive_variance, "CELLS", 800)
    assert error() < 0.6 * coarse


def test_the_difference_of_means_is_in_standard_errors():
    one = torch.tensor([0.0, 2.0], dtype=torch.float64)
    assert difference(one + 3, one) == pytest.approx(3 / math.sqrt(2 * 2.0 / 2))

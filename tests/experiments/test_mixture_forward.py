"""The mixture under the forward equation: its claims hold, and they fail where the computation is spoiled."""

import math

import pytest
from answering import failures

from diffuscope.densities.tridiagonal import Tridiagonal
from diffuscope.experiments import mixture_forward
from diffuscope.experiments.mixture_forward import EXPERIMENT, DifferencedTwice

FEWER = 100_000  # particles; the claim states its standard error


def test_every_claim_holds(monkeypatch):
    monkeypatch.setattr(mixture_forward, "PARTICLES", FEWER)
    outcome = EXPERIMENT.run(seed=0)
    assert [(claim.name, claim.measured, claim.requirement) for claim in outcome.failures] == []


def test_the_twice_differenced_term_is_caught(monkeypatch):
    correct = mixture_forward.relaxation

    def wrong(grid):
        equation = correct(grid)
        return DifferencedTwice(grid, equation.face_drift, equation.face_diffusion, steady=True)

    monkeypatch.setattr(mixture_forward, "relaxation", wrong)
    assert {"space", "error", "mass", "entropy"} <= failures(EXPERIMENT, "finite-volumes")


def test_particles_with_too_little_noise_are_caught(monkeypatch):
    monkeypatch.setattr(mixture_forward, "PARTICLES", FEWER)
    exact = mixture_forward.distribution_function
    louder = lambda p, x, alpha, sigma: exact(p, x, alpha, 1.1 * sigma)  # noqa: E731
    monkeypatch.setattr(mixture_forward, "distribution_function", louder)
    assert failures(EXPERIMENT, "particles") == {"million"}


@pytest.mark.parametrize(
    ("excess", "failing"), [(0.95e-4, set()), (1.05e-4, {"gains-mass"}), (-1.05e-4, {"gains-mass"})]
)
def test_a_mass_that_is_off_by_more_than_the_error_of_the_scheme_is_caught(excess, failing, monkeypatch):
    """At 300 steps of Crank-Nicolson, ((1 + h/4) / (1 - h/4))^300 = e^1.5 + 1.4e-5, h = 1/100: the rest is planted."""
    gained = (1.0025 / 0.9975) ** 300
    extra = math.log((math.exp(1.5) + excess) / gained) / 3  # of the rate 1/2
    twice = DifferencedTwice.generator

    def faulty(self, axis, t):
        matrix = twice(self, axis, t)
        return Tridiagonal(matrix.lower, matrix.diagonal + extra, matrix.upper)

    monkeypatch.setattr(DifferencedTwice, "generator", faulty)
    assert failures(EXPERIMENT, "what-goes-wrong") == failing


@pytest.mark.parametrize(("share", "failing"), [(0.99, set()), (1.01, {"million"})])
def test_a_distance_of_particles_just_beyond_chance_is_caught(share, failing, monkeypatch):
    """Kolmogorov's limit: 2 sum (-1)^(k-1) exp(-2 k^2 2.23^2) = 1e-4."""
    assert 2 * math.exp(-2 * 2.23**2) == pytest.approx(1e-4, rel=0.05)
    monkeypatch.setattr(mixture_forward, "PARTICLES", 10_000)
    monkeypatch.setattr(mixture_forward, "kolmogorov", lambda *_: share * 0.0223)
    assert failures(EXPERIMENT, "particles") == failing

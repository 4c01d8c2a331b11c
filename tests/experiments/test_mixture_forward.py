"""The mixture under the forward equation: its claims hold, and they fail where the computation is spoiled."""

from answering import failures

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

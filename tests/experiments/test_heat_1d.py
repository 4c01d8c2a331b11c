"""The heat equation in one dimension: its claims hold, and they fail where the computation is spoiled."""

from answering import failures

from diffuscope.densities import Density, Grid, heat_flow
from diffuscope.experiments import heat_1d
from diffuscope.experiments.heat_1d import EXPERIMENT

FEWER = 100_000  # particles; the claim states its standard error


def test_every_claim_holds(monkeypatch):
    monkeypatch.setattr(heat_1d, "PARTICLES", FEWER)
    outcome = EXPERIMENT.run(seed=0)
    assert [(claim.name, claim.measured, claim.requirement) for claim in outcome.failures] == []


def test_heat_with_half_the_diffusivity_is_caught(monkeypatch):
    monkeypatch.setattr(heat_1d, "heat_flow", lambda density, t: heat_flow(density, t / 2))
    assert {"resolved", "decay"} <= failures(EXPERIMENT, "forward")


def test_particles_with_too_little_noise_are_caught(monkeypatch):
    monkeypatch.setattr(heat_1d, "PARTICLES", FEWER)
    exact = heat_1d.distribution_function
    louder = lambda p, x, alpha, sigma: exact(p, x, alpha, (1.2 * sigma**2 + 0.2 * heat_1d.VARIANCE) ** 0.5)  # noqa: E731
    monkeypatch.setattr(heat_1d, "distribution_function", louder)
    assert failures(EXPERIMENT, "particles") == {"million"}


def test_undoing_heat_with_the_wrong_score_is_caught(monkeypatch):
    grid = Grid.line(-12, 12, 256)
    shifted = Density(grid, heat_1d.spread(grid, 0.0).values.roll(1))
    monkeypatch.setattr(heat_1d, "with_score", lambda blur, rough: shifted)  # noqa: ARG005
    assert failures(EXPERIMENT, "backward") == {"with-score"}

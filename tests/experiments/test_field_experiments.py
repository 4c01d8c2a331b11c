"""Experiments on fields under a PDE and on guidance: their claims hold, and fail where the computation is spoiled."""

import math

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.exact import Gaussian
from diffuscope.experiments import (
    affine_steps,
    burgers_sparse,
    constraint_is_not_posterior,
    darcy_sparse,
    dps_is_biased,
    poisson,
    sparse_fields,
)
from diffuscope.physics import DPS, PiGDM, at_nodes
from diffuscope.physics.kernel_prior import KernelPrior

DPS_EXPERIMENT, CONSTRAINT = dps_is_biased.EXPERIMENT, constraint_is_not_posterior.EXPERIMENT
BIASED, POISSON = "diffuscope.experiments.dps_is_biased", "diffuscope.experiments.poisson"


@pytest.mark.parametrize("part", ["one-number", "in-the-plane"])
def test_every_claim_about_dps_holds(part):
    assert failures(DPS_EXPERIMENT, part) == set()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["intervals", "equal-cost", "two-modes"])
def test_every_claim_about_dps_from_samples_and_at_equal_cost_holds(part):
    assert failures(DPS_EXPERIMENT, part) == set()


@pytest.mark.parametrize("part", ["plane", pytest.param("burgers", marks=pytest.mark.slow)])
def test_every_claim_about_constraints_holds(part):
    assert failures(CONSTRAINT, part) == set()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["moments", "residual", "intervals", "plane"])
def test_every_claim_about_poisson_holds(part):
    assert failures(poisson.EXPERIMENT, part) == set()


@pytest.mark.slow
@pytest.mark.parametrize("experiment", [darcy_sparse, burgers_sparse])
@pytest.mark.parametrize("part", ["public", "own"])
def test_every_claim_about_sparse_fields_holds(experiment, part):
    assert failures(experiment.EXPERIMENT, part) == set()


@pytest.mark.parametrize("r", [0.005, 0.01, 0.0178, 0.3, 10.0])
def test_the_closed_form_of_dps_is_the_specification_s(r):
    """Small r needs an integral over a layer of width r^2."""
    expected = (1 - math.exp(-1 / r**2), r**2 / 2 * (1 - math.exp(-2 / r**2)))
    assert dps_is_biased.limit(r, 1.0) == pytest.approx(expected, rel=1e-9)


def test_another_guide_does_not_end_where_dps_does():
    """Pi-GDM is exact for N(0, 1), so that in the place of DPS it ends at the posterior."""
    with planted(f"{BIASED}.DPS", PiGDM):
        assert failures(DPS_EXPERIMENT, "one-number") == {"family-dps"}


def test_dps_in_the_place_of_the_exact_guide_is_caught():
    with planted(f"{BIASED}.GaussianGuide", DPS):
        assert failures(DPS_EXPERIMENT, "one-number") == {"family-guide"}
        assert failures(DPS_EXPERIMENT, "in-the-plane") == {"plane-exact"}


def test_a_projection_in_another_metric_ends_elsewhere(monkeypatch):
    projected = constraint_is_not_posterior.Projected

    def smooth(prior, observation, y):
        return projected(prior, observation, y, metric=prior.distribution)

    monkeypatch.setattr(constraint_is_not_posterior, "Projected", smooth)
    monkeypatch.setattr(constraint_is_not_posterior, "CORRELATIONS", (0.9,))
    assert failures(CONSTRAINT, "plane") == {"limit"}


def test_a_coarser_limit_is_within_what_the_last_doubling_changed():
    """Without a guide the limit is the prior."""
    prior = dps_is_biased.prior(2.0)
    end, change = affine_steps.extrapolated(prior, 1)
    assert abs(float(end.covariance) - 2.0) <= float(change.covariance) + 1e-4


def test_the_residual_of_another_equation_is_caught(monkeypatch):
    """With 10% more of the source no field is a solution, though boundary values and raw residuals are right."""
    monkeypatch.setattr(poisson, "SAMPLES", 400)
    exact = poisson.residuals
    monkeypatch.setattr(poisson, "residuals", lambda grid, x: exact(grid, x * torch.tensor([1.1, 1.0])[:, None]))
    assert failures(poisson.EXPERIMENT, "residual") >= {"denoised"}


def test_a_wrong_source_has_another_posterior(monkeypatch):
    monkeypatch.setattr(poisson, "SAMPLES", 400)
    exact = poisson.joint_sine_prior
    monkeypatch.setattr(poisson, "joint_sine_prior", lambda grid, modes: exact(grid, modes - 1))
    assert "samples" in failures(poisson.EXPERIMENT, "moments")


def test_without_the_public_fields_nothing_is_claimed(monkeypatch):
    monkeypatch.delenv("DIFFUSCOPE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere")
    for experiment in (darcy_sparse, burgers_sparse):
        answer = answered(experiment.EXPERIMENT, "public")
        assert answer.claims == ()
        assert answer.text.startswith("Not run")


def test_the_error_of_a_mean_is_corrected_for_the_number_of_samples(monkeypatch):
    """Exact draws of N(0, 4) about a truth of 1: the square error of their mean is 1, not 1 + 4/19."""
    generator = torch.Generator().manual_seed(1)
    truth = torch.ones(1, 400, 50, dtype=torch.float64)

    def drawn(denoiser, n, **_):  # noqa: ARG001
        return 2 * torch.randn(n, 1, 400, 50, dtype=torch.float64, generator=generator)

    monkeypatch.setattr(sparse_fields, "generate", drawn)
    found = sparse_fields.sampled(dps_is_biased.prior(), truth, 0)
    # each node: variance 4 m^2 s2 + 2 s2^2 + ..., below 4 for s2 = 4/19
    assert abs(float(found.errors[0]) - 1) < 4 * math.sqrt(4 / 20_000)
    inside = 1 - 0.3085**19 - 0.6915**19  # the truth is half a standard deviation off the mean
    assert abs(float(found.covered.double().mean()) - inside) < 4 * math.sqrt(inside * (1 - inside) / 20_000)


def test_the_error_that_chooses_is_that_of_the_posterior_mean():
    """Fields of N(0, 1) with independent values, one of which is seen almost exactly: 3/4 of the variance is left."""
    generator = torch.Generator().manual_seed(2)
    prior = KernelPrior(torch.randn(4000, 1, 2, 2, dtype=torch.float64, generator=generator), 0.0)
    truths = torch.randn(400, 1, 2, 2, dtype=torch.float64, generator=generator)
    observation = at_nodes(torch.tensor([0]), (1, 2, 2), 1e-3)
    errors = [sparse_fields.mean_errors(prior, sparse_fields.Sensed(x, observation, x.flatten()[:1])) for x in truths]
    expected = 0.75 * math.sqrt(2 / 1200)  # the standard error of a mean of 1,200 squares, times 3/4
    assert abs(float(torch.stack(errors).mean()) - 0.75) < 4 * expected


def test_a_gaussian_process_covers_nine_in_ten():
    generator = torch.Generator().manual_seed(3)
    gaussian = Gaussian.isotropic(torch.zeros(1, 4, 4, dtype=torch.float64), 1.0)
    prior = KernelPrior(gaussian.sample(3000, generator=generator), 0.0)
    observation = at_nodes(torch.tensor([0, 5]), (1, 4, 4), 0.1)
    truths = gaussian.sample(100, generator=generator)
    shares = torch.stack(
        [
            sparse_fields.regressed(prior, sparse_fields.Sensed(x, observation, x.flatten()[[0, 5]]), generator).covered
            for x in truths
        ]
    )
    unobserved = shares.flatten(1)[:, torch.tensor([k not in (0, 5) for k in range(16)])].double()
    assert abs(float(unobserved.mean()) - 0.9) < 4 * math.sqrt(0.09 / unobserved.numel()) + 0.01  # 3,000 fields

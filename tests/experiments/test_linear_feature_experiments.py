"""feature-kernel and closure: their parts on known cases; slow, that every claim holds and that faults are found."""

from dataclasses import replace

import pytest
import torch
from answering import failures, planted

from diffuscope.experiments import closure, feature_kernel, find
from diffuscope.findings import HeatMap
from diffuscope.theory.variance import FieldRuns, GaussianBumps, LinearEnsemble, LinearFeatures, Population, Products
from numbers_in_tests import seeded

HERE = "diffuscope.experiments"


def test_both_are_found_by_name():
    assert find("closure") is closure.EXPERIMENT
    assert find("feature-kernel") is feature_kernel.EXPERIMENT


def test_the_trained_variance_is_the_theorys_at_many_examples_and_its_error_that_of_a_variance():
    """200 models of 4 x 4 bumps: each variance has the standard error sqrt(2/200) = 10%, a median of 17 less."""
    population = Population.of(
        feature_kernel.THREE, feature_kernel.SCHEDULE, feature_kernel.TIMES, time_nodes=16, nodes=128
    )
    bumps = feature_kernel.bumps_of(4)
    kernel = LinearFeatures.of(population, bumps, samples=64 * 16, ridge=feature_kernel.RIDGE)
    compared = feature_kernel.compare(kernel, 200, seeded())
    ratios, errors = compared.ratios(kernel)
    assert bool((errors > 0.01).all())
    assert bool((errors < 0.12).all())
    assert abs(compared.ratio - 1) < 4 * float(errors.max()) + kernel.second_order
    without, _ = compared.ratios(kernel.of_posterior_alone)
    assert float(without[0]) > 2 > float(ratios[0])


def test_the_noise_has_the_symmetry_of_the_square():
    features = Products((GaussianBumps(-1.5, 1.5, 4),) * 2, GaussianBumps(0.1, 1.0, 2))
    population = Population.of(feature_kernel.SQUARE, feature_kernel.SCHEDULE, (0.1, 1.0), time_nodes=4, nodes=16)
    kernel = LinearFeatures.of(population, features, samples=100, ridge=0.1)
    at_edges = feature_kernel.variance(kernel, feature_kernel.EDGES, 0.2)
    assert torch.allclose(at_edges, at_edges[:1].expand(4), rtol=1e-9, atol=0)
    (heat,) = feature_kernel.noise_map("bumps", kernel).marks
    assert isinstance(heat, HeatMap)
    values = torch.tensor(heat.values)
    assert float(values.max()) == 1
    for other in (values.T, values.flip(0), values.flip(1)):
        assert torch.allclose(values, other, rtol=1e-8, atol=0)


def test_gaussian_fields_of_the_closure_have_the_mean_of_other_models(monkeypatch):
    """Two independent means of 40 models and fields, and the error of the moments: five standard errors."""
    monkeypatch.setattr(closure, "RUNS", 40)
    monkeypatch.setattr(closure, "STEPS", 20)
    trained, gaussian = closure.runs(64, seeded())
    assert len(trained) == len(gaussian) == 40
    error = (2 * (trained.denoised.var(0) + gaussian.denoised.var(0)) / 40).sqrt()
    assert float(((trained.denoised.mean(0) - gaussian.denoised.mean(0)) / error).abs().max()) < 5
    spread = (gaussian.denoised.var(0) / trained.denoised.var(0)).median()
    assert 0.5 < float(spread) < 2


def test_shares_of_cells_add_up_with_the_error_of_their_mean():
    uniform = torch.rand(100, closure.TRAJECTORIES, 1, dtype=torch.float64, generator=seeded()) * 3 - 1.5
    mean, error = closure.cell_shares(FieldRuns(uniform[:, :2, 0], uniform))
    cells, n = len(closure.EDGES) - 1, 100 * closure.TRAJECTORIES
    assert float(mean.sum()) == pytest.approx(1, abs=1e-12)
    assert float(error.mean()) == pytest.approx((1 / cells / n) ** 0.5, rel=0.1)
    assert float(((mean - 1 / cells) / error).abs().max()) < 4.5


@pytest.mark.slow
@pytest.mark.parametrize("module", [closure, feature_kernel], ids=lambda module: module.EXPERIMENT.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_claim_holds(module, seed):
    outcome = module.EXPERIMENT.run(seed=seed)
    assert [(claim.name, claim.measured, claim.requirement) for claim in outcome.failures] == []


@pytest.mark.slow
def test_gaussian_fields_of_too_much_variance_are_not_a_closure():
    matched = closure.matched_gaussian

    def wider(ensemble: LinearEnsemble, fields: int, *, generator: torch.Generator) -> LinearEnsemble:
        drawn, mean = matched(ensemble, fields, generator=generator), ensemble.weights.mean(0)
        return replace(drawn, weights=mean + 4 * (drawn.weights - mean))

    with planted(f"{HERE}.closure.matched_gaussian", wider):
        assert "holds" in failures(closure.EXPERIMENT, "closure")

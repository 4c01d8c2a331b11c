"""Trained linear ensembles: the normal equations, both systems, the fast evaluation, and exactly solvable limits."""

import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian
from diffuscope.schedules import VP
from diffuscope.theory.variance import (
    Affine,
    Bins,
    Constant,
    Fourier,
    GaussianBumps,
    LinearEnsemble,
    Products,
    ScoreFields,
    train_linear,
)
from diffuscope.theory.variance.linear_ensemble import ridge_regression

DOUBLE = torch.float64
THREE = Empirical(torch.tensor([[-1.0], [0.0], [1.0]], dtype=DOUBLE))
SCHEDULE = VP(0.2, 40.0, 1e-2)
BUMPS = Products((GaussianBumps(-1.5, 1.5, 16),), GaussianBumps(1e-2, 1, 16))
PLANE = Products((GaussianBumps(-1.5, 1.5, 5), Fourier(3, 2, 1)), GaussianBumps(0, 1, 3))


def drawn(*shape):
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("P", "F"), [(7, 12), (12, 7), (9, 9)])
def test_the_gradient_of_the_ridge_loss_vanishes_whichever_system_is_solved(P, F):
    Psi, y = drawn(3, P, F), drawn(3, P, 2)
    W = ridge_regression(Psi, y, 0.1)
    gradient = Psi.mT @ (Psi @ W - y) + 0.1 * W
    assert float(gradient.abs().max()) < 1e-12


def test_the_two_systems_have_one_solution():
    """Adding rows of zeros changes nothing but which of them is the smaller."""
    Psi, y = drawn(2, 6, 10), drawn(2, 6, 1)
    dual = ridge_regression(Psi, y, 0.3)
    more, none = (torch.cat([part, torch.zeros(2, 8, part.shape[2], dtype=DOUBLE)], dim=1) for part in (Psi, y))
    assert torch.allclose(ridge_regression(more, none, 0.3), dual, atol=1e-12)


@pytest.mark.parametrize("features", [BUMPS, PLANE, Products((Bins(-2, 2, 7), Fourier(2))), Products((Constant(),))])
def test_the_evaluation_axis_by_axis_is_the_sum_over_all_features(features):
    d = len(features.space)
    ensemble = LinearEnsemble(features, SCHEDULE, drawn(4, d, features.number))
    x = 1.5 * drawn(4, 50, d)
    direct = features(x, 0.3) @ ensemble.weights.mT
    assert torch.allclose(ensemble.denoise(x, 0.3), direct, rtol=1e-12, atol=1e-12 * float(direct.abs().max()))


@pytest.mark.parametrize("number", [2, 3, 16, 17, 30])
def test_the_polynomial_of_bumps_is_their_sum_near_and_far(number):
    """Far from all bumps both are zero and finite: the error is below 1e-12 of the largest weight times the height."""
    axis = GaussianBumps(-1.5, 1.5, number)
    u = torch.cat([torch.linspace(-12, 12, 4001, dtype=DOUBLE), torch.tensor([-1e6, 1e6], dtype=DOUBLE)])[None]
    c = drawn(1, number)
    error = (axis.combine(u, c) - (axis(u) * c[:, None]).sum(2)).abs()
    assert float(error.max()) < 1e-12 * axis.peak * float(c.abs().max())


def test_many_points_are_evaluated_as_few():
    """More points than fit in one block."""
    ensemble = LinearEnsemble(BUMPS, SCHEDULE, drawn(3, 1, BUMPS.number))
    x = drawn(3, 25_000, 1)
    assert torch.equal(ensemble.denoise(x, 0.2)[:, 20_000:20_010], ensemble.denoise(x[:, 20_000:20_010], 0.2))


def test_the_score_is_the_one_of_the_denoiser(generator):
    ensemble = train_linear(THREE, SCHEDULE, BUMPS, samples=64, models=2, generator=generator)
    assert isinstance(ensemble, ScoreFields)
    x, alpha, sigma = drawn(2, 9, 1), float(SCHEDULE.alpha(0.2)), float(SCHEDULE.sigma(0.2))
    assert torch.allclose(ensemble(x, 0.2), (alpha * ensemble.denoise(x, 0.2) - x) / sigma**2, rtol=1e-12, atol=0)


def test_the_mean_model_has_the_average_score(generator):
    ensemble = train_linear(THREE, SCHEDULE, BUMPS, samples=64, models=6, generator=generator)
    x = drawn(1, 9, 1).expand(6, -1, -1)
    average = ensemble(x, 0.3).mean(0)
    assert torch.allclose(ensemble.mean()(x[:1], 0.3)[0], average, rtol=1e-10, atol=1e-10)
    left_out = ensemble.leave_out(3)(x[:3], 0.3)  # models 2, 3 are the second group
    assert torch.allclose(left_out[1], ensemble(x, 0.3)[[0, 1, 4, 5]].mean(0), rtol=1e-9, atol=1e-9)


def test_a_gaussian_is_learned_by_affine_features_at_one_noise_level(generator):
    """D = mu + a v / (a^2 v + s^2) (x - a mu); P = 4000 in each of 50 models, agreement within 4 standard errors."""
    data = Gaussian.isotropic(torch.tensor([0.7], dtype=DOUBLE), 2.0)
    ensemble = train_linear(data, OneLevel(), Affine(1), samples=4000, models=50, ridge=0, generator=generator)
    slope = 0.8 * 2.0 / (0.64 * 2.0 + 0.36)
    expected = torch.tensor([0.7 * (1 - 0.8 * slope), slope], dtype=DOUBLE)
    weights = ensemble.weights[:, 0]
    error = weights.std(0) / math.sqrt(50)
    assert bool(((weights.mean(0) - expected).abs() < 4 * error).all())
    assert float(error.max()) < 0.005


class OneLevel(VP):
    """alpha = 0.8, sigma = 0.6 at every time."""

    def alpha(self, t):
        return torch.full_like(torch.as_tensor(t, dtype=DOUBLE), 0.8)

    def sigma(self, t):
        return torch.full_like(torch.as_tensor(t, dtype=DOUBLE), 0.6)


def test_a_bin_learns_the_weighted_mean_of_its_own_samples(generator):
    """One bin, no ridge: W = sum lambda x_0 / sum lambda, here of one data point."""
    data = Empirical(torch.tensor([[0.4]], dtype=DOUBLE))
    ensemble = train_linear(data, SCHEDULE, Products((Constant(),)), samples=20, models=3, ridge=0, generator=generator)
    assert torch.allclose(ensemble.weights, torch.full((3, 1, 1), 0.4, dtype=DOUBLE), atol=1e-12)


def test_the_ridge_shrinks_by_the_mean_weight(generator):
    """One feature, one data point y: W = m y / (m + rho), m the mean of alpha^2 / sigma^2, here 16/9."""
    data = Empirical(torch.tensor([[0.4]], dtype=DOUBLE))
    ensemble = train_linear(
        data, OneLevel(), Products((Constant(),)), samples=5, models=2, ridge=0.5, generator=generator
    )
    m = 0.64 / 0.36
    assert torch.allclose(ensemble.weights, torch.full((2, 1, 1), 0.4 * m / (m + 0.5), dtype=DOUBLE), atol=1e-12)


def test_models_do_not_depend_on_the_chunks_in_which_they_are_trained(monkeypatch):
    def trained():
        generator = torch.Generator().manual_seed(3)
        return train_linear(THREE, SCHEDULE, BUMPS, samples=40, models=5, generator=generator).weights

    whole = trained()
    monkeypatch.setattr("diffuscope.theory.variance.linear_ensemble.TRAINING_NUMBERS", 1)
    assert torch.allclose(trained(), whole, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"samples": 0}, "samples"),
        ({"models": 0}, "models"),
        ({"ridge": -1.0}, "ridge"),
        ({"ridge": math.nan}, "ridge"),
        ({"ridge": math.inf}, "ridge"),
        ({"ridge": 0.0, "samples": 8}, "ridge"),  # fewer samples than features
    ],
)
def test_a_wrong_setting_of_training_is_named(change, argument, generator):
    with pytest.raises(InputError, match=rf"^{argument}: expected"):
        train_linear(THREE, SCHEDULE, BUMPS, **({"samples": 20, "models": 2} | change), generator=generator)


def test_weights_groups_and_points_that_do_not_fit_are_named():
    with pytest.raises(InputError, match=r"^weights: expected"):
        LinearEnsemble(BUMPS, SCHEDULE, drawn(2, 1, 5))
    ensemble = LinearEnsemble(BUMPS, SCHEDULE, drawn(6, 1, BUMPS.number))
    with pytest.raises(InputError, match=r"^groups: expected"):
        ensemble.leave_out(4)
    with pytest.raises(InputError, match=r"^x: expected"):
        ensemble.denoise(drawn(5, 3, 1), 0.5)

"""Features of linear denoisers: products in the stated order, densities that integrate to one, an orthogonal basis."""

import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.theory.variance import Affine, Axis, Bins, Constant, Features, Fourier, GaussianBumps, Products

LINE = torch.linspace(-4, 4, 8001, dtype=torch.float64)
BUMPS = GaussianBumps(-1.5, 1.5, 16)


def test_every_bump_is_a_density():
    mass = torch.trapezoid(BUMPS(LINE), LINE, dim=0)
    assert torch.allclose(mass, torch.ones_like(mass), atol=1e-12)
    mean = torch.trapezoid(BUMPS(LINE) * LINE[:, None], LINE, dim=0)
    assert torch.allclose(mean, torch.linspace(-1.5, 1.5, 16, dtype=torch.float64), atol=1e-12)
    variance = torch.trapezoid(BUMPS(LINE) * (LINE[:, None] - mean) ** 2, LINE, dim=0)
    assert torch.allclose(variance, torch.full_like(variance, 0.1**2), atol=1e-12)


def test_the_height_of_a_density_grows_with_the_number_of_bumps_and_a_given_height_does_not():
    assert GaussianBumps(0, 3, 16).peak == pytest.approx(3.989, abs=1e-3)  # 1 / (0.1 sqrt(2 pi))
    assert GaussianBumps(0, 3, 31).peak == pytest.approx(2 * GaussianBumps(0, 3, 16).peak, rel=1e-12)
    for number in (4, 40):
        axis = GaussianBumps(0, 3, number, height=1)
        centers = torch.linspace(0, 3, number, dtype=torch.float64)
        assert torch.allclose(axis(centers).diagonal(), torch.ones(number, dtype=torch.float64), atol=1e-14)


def test_fourier_functions_are_orthogonal_over_a_period():
    u = 3 * torch.arange(64, dtype=torch.float64) / 64  # the rectangle rule is exact for these frequencies
    values = Fourier(3)(u)
    gram = values.T @ values / 64
    expected = torch.diag(torch.tensor([1.0] + [0.5] * 9, dtype=torch.float64))
    assert values.shape[1] == Fourier(3).number == 10
    assert torch.allclose(gram, expected, atol=1e-12)


def test_every_point_is_in_one_bin_and_what_lies_outside_in_an_end_bin():
    values = Bins(0, 1, 4)(torch.tensor([-7.0, 0.0, 0.26, 0.99, 1.0, 8.0]))
    assert values.argmax(1).tolist() == [0, 0, 1, 3, 3, 3]
    assert torch.equal(values.sum(1), torch.ones(6))


def test_a_product_is_the_product_of_its_factors_with_time_fastest(generator):
    features = Products((GaussianBumps(-1, 1, 3), Fourier(2, 1, 1)), GaussianBumps(0, 1, 4))
    x, t = torch.randn(5, 2, dtype=torch.float64, generator=generator), torch.rand(5, generator=generator)
    phi = features(x, t).reshape(5, 3, 3, 4)
    assert features.number == 36
    a, b, v = GaussianBumps(-1, 1, 3)(x[:, 0]), Fourier(2, 1, 1)(x[:, 1]), GaussianBumps(0, 1, 4)(t.double())
    for i, j, k in ((0, 0, 0), (2, 1, 3), (1, 2, 0)):
        assert torch.allclose(phi[:, i, j, k], a[:, i] * b[:, j] * v[:, k], rtol=1e-14, atol=0)


def test_one_time_for_all_points_is_that_time_at_every_point(generator):
    features = Products((BUMPS,), GaussianBumps(0, 1, 4))
    x = torch.randn(3, 5, 1, dtype=torch.float64, generator=generator)
    each = features(x, torch.full((3, 5), 0.3, dtype=torch.float64))
    assert torch.equal(features(x, 0.3), each)
    assert torch.equal(features(x, torch.full((3, 1), 0.3, dtype=torch.float64)), each)


def test_affine_features_are_one_and_the_point():
    assert Affine(2)(torch.tensor([[3.0, 4.0]]), 0.5).tolist() == [[1.0, 3.0, 4.0]]


@pytest.mark.parametrize("axis", [BUMPS, Fourier(2), Bins(0, 1, 3), Constant()])
def test_all_axes_and_features_fulfill_their_protocols(axis):
    assert isinstance(axis, Axis)
    assert isinstance(Products((axis,)), Features)


@pytest.mark.parametrize("axis", [BUMPS, Fourier(2), Bins(0, 1, 3), Constant()])
def test_a_combination_is_the_sum_of_the_functions_times_their_coefficients(axis, generator):
    u = torch.rand(2, 7, generator=generator, dtype=torch.float64)
    c = torch.randn(2, axis.number, generator=generator, dtype=torch.float64)
    expected = (axis(u) * c[:, None]).sum(2)
    assert axis.combine(u, c).flatten().tolist() == pytest.approx(expected.flatten().tolist(), abs=1e-12)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: GaussianBumps(1, 1, 4), "low, high"),
        (lambda: GaussianBumps(0, math.nan, 4), "low, high"),
        (lambda: GaussianBumps(0, 1, 1), "number"),
        (lambda: GaussianBumps(0, 1, 4, height=0), "height"),
        (lambda: Fourier(0), "period"),
        (lambda: Fourier(math.inf), "period"),
        (lambda: Fourier(1, -1), "cosines"),
        (lambda: Bins(0, 1, 0), "number"),
        (lambda: Products(()), "space"),
        (lambda: Products((BUMPS,))(torch.zeros(2, 3), 0.0), "x"),
        (lambda: Affine(1)(torch.zeros(2, 3), 0.0), "x"),
    ],
)
def test_a_mistake_is_named(make, argument):
    with pytest.raises(InputError, match=rf"^{argument}: expected"):
        make()

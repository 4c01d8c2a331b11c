"""Gaussian random fields against their covariance: exactly where a matrix is formed, in standard errors where not."""

import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.physics import Grid, random_fields
from diffuscope.physics.random_fields import (
    Matern,
    SquaredExponential,
    covariance_matrix,
    random_field,
    reflected_field,
    sine_modes,
    two_phase,
)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("smoothness", "closed"),
    [
        (0.5, lambda z: math.exp(-z)),
        (1.5, lambda z: (1 + math.sqrt(3) * z) * math.exp(-math.sqrt(3) * z)),
        (2.5, lambda z: (1 + math.sqrt(5) * z + 5 * z**2 / 3) * math.exp(-math.sqrt(5) * z)),
    ],
)
def test_matern_has_its_closed_form_at_half_integers(smoothness, closed) -> None:
    d = torch.tensor([0.0, 0.1, 0.7, 3.0], dtype=torch.float64)
    values = Matern(0.5, smoothness, 2.0)(d)
    for at, value in zip(d.tolist(), values.tolist(), strict=True):
        assert value == pytest.approx(2 * closed(at / 0.5), rel=1e-12)


def test_squared_exponential_falls_to_exp_minus_one_half_at_one_length() -> None:
    values = SquaredExponential(0.5, 2.0)(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    assert values.tolist() == pytest.approx([2.0, 2 * math.exp(-0.5), 2 * math.exp(-2)], rel=1e-14)


@pytest.mark.parametrize("covariance", [SquaredExponential(0.3, 2.0), Matern(0.3, 0.5, 2.0)])
def test_the_covariance_matrix_of_a_bounded_grid_is_the_function_of_all_distances(covariance) -> None:
    grid = Grid((5, 4), (1.0, 2.0))
    x = grid.coordinates.reshape(-1, 2)
    distance = (x[:, None] - x[None]).norm(dim=-1)
    assert torch.allclose(covariance_matrix(grid, covariance), covariance(distance), rtol=0, atol=1e-14)


@pytest.mark.parametrize("k", [SquaredExponential(0.4, 3.0), Matern(0.4, 0.5, 3.0), Matern(0.3, 2.5, 3.0)])
def test_a_periodic_covariance_is_the_sum_over_images_of_the_box_with_the_stated_variance(k) -> None:
    grid = Grid((6, 4), (1.0, 2.0), (True, False))
    x = grid.coordinates.reshape(-1, 2)
    total, at_zero = torch.zeros(len(x), len(x), dtype=torch.float64), 0.0
    for image in range(-60, 61):
        shift = torch.tensor([float(image), 0.0], dtype=torch.float64)
        total = total + k((x[:, None] - x[None] + shift).norm(dim=-1))
        at_zero += float(k(torch.tensor(abs(float(image)), dtype=torch.float64)))
    assert torch.allclose(covariance_matrix(grid, k), 3 * total / at_zero, rtol=0, atol=1e-13)


class UnitVectors:
    """In place of white noise: the unit vectors one after the other, then zeros."""

    given = 0

    def __call__(self, count: int, *shape: int, dtype, generator) -> torch.Tensor:  # noqa: ARG002
        rows = torch.zeros(count, math.prod(shape), dtype=dtype)
        rows[: max(0, len(rows[0]) - self.given)] = torch.eye(len(rows[0]), dtype=dtype)[self.given :][:count]
        self.given += count
        return rows.reshape(count, *shape)


GRIDS = [Grid((9,)), Grid((8,), (2.0,), (True,)), Grid((5, 6), (1.0, 1.0), (False, True)), Grid((6, 5))]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("covariance", [SquaredExponential(0.6, 2.0), Matern(0.4, 1.5, 0.5), Matern(0.1, 0.5)])
def test_a_draw_is_a_square_root_of_the_covariance_applied_to_white_noise(grid, covariance, monkeypatch) -> None:
    """The map from white noise is linear: fed with the unit vectors it gives L, and L L^T is the covariance."""
    assert random_field(grid, covariance, 1, generator=generator()).shape == (1, *grid.shape)
    monkeypatch.setattr(torch, "randn", UnitVectors())
    columns = random_field(grid, covariance, 4000, generator=generator()).flatten(1)
    gram = columns.T @ columns
    assert torch.allclose(gram, covariance_matrix(grid, covariance), rtol=0, atol=1e-9)


def test_a_reflected_field_has_the_covariance_of_its_images(monkeypatch) -> None:
    """k(x - y) -+ k(x + y) along an axis with walls, k periodic with twice the length."""
    grid, k = Grid((5, 4, 3), (1.0, 0.5, 0.7), (False, False, True)), SquaredExponential(0.3, 2.0)
    full = covariance_matrix(Grid((8, 6, 3), (2.0, 1.0, 0.7), (True, True, True)), k).reshape(8, 6, 3, 8, 6, 3)
    odd = full[:5] - full[-torch.arange(5)]
    even = odd[:, :4] + odd[:, -torch.arange(4)]
    exact = even[:, :, :, :5, :4].reshape(60, 60)
    monkeypatch.setattr(torch, "randn", UnitVectors())
    boundary = ("dirichlet", "neumann", "periodic")
    columns = reflected_field(grid, boundary, k, 8 * 6 * 3, generator=generator()).flatten(1)
    assert torch.allclose(columns.T @ columns, exact, rtol=0, atol=1e-12)


def test_draws_have_the_covariance_within_four_standard_errors() -> None:
    grid, k, n = Grid((7, 6), (1.0, 1.0), (False, True)), Matern(0.3, 1.5, 2.0), 20_000
    x = random_field(grid, k, n, generator=generator()).flatten(1)
    exact = covariance_matrix(grid, k)
    error = ((exact.diag()[:, None] * exact.diag()[None] + exact**2) / n).sqrt()
    assert float(((x.T @ x / n - exact) / error).abs().max()) < 4.5  # 1,764 entries, strongly dependent
    assert float((x.mean(0) / (exact.diag() / n).sqrt()).abs().max()) < 4


def test_different_generators_draw_different_fields_and_the_same_one_repeats() -> None:
    grid, k = Grid((8,)), SquaredExponential(0.2)
    first, again = (random_field(grid, k, 3, generator=generator()) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.allclose(first[0], first[1])


def test_two_phases_have_the_share_of_the_threshold() -> None:
    x = random_field(Grid((32, 32)), Matern(0.05, 0.5, 4.0), 400, generator=generator())
    threshold = 2 * 0.6744897501960817  # the upper quartile of N(0, 4)
    medium = two_phase(x, low=0.1, high=12, threshold=threshold)
    assert set(medium.unique().tolist()) == {0.1, 12.0}
    share = (medium == 12).double().flatten(1).mean(1)
    assert abs(float(share.mean()) - 0.25) < 4 * float(share.std()) / 20


def test_sine_modes_are_discrete_eigenvectors_and_vanish_on_the_boundary() -> None:
    grid = Grid((9, 7), (2.0, 1.0), (), (1.0, 0.0))
    modes = sine_modes(grid, 3)
    x, y = grid.coordinates.unbind(-1)
    assert torch.equal(modes[:, grid.boundary], torch.zeros(9, int(grid.boundary.sum()), dtype=torch.float64))
    exact = torch.sin(2 * math.pi * (x - 1) / 2) * torch.sin(3 * math.pi * y)
    assert torch.allclose(modes[1 * 3 + 2], exact, atol=1e-14)
    gram = modes.flatten(1) @ modes.flatten(1).T
    assert torch.allclose(gram, 8 * 6 / 4 * torch.eye(9, dtype=torch.float64), atol=1e-12)


def test_impossible_fields_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(random_fields, "MOST_NODES", 2**16)
    for wrong in ({"length": 0.0}, {"length": 1.0, "variance": -1.0}, {"length": float("nan")}):
        with pytest.raises(InputError):
            SquaredExponential(**wrong)
    with pytest.raises(InputError, match="smoothness"):
        Matern(1.0, 0.0)
    with pytest.raises(InputError, match="period"):
        random_field(Grid((8, 8), (), (True, True)), Matern(20.0), 1, generator=generator())
    with pytest.raises(InputError, match="length scale"):
        random_field(Grid((64, 64)), SquaredExponential(100.0), 1, generator=generator())
    with pytest.raises(InputError, match="inner nodes"):
        sine_modes(Grid((5,)), 4)
    with pytest.raises(InputError, match="bounded"):
        sine_modes(Grid((5,), (), (True,)), 1)

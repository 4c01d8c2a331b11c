"""Gaussian priors of fields against dense linear algebra: A is written out here, and solved with."""

import math
from dataclasses import dataclass

import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.physics import Grid, Poisson, Problem
from diffuscope.physics.priors import (
    gaussian_prior,
    joint_prior,
    joint_sine_prior,
    process_prior,
    sine_forcing,
    sine_prior,
)
from diffuscope.physics.random_fields import Matern, SquaredExponential, covariance_matrix


def second_difference(n: int, h: float) -> Tensor:
    """-d^2/dx^2 at inner nodes, zero rows at both ends."""
    A = torch.zeros(n, n, dtype=torch.float64)
    for i in range(1, n - 1):
        A[i, i - 1 : i + 2] = torch.tensor([-1.0, 2.0, -1.0], dtype=torch.float64) / h**2
    return A


def laplacian(grid: Grid) -> Tensor:
    """A: minus the discrete Laplacian at inner nodes, the identity at boundary nodes."""
    A = second_difference(grid.shape[0], grid.spacing[0])
    if grid.axes == 2:
        other = second_difference(grid.shape[1], grid.spacing[1])
        eyes = [torch.eye(n, dtype=torch.float64) for n in grid.shape]
        A = torch.kron(A, eyes[1]) + torch.kron(eyes[0], other)
    on = grid.boundary.flatten()
    A[on] = torch.eye(grid.size, dtype=torch.float64)[on]
    return A


@dataclass(frozen=True)
class DensePoisson:
    """-Lap u + cubic u^3 = f by a dense inverse, for cubic = 0."""

    grid: Grid
    power: int = 1

    @property
    def given_shape(self) -> tuple[int, ...]:
        return self.grid.shape

    def residual(self, u: Tensor, given: Tensor) -> Tensor:
        return (u.flatten(1) @ laplacian(self.grid).T).reshape(u.shape) - given**self.power

    def jacobian(self, u: Tensor, given: Tensor) -> csr_array:  # noqa: ARG002
        return csr_array(laplacian(self.grid).numpy())

    def solve(self, given: Tensor) -> Tensor:
        rows = given.double().flatten(1).T ** self.power
        return torch.linalg.solve(laplacian(self.grid), rows).T.reshape(given.shape)

    def draw(self, n: int, *, generator: torch.Generator) -> Tensor:
        return torch.randn(n, *self.grid.shape, generator=generator, dtype=torch.float64)


GRIDS = [Grid((12,), (2.0,)), Grid((7, 6), (1.0, 1.5))]


def covariance(gaussian: Gaussian) -> Tensor:
    U = gaussian.eigenvectors
    identity = torch.eye(gaussian.dimension, dtype=torch.float64)
    return (U * gaussian.eigenvalues) @ U.T + gaussian.tail_variance * (identity - U @ U.T)


def scaled(difference: Tensor, reference: Tensor) -> float:
    return float(difference.abs().max() / reference.abs().max())


@pytest.mark.parametrize("grid", GRIDS)
def test_the_covariance_of_a_solution_is_the_inverse_times_that_of_the_forcing_times_its_transpose(grid) -> None:
    C = covariance_matrix(grid, Matern(0.4, 0.5))
    m = torch.randn(grid.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    A = laplacian(grid)
    prior = gaussian_prior(DensePoisson(grid), Gaussian.from_covariance(m, C))
    exact = torch.linalg.solve(A, torch.linalg.solve(A, C).T)
    assert scaled(covariance(prior) - exact, exact) < 1e-12
    assert scaled(prior.mean.flatten() - torch.linalg.solve(A, m.flatten()), prior.mean) < 1e-12


def test_the_tail_of_the_forcing_is_part_of_it() -> None:
    grid = GRIDS[0]
    C = covariance_matrix(grid, Matern(0.4, 0.5))
    forcing = Gaussian.from_covariance(torch.zeros(12, dtype=torch.float64), C).truncate(3)
    assert forcing.tail_variance > 0
    S = torch.linalg.inv(laplacian(grid))
    exact = S @ covariance(forcing) @ S.T
    assert scaled(covariance(gaussian_prior(DensePoisson(grid), forcing)) - exact, exact) < 1e-12


@pytest.mark.parametrize("grid", GRIDS)
def test_the_joint_prior_has_the_covariance_of_forcing_and_solution(grid) -> None:
    C, S = covariance_matrix(grid, Matern(0.4, 0.5)), torch.linalg.inv(laplacian(grid))
    m = torch.full(grid.shape, 2.0, dtype=torch.float64)
    prior = joint_prior(DensePoisson(grid), Gaussian.from_covariance(m, C))
    exact = torch.cat([torch.cat([C, C @ S.T], 1), torch.cat([S @ C, S @ C @ S.T], 1)])
    assert prior.event_shape == (2, *grid.shape)
    assert scaled(covariance(prior) - exact, exact) < 1e-12
    assert torch.equal(prior.mean[0], m)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("options", [{"boundary_variance": 0.0}, {"boundary_variance": 0.3}, {"boundary_modes": 2}])
def test_the_analytic_sine_prior_is_that_of_the_discrete_equation(grid, options) -> None:
    forcing = sine_forcing(grid, 3, **options)
    exact = covariance(gaussian_prior(DensePoisson(grid), forcing))
    assert scaled(covariance(sine_prior(grid, 3, **options)) - exact, exact) < 1e-12
    exact = covariance(joint_prior(DensePoisson(grid), forcing))
    assert scaled(covariance(joint_sine_prior(grid, 3, **options)) - exact, exact) < 1e-12


@pytest.mark.parametrize("grid", [Grid((17,), (2.0,)), Grid((9, 8), (1.0, 1.5))])
def test_the_sine_prior_is_that_of_the_librarys_poisson_equation_whose_residual_its_draws_have_at_rounding(
    grid,
) -> None:
    poisson = Poisson(grid)
    exact = covariance(gaussian_prior(poisson, sine_forcing(grid, 4)))
    assert scaled(covariance(sine_prior(grid, 4)) - exact, exact) < 1e-13
    problem = Problem(name="poisson", title="Poisson", equation=poisson, given="forcing")
    prior = joint_sine_prior(grid, 4)
    assert prior.event_shape == problem.event_shape
    draws = prior.sample(4, generator=torch.Generator().manual_seed(0))
    size = abs(poisson.jacobian(draws[0, 1], draws[0, 0])).sum(1).max() * float(draws[:, 1].abs().max())
    assert float(problem.residual(draws).abs().max()) < 1e-14 * size


def test_without_boundary_values_the_sine_modes_are_the_eigenvectors() -> None:
    for prior in (sine_prior(GRIDS[1], 3, boundary_variance=0), joint_sine_prior(GRIDS[1], 3, boundary_variance=0)):
        identity = torch.eye(9, dtype=torch.float64)
        assert torch.allclose(prior.eigenvectors.T @ prior.eigenvectors, identity, rtol=0, atol=1e-14)
        assert bool((prior.eigenvalues.diff() <= 0).all())


def test_the_forcing_is_a_sine_series_with_standard_deviations_one_over_k() -> None:
    grid = Grid((12,), (2.0,))
    x = grid.along(0)
    modes = torch.stack([torch.sin(k * math.pi * x / 2) / k for k in (1, 2, 3)])
    exact = modes.T @ modes
    assert scaled(covariance(sine_forcing(grid, 3, boundary_variance=0)) - exact, exact) < 1e-14
    grid = Grid((7, 6), (1.0, 1.5))
    x, y = grid.coordinates.unbind(-1)
    pairs = [(k, m) for k in (1, 2) for m in (1, 2)]
    modes = torch.stack(
        [(torch.sin(k * math.pi * x) * torch.sin(m * math.pi * y / 1.5)).flatten() / (k * m) for k, m in pairs]
    )
    exact = modes.T @ modes
    assert scaled(covariance(sine_forcing(grid, 2, boundary_variance=0)) - exact, exact) < 1e-14


def test_boundary_values_of_a_rectangle_have_the_stated_variances_and_full_rank() -> None:
    grid, v = Grid((7, 6), (1.0, 1.5)), 0.3
    on = grid.boundary.flatten()
    C = covariance(sine_prior(grid, 2, boundary_variance=v))
    corners = torch.tensor([0, 5, 36, 41])
    exact = v * torch.eye(4, dtype=torch.float64)
    assert torch.allclose(C[corners][:, corners], exact, rtol=0, atol=1e-14)
    assert torch.linalg.matrix_rank(C[on][:, on]) == on.sum()
    i = 2  # a node of the side y = 0: both corners, linearly, and five sine modes with variances v / k^2
    x = i / 6
    exact = v * ((1 - x) ** 2 + x**2 + sum(math.sin(k * math.pi * x) ** 2 / k**2 for k in range(1, 6)))
    assert float(C[6 * i, 6 * i]) == pytest.approx(exact, rel=1e-12)
    j = 3  # and of the side x = 1
    y = j / 5
    exact = v * ((1 - y) ** 2 + y**2 + sum(math.sin(k * math.pi * y) ** 2 / k**2 for k in range(1, 5)))
    assert float(C[36 + j, 36 + j]) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("grid", [Grid((64,)), Grid((33, 32), (1.0, 2.0))])
def test_every_draw_satisfies_the_discrete_equation_to_rounding(grid) -> None:
    prior = joint_sine_prior(grid, 8)
    f, u = prior.sample(5, generator=torch.Generator().manual_seed(0)).unbind(1)
    A = laplacian(grid)
    residual = u.flatten(1) @ A.T - f.flatten(1)
    scale = A.abs().sum(1).max() * u.abs().max()
    assert float(residual.abs().max() / scale) < 1e-14
    inner = sine_prior(grid, 8, boundary_variance=0).sample(5, generator=torch.Generator().manual_seed(0))
    assert float(inner[:, grid.boundary].abs().max()) < 1e-16


def test_conditioned_on_its_ends_the_mean_is_the_straight_line_and_the_variance_that_of_the_bridge() -> None:
    """Experiment 4: u(0) = 0.5, u(1) = -0.25, 63 inner nodes, 8 modes."""
    grid = Grid((65,))
    C = covariance(sine_prior(grid))
    ends = torch.tensor([0, 64])
    gain = C[:, ends] @ torch.linalg.inv(C[ends][:, ends])
    x = grid.along(0)
    mean = gain @ torch.tensor([0.5, -0.25], dtype=torch.float64)
    assert torch.allclose(mean, 0.5 - 0.75 * x, rtol=0, atol=1e-13)
    exact = covariance(sine_prior(grid, boundary_variance=0))
    assert torch.allclose(C - gain @ C[ends], exact, rtol=0, atol=1e-14)


@pytest.mark.parametrize("prior", [process_prior(GRIDS[1], SquaredExponential(0.5)), sine_prior(GRIDS[1], 3)])
def test_the_posterior_mean_of_a_noisy_field_is_that_of_gaussian_process_regression(prior) -> None:
    y = prior.sample(3, generator=torch.Generator().manual_seed(1)) + 0.1
    C = covariance(prior)
    exact = y.flatten(1) @ torch.linalg.solve(C + 0.04 * torch.eye(len(C), dtype=torch.float64), C)
    assert scaled(prior.denoise(y, 1.0, 0.2).flatten(1) - exact, exact) < 1e-12


def test_a_process_has_its_mean_and_covariance_and_its_largest_eigenpairs() -> None:
    grid, k = GRIDS[1], Matern(0.5, 1.5, 2.0)
    C = covariance_matrix(grid, k)
    mean = torch.ones(grid.shape, dtype=torch.float64)
    prior = process_prior(grid, k, mean=mean)
    assert scaled(covariance(prior) - C, C) < 1e-13
    assert torch.equal(prior.mean, mean)
    leading = process_prior(grid, k, rank=4).eigenvalues
    assert torch.allclose(leading, torch.linalg.eigvalsh(C).flip(0)[:4], rtol=1e-12, atol=0)


def test_impossible_priors_are_refused() -> None:
    forcing = Gaussian.isotropic(torch.ones(12, dtype=torch.float64), 1.0)
    with pytest.raises(InputError, match="linear"):
        gaussian_prior(DensePoisson(GRIDS[0], power=2), forcing)
    with pytest.raises(InputError, match="forcing"):
        gaussian_prior(DensePoisson(GRIDS[1]), forcing)
    with pytest.raises(InputError, match="inner nodes"):
        sine_prior(Grid((9,)), 8)
    with pytest.raises(InputError, match="bounded"):
        sine_prior(Grid((9, 9), (), (False, True)), 3)
    with pytest.raises(InputError, match="axes"):
        sine_prior(Grid((5, 5, 5)), 3)
    with pytest.raises(InputError, match="boundary_modes"):
        sine_prior(Grid((9, 9)), 3, boundary_modes=8)
    with pytest.raises(InputError, match="boundary_variance"):
        sine_prior(Grid((9, 9)), 3, boundary_variance=-1)
    with pytest.raises(InputError, match="nodes"):
        process_prior(Grid((65, 65)), Matern(0.5))

"""Gauss-Newton projection and the residual as an observation, against dense linear algebra and closed forms."""

import itertools
import math

import pytest
import torch

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.physics import (
    CovarianceGuided,
    Darcy,
    GaussianGuide,
    GaussNewtonProjected,
    Grid,
    LinearObservation,
    NonlinearObservation,
    Poisson,
    Problem,
    Projected,
    ResidualGuided,
    at_nodes,
    posterior,
    residual_observation,
)
from diffuscope.physics.conditioning import affine
from diffuscope.physics.operators import LogNormal
from diffuscope.samplers import DDIM
from diffuscope.samplers.generation import generate
from diffuscope.schedules import VE
from numbers_in_tests import normal

F64 = torch.float64


def free(shape: tuple[int, ...], variance: float = 1.0) -> ExactDenoiser:
    return ExactDenoiser(Gaussian.isotropic(torch.zeros(shape, dtype=F64), variance), VE())


def test_for_a_linear_constraint_one_step_is_the_orthogonal_projection() -> None:
    H, y, x = normal(3, 8), normal(5, 3, seed=1), normal(5, 2, 4, seed=2)
    constraint = LinearObservation(H, (2, 4))
    found = GaussNewtonProjected(free((2, 4)), constraint, y).project(x)
    expected = x.flatten(1) + (y - x.flatten(1) @ H.T) @ torch.linalg.pinv(H).T
    torch.testing.assert_close(found.x.flatten(1), expected, rtol=1e-10, atol=1e-10)
    assert found.steps.tolist() == [1] * 5
    dense = Projected(free((2, 4)), constraint, y)(x, 0.7)
    torch.testing.assert_close(GaussNewtonProjected(free((2, 4)), constraint, y)(x, 0.7), dense, rtol=1e-9, atol=1e-9)


def curved() -> NonlinearObservation:
    """Two quadratic equations in five unknowns."""
    Q, A = normal(2, 5, 5, seed=3) / 4, normal(2, 5, seed=4)
    return NonlinearObservation(lambda x: torch.einsum("bi,kij,bj->bk", x, Q.to(x), x) + x @ A.to(x).T, (5,))


def test_the_violation_is_squared_by_every_step() -> None:
    x, y = 0.5 * normal(6, 5, seed=5), 0.3 * normal(2, seed=6)
    errors = [
        GaussNewtonProjected(free((5,)), curved(), y, steps=k, tolerance=1e-16).project(x).violation for k in (1, 2, 3)
    ]
    for before, after in itertools.pairwise(errors):
        assert bool((after <= 3 * before**2 + 1e-15).all()), (before, after)
    assert bool((errors[0] > 1e-6).any())
    done = GaussNewtonProjected(free((5,)), curved(), y, tolerance=1e-14).project(x)
    assert bool(done.converged.all())
    assert float(done.violation.max()) < 2e-14
    assert int(done.steps.max()) <= 6


def test_the_first_step_is_the_shortest_that_meets_the_linearized_constraint() -> None:
    x, y = normal(3, 5, seed=5), normal(2, seed=6)
    h = curved()
    found = GaussNewtonProjected(free((5,)), h, y, steps=1).project(x)
    assert torch.equal(x, normal(3, 5, seed=5))  # the caller's fields are left alone
    for start, end in zip(x, found.x, strict=True):
        J = torch.autograd.functional.jacobian(lambda v: h(v[None])[0], start)
        full = -torch.linalg.pinv(J) @ (h(start[None])[0] - y)
        ratio = float((end - start) @ full / (full @ full))
        torch.testing.assert_close(end - start, ratio * full, rtol=1e-9, atol=1e-9)
        assert math.log2(ratio) == pytest.approx(round(math.log2(ratio)), abs=1e-9)  # 1, or halved
        assert ratio <= 1 + 1e-9


def test_a_step_that_overshoots_is_halved() -> None:
    arctan = NonlinearObservation(torch.atan, (1,))  # Newton's method diverges from |x| > 1.392
    found = GaussNewtonProjected(free((1,)), arctan, torch.zeros(1)).project(torch.tensor([[3.0]], dtype=F64))
    assert bool(found.converged.all())
    assert float(found.x.abs().max()) < 1e-10


def test_what_does_not_converge_is_reported_sample_by_sample() -> None:
    floor = NonlinearObservation(lambda x: x.square() + x.new_tensor(1.0), (1,))  # never below 1
    y = torch.tensor([[0.5], [5.0]], dtype=F64)
    x = torch.tensor([[1.0], [1.0]], dtype=F64)
    projected = GaussNewtonProjected(free((1,)), floor, y)
    found = projected.project(x)
    assert found.converged.tolist() == [False, True]
    assert 0.5 <= float(found.violation[0]) < 1.5
    assert float(found.x[1]) == pytest.approx(2, abs=1e-10)
    with pytest.warns(RuntimeWarning, match="1 of 2 fields are not on the constraint"):
        answer = projected(x.float(), 1e-3)
    assert answer.dtype == torch.float32
    for bad in ({"steps": 0}, {"iterations": 0}, {"tolerance": 0.0}):
        with pytest.raises(InputError):
            GaussNewtonProjected(free((1,)), floor, y, **bad)  # pyright: ignore[reportArgumentType]


def poisson(shape: tuple[int, ...]) -> Problem:
    return Problem(name="poisson", title="Poisson", equation=Poisson(Grid(shape)), given="forcing")


@pytest.mark.parametrize("axes", [1, 2])
def test_noise_drowns_the_raw_residual_and_is_itself_in_the_inverse_norm(axes: int) -> None:
    sigma, copies = 0.01, 40
    for n in (9, 17, 33):
        problem = poisson((n,) * axes)
        x = problem.fields(copies, generator=torch.Generator().manual_seed(0))
        x[:, 1] += sigma * normal(copies, *(n,) * axes, seed=1)
        inner = ~problem.equation.grid.boundary
        raw = problem.residual(x)[:, inner].square().mean().sqrt()
        expected = math.sqrt({1: 6, 2: 20}[axes]) * sigma * (n - 1) ** 2
        count = copies * int(inner.sum())
        assert float(raw) == pytest.approx(expected, rel=4 * math.sqrt(2 / count)), n  # neighbors' terms correlate
        weighted = residual_observation(problem)(x).square().sum(1)  # sigma^2 times the volume
        spread = math.sqrt(2 * float(problem.equation.grid.weights.square().sum()) / copies)
        assert float(weighted.mean()) == pytest.approx(sigma**2, abs=4 * spread * sigma**2), n


def test_the_norm_of_another_coefficient_is_equivalent_on_every_grid() -> None:
    for n in (5, 9):
        darcy = Darcy(Grid((n, n)))
        a = darcy.draw(1, generator=torch.Generator().manual_seed(2))[0]
        A, A_ref = (torch.from_numpy(darcy.jacobian(a, c).toarray()) for c in (a, torch.ones_like(a)))
        inner = (~darcy.grid.boundary).flatten()
        ratios = torch.linalg.eigvals(torch.linalg.solve(A_ref[inner][:, inner], A[inner][:, inner]))
        assert float(ratios.imag.abs().max()) < 1e-9
        assert float(a.min()) * (1 - 1e-9) <= float(ratios.real.min())
        assert float(ratios.real.max()) <= float(a.max()) * (1 + 1e-9)


def test_conditioning_on_the_residual_multiplies_the_prior_by_its_gaussian() -> None:
    problem, weight = poisson((5,)), 30.0
    root = normal(10, 10, seed=3) / 3
    prior = Gaussian.from_covariance(normal(2, 5, seed=4), root @ root.T + 0.1 * torch.eye(10, dtype=F64))
    h = residual_observation(problem, noise=weight**-0.5)
    observation, y = affine(h)
    H = observation.matrix
    precision = torch.linalg.inv(root @ root.T + 0.1 * torch.eye(10, dtype=F64)) + weight * H.T @ H
    covariance = torch.linalg.inv(precision)
    found = posterior(prior, observation, y)
    assert isinstance(found, Gaussian)
    dense = found.eigenvectors * found.eigenvalues @ found.eigenvectors.T
    torch.testing.assert_close(dense, covariance, rtol=1e-9, atol=1e-10)
    # p(x) exp(-weight |h|^2 / 2): its gradient vanishes at the mean
    mean = found.mean[None].clone().requires_grad_()
    log_density = prior.log_prob(mean, 1.0, 1e-7) - weight / 2 * h(mean).square().sum()
    assert float(torch.autograd.grad(log_density.sum(), mean)[0].abs().max()) < 1e-7
    with pytest.raises(InputError, match="affine"):
        affine(NonlinearObservation(torch.square, (3,)))


def test_residual_guidance_is_the_gradient_and_leaves_the_covariance_out() -> None:
    problem, weight, sigma = poisson((5,)), 4.0, 0.5
    prior, x = free((2, 5), 2.0), normal(3, 2, 5, seed=7)
    observation, y = affine(residual_observation(problem))
    H, c = observation.matrix, 2.0 * sigma**2 / (2.0 + sigma**2)
    D = prior(x, sigma).flatten(1)
    guided = ResidualGuided(prior, problem, weight=weight)
    expected = D + weight * c * (y - D @ H.T) @ H
    torch.testing.assert_close(guided(x, sigma).flatten(1), expected, rtol=1e-10, atol=1e-10)
    exact = GaussianGuide(prior, LinearObservation(H, (2, 5), weight**-0.5), y)(x, sigma).flatten(1)
    gain = c * H.T @ torch.linalg.inv(c * H @ H.T + torch.eye(5, dtype=F64) / weight)
    torch.testing.assert_close(exact, D + (y - D @ H.T) @ gain.T, rtol=1e-10, atol=1e-10)
    assert guided.event_shape == (2, 5)
    with pytest.raises(InputError, match="weight"):
        ResidualGuided(prior, problem, weight=0.0)
    with pytest.raises(InputError, match="reference"):
        residual_observation(problem, reference=torch.zeros(1, 5, dtype=F64))


def test_a_projection_of_a_guided_denoiser_solves_darcy_and_follows_the_data() -> None:
    equation = Darcy(Grid((8, 8)), media=LogNormal(0.3))
    problem = Problem(name="darcy", title="Darcy", equation=equation, given="coefficient")
    fields = problem.fields(100, generator=torch.Generator().manual_seed(0))
    prior = Gaussian.fit([fields])
    nodes = 64 + torch.tensor([18, 21, 27, 36, 45])  # of the solution
    observation = at_nodes(nodes, problem.event_shape, noise=1e-3)
    truth = problem.fields(1, generator=torch.Generator().manual_seed(1))
    guided = CovarianceGuided(ExactDenoiser(prior, VE()), observation, observation(truth)[0], iterations=20)
    h = residual_observation(problem)
    projected = GaussNewtonProjected(guided, h, torch.zeros(64, dtype=F64))
    x = generate(projected, 2, sampler=DDIM(), steps=4, dtype=F64)
    assert bool((x[:, 0] > 0).all())
    size = 8 * 49 * x[:, 0].max() * x[:, 1].abs().max()  # |A| |u|
    assert float(problem.residual(x).abs().max()) < 1e-12 * float(size)
    torch.testing.assert_close(equation.solve(x[:, 0]), x[:, 1], rtol=1e-10, atol=1e-12)
    prior_error, error = ((observation(v) - observation(truth)).square().mean().sqrt() for v in (fields, x))
    assert float(error) < 0.5 * float(prior_error)

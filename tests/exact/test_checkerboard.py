"""The noised checkerboard against 50-digit arithmetic, autograd and the identities every distribution obeys."""

import math
from typing import Any

import mpmath
import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.exact import Box, Distribution, checkerboard

BOARD = checkerboard()
LEVELS = [(1.0, 0.02), (1.0, 0.5), (0.4, 0.9), (1.0, 8.0), (0.0, 1.0)]


def points(alpha: float, sigma: float, n: int = 40) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return alpha * BOARD.sample(n, generator=draw) + sigma * torch.randn(n, 2, dtype=torch.float64, generator=draw)


def precise_moments(x: float, low: float, high: float, alpha: float, sigma: float) -> tuple[Any, Any, Any]:
    """log p, E[x_0 | x_t], Var(x_0 | x_t) of one coordinate, by the differences of Phi and phi in 60 digits or more."""
    # at z standard deviations from the interval the differences lose as many digits as exp(-z^2 / 2) has zeros
    tail = max(x - alpha * high, alpha * low - x, 0) / sigma
    with mpmath.workdps(60 + int(tail**2 / 4)):
        x, a, b, alpha, sigma = (mpmath.mpf(value) for value in (x, low, high, alpha, sigma))
        z_a, z_b = (x - alpha * a) / sigma, (x - alpha * b) / sigma
        mass = (mpmath.erf(z_a / mpmath.sqrt(2)) - mpmath.erf(z_b / mpmath.sqrt(2))) / 2
        mean_z = (mpmath.npdf(z_b) - mpmath.npdf(z_a)) / mass
        var_z = 1 + (z_b * mpmath.npdf(z_b) - z_a * mpmath.npdf(z_a)) / mass - mean_z**2
        scale = sigma / alpha
        return mpmath.log(mass / (alpha * (b - a))), (x - sigma * mean_z) / alpha, scale**2 * var_z


TAILS = [
    (0.3, 1.0, 0.5),
    (1.0, 1.0, 1e-3),
    (1.4, 1.0, 0.05),
    (3.0, 1.0, 0.1),
    (-7.0, 1.0, 0.2),
    (0.2, 1e-5, 1.0),
    (0.7, 1.0, 50.0),
]


@pytest.mark.parametrize(("x", "alpha", "sigma"), TAILS)
def test_a_slab_agrees_with_its_closed_form_in_many_digits_even_in_the_tails(x: float, alpha: float, sigma: float):
    box, low, high = Box(torch.tensor([0.25]), torch.tensor([1.0])), 0.25, 1.0
    log_p, mean, variance = precise_moments(x, low, high, alpha, sigma)
    x_t = torch.tensor([[x]], dtype=torch.float64)
    assert float(box.log_prob(x_t, alpha, sigma)) == pytest.approx(float(log_p), rel=1e-13, abs=1e-13)
    assert float(box.denoise(x_t, alpha, sigma)) == pytest.approx(float(mean), rel=1e-13)
    # relative: a tail's variance (sigma / alpha z)^2 is far below what 1 - E^2 could resolve
    assert float(box.posterior_covariance(x_t, alpha, sigma).trace()) == pytest.approx(float(variance), rel=1e-12)
    score = float((mpmath.mpf(alpha) * mean - mpmath.mpf(x)) / mpmath.mpf(sigma) ** 2)
    assert float(box.score(x_t, alpha, sigma)) == pytest.approx(score, rel=1e-12)


def panels(low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights of 80 Gauss-Legendre panels of 20 nodes on each of the intervals (K,)."""
    import numpy as np

    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(20))
    v = ((torch.arange(80.0, dtype=torch.float64)[:, None] + (1 + nodes) / 2) / 80).flatten()
    return low[:, None] + (high - low)[:, None] * v, (high - low)[:, None] * weights.repeat(80) / 160


def quadrature(x: torch.Tensor, alpha: float, sigma: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """log p, posterior mean and covariance by 1,600 nodes per side of every square."""
    corners = torch.stack([box.low for box in BOARD.distributions if isinstance(box, Box)])
    moments = []
    for axis in (0, 1):
        nodes, weights = panels(corners[:, axis], corners[:, axis] + 1)
        density = weights * (-((x[:, axis, None, None] - alpha * nodes) ** 2) / (2 * sigma**2)).exp()
        moments.append([(density * nodes**k).sum(-1) / math.sqrt(2 * math.pi) / sigma for k in range(3)])
    first, second = moments
    p = (first[0] * second[0]).mean(1)
    mean = torch.stack([(first[1] * second[0]).mean(1), (first[0] * second[1]).mean(1)], 1) / p[:, None]
    cross = (first[1] * second[1]).mean(1)
    rows = [[(first[2] * second[0]).mean(1), cross], [cross, (first[0] * second[2]).mean(1)]]
    square = torch.stack([torch.stack(row, 1) for row in rows], 1) / p[:, None, None]
    return p.log(), mean, square - mean[:, :, None] * mean[:, None, :]


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_density_mean_and_covariance_are_integrals_over_the_squares(alpha: float, sigma: float):
    x = points(alpha, sigma)
    log_p, mean, covariance = quadrature(x, alpha, sigma)
    torch.testing.assert_close(BOARD.log_prob(x, alpha, sigma), log_p, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(BOARD.denoise(x, alpha, sigma), mean, rtol=1e-10, atol=1e-10)
    operator = BOARD.posterior_covariance(x, alpha, sigma)
    v = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(operator.matvec(v), torch.einsum("bij,bj->bi", covariance, v), rtol=1e-10, atol=1e-10)
    diagonal = covariance.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(operator.trace(), diagonal.sum(1), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(operator.diagonal(), diagonal, rtol=1e-10, atol=1e-10)


def jacobian(x: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
    """grad D by autograd, (batch, 2, 2)."""
    leaf = x.clone().requires_grad_()
    denoised = BOARD.denoise(leaf, alpha, sigma)
    return torch.stack([torch.autograd.grad(denoised[:, i].sum(), leaf, retain_graph=True)[0] for i in (0, 1)], 1)


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_score_denoiser_and_covariance_are_derivatives_of_the_log_density(alpha: float, sigma: float):
    x = points(alpha, sigma).requires_grad_()
    (gradient,) = torch.autograd.grad(BOARD.log_prob(x, alpha, sigma).sum(), x)
    x = x.detach()
    score = BOARD.score(x, alpha, sigma)
    torch.testing.assert_close(score * sigma, gradient * sigma, rtol=1e-9, atol=1e-9)
    # Tweedie, and its derivative: alpha Cov = sigma^2 grad D
    torch.testing.assert_close(alpha * BOARD.denoise(x, alpha, sigma), x + sigma**2 * score, rtol=1e-10, atol=1e-10)
    v = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    applied = alpha / sigma**2 * BOARD.posterior_covariance(x, alpha, sigma).matvec(v)
    torch.testing.assert_close(torch.einsum("bij,bj->bi", jacobian(x, alpha, sigma), v), applied, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.3), (0.5, 0.8)])
def test_the_noised_board_has_mass_one(alpha: float, sigma: float):
    # the trapezoidal rule on a smooth function that vanishes at the ends; with spacing h < sigma / 3 its relative error
    # is of order exp(-2 (pi sigma / h)^2) < 1e-77
    half = 2 * alpha + 9 * sigma
    axis = torch.linspace(-half, half, 101, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    mass = BOARD.log_prob(grid, alpha, sigma).exp().sum() * float(axis[1] - axis[0]) ** 2
    assert float(mass) == pytest.approx(1, abs=1e-12)


def test_samples_fill_the_dark_squares_alike(generator: torch.Generator):
    n = 64_000
    x = BOARD.sample(n, generator=generator)
    squares = (x + 2).floor().long()
    assert bool(((squares.sum(1) % 2 == 0) & (squares >= 0).all(1) & (squares < 4).all(1)).all())
    counts = torch.bincount(4 * squares[:, 0] + squares[:, 1], minlength=16)
    dark = counts[counts > 0]
    assert len(dark) == 8
    # a binomial count of chance 1/8; five standard errors for eight of them
    assert float((dark / n - 1 / 8).abs().max()) < 5 * math.sqrt(7 / 64 / n)
    # within a square both coordinates are uniform: quarters of chance 1/4
    quarter = torch.bincount((4 * (x + 2).frac()).floor().long().flatten(), minlength=4) / (2 * n)
    assert float((quarter - 1 / 4).abs().max()) < 5 * math.sqrt(3 / 16 / (2 * n))


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 1e-9), (1.0, 1e-3), (1e-9, 1.0), (0.0, 1.0), (1.0, 1e5)])
def test_nothing_breaks_far_out_or_at_extreme_levels(alpha: float, sigma: float):
    x = torch.tensor([[0.0, 0.0], [1e6, -3.0], [2.0, 2.0], [-1e12, 1e12]], dtype=torch.float64)
    operator = BOARD.posterior_covariance(x, alpha, sigma)
    denoised = BOARD.denoise(x, alpha, sigma)
    for answer in (BOARD.log_prob(x, alpha, sigma), BOARD.score(x, alpha, sigma), operator.diagonal()):
        assert bool(torch.isfinite(answer).all())
    assert bool((denoised.abs() <= 2).all())
    assert bool((operator.trace() > 0).all())


def test_without_signal_the_posterior_is_the_board_itself():
    x = points(0.0, 1.0)
    torch.testing.assert_close(BOARD.denoise(x, 0.0, 1.0), torch.zeros_like(x), rtol=0, atol=1e-14)
    # a coordinate is uniform on [-2, 2]: variance 16 / 12. Dark squares lie along the diagonal: the covariance is that
    # of their centers, ((-3/2 + 1/2)^2 + (-1/2 + 3/2)^2) / 8 = 1/4
    covariance = torch.tensor([[4 / 3, 1 / 4], [1 / 4, 4 / 3]], dtype=torch.float64)
    applied = BOARD.posterior_covariance(x, 0.0, 1.0).matvec(x)
    torch.testing.assert_close(applied, x @ covariance, rtol=1e-12, atol=1e-13)


def test_single_precision_answers_are_the_double_ones_rounded():
    x = points(1.0, 0.3)
    double = BOARD.score(x.float().double(), 1.0, 0.3)
    single = BOARD.score(x.float(), 1.0, 0.3)
    assert single.dtype is torch.float32
    assert torch.equal(single, double.float())


def test_levels_may_differ_from_sample_to_sample():
    x = points(1.0, 0.3)[:3]
    alphas, sigmas = torch.tensor([1.0, 0.2, 0.0]).double(), torch.tensor([0.1, 0.9, 1.0]).double()
    together = BOARD.score(x, alphas, sigmas)
    for i in range(3):
        alone = BOARD.score(x[i : i + 1], float(alphas[i]), float(sigmas[i]))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-14, atol=0)


def test_a_board_is_a_distribution():
    assert isinstance(BOARD, Distribution)
    assert isinstance(BOARD.distributions[0], Distribution)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: checkerboard(0), "cells: expected at least 1, got 0"),
        (lambda: checkerboard(side=-1.0), "side: expected a finite number > 0, got -1"),
        (lambda: checkerboard(side=math.nan), "side: expected a finite number > 0, got nan"),
        (lambda: Box(torch.ones(2), torch.zeros(2)), "low, high: expected finite numbers, each low below its high"),
        (lambda: Box(torch.zeros(0), torch.zeros(0)), "low, high: expected"),
        (lambda: Box(torch.tensor([0.0]), torch.tensor([math.inf])), "low, high: expected"),
    ],
)
def test_bad_boards_are_refused(make: Any, line: str):
    with pytest.raises(InputError, match=line):
        make()

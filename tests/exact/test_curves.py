"""Curves with jitter against independent quadrature, autograd and the identities every distribution obeys."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import monte_carlo

from diffuscope.errors import InputError
from diffuscope.exact import (
    TOYS,
    Affine,
    Blurred,
    Box,
    Curve,
    Distribution,
    Gaussian,
    Ring,
    Superposition,
    known_distribution,
    known_range,
    rings,
    two_moons,
)

CURVES = ("two-moons", "spirals", "swiss-roll", "rings")
LEVELS = [(1.0, 0.02), (1.0, 0.5), (0.3, 0.9), (0.0, 1.0)]


def moons(u: torch.Tensor) -> list[torch.Tensor]:
    angle = math.pi * u
    return [
        torch.stack([angle.cos(), angle.sin()], 1),
        torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1),
    ]


def arms(u: torch.Tensor) -> list[torch.Tensor]:
    angle = 3 * math.pi * u.sqrt()
    arm = 2 / (3 * math.pi) * angle[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return [arm, -arm]


def roll(u: torch.Tensor) -> list[torch.Tensor]:
    angle = 1.5 * math.pi + 3 * math.pi * u
    return [angle[:, None] * torch.stack([angle.cos(), angle.sin()], 1) / (2.25 * math.pi)]


def circles(u: torch.Tensor) -> list[torch.Tensor]:
    circle = torch.stack([(2 * math.pi * u).cos(), (2 * math.pi * u).sin()], 1)
    return [radius * circle for radius in (0.5, 1.0, 1.5, 2.0)]


# x_0's center as a function of a uniform number, for every component: what the distributions are said to be
CENTERS: dict[str, Callable[[torch.Tensor], list[torch.Tensor]]] = {
    "two-moons": moons,
    "spirals": arms,
    "swiss-roll": roll,
    "rings": circles,
}


def centers(name: str, panels: int = 250) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights of the distribution of centers: panels of 20 Gauss-Legendre nodes, u = w^2 to be smooth at
    0.
    """
    import numpy as np

    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(20))
    w = ((torch.arange(panels, dtype=torch.float64)[:, None] + (1 + nodes) / 2) / panels).flatten()
    parts = CENTERS[name](w**2)
    share = 2 * w * weights.repeat(panels) / (2 * panels) / len(parts)
    return torch.cat(parts), share.repeat(len(parts))


def quadrature(
    name: str, x: torch.Tensor, alpha: float, sigma: float, panels: int = 250
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """log p, posterior mean and covariance of x_0 = c + 0.05 z."""
    (c, share), jitter = centers(name, panels), 0.05
    rho = math.hypot(alpha * jitter, sigma)
    logits = share.log() - (x[:, None] - alpha * c).square().sum(-1) / (2 * rho**2)
    log_p = torch.logsumexp(logits, 1) - math.log(2 * math.pi * rho**2)
    weights, kept = logits.softmax(1), (sigma / rho) ** 2
    # given c, x_0 is Gaussian about (kept c + alpha jitter^2 / rho^2 x)
    mean = kept * (weights @ c) + alpha * (jitter / rho) ** 2 * x
    around = c - (weights @ c)[:, None]
    between = kept**2 * torch.einsum("bn,bni,bnj->bij", weights, around, around)
    return log_p, mean, between + (jitter * sigma / rho) ** 2 * torch.eye(2, dtype=torch.float64)


def points(distribution: Distribution, alpha: float, sigma: float, n: int = 24) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return alpha * distribution.sample(n, generator=draw) + sigma * torch.randn(
        n, 2, dtype=torch.float64, generator=draw
    )


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
@pytest.mark.parametrize("name", CURVES)
def test_density_mean_and_covariance_are_integrals_along_the_curve(name: str, alpha: float, sigma: float):
    distribution = known_distribution(name)
    x = points(distribution, alpha, sigma)
    log_p, mean, covariance = quadrature(name, x, alpha, sigma)
    torch.testing.assert_close(distribution.log_prob(x, alpha, sigma), log_p, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(distribution.denoise(x, alpha, sigma), mean, rtol=1e-9, atol=1e-10)
    operator = distribution.posterior_covariance(x, alpha, sigma)
    v = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(operator.matvec(v), torch.einsum("bij,bj->bi", covariance, v), rtol=1e-9, atol=1e-9)
    diagonal = covariance.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(operator.trace(), diagonal.sum(1), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(operator.diagonal(), diagonal, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
@pytest.mark.parametrize("name", CURVES)
def test_score_and_denoiser_are_derivatives_of_the_log_density(name: str, alpha: float, sigma: float):
    distribution = known_distribution(name)
    x = points(distribution, alpha, sigma, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(distribution.log_prob(x, alpha, sigma).sum(), x)
    x = x.detach()
    score = distribution.score(x, alpha, sigma)
    torch.testing.assert_close(score * sigma, gradient * sigma, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(
        alpha * distribution.denoise(x, alpha, sigma), x + sigma**2 * score, rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("name", CURVES)
def test_the_covariance_is_the_slope_of_the_denoiser(name: str):
    distribution, alpha, sigma = known_distribution(name), 0.7, 0.4
    x = points(distribution, alpha, sigma, 8).requires_grad_()
    v = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (pulled,) = torch.autograd.grad((distribution.denoise(x, alpha, sigma) * v).sum(), x)
    applied = alpha / sigma**2 * distribution.posterior_covariance(x.detach(), alpha, sigma).matvec(v)
    torch.testing.assert_close(applied, pulled, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in CURVES if name != "rings"])
def test_the_stated_error_bounds_the_true_one_at_the_least_noise(name: str):
    distribution = known_distribution(name)
    parts = distribution.distributions if isinstance(distribution, Superposition) else (distribution,)
    assert all(isinstance(part, Curve) and part.error <= part.accuracy == 1e-12 for part in parts)
    # sigma so small that the jitter alone is left; in the tails on every side
    x = distribution.sample(12, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([[0.0, 0.0], [0.25, 0.0], [-0.2, 0.2], [0.0, -3.0], [4.0, 1.0]]).double()
    probes = (x[:, None] + shift).reshape(-1, 2)
    # far off an end of the curve the integrand falls by exp(-2,000) per unit of length
    log_p = quadrature(name, probes, 1.0, 1e-7, panels=2000)[0]
    error = (distribution.log_prob(probes, 1.0, 1e-7) - log_p).abs() / (1 + log_p.abs())
    # 1e-12 of the distribution, and as much of the reference
    assert float(error.max()) < 2e-12


@pytest.mark.parametrize("name", CURVES)
def test_samples_have_the_moments_of_the_continuous_curve(name: str):
    distribution = known_distribution(name)
    x = distribution.sample(40_000, generator=torch.Generator().manual_seed(3))
    c, share = centers(name)
    for i in (0, 1):
        assert monte_carlo(x[:, i]).agrees_with(float(share @ c[:, i]))
        second = float(share @ c[:, i] ** 2) + 0.05**2
        assert monte_carlo(x[:, i] ** 2).agrees_with(second)
    assert monte_carlo(x[:, 0] * x[:, 1]).agrees_with(float(share @ (c[:, 0] * c[:, 1])))
    assert len(x.unique(dim=0)) == len(x)


def test_samples_without_jitter_lie_on_the_curve_and_between_its_nodes(generator: torch.Generator):
    distribution = two_moons(0.0, smallest_noise=0.1)
    x, which = distribution.sample_with_labels(2000, generator=generator)
    upper, lower = x[which == 0], x[which == 1]
    assert float((upper.norm(dim=1) - 1).abs().max()) < 1e-14
    assert float((((lower - torch.tensor([1.0, 0.5])) ** 2).sum(1) - 1).abs().max()) < 1e-14
    # the angle is uniform: ten cells of chance 1/10, five standard errors
    angle = torch.atan2(upper[:, 1], upper[:, 0]) / math.pi
    shares = torch.histc(angle, 10, 0, 1) / len(angle)
    assert float((shares - 0.1).abs().max()) < 5 * math.sqrt(0.09 / len(angle))
    assert len(upper.unique(dim=0)) == len(upper)


@pytest.mark.parametrize("name", TOYS)
def test_a_noised_toy_has_mass_one(name: str):
    axis = torch.linspace(-5.5, 6, 58, dtype=torch.float64)
    mass = known_distribution(name).log_prob(torch.cartesian_prod(axis, axis), 1.0, 0.4).exp().sum()
    # the trapezoidal rule; 8.7 standard deviations from the outermost point to the edge
    assert float(mass) * float(axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=1e-11)


FAR = torch.tensor([[0.0, 0.0], [1e6, -3.0], [2.0, 2.0]], dtype=torch.float64)
NEAR = torch.tensor([[0.0, 0.0], [30.0, -3.0], [2.0, 2.0]], dtype=torch.float64)


def moments(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of x_0."""
    unit = torch.eye(2, dtype=torch.float64)
    if name == "checkerboard":
        corners = [[i - 2.0, j - 2.0] for i in range(4) for j in range(4) if (i + j) % 2 == 0]
        c, inner = torch.tensor(corners, dtype=torch.float64) + 0.5, unit / 12
        share = torch.full((8,), 1 / 8, dtype=torch.float64)
    else:
        (c, share), inner = centers(name), 0.05**2 * unit
    mean = share @ c
    return mean, (c - mean).T @ (share[:, None] * (c - mean)) + inner


@pytest.mark.parametrize("name", TOYS)
def test_without_signal_the_noised_distribution_is_the_noise_and_the_posterior_the_distribution(name: str):
    distribution, (mean, covariance) = known_distribution(name), moments(name)
    log_normal = -NEAR.square().sum(1) / 2 - math.log(2 * math.pi)
    torch.testing.assert_close(distribution.log_prob(NEAR, 0.0, 1.0), log_normal, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(distribution.score(NEAR, 0.0, 1.0), -NEAR, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(distribution.denoise(NEAR, 0.0, 1.0), mean.expand(3, 2), rtol=0, atol=1e-9)
    operator = distribution.posterior_covariance(NEAR, 0.0, 1.0)
    torch.testing.assert_close(operator.diagonal(), covariance.diagonal().expand(3, 2), rtol=0, atol=1e-9)
    torch.testing.assert_close(operator.matvec(NEAR), NEAR @ covariance, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize(("alpha", "sigma"), [(1e-9, 1.0), (1.0, 1e4)])
def test_in_great_noise_the_posterior_mean_is_linear_in_the_point(name: str, alpha: float, sigma: float):
    """D = mean + Cov y + O(y^2), with y = alpha x / sigma^2 at most 0.01: third cumulants below 4 by y^2/2, 2e-4."""
    distribution, (mean, covariance) = known_distribution(name), moments(name)
    expected = mean + alpha / sigma**2 * FAR @ covariance
    torch.testing.assert_close(distribution.denoise(FAR, alpha, sigma), expected, rtol=0, atol=3e-4)
    score = (alpha * expected - FAR) / sigma**2
    torch.testing.assert_close(
        distribution.score(FAR, alpha, sigma) * sigma, score * sigma, rtol=1e-12, atol=1e-4 / sigma
    )


@pytest.mark.parametrize("name", TOYS)
def test_in_no_noise_a_point_in_the_jitters_reach_is_known_and_outside_of_the_board_its_nearest_point_is(name: str):
    distribution = known_distribution(name)
    denoised, operator = distribution.denoise(FAR, 1.0, 1e-9), distribution.posterior_covariance(FAR, 1.0, 1e-9)
    expected = torch.tensor([[0.0, 0.0], [2.0, -1.0], [2.0, 2.0]]).double() if name == "checkerboard" else FAR
    # of the order of sigma at the corners of the board, of sigma^2 |x| / jitter^2 for the others
    torch.testing.assert_close(denoised, expected, rtol=0, atol=1e-8)
    assert bool((operator.diagonal() >= 0).all())
    assert float(operator.trace().max()) < 3e-18


def test_a_quarter_more_noise_needs_fewer_nodes_and_less_needs_more():
    nodes = [two_moons(jitter).distributions[0] for jitter in (0.2, 0.05, 0.02)]
    counts = [distribution.nodes for distribution in nodes if isinstance(distribution, Curve)]
    assert counts == sorted(counts)
    assert counts[0] < counts[2]


def test_a_circle_as_a_curve_is_the_ring():
    def circle(v: torch.Tensor) -> torch.Tensor:
        return torch.stack([(2 * math.pi * v).cos(), (2 * math.pi * v).sin()], 1)

    by_quadrature, closed = Curve(circle, jitter=0.1), Blurred(Ring(1.0), 0.1)
    x = points(closed, 1.0, 0.3)
    torch.testing.assert_close(by_quadrature.log_prob(x, 1.0, 0.3), closed.log_prob(x, 1.0, 0.3), rtol=0, atol=1e-12)
    torch.testing.assert_close(by_quadrature.denoise(x, 1.0, 0.3), closed.denoise(x, 1.0, 0.3), rtol=0, atol=1e-11)


def test_a_blurred_gaussian_in_other_units_is_the_gaussian_with_those_moments(generator: torch.Generator):
    covariance = torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=torch.float64)
    mean = torch.tensor([0.5, -1.0], dtype=torch.float64)
    distribution = Affine(Blurred(Gaussian.from_covariance(mean, covariance), 0.7), 1.5, 2.0)
    same = Gaussian.from_covariance(1.5 * mean + 2, 2.25 * (covariance + 0.49 * torch.eye(2, dtype=torch.float64)))
    x = 3 * torch.randn(20, 2, dtype=torch.float64, generator=generator)
    for alpha, sigma in [(1.0, 0.2), (0.3, 2.0), (0.0, 1.0)]:
        for one, other in zip(answers(distribution, x, alpha, sigma), answers(same, x, alpha, sigma), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    drawn = distribution.sample(20_000, generator=generator)
    assert monte_carlo(drawn[:, 0]).agrees_with(float(same.mean[0]))
    assert monte_carlo((drawn[:, 1] - same.mean[1]) ** 2).agrees_with(2.25 * 2.49)


def answers(distribution: Distribution, x: torch.Tensor, alpha: float, sigma: float) -> list[torch.Tensor]:
    operator = distribution.posterior_covariance(x, alpha, sigma)
    points_ = (
        distribution.log_prob(x, alpha, sigma),
        distribution.score(x, alpha, sigma),
        distribution.denoise(x, alpha, sigma),
    )
    return [*points_, operator.matvec(x), operator.trace(), operator.diagonal()]


def test_halves_of_a_box_superposed_are_the_box(generator: torch.Generator):
    low, high, middle = (torch.tensor(ends) for ends in ([-1.0, 0.0], [2.0, 1.0], [0.5, 1.0]))
    whole = Box(low, high)
    halves = Superposition([Box(low, middle), Box(torch.tensor([0.5, 0.0]), high)])
    x = torch.randn(20, 2, dtype=torch.float64, generator=generator)
    for alpha, sigma in [(1.0, 0.2), (0.3, 2.0), (0.0, 1.0)]:
        for one, other in zip(answers(halves, x, alpha, sigma), answers(whole, x, alpha, sigma), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", TOYS)
def test_the_distribution_in_a_models_range_is_that_of_the_mapped_examples(name: str):
    own, distribution = known_distribution(name), known_distribution(name, (-1.0, 1.0))
    low, high = known_range(name)
    scale = 2 / (high - low)
    x = points(own, 1.0, 0.2, 8)
    mapped = (x - low) * scale - 1
    # the density of mapped points, with noise mapped along
    log_p = own.log_prob(x, 1.0, 0.2) - 2 * math.log(scale)
    torch.testing.assert_close(distribution.log_prob(mapped, 1.0, 0.2 * scale), log_p, rtol=1e-12, atol=1e-12)
    drawn = distribution.sample(500, generator=torch.Generator().manual_seed(0))
    assert float(drawn.abs().max()) < 1


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: two_moons(0.0), "smallest_noise: expected a number > 0 for a curve without jitter, got 0"),
        (lambda: two_moons(-1.0), "jitter: expected a finite number >= 0, got -1"),
        (lambda: two_moons(math.nan), "jitter: expected a finite number >= 0, got nan"),
        (lambda: two_moons(accuracy=0.0), "accuracy: expected 1e-13 <= accuracy < 1, got 0"),
        (lambda: two_moons(1e-4), "accuracy: expected at least .*nodes reach at total noise 0.0001, got 1e-12"),
        (lambda: Curve(moons_upper, lambda v: v, jitter=0.1), "density: expected the integral 1"),
        (lambda: rings(radii=(1.0, 0.0)), "radii: expected finite numbers > 0"),
        (lambda: rings(-0.1), "jitter: expected a finite number >= 0"),
        (lambda: rings(radii=()), "distributions: expected at least one"),
        (lambda: Superposition([Ring()], torch.tensor([-1.0])), "weights: expected 1 finite values >= 0"),
        (lambda: Affine(Ring(), 0.0, 1.0), "scale: expected a finite number > 0, got 0"),
        (lambda: Affine(Ring(), 1.0, math.inf), "shift: expected a finite number, got inf"),
        (lambda: known_distribution("three-moons"), "name: expected one of two-moons, .*got 'three-moons'"),
        (lambda: known_distribution("rings", (1.0, 1.0)), "data_range: expected two finite numbers, the lower first"),
    ],
)
def test_bad_distributions_are_refused(make: Any, line: str):
    with pytest.raises(InputError, match=line) as raised:
        make()
    assert "\n" not in str(raised.value)


def moons_upper(v: torch.Tensor) -> torch.Tensor:
    return moons(v)[0]


def test_less_noise_than_was_resolved_is_refused():
    distribution = two_moons(0.0, smallest_noise=0.1)
    x = torch.zeros(2, 2, dtype=torch.float64)
    distribution.score(x, 0.5, 0.05)
    with pytest.raises(InputError, match=r"sigma: expected sigma/alpha >= smallest_noise \(0.1\), got 0.0998"):
        distribution.score(x, 0.5, 0.0499)
    # without signal nothing needs to be resolved
    assert bool(torch.isfinite(distribution.score(x, 0.0, 1e-3)).all())


def test_responsibilities_of_two_gaussians_are_a_logistic_function_of_the_place():
    """w_2 = 1 / (1 + exp(-2 m alpha x / v)) for N(-m, 1) and N(m, 1), with v = alpha^2 + sigma^2."""
    parts = [Gaussian.isotropic(torch.tensor([m], dtype=torch.float64), 1.0) for m in (-1.5, 1.5)]
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)[:, None]
    alpha, sigma = 0.8, 0.3
    found = Superposition(parts).responsibilities(x, alpha, sigma)
    expected = torch.sigmoid(2 * 1.5 * alpha * x[:, 0] / (alpha**2 + sigma**2))
    assert torch.allclose(found, torch.stack([1 - expected, expected], 1), rtol=1e-12, atol=1e-14)

"""The diffused circle against quadrature over the circle, autograd, and the identities every distribution obeys."""

import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.exact import Ring

LEVELS = [(1.0, 0.05), (1.0, 0.6), (0.4, 0.9), (0.0, 1.0)]
RING = Ring(1.3)


def points(alpha: float, sigma: float) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(40, 2, dtype=torch.float64, generator=draw)
    return alpha * RING.sample(40, generator=draw) + sigma * noise


def quadrature(x: torch.Tensor, alpha: float, sigma: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """log p, posterior mean and covariance by the trapezoidal rule over the angle: spectrally accurate."""
    angle = torch.arange(4096, dtype=torch.float64) * (2 * math.pi / 4096)
    circle = RING.radius * torch.stack([angle.cos(), angle.sin()], dim=1)
    logits = -(x[:, None] - alpha * circle).square().sum(-1) / (2 * sigma**2)
    log_p = torch.logsumexp(logits, 1) - math.log(4096) - math.log(2 * math.pi * sigma**2)
    weights = logits.softmax(1)
    mean = weights @ circle
    second = torch.einsum("bn,ni,nj->bij", weights, circle, circle)
    return log_p, mean, second - mean[:, :, None] * mean[:, None, :]


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_density_mean_and_covariance_are_integrals_over_the_circle(alpha: float, sigma: float):
    x = points(alpha, sigma)
    log_p, mean, covariance = quadrature(x, alpha, sigma)
    assert torch.allclose(RING.log_prob(x, alpha, sigma), log_p, rtol=1e-11, atol=1e-11)
    assert torch.allclose(RING.denoise(x, alpha, sigma), mean, rtol=1e-11, atol=1e-11)
    operator = RING.posterior_covariance(x, alpha, sigma)
    v = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(operator.matvec(v), torch.einsum("bij,bj->bi", covariance, v), rtol=1e-9, atol=1e-10)
    assert torch.allclose(operator.trace(), covariance.diagonal(dim1=1, dim2=2).sum(1), rtol=1e-9, atol=1e-10)
    assert torch.allclose(operator.diagonal(), covariance.diagonal(dim1=1, dim2=2), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_the_score_is_the_gradient_of_the_log_density(alpha: float, sigma: float):
    x = points(alpha, sigma).requires_grad_()
    (gradient,) = torch.autograd.grad(RING.log_prob(x, alpha, sigma).sum(), x)
    assert torch.allclose(RING.score(x.detach(), alpha, sigma), gradient, rtol=1e-9, atol=1e-9)


def test_at_the_center_and_far_out_nothing_breaks():
    x = torch.tensor([[0.0, 0.0], [1e6, 0.0]], dtype=torch.float64)
    denoised = RING.denoise(x, 1.0, 0.01)
    assert torch.allclose(denoised, torch.tensor([[0.0, 0.0], [1.3, 0.0]], dtype=torch.float64), atol=1e-9)
    operator = RING.posterior_covariance(x, 1.0, 0.01)
    # at the center every direction is as likely; far out the posterior is a point
    assert torch.allclose(operator.trace(), torch.tensor([1.3**2, 0.0], dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("kappa", [0.9e4, 1.1e4])
def test_along_the_point_the_variance_is_that_of_a_great_concentration_on_both_sides_of_the_switch(kappa: float):
    """R^2 / (2 kappa^2) (1 + O(1/kappa)); the difference that it replaces cancels to eps kappa^2, 3e-8."""
    x = torch.tensor([[0.3, 0.4]], dtype=torch.float64)
    sigma = (RING.radius * 0.5 / kappa) ** 0.5
    operator = RING.posterior_covariance(x, 1.0, sigma)
    unit = x / 0.5
    along = float((operator.matvec(unit) * unit).sum())
    assert along == pytest.approx(RING.radius**2 / (2 * kappa**2), rel=1e-3)
    assert float(operator.trace()) - along == pytest.approx(RING.radius**2 / kappa, rel=1e-3)


@pytest.mark.parametrize("kappa", [0.99e-4, 1.01e-4])
def test_at_no_concentration_the_pull_is_one_half(kappa: float):
    """A(kappa) / kappa = 1/2 - kappa^2 / 16, on both sides of the switch to the series."""
    x, sigma = torch.tensor([[1.0, 0.0]], dtype=torch.float64), 1.0
    alpha = kappa / RING.radius
    pull = float(RING.denoise(x, alpha, sigma)[0, 0]) / (alpha * RING.radius**2)
    assert pull == pytest.approx(0.5, abs=1e-9)


def test_a_ring_needs_a_positive_radius():
    with pytest.raises(InputError, match="radius: expected a positive number, got inf"):
        Ring(math.inf)
    with pytest.raises(InputError, match="radius: expected a positive number, got 0"):
        Ring(0.0)

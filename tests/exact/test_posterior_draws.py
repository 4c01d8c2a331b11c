"""Draws around a denoised value have the posterior's mean and covariance; where nothing is uncertain they are exact."""

import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.exact import (
    Empirical,
    Gaussian,
    GaussianMixture,
    Ring,
    dense_covariance,
    posterior_noise,
    posterior_sample,
)

DRAW = torch.Generator().manual_seed(11)
POINTS = torch.randn(50, 3, dtype=torch.float64, generator=DRAW)
ROOT = torch.randn(3, 3, dtype=torch.float64, generator=DRAW)
DISTRIBUTIONS = {
    "points": Empirical(POINTS, torch.rand(50, dtype=torch.float64, generator=DRAW)),
    "Gaussian": Gaussian.from_covariance(POINTS[0], ROOT @ ROOT.T),
    "low rank": Gaussian.from_covariance(POINTS[0], ROOT @ ROOT.T, rank=1),
    "mixture": GaussianMixture.from_covariances(
        torch.tensor([0.3, 0.7], dtype=torch.float64), POINTS[:2], torch.stack([ROOT @ ROOT.T, torch.eye(3).double()])
    ),
    "point masses": GaussianMixture.isotropic(
        torch.tensor([0.3, 0.7], dtype=torch.float64), POINTS[:2], torch.zeros(2, dtype=torch.float64)
    ),
}
N, ALPHA, SIGMA = 4_000, 0.8, 0.6
QUERY = torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64)


def moments(drawn, center):
    """Mean and second moments about `center`, each with its standard error."""
    off = drawn - center
    products = off[:, :, None] * off[:, None, :]
    return (
        (off.mean(0), off.std(0) / math.sqrt(len(off))),
        (products.mean(0), products.std(0) / math.sqrt(len(off))),
    )


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_noise_has_mean_zero_and_the_posterior_covariance(name):
    """12 numbers per case, within 4.5 standard errors."""
    p, x = DISTRIBUTIONS[name], QUERY.expand(N, -1)
    covariance = p.posterior_covariance(x, ALPHA, SIGMA)
    drawn = posterior_noise(covariance, x, generator=torch.Generator().manual_seed(1))
    exact = dense_covariance(p.posterior_covariance(QUERY, ALPHA, SIGMA), QUERY)[0]
    (mean, mean_error), (second, second_error) = moments(drawn, torch.zeros(3))
    assert bool((mean.abs() < 4.5 * mean_error).all())
    assert bool(((second - exact).abs() < 4.5 * second_error).all())


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_noise_is_gaussian(name):
    """The fourth moment of a direction is three times the squared variance; the ratio has standard error sqrt(24/n)."""
    x = QUERY.expand(N, -1)
    covariance = DISTRIBUTIONS[name].posterior_covariance(x, ALPHA, SIGMA)
    along = (
        posterior_noise(covariance, x, generator=torch.Generator().manual_seed(2))
        @ torch.tensor([1.0, 2.0, -1.0]).double()
    )
    assert abs(float(along.pow(4).mean() / along.square().mean() ** 2) - 3) < 4.5 * math.sqrt(24 / N)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_draws_of_the_clean_example_have_the_posterior_mean_and_covariance(name):
    p, x = DISTRIBUTIONS[name], QUERY.expand(N, -1)
    drawn = posterior_sample(p, x, ALPHA, SIGMA, generator=torch.Generator().manual_seed(3))
    exact = dense_covariance(p.posterior_covariance(QUERY, ALPHA, SIGMA), QUERY)[0]
    (mean, mean_error), (second, second_error) = moments(drawn, p.denoise(QUERY, ALPHA, SIGMA)[0])
    assert bool((mean.abs() < 4.5 * mean_error).all())
    assert bool(((second - exact).abs() < 4.5 * second_error).all())


def test_points_are_drawn_by_their_posterior_weights_however_many_are_light():
    """600 points on a line, most of them beyond the exact ones: frequencies within 4.5 binomial standard errors."""
    points = torch.linspace(-1, 1, 600, dtype=torch.float64)[:, None]
    x = torch.full((2_000, 1), 0.3, dtype=torch.float64)
    p = Empirical(points, memory=2**16)  # many chunks
    drawn = posterior_sample(p, x, 1.0, 0.5, generator=torch.Generator().manual_seed(4))
    exact = torch.softmax(-(0.3 - points[:, 0]).square() / (2 * 0.25), 0)
    which = (drawn - points.T).abs().argmin(1)
    share = torch.bincount(which, minlength=600).reshape(20, 30).sum(1) / len(x)
    weight = exact.reshape(20, 30).sum(1)
    assert bool(((share - weight).abs() < 4.5 * (weight * (1 - weight) / len(x)).sqrt()).all())
    beyond = torch.full_like(x, 1.5)  # where the heaviest point is at the end, far from the mean
    exact = torch.softmax(-(1.5 - points[:, 0]).square() / (2 * 0.25), 0)
    covariance = p.posterior_covariance(beyond, 1.0, 0.5)
    noise = posterior_noise(covariance, beyond, generator=torch.Generator().manual_seed(5))
    variance = float(exact @ points[:, 0].square() - (exact @ points[:, 0]) ** 2)
    assert abs(float(noise.var()) / variance - 1) < 4.5 * math.sqrt(2 / len(x))


def test_a_covariance_known_as_an_operator_only_is_made_dense():
    """A ring, against its own second moments: its posterior is neither of points nor of Gaussians."""
    x = torch.tensor([[0.4, -0.3]], dtype=torch.float64).expand(N, -1)
    covariance = Ring().posterior_covariance(x, 1.0, 0.5)
    drawn = posterior_noise(covariance, x, generator=torch.Generator().manual_seed(6))
    exact = dense_covariance(Ring().posterior_covariance(x[:1], 1.0, 0.5), x[:1])[0]
    _, (second, error) = moments(drawn, torch.zeros(2))
    assert bool(((second - exact).abs() < 4.5 * error).all())


def test_one_point_leaves_nothing_to_draw():
    p, x = Empirical(POINTS[:1]), torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(8)
    assert bool((posterior_noise(p.posterior_covariance(x, 0.5, 0.1), x, generator=generator) == 0).all())
    assert torch.equal(posterior_sample(p, x, 0.5, 0.1, generator=generator), POINTS[:1].expand(7, 3))


def test_images_keep_their_shape():
    p = Empirical(torch.randn(20, 1, 4, 4, generator=torch.Generator().manual_seed(0)))
    x = torch.zeros(5, 1, 4, 4)
    generator = torch.Generator().manual_seed(1)
    noise = posterior_noise(p.posterior_covariance(x, 1.0, 2.0), x, generator=generator)
    drawn = posterior_sample(p, x, 1.0, 2.0, generator=generator)
    assert noise.shape == x.shape == drawn.shape
    assert noise.dtype == drawn.dtype == torch.float32
    assert bool((drawn.flatten(1)[:, None] == p.sample(400, generator=generator).flatten(1)).all(2).any(1).all())


def test_what_cannot_be_drawn_is_refused():
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(InputError, match="distribution: expected a finite data set"):
        posterior_sample(Ring(), torch.zeros(1, 2), 1.0, 1.0, generator=generator)
    large = torch.zeros(1, 1025)
    covariance = Gaussian.isotropic(torch.zeros(1025), 1.0).posterior_covariance(large, 1.0, 1.0)
    with pytest.raises(InputError, match="1024 coordinates"):
        dense_covariance(covariance, large)

"""The PCA-local score: what its masks hold, and the posterior mean of every pixel given its mask."""

import math

import pytest
import torch

from diffuscope.denoisers.analytic import pca_local_score, wiener_masks
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian
from diffuscope.schedules import VP, RectifiedFlow
from numbers_in_tests import seeded

SIDE = 4


def images(n=60, seed=1):
    """White noise under a separable blur: neighbors are alike."""
    white = torch.randn(n, SIDE, SIDE, generator=seeded(seed), dtype=torch.float64)
    blur = torch.exp(-((torch.arange(SIDE)[:, None] - torch.arange(SIDE)).double() ** 2) / 2)
    return blur @ white @ blur


def queries(n):
    return 1.5 * images(n, seed=2)


def gaussian():
    return Gaussian.fit([images()])


def energies(level):
    """W^2, up to a factor, by a solve without eigenvectors."""
    flat = images().flatten(1)
    covariance = torch.cov(flat.T, correction=0)
    if math.isinf(level):
        return covariance.square()
    noisy = covariance + level**2 * torch.eye(len(covariance), dtype=torch.float64)
    return torch.linalg.solve(noisy, covariance).T.square()


@pytest.mark.parametrize("share", [0.3, 0.8, 0.99])
@pytest.mark.parametrize("level", [0.1, 1.3, math.inf])
def test_a_mask_holds_its_share_and_no_smaller_set_does(level, share):
    energy, masks = energies(level), wiener_masks(gaussian(), level, share)
    needed, size = share * energy.sum(1), masks.sum(1)
    held = (energy * masks).sum(1)
    best = energy.sort(1, descending=True).values.cumsum(1)
    torch.testing.assert_close(held, best.gather(1, size[:, None] - 1)[:, 0], rtol=1e-9, atol=0)
    assert bool((held >= needed * (1 - 1e-9)).all())
    fewer = torch.where(size > 1, best.gather(1, (size[:, None] - 2).clamp_min(0))[:, 0], 0.0)
    assert bool((fewer < needed).all())


def test_masks_are_wider_at_higher_noise():
    sizes = [int(wiener_masks(gaussian(), level, 0.9).sum()) for level in (0.01, 0.3, 1.0, 10.0, math.inf)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_independent_pixels_read_themselves_alone():
    white = Gaussian(torch.zeros(3), torch.eye(3), torch.tensor([3.0, 2.0, 1.0]))
    assert torch.equal(wiener_masks(white, 0.7, 0.999), torch.eye(3, dtype=torch.bool))


def test_a_constant_pixel_reads_itself():
    known = Gaussian.from_covariance(torch.zeros(3), torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    assert wiener_masks(known, 1.0, 0.99)[2].tolist() == [False, False, True]


@pytest.mark.parametrize("t", [0.01, 0.3, 0.9])
def test_a_share_of_one_is_the_empirical_denoiser(t):
    schedule = VP()
    exact = Empirical(images()).denoise(queries(5), schedule.alpha(t), schedule.sigma(t))
    torch.testing.assert_close(pca_local_score(images(), schedule, share=1)(queries(5), t), exact, rtol=0, atol=1e-12)


def test_every_pixel_is_the_posterior_mean_given_its_mask():
    """Pixel by pixel: the weights of the masked pixels, at the pixel's values."""
    points, x, schedule, t = images().flatten(1), queries(3).flatten(1), VP(), 0.4
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    answer = pca_local_score(images(), schedule, share=0.8)(queries(3), t).flatten(1)
    for q, mask in enumerate(wiener_masks(gaussian(), sigma / alpha, 0.8)):
        square = (x[:, None, mask] - alpha * points[None, :, mask]).square().sum(2)
        known = (-square / (2 * sigma**2)).softmax(1) @ points[:, q]
        torch.testing.assert_close(answer[:, q], known, rtol=0, atol=1e-12)


def test_a_share_of_zero_is_one_scalar_posterior_mean_per_pixel():
    """At low noise the pixel that the filter reads most is the pixel itself."""
    points, x, schedule, t = images().flatten(1), queries(2).flatten(1), RectifiedFlow(), 0.05
    answer = pca_local_score(images(), schedule, share=0)(queries(2), t).flatten(1)
    exact = [Empirical(points[:, q : q + 1]).denoise(x[:, q : q + 1], 1 - t, t) for q in range(SIDE**2)]
    torch.testing.assert_close(answer, torch.cat(exact, 1), rtol=0, atol=1e-12)


def test_color_channels_are_pixels_of_their_own():
    """Two channels side by side are one image of twice the width."""
    color = torch.stack([images(), images(seed=3)], 1)
    x_t = torch.stack([queries(3), queries(3).flip(0)], 1)
    wide = torch.cat([color[:, 0], color[:, 1]], 1)
    answer = pca_local_score(color, VP(), share=0.9)(x_t, 0.2)
    there = pca_local_score(wide, VP(), share=0.9)(torch.cat([x_t[:, 0], x_t[:, 1]], 1), 0.2)
    torch.testing.assert_close(torch.cat([answer[:, 0], answer[:, 1]], 1), there, rtol=0, atol=1e-12)


def test_pure_noise_is_answered_by_the_mean_of_the_data():
    answer = pca_local_score(images(), RectifiedFlow(), share=0.9)(queries(2), 1.0)
    torch.testing.assert_close(answer, images().mean(0).expand(2, SIDE, SIDE), rtol=0, atol=1e-12)


@pytest.mark.parametrize("share", [-0.1, 1.5, math.nan])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(InputError, match=r"share: expected a number in 0 \.\. 1, got"):
        pca_local_score(images(), VP(), share=share)
    with pytest.raises(InputError, match=r"share: expected a number in 0 \.\. 1, got"):
        wiener_masks(gaussian(), 1.0, share)


@pytest.mark.parametrize("level", [0.0, -1.0, math.nan])
def test_masks_need_noise(level):
    with pytest.raises(InputError, match="level: expected a number > 0"):
        wiener_masks(gaussian(), level, 0.9)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (images() * math.nan, "data: expected finite values, got NaN or infinity"),
        (images()[:1], "data: expected at least two images"),
        (images()[:0], "data: expected at least one image"),
        (images().flatten(1), "data: expected images of shape"),
    ],
)
def test_images_without_a_covariance_are_refused_by_the_name_of_the_argument(data, message):
    with pytest.raises(InputError, match=f"^{message}"):
        pca_local_score(data, VP(), share=0.9)

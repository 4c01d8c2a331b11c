"""The PCA-local denoiser: what its masks hold, and the posterior mean of every pixel given its mask."""

import math

import pytest
import torch

from diffuscope.denoisers.analytic import PCALocal, masked_means, wiener_masks
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian
from diffuscope.schedules import VP, RectifiedFlow

SIDE = 4


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=60, dtype=torch.float64):
    """White noise under a separable blur: neighbors are alike."""
    white = torch.randn(n, SIDE, SIDE, generator=seeded(1), dtype=torch.float64)
    blur = torch.exp(-((torch.arange(SIDE)[:, None] - torch.arange(SIDE)).double() ** 2) / 2)
    return (blur @ white @ blur).to(dtype)


def gaussian():
    return Gaussian.fit([images()])


def filter_row_energies(alpha, sigma):
    """W^2 by a solve, without eigenvectors."""
    flat = images().flatten(1)
    covariance = torch.cov(flat.T, correction=0)
    noisy = alpha**2 * covariance + sigma**2 * torch.eye(len(covariance), dtype=torch.float64)
    return torch.linalg.solve(noisy, covariance).T.square()


@pytest.mark.parametrize("share", [0.3, 0.8, 0.99])
@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.1), (0.6, 0.8), (0.0, 1.0)])
def test_a_mask_holds_its_share_and_no_smaller_set_does(alpha, sigma, share):
    energy = filter_row_energies(alpha, sigma)
    masks = wiener_masks(gaussian(), alpha, sigma, share)
    needed, size = share * energy.sum(1), masks.sum(1)
    held = (energy * masks).sum(1)
    best = energy.sort(1, descending=True).values.cumsum(1)
    torch.testing.assert_close(held, best.gather(1, size[:, None] - 1)[:, 0], rtol=1e-9, atol=0)
    assert bool((held >= needed * (1 - 1e-9)).all())
    fewer = torch.where(size > 1, best.gather(1, (size[:, None] - 2).clamp_min(0))[:, 0], 0.0)
    assert bool((fewer < needed).all())


def test_masks_are_wider_at_higher_noise():
    sizes = [int(wiener_masks(gaussian(), 1.0, sigma, 0.9).sum()) for sigma in (0.01, 0.3, 1.0, 10.0)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_independent_pixels_read_themselves_alone():
    white = Gaussian(torch.zeros(3), torch.eye(3), torch.tensor([3.0, 2.0, 1.0]))
    assert torch.equal(wiener_masks(white, 0.7, 0.5, 0.999), torch.eye(3, dtype=torch.bool))


def test_a_constant_pixel_reads_itself():
    known = Gaussian.from_covariance(torch.zeros(3), torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    assert wiener_masks(known, 1.0, 1.0, 0.99)[2].tolist() == [False, False, True]


@pytest.mark.parametrize("t", [0.01, 0.3, 0.9])
def test_a_share_of_one_is_the_empirical_denoiser(t):
    x_t, schedule = 1.5 * images(5), VP()
    exact = Empirical(images()).denoise(x_t, schedule.alpha(t), schedule.sigma(t))
    torch.testing.assert_close(PCALocal(images(), schedule, share=1)(x_t, t), exact, rtol=0, atol=1e-12)


def test_every_pixel_is_the_posterior_mean_given_its_mask():
    """Pixel by pixel: the empirical denoiser of the masked pixels, at the pixel's values."""
    points, x, alpha, sigma = images().flatten(1), 1.5 * images(3).flatten(1), 0.8, 0.6
    masks = wiener_masks(gaussian(), alpha, sigma, 0.8)
    answer = masked_means(x, alpha, sigma, points, masks)
    for q, mask in enumerate(masks):
        square = (x[:, None, mask] - alpha * points[None, :, mask]).square().sum(2)
        known = (-square / (2 * sigma**2)).softmax(1) @ points[:, q]
        torch.testing.assert_close(answer[:, q], known, rtol=0, atol=1e-12)


def test_one_pixel_alone_is_its_scalar_posterior_mean():
    points, x = images().flatten(1), images(2).flatten(1)
    answer = masked_means(x, 1.0, 0.5, points, torch.eye(SIDE**2, dtype=torch.bool))
    exact = [Empirical(points[:, q : q + 1]).denoise(x[:, q : q + 1], 1.0, 0.5) for q in range(SIDE**2)]
    torch.testing.assert_close(answer, torch.cat(exact, 1), rtol=0, atol=1e-12)


def test_the_answer_does_not_depend_on_memory():
    x_t = 1.5 * images(7)
    whole = PCALocal(images(), VP(), share=0.9)(x_t, 0.2)
    small = PCALocal(images(), VP(), share=0.9, memory=4000)(x_t, 0.2)  # seven points at once
    torch.testing.assert_close(small, whole, rtol=0, atol=1e-13)


def test_a_time_per_sample_is_that_of_each_alone():
    x_t, denoiser = images(3), PCALocal(images(), VP(), share=0.9)
    t = torch.tensor([0.5, 0.1, 0.5], dtype=torch.float64)
    alone = torch.cat([denoiser(x[None], float(s)) for x, s in zip(x_t, t, strict=True)])
    torch.testing.assert_close(denoiser(x_t, t), alone, rtol=0, atol=1e-13)


def test_pure_noise_is_answered_by_the_mean_of_the_data():
    answer = PCALocal(images(), RectifiedFlow(), share=0.9)(images(2), 1.0)
    torch.testing.assert_close(answer, images().mean(0).expand(2, SIDE, SIDE), rtol=0, atol=1e-12)


def test_single_precision_agrees_with_double_to_its_rounding_of_the_logits():
    """Logits up to 300 carry 300 units of roundoff times the root of 16 terms, as weights do."""
    x_t, t = images(5), 0.15
    double = PCALocal(images(), VP(), share=0.9)(x_t, t)
    single = PCALocal(images(dtype=torch.float32), VP(), share=0.9)(x_t.float(), t)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1200 * torch.finfo(torch.float32).eps)


@pytest.mark.parametrize("share", [-0.1, 1.5, math.nan])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(InputError, match=r"share: expected a number in 0 \.\. 1, got"):
        PCALocal(images(), VP(), share=share)
    with pytest.raises(InputError, match=r"share: expected a number in 0 \.\. 1, got"):
        wiener_masks(gaussian(), 1.0, 1.0, share)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan])
def test_masks_need_noise(sigma):
    with pytest.raises(InputError, match="sigma: expected a number > 0"):
        wiener_masks(gaussian(), 1.0, sigma, 0.9)


def test_points_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="expected finite values, got NaN or infinity"):
        PCALocal(images() * math.nan, VP(), share=0.9)


def test_a_query_of_another_shape_is_refused():
    with pytest.raises(InputError, match="x_t: expected shape"):
        PCALocal(images(), VP(), share=0.9)(torch.zeros(2, 16), 0.5)

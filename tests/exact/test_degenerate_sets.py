"""Data sets of one point, of copies of it, and with a constant coordinate: variances are zero but for rounding.

A variance as a difference of moments can be negative by rounding, of which the square root, a NaN, would spread.
"""

import math

import pytest
import torch

from diffuscope.exact import (
    Box,
    Empirical,
    Gaussian,
    GaussianMixture,
    Ring,
    TrackedEmpirical,
    posterior_noise,
    posterior_sample,
)
from diffuscope.exact.streaming import LeadingPairs

LEVELS = [1e-3, 0.3, 10.0, 1e3]


def queries(y: torch.Tensor, sigma: float, generator: torch.Generator, n: int = 40) -> torch.Tensor:
    """Noised copies of the points, and one of them exactly."""
    x = y[torch.arange(n) % len(y)].double()
    x = x + sigma * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    x[0] = y[0]
    return x.to(y.dtype)


@pytest.mark.parametrize("sigma", LEVELS)
@pytest.mark.parametrize("copies", [1, 3, 200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_copies_of_one_point_have_that_posterior_mean_and_no_variance(dtype, copies, sigma, generator):
    point = 3 + torch.rand(1, 5, generator=generator, dtype=torch.float64).to(dtype)
    data, eps = Empirical(point.expand(copies, 5).contiguous()), torch.finfo(dtype).eps
    x = queries(point, sigma, generator)
    found = data.denoise_with_error(x, 1.0, sigma)
    off = (found.value.double() - point.double()).norm(dim=1) / point.double().norm()
    assert bool((off <= found.relative_error).all())
    assert bool((found.relative_error <= 100 * eps).all())
    covariance = data.posterior_covariance(x, 1.0, sigma)
    for variance in (covariance.trace(), covariance.diagonal()):
        assert bool((variance >= 0).all())
        assert float(variance.max()) < 1e3 * eps
    assert float(covariance.matvec(torch.ones_like(x)).abs().max()) < 1e4 * eps
    assert float(covariance.matvec(torch.zeros_like(x)).abs().max()) == 0
    rest = (x.double() - point.double()) / sigma
    log_prob = -rest.square().sum(1) / 2 - 5 * math.log(sigma * math.sqrt(2 * math.pi))
    torch.testing.assert_close(data.log_prob(x, 1.0, sigma).double(), log_prob, rtol=1e3 * eps, atol=1e3 * eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma", LEVELS)
def test_a_coordinate_that_all_points_share_has_no_variance(dtype, sigma, generator):
    y = torch.randn(500, 3, generator=generator, dtype=torch.float64).to(dtype)
    y[:, 1] = 1 / 3 + 100
    x = queries(y, sigma, generator)
    diagonal = Empirical(y).posterior_covariance(x, 1.0, sigma).diagonal()
    assert bool((diagonal >= 0).all())
    assert float(diagonal[:, 1].max()) < 1e6 * torch.finfo(dtype).eps


@pytest.mark.parametrize("k", [1, 3])
def test_a_point_itself_is_at_distance_zero(k, generator):
    """The half squares are differences of log-weights, which round to either side of zero."""
    y = torch.randn(50, 4, generator=generator, dtype=torch.float64)
    weights = torch.rand(50, generator=generator, dtype=torch.float64) + 0.1
    found = Empirical(y, weights).nearest(0.7 * y, 0.7, 1e-4, k)
    assert bool(found.distances.isfinite().all())
    assert bool((found.distances >= 0).all())
    assert found.indices[:, 0].tolist() == list(range(50))
    assert float(found.distances[:, 0].max()) < 1e-10


def test_every_draw_is_a_point_even_where_the_uniform_variable_rounds_to_one(monkeypatch):
    y = torch.arange(3.0, dtype=torch.float64)[:, None]
    monkeypatch.setattr(torch, "rand", lambda n, **_: torch.ones(n, dtype=torch.float64))
    assert Empirical(y).sample(2, generator=torch.Generator())[:, 0].tolist() == [2, 2]


def test_points_all_equal_are_tracked_to_their_value(generator):
    point = 3 + torch.rand(1, 5, generator=generator, dtype=torch.float32)
    tracked, x = TrackedEmpirical(point.expand(40, 5).contiguous()), queries(point, 1.0, generator, 4)
    for sigma in (10.0, 1.0, 0.1, 1e-3):
        found = tracked.denoise_with_error(x, 1.0, sigma)
        torch.testing.assert_close(found.value, point.expand(4, 5), rtol=1e-3, atol=0)
        assert bool((found.relative_error <= 1e-3).all())
        score = tracked.score(x, 1.0, sigma)
        torch.testing.assert_close(score, (found.value - x) / sigma**2, rtol=1e-4, atol=1e-3 / sigma**2)


def test_points_at_the_origin_have_the_denoiser_zero(generator):
    """|D| = 0 and no spread: an error of zero relative to nothing is zero."""
    zeros = torch.zeros(5, 3)
    x = torch.randn(4, 3, generator=generator)
    for data in (Empirical(zeros), TrackedEmpirical(zeros)):
        for sigma in (1e-3, 1.0, 1e3):
            found = data.denoise_with_error(x, 1.0, sigma)
            assert found.value.tolist() == zeros[:4].tolist()
            assert bool((found.relative_error >= 0).all())


class RankOne:
    """v v^T for every sample, of which most eigenvalues are zero but for rounding."""

    def __init__(self, v: torch.Tensor) -> None:
        self._v = v

    def matvec(self, v: torch.Tensor) -> torch.Tensor:
        return (v @ self._v)[:, None] * self._v

    def trace(self) -> torch.Tensor:
        return self._v.square().sum()[None]

    def diagonal(self) -> torch.Tensor:
        return self._v.square()[None]


def test_noise_of_a_singular_covariance_lies_in_its_range(generator):
    v = torch.randn(9, generator=generator, dtype=torch.float64)
    drawn = posterior_noise(RankOne(v), torch.zeros(30, 9, dtype=torch.float64), generator=generator)
    along = drawn @ v / v.square().sum()
    torch.testing.assert_close(drawn, along[:, None] * v, rtol=0, atol=1e-6)


def test_a_uniform_variable_that_rounds_to_zero_decides_nothing_by_itself(monkeypatch):
    """-log(-log(2e-308)) and -log(-log(1e-300)) differ by 0.03: the point of nine times the weight is drawn."""
    y = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    x = torch.full((2, 1), math.log(3), dtype=torch.float64)  # odds 9 for the second point
    uniform = torch.tensor([[0.0, 1e-300], [1e-300, 0.0]], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: uniform)
    assert posterior_sample(Empirical(y), x, 1.0, 1.0, generator=torch.Generator())[:, 0].tolist() == [1, 1]


def test_the_variance_that_leading_pairs_leave_is_not_negative_by_rounding():
    eigenvalues = torch.tensor([0.3, 0.2, 0.1], dtype=torch.float64)
    for trace in (float(eigenvalues.sum()) * (1 - 1e-15), 0.6, 0.9):
        pairs = LeadingPairs(
            10, torch.zeros(5).double(), trace, torch.eye(5)[:, :3].double(), eigenvalues, 0 * eigenvalues
        )
        assert pairs.tail_variance == pytest.approx((trace - 0.6) / 2, abs=1e-15)
        assert pairs.tail_variance >= 0


def test_a_gaussian_of_a_singular_covariance_has_no_negative_variance(generator):
    v = torch.randn(8, 1, generator=generator, dtype=torch.float64)
    data = Gaussian.from_covariance(torch.zeros(8).double(), v @ v.T)
    assert bool((data.eigenvalues >= 0).all())
    assert data.trace == pytest.approx(float(v.square().sum()))
    few = Gaussian(torch.zeros(3).double(), torch.eye(3).double(), torch.tensor([0.3, 0.2, 0.1]).double()).truncate(1)
    assert few.tail_variance == pytest.approx(0.15)
    for rank in (0, 3, 7, 8):
        assert data.truncate(rank).tail_variance >= 0


def test_at_the_center_of_a_ring_all_angles_are_as_likely():
    """The variance along either axis is half of the squared radius."""
    covariance = Ring(2.0).posterior_covariance(torch.zeros(1, 2).double(), 1.0, 1.0)
    v = torch.tensor([[1.0, -3.0]], dtype=torch.float64)
    assert covariance.trace().tolist() == pytest.approx([4.0])
    assert bool(covariance.matvec(v).isfinite().all())


def test_without_signal_a_box_is_seen_as_its_center():
    box = Box(torch.tensor([0.0, -1.0]), torch.tensor([4.0, 1.0]))
    x = torch.tensor([[3.0, -5.0]], dtype=torch.float64)
    assert box.denoise(x, 0.0, 2.0).tolist() == [pytest.approx([2.0, 0.0])]
    assert box.posterior_covariance(x, 0.0, 2.0).diagonal().tolist() == [pytest.approx([16 / 12, 4 / 12])]
    assert float(box.log_prob(x, 0.0, 2.0)) == pytest.approx(-34 / 8 - math.log(2 * math.pi * 4))


def test_a_mixture_of_no_points_and_labels_of_no_cluster(generator):
    y = torch.randn(6, 2, generator=generator)
    one = torch.Generator().manual_seed(0)
    fits = [GaussianMixture.fit_clusters(y, torch.tensor([label, 0, 0, 0, 1, 1]), generator=one) for label in (-1, -7)]
    assert fits[0].means.tolist() == fits[1].means.tolist()
    assert len(fits[0].weights) == 2
    assert fits[0].denoise(torch.zeros(0, 2), 1.0, 1.0).shape == (0, 2)
    whole = GaussianMixture.fit_kmeans(y, 1, generator=one)
    torch.testing.assert_close(whole.means[0], y.double().mean(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [2, 20, 200, 2_000, 20_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_of_equal_points_whose_roundings_have_one_sign_are_within_the_stated_error(dtype, n, generator):
    """The worst case of summation that data bring about: copies of a point, or a background that all images share."""
    for _ in range(4):
        point = torch.rand(1, 16, generator=generator, dtype=torch.float64).to(dtype)
        x = (point + 0.5 * torch.randn(4, 16, generator=generator, dtype=torch.float64)).to(dtype)
        found = Empirical(point.repeat(n, 1)).denoise_with_error(x, 1.0, 0.5)
        off = (found.value - point).double().norm(dim=1) / point.double().norm()
        assert bool((off <= found.relative_error).all())

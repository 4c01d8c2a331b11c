"""The exact denoiser of 60,000 digits within its stated error at every level, in a bounded memory."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diffuscope.exact import (
    Empirical,
)


@pytest.fixture(scope="module")
def digits(shared_data: Path) -> Tensor:
    return _images(shared_data / "mnist" / "train-images-idx3-ubyte.gz")


@pytest.fixture(scope="module")
def held_out(shared_data: Path) -> Tensor:
    return _images(shared_data / "mnist" / "t10k-images-idx3-ubyte.gz")


def _images(file: Path) -> Tensor:
    with gzip.open(file) as stream:
        pixels = np.frombuffer(stream.read(), np.uint8, offset=16).copy()
    return torch.from_numpy(pixels).reshape(-1, 28, 28).float() / 255


def hard_queries(points: Tensor, held_out: Tensor, sigma: float, count: int) -> Tensor:
    """Noised training points, noised held-out points, midpoints of two training points, and points at a midpoint."""
    generator = torch.Generator().manual_seed(round(1000 * sigma))
    noise = sigma * torch.randn(3, count, 28, 28, generator=generator)
    i, j, k = torch.randint(len(points), (3, count), generator=generator)
    middle = (points[i] + points[j]) / 2
    return torch.cat([points[k] + noise[0], held_out[:count] + noise[1], middle, middle + noise[2]])


def extended_mean(points: Tensor, x: Tensor, sigma: float) -> Tensor:
    """The direct sum: float64 for all, and in extended precision for the points that weigh more than 1e-26."""
    means = []
    for b in x.double():
        squares = torch.cat([(b - chunk.double()).flatten(1).square().sum(1) for chunk in points.split(8192)])
        # ties at small sigma: a float64 square has 1e-15 x 100 / sigma^2 = 2e-8 logits of rounding at sigma = 0.002
        contenders = (squares <= squares.min() + 120 * sigma**2 + 1e-9).nonzero()[:, 0]
        if len(contenders) <= 4000:
            y = points[contenders].flatten(1).double().numpy().astype(np.longdouble)
            square = ((b.flatten().numpy().astype(np.longdouble) - y) ** 2).sum(1)
            weights = np.exp(-(square - square.min()) / (2 * np.longdouble(sigma) ** 2))
            means.append(torch.from_numpy(((weights / weights.sum()) @ y).astype(np.float64)))
        else:
            weights = (-(squares - squares.min()) / (2 * sigma**2)).softmax(0)
            sums = [
                w @ chunk.flatten(1).double() for w, chunk in zip(weights.split(8192), points.split(8192), strict=True)
            ]
            means.append(torch.stack(sums).sum(0))
    return torch.stack(means).reshape(x.shape)


SIGMAS = [0.002, 0.01, 0.05, 0.1, 0.3, 1.0, 2.0, 5.0, 20.0, 80.0]


def check_on_digits(points: Tensor, held_out: Tensor, sigma: float, count: int) -> None:
    distribution = Empirical(points)
    x = hard_queries(points, held_out, sigma, count)
    exact = extended_mean(points, x, sigma)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
        denoised = distribution.denoise_with_error(x.to(dtype), 1.0, sigma)
        error = (denoised.value.double() - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
        assert float(error.max()) <= tolerance
        assert float(denoised.relative_error.max()) <= tolerance
        # the reference itself: float64 sums where thousands of points share the weight
        assert bool((error <= denoised.relative_error + 1e-12).all())


def test_mnist_denoiser_is_within_its_stated_error_of_the_direct_sum(digits, held_out):
    """The first 15,000 at the lowest level, which is the hardest."""
    check_on_digits(digits[:15_000], held_out, 0.002, count=2)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("low", [0, -1])
def test_mnist_denoiser_is_within_its_stated_error_at_every_noise_level(sigma, low, digits, held_out):
    span = 1 - low
    check_on_digits(span * digits + low, span * held_out + low, sigma, count=8)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", SIGMAS)
def test_mnist_posterior_variance_is_the_direct_sum_at_every_noise_level(sigma, digits, held_out):
    distribution = Empirical(digits)
    x = hard_queries(digits, held_out, sigma, count=4)
    covariance = distribution.posterior_covariance(x, 1.0, sigma)
    traces, totals = covariance.trace(), covariance.diagonal().flatten(1).sum(1)
    for b, mean in enumerate(extended_mean(digits, x, sigma)):
        squares = torch.cat([(x[b].double() - c.double()).flatten(1).square().sum(1) for c in digits.split(8192)])
        weights = (-(squares - squares.min()) / (2 * sigma**2)).softmax(0)
        spread = torch.cat([(c.double() - mean).flatten(1).square().sum(1) for c in digits.split(8192)])
        exact = float(weights @ spread)
        # midpoints at sigma = 0.002: the direct weights have 2e-8 logits of rounding; below 1e-12 R^2 variance is zero
        assert float(traces[b]) == pytest.approx(exact, rel=1e-4, abs=1e-9)
        assert float(totals[b]) == pytest.approx(exact, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 20.0])
@pytest.mark.parametrize("answer", ["denoise", "log_prob", "posterior_covariance"])
def test_no_matrix_of_all_pairs_is_formed(sigma, answer, generator):
    n, batch, memory = 10_000, 128, 2 * 2**20
    distribution = Empirical(torch.rand(n, 64, generator=generator), memory=memory)
    x = torch.rand(batch, 64, generator=generator) + sigma * torch.randn(batch, 64, generator=generator)
    getattr(distribution, answer)(x[:2], 1.0, sigma)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        getattr(distribution, answer)(x, 1.0, sigma)
    largest = max(event.cpu_memory_usage for event in profile.events() or [])
    assert largest <= memory < 4 * n * batch


@pytest.mark.slow
def test_denoising_mnist_adds_little_to_the_resident_memory(shared_data):
    script = f"""
import gzip, resource, numpy as np, torch
from diffuscope.exact import Empirical
file = gzip.open({str(shared_data / "mnist" / "train-images-idx3-ubyte.gz")!r})
pixels = np.frombuffer(file.read(), np.uint8, offset=16)
points = torch.from_numpy(pixels.copy()).reshape(-1, 784).float() / 255
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
distribution = Empirical(points)
for sigma in (0.05, 0.5, 1.5, 20.0):
    x = points[:512] + sigma * torch.randn(512, 784, generator=torch.Generator().manual_seed(0))
    distribution.denoise(x, 1.0, sigma)
    distribution.log_prob(x, 1.0, sigma)
    distribution.posterior_covariance(x, 1.0, sigma).trace()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(out.stdout) < 500  # MB

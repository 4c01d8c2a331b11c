"""One Brownian path: its distribution for any order of queries, its consistency, and what it is for: strong
orders.
"""

import functools
import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from conftest import measured_order, monte_carlo
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import GaussianMixture
from diffuscope.samplers import BrownianPath, EulerMaruyama, Sampler, StochasticHeun, StrongOrder15, sample
from diffuscope.schedules import VP, Schedule, as_time
from diffuscope.times import log_snr_times

LIKE = torch.zeros(20_000, dtype=torch.float64)


def path(seed: int = 0) -> BrownianPath:
    return BrownianPath(torch.Generator().manual_seed(seed))


def displacement_and_area(noise: BrownianPath, a: float, b: float, like: Tensor = LIKE) -> tuple[Tensor, Tensor]:
    """Delta W and int_a^b (W_u - W_a) |du|, unscaled."""
    xi, zeta = noise.increment_and_area(like, a, b)
    length = abs(b - a)
    return math.sqrt(length) * xi, length**1.5 / 2 * (xi + zeta / math.sqrt(3))


ORDERS = {
    "forwards": [0.0, 0.1, 0.4, 1.0],
    "backwards": [1.0, 0.4, 0.1, 0.0],
    "inside out": [0.1, 0.4, 1.0, 0.0],
    "ends first": [0.0, 1.0, 0.4, 0.1],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_the_distribution_is_brownian_for_any_order_of_queries(order: list[float]):
    """Standardized increments and areas of disjoint intervals: six independent N(0, 1), all 21 second moments."""
    noise = path()
    for a, b in itertools.pairwise(order):
        noise.increment(LIKE, a, b)
    parts = [part for a, b in itertools.pairwise(sorted(order)) for part in noise.increment_and_area(LIKE, a, b)]
    for i, j in itertools.combinations_with_replacement(range(6), 2):
        assert monte_carlo(parts[i] * parts[j]).agrees_with(float(i == j)), (i, j)


def conditional_distribution(theta: float) -> tuple[Tensor, Tensor]:
    """Gain and covariance of (W, int W) at theta given both at 1, by linear algebra on their covariances."""

    def covariance(u: float, v: float) -> Tensor:
        low = min(u, v)
        area_here = low**2 / 2 + low * (v - low)  # Cov(W_u, int_0^v W)
        area_there = low**2 / 2 + low * (u - low)
        both = low**2 * (3 * max(u, v) - low) / 6
        return torch.tensor([[low, area_here], [area_there, both]], dtype=torch.float64)

    cross, end = covariance(theta, 1.0), covariance(1.0, 1.0)
    gain = cross @ torch.linalg.inv(end)
    return gain, covariance(theta, theta) - gain @ cross.T


@pytest.mark.parametrize("theta", [0.5, 0.2, 0.9])
def test_a_split_has_the_conditional_gaussian_distribution(theta: float):
    """The bridge's coefficients, read off from draws that are known one at a time, against linear algebra."""

    class Probe(BrownianPath):
        def __init__(self) -> None:
            super().__init__(torch.Generator())
            self.count = 0

        def _draw(self) -> Tensor:
            drawn = torch.zeros(4, dtype=torch.float64)
            drawn[self.count] = 1
            self.count += 1
            return drawn

    noise, like = Probe(), torch.zeros(4, dtype=torch.float64)
    w, a = displacement_and_area(noise, 0.0, 1.0, like)
    left = torch.stack(displacement_and_area(noise, 0.0, theta, like))
    gain, covariance = conditional_distribution(theta)
    assert torch.allclose(left[:, :2], gain @ torch.stack([w, a])[:, :2], atol=1e-14)
    assert torch.allclose(left[:, 2:] @ left[:, 2:].T, covariance, atol=1e-15)
    # the right part, which is written out separately, is what Chen's relation leaves
    right = torch.stack(displacement_and_area(noise, theta, 1.0, like))
    assert torch.allclose(right[0], w - left[0], atol=1e-14)
    assert torch.allclose(right[1], a - left[1] - (1 - theta) * left[0], atol=1e-14)


def test_increments_add_up_and_areas_obey_chens_relation():
    noise, draw = path(), torch.Generator().manual_seed(5)
    like = torch.zeros(7, 2, dtype=torch.float64)
    whole = displacement_and_area(noise, 0.0, 1.0, like)
    times = [0.0, *torch.rand(60, dtype=torch.float64, generator=draw).sort().values.tolist(), 1.0]
    for at in torch.randperm(len(times), generator=draw).tolist():
        noise.increment(like, -1.0, times[at])
    displacement, area = torch.zeros_like(like), torch.zeros_like(like)
    for a, b in itertools.pairwise(times):
        step, inside = displacement_and_area(noise, a, b, like)
        area = area + inside + (b - a) * displacement
        displacement = displacement + step
    assert torch.allclose(displacement, whole[0], atol=1e-13)
    assert torch.allclose(area, whole[1], atol=1e-13)
    again = displacement_and_area(noise, 0.0, 1.0, like)
    assert torch.allclose(torch.stack(again), torch.stack(whole), atol=1e-13)


def test_an_interval_run_backward_has_the_negative_displacement_and_the_area_about_its_end():
    noise = path()
    forth, area_forth = displacement_and_area(noise, 0.2, 0.9)
    back, area_back = displacement_and_area(noise, 0.9, 0.2)
    assert torch.equal(forth, -back)
    assert torch.allclose(area_back, area_forth - 0.7 * forth, atol=1e-14)  # int (W_u - W_b) du


def test_tiny_intervals_are_as_brownian_as_long_ones():
    """Next to either end of a unit interval, down to 1e-12 of it: unit variance, no correlation."""
    noise = path()
    noise.increment(LIKE, 0.0, 1.0)
    for low, high in ((0.0, 1e-12), (1 - 2**-40, 1.0), (0.5, 0.5 + 2**-45)):
        xi, zeta = noise.increment_and_area(LIKE, low, high)
        for product, truth in ((xi**2, 1.0), (zeta**2, 1.0), (xi * zeta, 0.0)):
            assert monte_carlo(product).agrees_with(truth)


def test_a_path_is_one_path_in_any_dtype_and_refuses_another_shape():
    noise = path()
    double = noise.increment(LIKE, 0.0, 1.0)
    single = noise.increment(LIKE.float(), 0.0, 1.0)
    assert single.dtype == torch.float32
    assert torch.equal(double.float(), single)
    with pytest.raises(InputError, match="like: expected the shape"):
        noise.increment(LIKE[1:], 0.0, 1.0)
    for a, b in ((0.3, 0.3), (0.0, float("inf"))):
        with pytest.raises(InputError, match="a, b: expected two different finite times"):
            noise.increment(LIKE, a, b)


@dataclass(frozen=True)
class TwoModes:
    """The denoiser of 1/2 N(1, 0.1) + 1/2 N(-1, 0.1): with V = 0.1 alpha^2 + sigma^2 it is

    D = (0.1 alpha x + sigma^2 tanh(alpha x / V)) / V.
    """

    schedule: Schedule
    modes: float = 1.0  # 0: one Gaussian, with a linear denoiser

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        alpha, sigma = float(self.schedule.alpha(as_time(t))), float(self.schedule.sigma(as_time(t)))
        V = 0.1 * alpha**2 + sigma**2
        return (0.1 * alpha * x_t + sigma**2 * self.modes * torch.tanh(alpha * self.modes * x_t / V)) / V


START, END = 0.6, 0.15
MODES, LINEAR = TwoModes(VP()), TwoModes(VP(), 0.0)


@functools.cache
def walked(denoiser: TwoModes) -> tuple[BrownianPath, Tensor, Tensor]:
    """A path, starting points, and where SRA1 takes them along it in many steps."""
    noise, x_start = path(11), torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return (
        noise,
        x_start,
        sample(StrongOrder15(), denoiser, x_start, log_snr_times(VP(), START, END, 1500), noise=noise),
    )


def strong_order(sampler: Sampler, denoiser: TwoModes, steps: list[int]) -> float:
    """Every grid has the Brownian path of the reference; the error is that of each endpoint."""
    noise, x_start, reference = walked(denoiser)

    def error(count: int) -> float:
        ended = sample(sampler, denoiser, x_start, log_snr_times(VP(), START, END, count), noise=noise)
        return float((ended - reference).square().mean().sqrt())

    return measured_order(error, steps).order


def test_the_nonlinear_problem_is_a_mixture():
    distribution = GaussianMixture.isotropic(
        torch.tensor([0.5, 0.5], dtype=torch.float64),
        torch.tensor([[1.0], [-1.0]], dtype=torch.float64),
        torch.tensor([0.1, 0.1], dtype=torch.float64),
    )
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)[:, None]
    for t in (START, 0.3, END):
        assert torch.allclose(MODES(x, t), ExactDenoiser(distribution, VP())(x, t), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("sampler", [EulerMaruyama(), StochasticHeun()], ids=lambda sampler: type(sampler).__name__)
@pytest.mark.parametrize("denoiser", [MODES, LINEAR], ids=["mixture", "gaussian"])
def test_additive_noise_raises_euler_maruyama_to_strong_order_one_and_heun_has_no_more(
    sampler: EulerMaruyama | StochasticHeun, denoiser: TwoModes
):
    assert sampler.strong_order == 1
    assert abs(strong_order(sampler, denoiser, [20, 63, 200]) - 1) < 0.15


def test_the_scheme_of_strong_order_three_halves_has_it_on_a_mixture_and_two_where_the_drift_is_linear():
    """What is left at h^(3/2) is the random part of the drift's second derivative."""
    assert StrongOrder15().strong_order == 1.5
    assert abs(strong_order(StrongOrder15(), MODES, [20, 63, 200]) - 1.5) < 0.15
    assert abs(strong_order(StrongOrder15(), LINEAR, [20, 63, 200]) - 2) < 0.15

"""EDM's churn: the published algorithm where alpha = 1, the same samples in every schedule, its order in
distribution.
"""

import itertools
import math

import pytest
import torch
from affine import GaussianOnTheLine, affine_step, moment_error
from conftest import measured_order
from exact_flows import gaussian_in_the_plane, mixture_on_the_line, unequal_gaussian
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.samplers import EDMChurn, Heun, Noise, State, instant, sample
from diffuscope.schedules import VE, VP, Cosine, RectifiedFlow, Schedule
from diffuscope.times import karras_times, log_snr_times, uniform_times
from numbers_in_tests import seeded


def published(x: Tensor, sigmas: list[float], s_churn: float, s_min: float, s_max: float, s_noise: float) -> Tensor:
    """Algorithm 2 of Karras et al., line by line, on correlated Gaussian data."""
    distribution, draw, N = unequal_gaussian(), Noise(seeded(3)), len(sigmas) - 1
    for t_i, t_next in itertools.pairwise(sigmas):
        gamma = min(s_churn / N, math.sqrt(2) - 1) if s_min <= t_i <= s_max else 0.0
        t_hat = t_i + gamma * t_i
        if gamma > 0:
            x = x + math.sqrt(t_hat**2 - t_i**2) * s_noise * draw.normal(x)
        d_i = (x - distribution.denoise(x, 1.0, t_hat)) / t_hat
        x_next = x + (t_next - t_hat) * d_i
        if t_next != 0:
            d_prime = (x_next - distribution.denoise(x_next, 1.0, t_next)) / t_next
            x_next = x + (t_next - t_hat) * (d_i / 2 + d_prime / 2)
        x = x_next
    return x


# many small churns, and few large ones, which meet the bound sqrt 2 - 1
@pytest.mark.parametrize(("s_churn", "s_min", "s_max", "s_noise"), [(2.0, 0.05, 50.0, 1.003), (80.0, 0.0, 1e9, 1.0)])
def test_it_is_the_published_algorithm(s_churn: float, s_min: float, s_max: float, s_noise: float):
    x_start = 80 * torch.randn(5, 2, dtype=torch.float64, generator=seeded())
    times = torch.cat([karras_times(VE(), 80.0, 0.002, 17), torch.zeros(1, dtype=torch.float64)])
    sampler = EDMChurn(s_churn, 18, s_min, s_max, s_noise)
    ended = sample(sampler, ExactDenoiser(unequal_gaussian(), VE()), x_start, times, noise=seeded(3))
    assert torch.allclose(
        ended, published(x_start, times.tolist(), s_churn, s_min, s_max, s_noise), rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("schedule", [VP(), Cosine(), RectifiedFlow()], ids=lambda schedule: type(schedule).__name__)
def test_its_samples_are_the_same_in_every_schedule(schedule: Schedule):
    levels = karras_times(VE(), 5.0, 0.02, 9)
    y = 5 * torch.randn(5, 2, dtype=torch.float64, generator=seeded())
    sampler = EDMChurn(3.0, 9, 0.1, 4.0)
    there = sample(sampler, ExactDenoiser(unequal_gaussian(), VE()), y, levels, noise=seeded(1))
    times = schedule.time_of_noise_to_signal(levels)
    x_start = schedule.alpha(times[0]) * y
    here = sample(sampler, ExactDenoiser(unequal_gaussian(), schedule), x_start, times, noise=seeded(1))
    assert torch.allclose(here / schedule.alpha(times[-1]), there, rtol=1e-9, atol=1e-9)


def test_without_churn_it_is_heun_in_the_noise_level():
    assert not EDMChurn(0.0, 10).stochastic
    denoiser = ExactDenoiser(unequal_gaussian(), VE())
    x_start = 80 * torch.randn(5, 2, dtype=torch.float64, generator=seeded())
    times = karras_times(VE(), 80.0, 0.002, 10)
    exact = sample(Heun(), denoiser, x_start, times)
    assert torch.allclose(sample(EDMChurn(0.0, 10), denoiser, x_start, times), exact, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("diffusion", [gaussian_in_the_plane(), mixture_on_the_line()], ids=["gaussian", "mixture"])
def test_without_churn_it_converges_at_order_two(diffusion):
    schedule, start, end = VP(), 0.95, 1e-3
    exact = diffusion.exact_end(schedule, start, end)

    def error(steps: int) -> float:
        times = log_snr_times(schedule, start, end, steps)
        return diffusion.endpoint_error(EDMChurn(0.0, steps), schedule, times, exact)

    assert abs(measured_order(error, [20, 63, 200]).order - 2) < 0.15


@pytest.mark.parametrize(("schedule", "start", "end"), [(VE(), 5.0, 0.05), (RectifiedFlow(), 0.95, 2e-3)])
def test_it_converges_weakly_at_order_two_on_gaussian_data(schedule: Schedule, start: float, end: float):
    def error(steps: int) -> float:
        return moment_error(EDMChurn(5.0, steps), schedule, start, end, steps)

    assert abs(measured_order(error, [40, 120, 400]).order - 2) < 0.15


def test_the_churn_has_the_variance_of_the_forward_process():
    """On a single data point a churned step ends in the exact marginal: N(alpha_s x_0, sigma_s^2)."""
    t, s = instant(Cosine(), 0.7), instant(Cosine(), 0.4)
    a, b, variance = affine_step(EDMChurn(4.0, 10), GaussianOnTheLine(Cosine(), 0.7, 0.0), t, s)
    assert variance > 0.1 * s.sigma**2
    assert a * t.alpha * 0.7 + b == pytest.approx(s.alpha * 0.7, rel=1e-12)
    assert a**2 * t.sigma**2 + variance == pytest.approx(s.sigma**2, rel=1e-12)


def test_it_starts_without_signal_and_ends_at_the_denoised_signal():
    denoiser = ExactDenoiser(unequal_gaussian(), RectifiedFlow())
    x_start = torch.randn(4, 2, dtype=torch.float64, generator=seeded())
    ended = sample(EDMChurn(5.0, 6), denoiser, x_start, uniform_times(1.0, 0.0, 6), noise=seeded())
    assert bool(torch.isfinite(ended).all())
    t, s = instant(RectifiedFlow(), 0.3), instant(RectifiedFlow(), 0.0)
    state = EDMChurn(0.0, 6).step(denoiser, State(t, x_start), s)
    assert torch.allclose(state.x_t, denoiser(x_start, 0.3), rtol=1e-13, atol=0)


def test_parameters_out_of_range_raise():
    with pytest.raises(InputError, match="steps: expected"):
        EDMChurn(1.0, 0)
    with pytest.raises(InputError, match="s_noise: expected"):
        EDMChurn(1.0, 10, s_noise=-1.0)

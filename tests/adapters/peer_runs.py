"""What a sampler of any library must do on exactly solved diffusions."""

import pytest
import torch
from conftest import MeasuredOrder, measured_order, monte_carlo

from diffuscope.adapters import load_target
from diffuscope.certify import Target
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.schedules import Schedule
from diffuscope.times import log_snr_times

UNEQUAL = Gaussian.from_covariance(
    torch.tensor([0.5, -0.3], dtype=torch.float64), torch.diag(torch.tensor([1.5, 0.2], dtype=torch.float64))
)
POINT = Gaussian.isotropic(torch.tensor([0.7, -0.4], dtype=torch.float64), 0.0)


def between(schedule: Schedule, high: float, low: float, steps: int) -> torch.Tensor:
    """Times from sigma/alpha = high to low, equal in log-SNR."""
    ends = schedule.time_of_noise_to_signal(torch.tensor([high, low], dtype=torch.float64))
    return log_snr_times(schedule, float(ends[0]), float(ends[1]), steps)


def noised(data: Gaussian, schedule: Schedule, t: torch.Tensor, samples: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = data.sample(samples, generator=generator).double()
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return schedule.alpha(t) * x + schedule.sigma(t) * noise


def order_on_a_gaussian(name: str, high: float = 4.0, steps: tuple[int, ...] = (24, 48, 96, 192)) -> MeasuredOrder:
    """The order of the endpoint's error, from sigma/alpha = high to 0.1."""
    target = load_target(name)
    schedule = target.schedules[0]

    def error(n: int) -> float:
        times = between(schedule, high, 0.1, n)
        x = noised(UNEQUAL, schedule, times[0])
        exact = UNEQUAL.flow(x, schedule, times[0], times[-1])
        return float((target.run(ExactDenoiser(UNEQUAL, schedule), x, times, None) - exact).norm(dim=1).mean())

    return measured_order(error, list(steps))


def miss_of_a_point(name: str, steps: int = 12) -> float:
    """On a single data point noise and data are constant along the flow, which every consistent solver follows exactly.

    The relative error at sigma/alpha = 0.05, where a final denoise would show.
    """
    target = load_target(name)
    schedule = target.schedules[0]
    times = between(schedule, 4.0, 0.05, steps)
    x = noised(POINT, schedule, times[0])
    exact = POINT.flow(x, schedule, times[0], times[-1])
    return float((target.run(ExactDenoiser(POINT, schedule), x, times, None) - exact).norm() / exact.norm())


def end_on_a_point(name: str, steps: int = 12) -> float:
    """The distance of the finished sample, at sigma = 0, from the only data point."""
    target = load_target(name)
    schedule = target.schedules[0]
    times = torch.cat([between(schedule, 4.0, 0.05, steps - 1), torch.zeros(1, dtype=torch.float64)])
    generator = torch.Generator().manual_seed(0) if target.stochastic else None
    x = noised(POINT, schedule, times[0])
    return float((target.run(ExactDenoiser(POINT, schedule), x, times, generator) - POINT.mean).abs().max())


def assert_reaches_the_marginal(name: str, steps: int = 100) -> None:
    """A stochastic sampler ends at the mean and variances of the noised Gaussian, within 4 standard errors."""
    target = load_target(name)
    schedule = target.schedules[0]
    times = between(schedule, 4.0, 0.1, steps)
    x = noised(UNEQUAL, schedule, times[0], samples=4000)
    ended = target.run(ExactDenoiser(UNEQUAL, schedule), x, times, torch.Generator().manual_seed(2))
    alpha, sigma = float(schedule.alpha(times[-1])), float(schedule.sigma(times[-1]))
    for axis, variance in enumerate((1.5, 0.2)):
        centered = ended[:, axis] - alpha * UNEQUAL.mean[axis]
        assert monte_carlo(centered).agrees_with(0.0)
        assert monte_carlo(centered**2).agrees_with(alpha**2 * variance + sigma**2)


def assert_noise_is_the_generators(target: Target) -> None:
    """Equal seeds give equal samples, others others; torch's global generator is unchanged."""
    schedule = target.schedules[0]
    times = between(schedule, 4.0, 0.1, 12)
    x = noised(UNEQUAL, schedule, times[0])
    denoiser, before = ExactDenoiser(UNEQUAL, schedule), torch.random.get_rng_state()
    once, again, other = (target.run(denoiser, x, times, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert torch.equal(before, torch.random.get_rng_state())


def assert_single_precision_stays(target: Target) -> None:
    """A float32 state ends as float32, near the float64 end."""
    schedule = target.schedules[0]
    times = between(schedule, 4.0, 0.1, 12)
    x = noised(UNEQUAL, schedule, times[0])
    ends = [target.run(ExactDenoiser(UNEQUAL, schedule), x.to(kind), times, None) for kind in (torch.float32, x.dtype)]
    assert ends[0].dtype == torch.float32
    assert ends[1].dtype == torch.float64
    assert float((ends[0] - ends[1]).norm() / ends[1].norm()) == pytest.approx(0.0, abs=1e-5)

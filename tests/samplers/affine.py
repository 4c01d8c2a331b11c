"""Moments of a stochastic sampler on Gaussian data by exact recursion: free of Monte-Carlo noise.

On Gaussian data a step is affine in the state and in the Gaussian numbers that it draws. Rows that differ in one of
them give the coefficients, other rows certify that there is nothing else, and mean and variance follow.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser
from diffuscope.samplers import Instant, Noise, Sampler, State, instants
from diffuscope.schedules import Schedule, as_time
from diffuscope.times import log_snr_times

DRAWS = 4  # at most, in one step


class Probe(Noise):
    """Draw k is one in row 2 + k and zero in the others, but for the last two rows: they take anything."""

    def __init__(self) -> None:
        super().__init__(torch.Generator())
        self.count = 0

    def normal(self, like: Batch) -> Batch:
        drawn = torch.zeros_like(like)
        drawn[2 + self.count] = 1
        drawn[-2], drawn[-1] = 0.7 - 0.4 * self.count, -1.1 + 0.9 * self.count
        self.count += 1
        return drawn


def affine_step(sampler: Sampler, denoiser: Denoiser, t: Instant, s: Instant) -> tuple[float, float, float]:
    """(A, B, sum_k C_k^2) of x_s = A x_t + B + sum_k C_k xi_k."""
    noise = Probe()
    x_t = torch.tensor([[0.0], [1.0], *[[0.0]] * DRAWS, [-2.3], [1.9]], dtype=torch.float64)
    x_s = sampler.step(denoiser, State(t, x_t), s, noise).x_t[:, 0].tolist()
    b, a, c = x_s[0], x_s[1] - x_s[0], [value - x_s[0] for value in x_s[2:-2]]
    expected = [
        a * -2.3 + b + sum(c_k * (0.7 - 0.4 * k) for k, c_k in enumerate(c)),
        a * 1.9 + b + sum(c_k * (-1.1 + 0.9 * k) for k, c_k in enumerate(c)),
    ]
    scale = max(abs(value) for value in x_s) + 1
    assert max(abs(x - y) for x, y in zip(x_s[-2:], expected, strict=True)) < 1e-12 * scale
    return a, b, sum(c_k**2 for c_k in c)


def propagated(
    sampler: Sampler, denoiser: Denoiser, times: Tensor, mean: float, variance: float
) -> tuple[float, float]:
    """Mean and variance at the end of the grid, from those at its start."""
    for t, s in itertools.pairwise(instants(denoiser.schedule, times)):
        a, b, c_squared = affine_step(sampler, denoiser, t, s)
        mean, variance = a * mean + b, a**2 * variance + c_squared
    return mean, variance


@dataclass(frozen=True)
class GaussianOnTheLine:
    """The denoiser of N(1.3, 1/4), in floats: D = m + alpha v (x - alpha m) / (alpha^2 v + sigma^2)."""

    schedule: Schedule
    mean: float = 1.3
    variance: float = 0.25

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        alpha, sigma = float(self.schedule.alpha(as_time(t))), float(self.schedule.sigma(as_time(t)))
        gain = alpha * self.variance / (alpha**2 * self.variance + sigma**2)
        return self.mean + gain * (x_t - alpha * self.mean)

    def marginal(self, t: float) -> tuple[float, float]:
        """Mean and variance of the noised distribution."""
        alpha, sigma = float(self.schedule.alpha(t)), float(self.schedule.sigma(t))
        return self.mean * alpha, self.variance * alpha**2 + sigma**2


def moment_error(sampler: Sampler, schedule: Schedule, start: float, end: float, steps: int) -> float:
    """The error of mean or variance, the larger, at the end of a log-SNR grid."""
    denoiser = GaussianOnTheLine(schedule)
    times = log_snr_times(schedule, start, end, steps)
    mean, variance = propagated(sampler, denoiser, times, *denoiser.marginal(start))
    exact_mean, exact_variance = denoiser.marginal(end)
    return max(abs(mean - exact_mean), abs(variance - exact_variance))

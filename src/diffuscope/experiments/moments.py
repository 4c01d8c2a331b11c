r"""What a sampler does to a Gaussian on the line, without Monte Carlo.

Where the denoiser is affine (Gaussian data, a single data point) a step is affine too,

.. math::  x_s = A x_t + b + c\,\xi, \qquad \xi \sim N(0, 1),

and a batch of three rows determines it: the states 0 and 1 without noise, and the state 0 with xi = 1.
Mean and variance then follow by m -> A m + b, v -> A^2 v + c^2.
"""

import itertools
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser
from diffuscope.findings import largest
from diffuscope.samplers import Instant, Noise, Sampler, State, instants
from diffuscope.schedules import Schedule, as_time


@dataclass(frozen=True)
class GaussianDenoiser:
    """The exact denoiser of N(mean, variance) on the line; variance 0 is a single data point."""

    schedule: Schedule
    mean: float
    variance: float = 0.0

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        alpha, sigma = _levels(self.schedule, float(as_time(t)))
        gain = alpha * self.variance / (alpha**2 * self.variance + sigma**2)
        return self.mean + gain * (x_t - alpha * self.mean)

    def marginal(self, t: float) -> tuple[float, float]:
        """Mean and variance of the noised distribution."""
        alpha, sigma = _levels(self.schedule, t)
        return alpha * self.mean, alpha**2 * self.variance + sigma**2


def distribution_after(
    sampler: Sampler, denoiser: Denoiser, times: Float[Tensor, " times"], mean: float, variance: float
) -> tuple[float, float]:
    """Mean and variance at the end of the grid, from those at its start; the sampler draws at most once per step."""
    noise = _Once(torch.Generator())
    for t, s in itertools.pairwise(instants(denoiser.schedule, times)):
        zero_and_one = torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64)
        b, a, c = sampler.step(denoiser, State(t, zero_and_one), s, noise).x_t[:, 0].tolist()
        mean, variance = (a - b) * mean + b, (a - b) ** 2 * variance + (c - b) ** 2
    return mean, variance


def apart(a: tuple[float, float], b: tuple[float, float]) -> float:
    """The larger difference of two pairs (mean, variance)."""
    return largest((abs(a[0] - b[0]), abs(a[1] - b[1])))


def at_ratios(schedule: Schedule, *ratios: float) -> tuple[Instant, ...]:
    """The instants where sigma/alpha takes these values."""
    return instants(schedule, schedule.time_of_noise_to_signal(torch.tensor(ratios, dtype=torch.float64)))


@lru_cache(maxsize=2**14)
def _levels(schedule: Schedule, t: float) -> tuple[float, float]:
    """(alpha, sigma): a run asks for the same times again and again."""
    return float(schedule.alpha(t)), float(schedule.sigma(t))


class _Once(Noise):
    """xi = 1 in the third row, 0 in the others."""

    def normal(self, like: Batch) -> Batch:
        drawn = torch.zeros_like(like)
        drawn[2] = 1
        return drawn

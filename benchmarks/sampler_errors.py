r"""The problems and the exact errors of `sampler_table.py`; a module of that benchmark, with nothing to run of its own.

Every call of the denoiser counts, the last one too, and every run goes from pure noise to sigma = 0.

**Endpoints** of deterministic samplers are compared with the exact probability-flow map, on a mixture of ten Gaussians
with full, unequal covariances in 16 dimensions. The error is their mean distance, in units of the data's standard
deviation,

.. math::  e = \frac{\frac1n\sum_i |x_i - x_i^*|}{\sqrt{\operatorname{tr} C}} .

**Distributions**, of stochastic samplers too, are compared on a Gaussian whose standard deviations fall from 1 to 1/64,
as those of natural signals do. There every sampler is an affine map of its start and its draws, which is read off one
run, so that mean m and covariance V of its samples are known without Monte Carlo. The error is the Frechet
(2-Wasserstein) distance to the data N(0, C), in the same unit,

.. math::  e^2 = \frac{|m|^2 + \operatorname{tr}\left(V + C - 2(C^{1/2} V C^{1/2})^{1/2}\right)}{\operatorname{tr} C} .
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from torch import Tensor

from diffuscope.certify import affine_map, sampler_target
from diffuscope.denoisers import CountingDenoiser, ExactDenoiser
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.samplers import Sampler, sample, trajectory
from diffuscope.schedules import Schedule

STARTS = 128
FAR, NEAR = 1e3, 1e-4  # noise-to-signal ratios above and below which the exact flow is the Gaussian's, and the denoiser

Times = Float[Tensor, " times"]
Grid = Callable[[Schedule, int], Times]
Setting = tuple[Schedule, Grid]


@dataclass(frozen=True)
class Entry:
    """A line of a table: how a sampler is written, what it is for a number of steps, and its declared order."""

    name: str
    make: Callable[[int], Sampler]

    @property
    def sampler(self) -> Sampler:
        """The sampler, to read what it declares."""
        return self.make(10)


@dataclass(frozen=True)
class Nothing:
    """A denoiser that answers zero, to count calls with."""

    schedule: Schedule

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:  # noqa: ARG002
        return torch.zeros_like(x_t)


def steps_for(make: Entry, schedule: Schedule, grid: Grid, dimension: int, calls: int) -> int:
    """The most steps on `grid` that take at most `calls` calls of the denoiser, counted on one that costs nothing."""
    for steps in range(2 * calls, 1, -1):
        sampler = make.make(steps)
        counting = CountingDenoiser(Nothing(schedule))
        noise = torch.Generator() if sampler.stochastic else None
        x = torch.zeros(1, dimension, dtype=torch.float64)
        for _ in trajectory(sampler, counting, x, grid(schedule, steps), noise=noise):
            if counting.calls > calls:
                break
        else:
            return steps
    raise ValueError(f"calls: expected enough for two steps of {make.name}, got {calls}")


def mixture(dimension: int = 16, components: int = 10, seed: int = 1004) -> GaussianMixture:
    """Components with unequal weights and full, unequal covariances."""
    draw = torch.Generator().manual_seed(seed)
    means = torch.randn(components, dimension, generator=draw, dtype=torch.float64)
    widths = 0.1 + 0.3 * torch.rand(components, dimension, generator=draw, dtype=torch.float64)
    turns = torch.linalg.qr(torch.randn(components, dimension, dimension, generator=draw, dtype=torch.float64)).Q
    weights = 0.2 + torch.rand(components, generator=draw, dtype=torch.float64)
    covariances = turns @ torch.diag_embed(widths**2) @ turns.mT
    return GaussianMixture.from_covariances(weights / weights.sum(), means, covariances)


def decaying_gaussian() -> Gaussian:
    """Seven directions with standard deviations 1, 1/2, ..., 1/64."""
    deviations = 0.5 ** torch.arange(7, dtype=torch.float64)
    return Gaussian(torch.zeros(7, dtype=torch.float64), torch.eye(7, dtype=torch.float64), deviations**2)


def pure_noise(schedule: Schedule, start: float, rows: int, dimension: int) -> Float[Tensor, "rows dimension"]:
    """sigma(start) times standard normal numbers."""
    draw = torch.Generator().manual_seed(1)
    return schedule.sigma(start) * torch.randn(rows, dimension, generator=draw, dtype=torch.float64)


def exact_end(
    distribution: GaussianMixture, schedule: Schedule, start: float, x: Float[Tensor, "rows dimension"]
) -> Float[Tensor, "rows dimension"]:
    """The clean end of the probability flow through x at time `start`."""
    high = float(schedule.noise_to_signal(start))
    if high > FAR:  # alpha = 0, or nearly: there the data are known by their mean and covariance only
        gaussian, high = distribution.as_gaussian(), FAR
        inner = float(schedule.time_of_noise_to_signal(FAR))
        x, start = gaussian.flow(x, schedule, start, inner), inner

    def slope(log_ratio: float, flat: np.ndarray) -> np.ndarray:
        y = torch.from_numpy(flat).reshape(x.shape)
        return (y - distribution.denoise(y, 1.0, math.exp(log_ratio))).flatten().numpy()

    span, y = (math.log(high), math.log(NEAR)), (x / schedule.alpha(start)).flatten().numpy()
    ended = solve_ivp(slope, span, y, method="DOP853", rtol=1e-9, atol=1e-9).y[:, -1]
    return distribution.denoise(torch.from_numpy(ended).reshape(x.shape), 1.0, NEAR)


@cache
def starts_and_ends(distribution: GaussianMixture, schedule: Schedule, start: float) -> tuple[Tensor, Tensor]:
    """Pure noise at time `start`, and the exact clean ends: the same for every sampler."""
    x = pure_noise(schedule, start, STARTS, distribution.as_gaussian().dimension)
    return x, exact_end(distribution, schedule, start, x)


def endpoint_error(make: Entry, distribution: GaussianMixture, setting: Setting, calls: int) -> float:
    """The mean distance of the endpoints from the exact ones, in standard deviations of the data."""
    schedule, grid = setting
    gaussian = distribution.as_gaussian()
    steps = steps_for(make, schedule, grid, gaussian.dimension, calls)
    times = grid(schedule, steps)
    x, exact = starts_and_ends(distribution, schedule, float(times[0]))
    end = sample(make.make(steps), ExactDenoiser(distribution, schedule), x, times)
    return float((end - exact).norm(dim=1).mean()) / gaussian.trace**0.5


def frechet_error(make: Entry, gaussian: Gaussian, setting: Setting, calls: int) -> float:
    """The Frechet distance of the samples' exact distribution to the data's, in standard deviations of the data."""
    schedule, grid = setting
    steps = steps_for(make, schedule, grid, gaussian.dimension, calls)
    return frechet_of(make.make(steps), ExactDenoiser(gaussian, schedule), grid(schedule, steps))


def frechet_of(sampler: Sampler, denoiser: ExactDenoiser, times: Times) -> float:
    """The same for one sampler on one grid, from pure noise."""
    gaussian = denoiser.distribution
    assert isinstance(gaussian, Gaussian)
    found = affine_map(sampler_target(sampler), denoiser, times)
    d, sigma = gaussian.dimension, float(denoiser.schedule.sigma(float(times[0])))
    mean, covariance = found.moments(torch.zeros(d).double(), sigma**2 * torch.eye(d).double())
    root = gaussian.eigenvectors @ torch.diag(gaussian.eigenvalues.sqrt()) @ gaussian.eigenvectors.T
    cross = torch.linalg.eigvalsh(root @ covariance @ root).clamp(min=0).sqrt().sum()
    square = (mean - gaussian.mean).square().sum() + covariance.trace() + gaussian.trace - 2 * cross
    return float(square.clamp(min=0) / gaussian.trace) ** 0.5

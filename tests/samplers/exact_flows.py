"""Diffusions whose probability-flow map is known exactly, for measuring samplers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.denoisers.clocks import StepIndex
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.samplers import Sampler, sample
from diffuscope.schedules import Schedule

Flow = Callable[[Tensor, Schedule, float, float], Tensor]


@dataclass(frozen=True)
class ExactDiffusion:
    """A data distribution, starting points at unit scale, and its exact probability-flow map."""

    distribution: Gaussian | GaussianMixture
    flow: Flow

    def start(self, schedule: Schedule, t: float, count: int = 16) -> Tensor:
        """Points of the noised distribution at time t, from a fixed seed."""
        draw = torch.Generator().manual_seed(7)
        x_0 = self.distribution.sample(count, generator=draw)
        noise = torch.randn(x_0.shape, dtype=torch.float64, generator=draw)
        return schedule.alpha(t) * x_0 + schedule.sigma(t) * noise

    def exact_end(self, schedule: Schedule, start: float, end: float) -> Tensor:
        """Where the exact flow takes the starting points."""
        return self.flow(self.start(schedule, start), schedule, start, end)

    def endpoint_error(self, sampler: Sampler, schedule: Schedule, times: Tensor, exact: Tensor) -> float:
        """rms distance of the sampler's endpoints from the `exact` ones."""
        x_start = self.start(schedule, float(times[0]))
        ended = sample(sampler, ExactDenoiser(self.distribution, schedule), x_start, times)
        return float((ended - exact).square().mean().sqrt())


class Discrete(ExactDenoiser):
    """An exact denoiser that raises at times outside its table of 200."""

    clock = StepIndex(200)

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        self.clock.label(t)
        return super().__call__(x_t, t)


def noise(schedule: Schedule, count: int, seed: int = 0, event: tuple[int, ...] = (1,)) -> Tensor:
    """Starting points at the top of the schedule."""
    draw = torch.Generator().manual_seed(seed)
    return schedule.sigma(schedule.t_max) * torch.randn(count, *event, dtype=torch.float64, generator=draw)


def unequal_gaussian() -> Gaussian:
    """Two correlated coordinates with standard deviations 1.5 and 0.4."""
    rotation = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    return Gaussian(
        torch.tensor([1.3, -0.4], dtype=torch.float64), rotation, torch.tensor([2.25, 0.16], dtype=torch.float64)
    )


def gaussian_in_the_plane() -> ExactDiffusion:
    """The flow is linear, in closed form."""
    gaussian = unequal_gaussian()
    return ExactDiffusion(gaussian, gaussian.flow)


def mixture_on_the_line() -> ExactDiffusion:
    """Three modes in one dimension: the flow is the quantile map F_s^-1 o F_t."""
    mixture = GaussianMixture.isotropic(
        torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
        torch.tensor([[-1.2], [0.4], [1.6]], dtype=torch.float64),
        torch.tensor([0.3, 0.2, 0.25], dtype=torch.float64),
    )

    def flow(x_t: Tensor, schedule: Schedule, t: float, s: float) -> Tensor:
        return quantile_map(mixture, x_t, schedule, t, s)

    return ExactDiffusion(mixture, flow)


def quantile_map(mixture: GaussianMixture, x_t: Tensor, schedule: Schedule, t: float, s: float) -> Tensor:
    """F_s^-1(F_t(x)) by bisection to the last bit: in one dimension the probability flow keeps the quantile."""
    target = distribution_function(mixture, x_t, schedule.alpha(t), schedule.sigma(t))
    levels = schedule.alpha(s), schedule.sigma(s)
    low, high = torch.full_like(x_t, -50.0), torch.full_like(x_t, 50.0)
    for _ in range(60):  # 100 / 2^60 is below rounding
        middle = (low + high) / 2
        below = distribution_function(mixture, middle, *levels) < target
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def distribution_function(mixture: GaussianMixture, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The noised mixture's cumulative distribution function."""
    stds = (alpha**2 * mixture.tail_variances + sigma**2).sqrt()
    return (torch.special.ndtr((x - alpha * mixture.means[:, 0]) / stds) * mixture.weights).sum(-1, keepdim=True)

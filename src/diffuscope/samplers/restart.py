r"""Restart: at a low noise level, return to a high one by adding noise, and step down again, K times.

From the lower level l of an interval of noise-to-signal ratios to its upper level h the forward process is one draw,

.. math::  x_h = \frac{\alpha_h}{\alpha_l} x_l
               + \alpha_h\sqrt{\tilde\sigma_h^2 - \tilde\sigma_l^2}\;\xi, \qquad \tilde\sigma = \sigma/\alpha,

and a deterministic sampler steps down from h to l. With the exact score both keep the marginals. The fresh noise damps
the errors of earlier steps: on Gaussian data of variance v each round multiplies the error of the mean by
:math:`\sqrt{(v + \tilde\sigma_l^2)/(v + \tilde\sigma_h^2)}` (in x/alpha). A few rounds therefore help where many
deterministic steps have accumulated error, and only cost evaluations where they have not.
"""

import math
from dataclasses import dataclass

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError

from .contract import Sampler, State, required
from .noise import Noise
from .schedule_values import Instant, instant_of_lambda

SAME_LEVEL = 1e-9  # in lambda: a time of the grid is at the lower level, up to rounding


@dataclass(frozen=True)
class Restart:
    """`sampler`, restarted `repeats` times from sigma/alpha = `high` when it reaches `low`.

    The step that crosses `low` is split there (unless it ends at `low`): down to `low`, up and down again, then to its
    own end. Each descent is uniform in log-SNR and has `steps` steps; by default the fewest that are no longer than the
    crossing step, so that a finer grid refines the descents too and the sampler keeps its order. A multistep sampler
    starts each descent without history.

    The NFE varies with the step. Raises InputError unless 0 < low < high, repeats >= 1, steps >= 1, and for a
    stochastic sampler (on a Brownian path it would draw the same noise again at the same times).

    Source: Xu, Deng, Cheng, Tian, Liu & Jaakkola 2023, https://arxiv.org/abs/2306.14878 (their t_min, t_max, K are
    low, high, repeats).

    >>> import torch
    >>> from diffuscope import DDIM, ExactDenoiser, Gaussian, RectifiedFlow
    >>> from diffuscope.samplers import Restart, sample
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([3.0]), 0.0), RectifiedFlow())
    >>> x_t, times = torch.tensor([[4.6]]), torch.tensor([0.8, 1 / 3])  # x / alpha = 3 + 4 * 5; to sigma / alpha = 1/2
    >>> draw, again = (torch.Generator().manual_seed(0) for _ in range(2))
    >>> x_s = sample(Restart(DDIM(), low=1.0, high=2.0), point, x_t, times, noise=draw)
    >>> xi = torch.randn(1, 1, generator=again)  # at 1: 3 + 5; raised by (4 - 1)^(1/2) xi to 2; at 1/2 a quarter of it
    >>> round(float((x_s / (2 / 3) - 3 - 5 / 4) / xi) ** 2, 4)  # 3 (1/4)^2
    0.1875
    """

    sampler: Sampler
    low: float
    high: float
    repeats: int = 1
    steps: int | None = None

    stochastic = True
    nfe_per_step = None

    def __post_init__(self) -> None:
        if self.sampler.stochastic:
            raise InputError(f"sampler: expected a deterministic one to restart, got {type(self.sampler).__name__}")
        if not 0 < self.low < self.high < math.inf:
            raise InputError(f"low, high: expected 0 < low < high, levels sigma/alpha, got {self.low}, {self.high}")
        if self.repeats < 1 or (self.steps is not None and self.steps < 1):
            raise InputError(f"repeats, steps: expected at least 1, got {self.repeats}, {self.steps}")

    @property
    def order(self) -> int:
        return self.sampler.order

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:
        """The sampler's step, with the restarts inside it if it crosses `low`."""
        t, lam_low, lam_high = state.at, -math.log(self.low), -math.log(self.high)
        if not t.lam < lam_low - SAME_LEVEL < s.lam:
            return self.sampler.step(denoiser, state, s, noise)
        noise = required(noise, self)
        ends_there = abs(s.lam - lam_low) <= SAME_LEVEL
        bottom = s if ends_there else instant_of_lambda(denoiser.schedule, lam_low)
        state = self.sampler.step(denoiser, state, bottom, noise)
        count = self.steps or max(1, math.ceil((lam_low - lam_high) / (s.lam - t.lam) - SAME_LEVEL))
        down = [instant_of_lambda(denoiser.schedule, lam_high + (lam_low - lam_high) * k / count) for k in range(count)]
        for _ in range(self.repeats):
            state = State(down[0], raised(state.x_t, bottom, down[0], noise))
            for u in (*down[1:], bottom):
                state = self.sampler.step(denoiser, state, u, noise)
        return state if ends_there else self.sampler.step(denoiser, state, s, noise)


def raised(x_l: Batch, low: Instant, high: Instant, noise: Noise) -> Batch:
    """A draw of the forward process from time `low` to the later time `high`, with fresh noise."""
    level_l, level_h = low.sigma / low.alpha, high.sigma / high.alpha
    spread = high.alpha * math.sqrt((level_h - level_l) * (level_h + level_l))
    return high.alpha / low.alpha * x_l + spread * noise.normal(x_l)

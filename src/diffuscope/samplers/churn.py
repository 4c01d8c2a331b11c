r"""EDM's stochastic sampler: noise is added before every step ("churn"), then one Heun step.

In the coordinates of a variance-exploding process, :math:`y = x/\alpha` at noise level
:math:`\tilde\sigma = \sigma/\alpha`, one step from :math:`\tilde\sigma_t` to :math:`\tilde\sigma_s` is

.. math::
    \gamma &= \min\left(S_{churn}/N, \sqrt 2 - 1\right) \text{ if } S_{min} \le \tilde\sigma_t \le S_{max},
              \text{ else } 0, \qquad \hat\sigma = (1 + \gamma)\tilde\sigma_t, \\
    \hat y &= y_t + S_{noise}\sqrt{\hat\sigma^2 - \tilde\sigma_t^2}\;\xi, \qquad
              d = (\hat y - D(\hat y, \hat\sigma))/\hat\sigma, \qquad
              y' = \hat y + (\tilde\sigma_s - \hat\sigma)\, d, \\
    y_s &= \hat y + \tfrac12(\tilde\sigma_s - \hat\sigma)\left[d + (y' - D(y', \tilde\sigma_s))/\tilde\sigma_s\right] .

Only ratios sigma/alpha enter, so the samples are the same in every schedule; the denoiser is evaluated at the time
where its schedule has the ratio :math:`\hat\sigma`.
"""

import math
from dataclasses import dataclass

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError

from .contract import State, required
from .ddim import frozen_denoised_step
from .noise import Noise
from .schedule_values import Instant, instant_of_lambda


@dataclass(frozen=True)
class EDMChurn:
    r"""Heun's method with churn, in any schedule by its noise-to-signal ratio.

    `steps` is N, the number of steps of the whole grid. Weak order 2 for s_noise = 1, two evaluations per step, one for
    a step that reaches sigma(s) = 0. Deterministic for s_churn = 0. A step from alpha(t) = 0 has no churn and a frozen
    denoiser.

    The raised level :math:`\hat\sigma` may lie above the first of the grid; set `s_max` below the highest level that
    the model was trained on. Raises InputError for steps < 1 and for negative parameters.

    Source: Karras, Aittala, Aila & Laine 2022, https://arxiv.org/abs/2206.00364 (algorithm 2).

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, RectifiedFlow
    >>> from diffuscope.samplers import EDMChurn, sample
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([2.0]), 0.0), RectifiedFlow())
    >>> x_t, times = torch.tensor([[1.4]]), torch.tensor([0.8, 2 / 3])  # y = x / alpha = 7; sigma / alpha = 4 and 2
    >>> draw, again = (torch.Generator().manual_seed(0) for _ in range(2))
    >>> x_s = sample(EDMChurn(s_churn=0.5, steps=2), point, x_t, times, noise=draw)
    >>> xi = torch.randn(1, 1, generator=again)
    >>> round(float((3 * x_s - 4) / xi), 3)  # raised from 4 to 5 by 3 xi, then straight to 2: y_s = 2 + 2/5 (5 + 3 xi)
    1.2
    """

    s_churn: float
    steps: int
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0

    order = 2
    nfe_per_step = 2

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"steps: expected the grid's number of steps, at least 1, got {self.steps}")
        for name in ("s_churn", "s_min", "s_max", "s_noise"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name}: expected a value >= 0, got {getattr(self, name)}")

    @property
    def stochastic(self) -> bool:
        return self.s_churn > 0

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:
        """One churn and one Heun step in sigma/alpha."""
        raised, x_t = self._churned(denoiser, state, s, noise)
        denoised = denoiser(x_t, raised.t)
        predicted = frozen_denoised_step(x_t, denoised, raised, s)  # Euler's step in y
        if s.sigma == 0 or raised.alpha == 0:
            return State(s, predicted)
        level, level_s = raised.sigma / raised.alpha, s.sigma / s.alpha
        slope = (x_t / raised.alpha - denoised) / level
        slope_s = (predicted / s.alpha - denoiser(predicted, s.t)) / level_s
        y_s = x_t / raised.alpha + (level_s - level) / 2 * (slope + slope_s)
        return State(s, s.alpha * y_s)

    def _churned(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None) -> tuple[Instant, Batch]:
        """The state at the raised level (1 + gamma) sigma/alpha."""
        t, x_t = state.at, state.x_t
        gamma = self._gamma(t)
        if gamma == 0:
            return t, x_t
        level = t.sigma / t.alpha
        raised_level = (1 + gamma) * level
        raised = instant_of_lambda(denoiser.schedule, -math.log(raised_level))
        spread = self.s_noise * math.sqrt((raised_level - level) * (raised_level + level))
        y = x_t / t.alpha + spread * required(noise, self).increment(x_t, t.angle, s.angle)
        return raised, raised.alpha * y

    def _gamma(self, t: Instant) -> float:
        if t.alpha == 0 or not self.s_min <= t.sigma / t.alpha <= self.s_max:
            return 0.0
        return min(self.s_churn / self.steps, math.sqrt(2) - 1)

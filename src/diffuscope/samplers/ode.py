r"""Euler, Heun and Runge-Kutta 4 on the probability-flow ODE, in the schedule's own time.

.. math::  \dot x = v(x, t) = \dot\alpha D(x, t) + \dot\sigma\varepsilon(x, t), \qquad
           \varepsilon = \frac{x - \alpha D}{\sigma} .

The right side is finite at alpha(t) = 0 when the derivatives are (rectified flow, cosine). Two kinds of step have no
finite velocity at an end: those that reach sigma(s) = 0, and those that start where alpha or sigma has an infinite
derivative (`Sigmoid` at t = 1). All three methods then take the exact step with D frozen (`ddim`), which for a final
step in VE and rectified flow *is* Euler's. After a start at an infinite derivative, as alpha ~ sqrt(1 - t), the order
of all three falls to 1/2: start at a smaller t, or use a sampler in log-SNR.
"""

import math
from dataclasses import dataclass

from diffuscope.denoisers import Batch, Denoiser

from .contract import State
from .ddim import frozen_denoised_step
from .noise import Noise
from .schedule_values import Instant, instant


def is_singular(t: Instant, s: Instant) -> bool:
    """Whether the step ends without noise, or the velocity at its start is infinite."""
    return s.sigma == 0 or not (math.isfinite(t.alpha_dot) and math.isfinite(t.sigma_dot))


def velocity(x_t: Batch, denoised: Batch, at: Instant) -> Batch:
    """v = alpha' D + sigma' (x_t - alpha D) / sigma."""
    growth = at.sigma_dot / at.sigma
    return growth * x_t + (at.alpha_dot - growth * at.alpha) * denoised


@dataclass(frozen=True)
class Euler:
    r"""Euler's method.

    .. math::  x_s = x_t + (s - t)\, v(x_t, t)

    Order 1, one evaluation per step.

    Source: the probability-flow ODE of Song et al. 2021, https://arxiv.org/abs/2011.13456.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import Euler, sample
    >>> normal = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VE())  # dx/dt = t x / (1 + t^2)
    >>> round(float(sample(Euler(), normal, torch.tensor([[5.0]]), torch.tensor([2.0, 1.0]))), 4)  # 5 - 2 * 5 / 5
    3.0
    """

    order = 1
    stochastic = False
    nfe_per_step = 1

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        """One step along the velocity at time t."""
        t, x_t = state.at, state.x_t
        denoised = denoiser(x_t, t.t)
        if is_singular(t, s):
            return State(s, frozen_denoised_step(x_t, denoised, t, s))
        return State(s, x_t + (s.t - t.t) * velocity(x_t, denoised, t))


@dataclass(frozen=True)
class Heun:
    r"""Heun's method: the trapezoidal rule with the end predicted by an Euler step.

    .. math::
        \hat x_s = x_t + (s - t)\, v(x_t, t), \qquad
        x_s = x_t + \tfrac{s - t}{2} \left[v(x_t, t) + v(\hat x_s, s)\right]

    Order 2, two evaluations per step, one for a step that reaches sigma(s) = 0: 2N - 1 for N steps to clean data.

    Source: Karras, Aittala, Aila & Laine 2022, https://arxiv.org/abs/2206.00364 (algorithm 1, in any schedule's time).

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian, Heun
    >>> from diffuscope.samplers import sample
    >>> normal = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VE())  # dx/dt = t x / (1 + t^2)
    >>> x_s = sample(Heun(), normal, torch.tensor([[5.0]]), torch.tensor([2.0, 1.0]))
    >>> round(float(x_s), 4)  # v = 2, Euler's step ends at 3, where v = 3/2: 5 - (2 + 3/2) / 2
    3.25
    """

    order = 2
    stochastic = False
    nfe_per_step = 2

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        """One trapezoidal step."""
        t, x_t = state.at, state.x_t
        denoised = denoiser(x_t, t.t)
        if is_singular(t, s):
            return State(s, frozen_denoised_step(x_t, denoised, t, s))
        v_t = velocity(x_t, denoised, t)
        predicted = x_t + (s.t - t.t) * v_t
        v_s = velocity(predicted, denoiser(predicted, s.t), s)
        return State(s, x_t + (s.t - t.t) / 2 * (v_t + v_s))


@dataclass(frozen=True)
class RungeKutta4:
    r"""The classical Runge-Kutta method.

    .. math::
        k_1 = v(x_t, t), \quad k_2 = v(x_t + \tfrac{h}{2} k_1, t + \tfrac{h}{2}), \quad
        k_3 = v(x_t + \tfrac{h}{2} k_2, t + \tfrac{h}{2}), \quad k_4 = v(x_t + h k_3, s), \qquad
        x_s = x_t + \tfrac{h}{6}(k_1 + 2 k_2 + 2 k_3 + k_4), \quad h = s - t

    Order 4, four evaluations per step, one for a step that reaches sigma(s) = 0.

    Source: Kutta 1901; Hairer, Norsett & Wanner, *Solving Ordinary Differential Equations I*, II.1.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import RungeKutta4, sample
    >>> normal = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VE())  # dx/dt = t x / (1 + t^2)
    >>> x_s = sample(RungeKutta4(), normal, torch.tensor([[5.0]]), torch.tensor([2.0, 1.0]))
    >>> k_1, k_2, k_3, k_4 = 2, 24 / 13, 318 / 169, 527 / 338  # 2 * 5 / 5, 1.5 * (5 - k_1 / 2) / 3.25, ...
    >>> round(float(x_s), 4) == round(5 - (k_1 + 2 * k_2 + 2 * k_3 + k_4) / 6, 4)
    True
    """

    order = 4
    stochastic = False
    nfe_per_step = 4

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        """One step of four stages."""
        t, x_t = state.at, state.x_t
        denoised = denoiser(x_t, t.t)
        if is_singular(t, s):
            return State(s, frozen_denoised_step(x_t, denoised, t, s))
        h, middle = s.t - t.t, instant(denoiser.schedule, (t.t + s.t) / 2)
        k_1 = velocity(x_t, denoised, t)
        k_2 = _slope(denoiser, x_t + h / 2 * k_1, middle)
        k_3 = _slope(denoiser, x_t + h / 2 * k_2, middle)
        k_4 = _slope(denoiser, x_t + h * k_3, s)
        return State(s, x_t + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4))


def _slope(denoiser: Denoiser, x: Batch, at: Instant) -> Batch:
    return velocity(x, denoiser(x, at.t), at)

r"""Integrators of the reverse family at any eta, in the schedule's own time.

With :math:`g^2 = -2\sigma^2\dot\lambda` and :math:`\nabla\log p = -\varepsilon/\sigma` the family reads

.. math::  dx = b\,dt + G\,d\bar B, \qquad
           b(x, t) = v(x, t) - \eta^2\dot\lambda\,(x - \alpha D), \qquad
           G(t) = \eta\,\sigma\sqrt{-2\dot\lambda},

run from t down to s. The noise is additive (G does not depend on x), so the simple schemes below have a higher strong
order than on a general SDE. `increment(t, s)` standardizes the Brownian increment,
:math:`\Delta W = \sqrt{t - s}\,\xi`.

Two kinds of step take the exact transition with D frozen instead (`bridge.reverse_bridge`): those without a finite
velocity at an end (see `ode`), and, if eta > 0, those that leave alpha(t) = 0, where g is infinite. A step to
sigma(s) = 0 ends at alpha_s D. With eta = 0 these are Euler's, Heun's and Ralston's methods on the ODE.
"""

import math
from dataclasses import dataclass

from diffuscope.denoisers import Batch, Denoiser

from .bridge import reverse_bridge
from .contract import State, required
from .eta import ReverseFamily, eta_at
from .noise import Noise
from .ode import is_singular, velocity
from .schedule_values import Instant, instant


def drift(x_t: Batch, denoised: Batch, at: Instant, eta: float) -> Batch:
    """b = v - eta^2 lambda' (x_t - alpha D); v itself at eta = 0, also where lambda' is infinite."""
    v = velocity(x_t, denoised, at)
    if eta == 0:
        return v
    return v - eta**2 * at.lam_dot * (x_t - at.alpha * denoised)


def diffusion(at: Instant, eta: float) -> float:
    """G = eta sigma sqrt(-2 lambda')."""
    return eta * at.sigma * math.sqrt(-2 * at.lam_dot) if eta > 0 else 0.0


def _frozen(x_t: Batch, denoised: Batch, t: Instant, s: Instant, eta: float, noise: Noise | None, of: object) -> State:
    """The step with D frozen; its noise is on the clock t, like that of the regular steps."""
    x_s, std = reverse_bridge(x_t, denoised, t, s, eta)
    if std > 0:
        x_s = x_s + std * required(noise, of).increment(x_t, t.t, s.t)
    return State(s, x_s)


def _is_frozen(t: Instant, s: Instant, eta: float) -> bool:
    return is_singular(t, s) or (eta > 0 and t.alpha == 0)


@dataclass(frozen=True)
class EulerMaruyama(ReverseFamily):
    r"""The Euler-Maruyama method.

    .. math::  x_s = x_t + (s - t)\, b(x_t, t) + G(t)\,\Delta W

    `eta` >= 0 is a number or a function of t, read at the start of a step. Weak order 1, strong order 1, one evaluation
    per step. Near clean data it needs steps below sigma^2/g^2: use a grid in log-SNR.

    Source: Maruyama 1955; the reverse SDE of Song et al. 2021, https://arxiv.org/abs/2011.13456.

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, RectifiedFlow
    >>> from diffuscope.samplers import EulerMaruyama, sample
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([3.0]), 0.0), RectifiedFlow())
    >>> x_t, times = torch.tensor([[11 / 3]]), torch.tensor([2 / 3, 5 / 12])  # eps = (11/3 - 3/3) / (2/3) = 4
    >>> draw, again = (torch.Generator().manual_seed(0) for _ in range(2))
    >>> x_s, xi = sample(EulerMaruyama(eta=0.5), point, x_t, times, noise=draw), torch.randn(1, 1, generator=again)
    >>> # v = eps - 3, lambda' = -1 / (t (1 - t)) = -9/2: b = 1 + 1/4 * 9/2 * 8/3 = 4, G = 1/2 * 2/3 * 9^(1/2) = 1
    >>> round(float((x_s - (11 / 3 - 4 / 4)) / xi), 4)  # (1/4)^(1/2)
    0.5
    """

    order = 1
    strong_order = 1.0
    nfe_per_step = 1

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:
        """One step along the drift at time t."""
        t, x_t, eta = state.at, state.x_t, eta_at(self.eta, state.at)
        denoised = denoiser(x_t, t.t)
        if _is_frozen(t, s, eta):
            return _frozen(x_t, denoised, t, s, eta, noise, self)
        x_s = x_t + (s.t - t.t) * drift(x_t, denoised, t, eta)
        if eta > 0:
            x_s = x_s + diffusion(t, eta) * math.sqrt(t.t - s.t) * required(noise, self).increment(x_t, t.t, s.t)
        return State(s, x_s)


@dataclass(frozen=True)
class StochasticHeun(ReverseFamily):
    r"""Heun's method with the same noise in the prediction and in the step.

    .. math::
        \hat x_s = x_t + (s - t)\, b(x_t, t) + \bar G\Delta W, \qquad
        x_s = x_t + \tfrac{s - t}{2}\left[b(x_t, t) + b(\hat x_s, s)\right] + \bar G\Delta W, \qquad
        \bar G = \tfrac12\left[G(t) + G(s)\right]

    For additive noise its moments agree with the SDE's to :math:`O(h^3)` per step: weak order 2, and strong order 1.
    `eta` as in `EulerMaruyama`; two evaluations per step, one for a step that reaches sigma(s) = 0.

    Source: Platen's explicit weak scheme of order 2 for additive noise, Kloeden & Platen 1992, section 15.1.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import StochasticHeun, sample
    >>> point, times = ExactDenoiser(Gaussian.isotropic(torch.tensor([1.0]), 0.0), VE()), torch.tensor([4.5, 0.5])
    >>> draw, again = (torch.Generator().manual_seed(0) for _ in range(2))
    >>> x_s = sample(StochasticHeun(), point, torch.tensor([[10.0]]), times, noise=draw)
    >>> xi = torch.randn(1, 1, generator=again)  # b = 2 (x - 1) / t is 4, G falls from 3 to 1: 4 xi in the step
    >>> round(float((58 - x_s) / xi), 4)  # to x - 1 = -7 + 4 xi, where b = -28 + 16 xi: 10 - 2 (4 + b) + 4 xi
    28.0
    """

    order = 2
    strong_order = 1.0
    nfe_per_step = 2

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:
        """One trapezoidal step."""
        t, x_t, eta = state.at, state.x_t, eta_at(self.eta, state.at)
        denoised = denoiser(x_t, t.t)
        if _is_frozen(t, s, eta):
            return _frozen(x_t, denoised, t, s, eta, noise, self)
        b_t = drift(x_t, denoised, t, eta)
        kick: Batch | float = 0.0
        if eta > 0:
            G = (diffusion(t, eta) + diffusion(s, eta)) / 2
            kick = G * math.sqrt(t.t - s.t) * required(noise, self).increment(x_t, t.t, s.t)
        predicted = x_t + (s.t - t.t) * b_t + kick
        b_s = drift(predicted, denoiser(predicted, s.t), s, eta)
        return State(s, x_t + (s.t - t.t) / 2 * (b_t + b_s) + kick)


@dataclass(frozen=True)
class StrongOrder15(ReverseFamily):
    r"""A two-stage Runge-Kutta method of strong order 3/2 for additive noise (SRA1).

    .. math::
        H &= x_t + \tfrac34 (s - t)\, b(x_t, t) + \tfrac32 G(s)\, A, \qquad m = t + \tfrac34 (s - t), \\
        x_s &= x_t + (s - t)\left[\tfrac13 b(x_t, t) + \tfrac23 b(H, m)\right] + G(s)\,\Delta W + (G(t) - G(s))\, A,

    with the mean Brownian displacement over the step,

    .. math::  A = \frac{1}{t - s}\int_s^t (W_u - W_t)\,du = \tfrac12\sqrt{t - s}\left(\xi + \zeta/\sqrt 3\right) .

    No derivative of the denoiser, and two evaluations per step in any dimension. Strong order 3/2 for an eta that is
    constant over the steps; weak order 2. `eta` as in `EulerMaruyama`; at eta = 0 it is Ralston's method of order 2.

    Source: Roessler 2010, *Runge-Kutta methods for the strong approximation of solutions of stochastic differential
    equations*, SIAM J. Numer. Anal. 48(3), scheme SRA1, https://doi.org/10.1137/09076636X.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import StrongOrder15, sample
    >>> point, times = ExactDenoiser(Gaussian.isotropic(torch.tensor([1.0]), 0.0), VE()), torch.tensor([4.5, 0.5])
    >>> draw, again = (torch.Generator().manual_seed(0) for _ in range(2))
    >>> x_s = sample(StrongOrder15(), point, torch.tensor([[28.0]]), times, noise=draw)
    >>> xi, zeta = (torch.randn(1, 1, generator=again) for _ in range(2))
    >>> A = xi + zeta / 3**0.5  # b = 2 (x - 1) / t = 12, H - 1 = -9 + 3/2 A, b(H, 3/2) = -12 + 2 A, G from 3 to 1
    >>> round(float(x_s - (28 - 4 * (12 / 3 + 2 / 3 * (-12 + 2 * A)) + 2 * xi + 2 * A)), 4) + 0.0
    0.0
    """

    order = 2
    strong_order = 1.5
    nfe_per_step = 2

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:
        """One step of two stages."""
        t, x_t, eta = state.at, state.x_t, eta_at(self.eta, state.at)
        denoised = denoiser(x_t, t.t)
        if _is_frozen(t, s, eta):
            return _frozen(x_t, denoised, t, s, eta, noise, self)
        h, middle = t.t - s.t, instant(denoiser.schedule, t.t + 0.75 * (s.t - t.t))
        b_t = drift(x_t, denoised, t, eta)
        stage_kick: Batch | float = 0.0
        kick: Batch | float = 0.0
        if eta > 0:
            G_t, G_s = diffusion(t, eta), diffusion(s, eta)
            xi, zeta = required(noise, self).increment_and_area(x_t, t.t, s.t)
            mean_displacement = math.sqrt(h) / 2 * (xi + zeta / math.sqrt(3))
            stage_kick = 1.5 * G_s * mean_displacement
            kick = G_s * math.sqrt(h) * xi + (G_t - G_s) * mean_displacement
        stage = x_t - 0.75 * h * b_t + stage_kick
        b_middle = drift(stage, denoiser(stage, middle.t), middle, eta)
        return State(s, x_t - h * (b_t / 3 + 2 * b_middle / 3) + kick)

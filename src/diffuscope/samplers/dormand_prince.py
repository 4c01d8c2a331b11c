r"""Dormand-Prince 5(4) on the probability-flow ODE: steps as long as the tolerance allows, sample by sample.

The embedded pair of `error_control` integrates the velocity :math:`v = \dot\alpha D + \dot\sigma\varepsilon`. A step
is accepted if its error in units of the tolerance is

.. math::  E = \sqrt{\tfrac1d\textstyle\sum_k\big(e_k / (a_{tol} + r_{tol}\max(|x_k|, |x_{s, k}|))\big)^2} \le 1 .
"""

from dataclasses import dataclass

import torch

from diffuscope.denoisers import Batch, Denoiser, over_events
from diffuscope.errors import InputError

from .contract import Evaluation, State
from .ddim import frozen_denoised_step
from .error_control import EvaluationsSpentError, Field, Slope, Times, integrate
from .noise import Noise
from .ode import is_singular
from .schedule_values import Instant


@dataclass(frozen=True)
class DormandPrince:
    """The Dormand-Prince pair with error control, in the schedule's own time.

    A step of the grid is integrated in as many steps as `rtol` and `atol` (the error allowed per step, relative and
    absolute) require; the grid only sets the times of the states. Order 5. The NFE varies: six for each attempt, one to
    choose the first size, one at the start of a trajectory. A step that reaches sigma(s) = 0, or starts at an infinite
    velocity, is not controlled: the denoiser is frozen, as in `Euler`; let the grid come near clean data before it. In
    float32 the arithmetic does not reach tolerances below 1e-6.

    Raises InputError for tolerances that are not positive, and when one step of the grid takes more than
    `max_evaluations`. Source: see `error_control`.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import DormandPrince, sample
    >>> model = ExactDenoiser(Gaussian.isotropic(torch.tensor([2.0]), 3.0), VE())
    >>> x_t, times = torch.tensor([[10.0]], dtype=torch.float64), torch.tensor([13**0.5, 1.0], dtype=torch.float64)
    >>> x_s = sample(DormandPrince(rtol=1e-6, atol=1e-6), model, x_t, times)
    >>> round(float(x_s), 4)  # 2 + 8 ((3 + 1) / (3 + 13))^(1/2)
    6.0
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    max_evaluations: int = 10_000

    order = 5
    stochastic = False
    nfe_per_step = None

    def __post_init__(self) -> None:
        if not (self.rtol > 0 and self.atol > 0):
            raise InputError(f"rtol, atol: expected values > 0, got {self.rtol}, {self.atol}")

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        """From the state to time s within the tolerance."""
        x, history = state.x_t, state.history
        if history and history[-1].x_t is x and history[-1].at == state.at:  # evaluated by the step before
            denoised = history[-1].denoised
        else:
            denoised = denoiser(x, state.t)
        if is_singular(state.at, s):
            return State(s, frozen_denoised_step(x, denoised, state.at, s))
        t = torch.full((len(x),), state.t, dtype=torch.float64, device=x.device)
        slope, end = Slope(_velocity(denoiser, x, denoised, t), (denoised,)), torch.full_like(t, s.t)
        limit, field = self.max_evaluations, _velocity_field(denoiser)
        try:
            ended = integrate(field, x, t, end, slope, norm=self._norm, max_evaluations=limit)
        except EvaluationsSpentError as spent:
            raise InputError(
                f"max_evaluations: expected enough to go from t = {state.t:g} to {s.t:g} at rtol = {self.rtol:g}, "
                f"atol = {self.atol:g}, got {limit}, spent at t = {float(spent.reached.max()):g}"
            ) from None
        return State(s, ended.y, (Evaluation(s, ended.y, ended.slope.kept[0]),))

    def _norm(self, value: Batch, x: Batch, x_s: Batch) -> Times:
        """Root mean square over a sample's coordinates, in units of the tolerance."""
        allowed = self.atol + self.rtol * torch.maximum(x.abs(), x_s.abs()).double()
        return (value.double() / allowed).flatten(1).square().mean(1).sqrt()


def _velocity_field(denoiser: Denoiser) -> Field:
    """v(x, t), with the denoiser's output kept beside it."""

    def field(x: Batch, t: Times) -> Slope:
        denoised = denoiser(x, t)
        return Slope(_velocity(denoiser, x, denoised, t), (denoised,))

    return field


def _velocity(denoiser: Denoiser, x: Batch, denoised: Batch, t: Times) -> Batch:
    """v = alpha' D + sigma' (x - alpha D) / sigma, each sample at its own time."""
    schedule = denoiser.schedule
    growth = schedule.sigma_dot(t) / schedule.sigma(t)
    gain = schedule.alpha_dot(t) - growth * schedule.alpha(t)
    return over_events(growth, x) * x + over_events(gain, x) * denoised

r"""Dormand-Prince 5(4) on the probability-flow ODE: steps as long as the wanted accuracy allows, sample by sample.

The velocity :math:`v = \dot\alpha D + \dot\sigma\varepsilon` is integrated by the embedded pair of `error_control`; the
error of a step, measured against the tolerance, may be

.. math::  E = \sqrt{\tfrac1d\textstyle\sum_k\big(e_k / (a_{tol} + r_{tol}\max(|x_k|, |x_{s, k}|))\big)^2} \le 1 .

Every sample has its own time, step size and decision; the denoiser is called with one time per sample. What a sample
becomes does not depend on the others; what a batch costs is the largest cost in it.
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
    absolute) ask for; the grid sets only where the trajectory is seen. Order 5. Evaluations vary: six for each attempt,
    one to choose the first size, one at the start of a trajectory. A step that reaches sigma(s) = 0, or leaves an
    infinite velocity, is not controlled: it has the denoiser frozen, like `Euler`'s; let the grid come near clean data
    before. In float32 tolerances below 1e-6 ask for more than the arithmetic holds.

    Raises InputError for tolerances that are not positive, and when one step of the grid takes more than
    `max_evaluations`.

    Source: Dormand & Prince 1980, *A family of embedded Runge-Kutta formulae*, J. Comp. Appl. Math. 6(1); first size
    and control: Hairer, Norsett & Wanner, *Solving Ordinary Differential Equations I*, II.4 and IV.2 of volume II.
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
        x, denoised = state.x_t, _known_or_asked(denoiser, state)
        if is_singular(state.at, s):
            return State(s, frozen_denoised_step(x, denoised, state.at, s))
        t = torch.full((len(x),), state.t, dtype=torch.float64, device=x.device)
        known = Slope(_velocity(denoiser, x, denoised, t), (denoised,))
        try:
            ended = integrate(
                _velocity_field(denoiser),
                x,
                t,
                torch.full_like(t, s.t),
                known,
                norm=self._norm,
                max_evaluations=self.max_evaluations,
            )
        except EvaluationsSpentError as spent:
            raise InputError(
                f"max_evaluations: expected enough to go from t = {state.t:g} to {s.t:g} at rtol = {self.rtol:g}, "
                f"atol = {self.atol:g}, got {self.max_evaluations}, spent at t = {float(spent.reached.max()):g}"
            ) from None
        return State(s, ended.y, (Evaluation(s, ended.y, ended.slope.kept[0]),))

    def _norm(self, value: Batch, x: Batch, x_s: Batch) -> Times:
        """Root mean square over a sample's coordinates, in units of the tolerance."""
        allowed = self.atol + self.rtol * torch.maximum(x.abs(), x_s.abs()).double()
        return (value.double() / allowed).flatten(1).square().mean(1).sqrt()


def _known_or_asked(denoiser: Denoiser, state: State) -> Batch:
    """The denoiser at the state: the last stage of the step before, if the state is still the one that it was for."""
    if state.history and state.history[-1].x_t is state.x_t and state.history[-1].at == state.at:
        return state.history[-1].denoised
    return denoiser(state.x_t, state.t)


def _velocity_field(denoiser: Denoiser) -> Field:
    """v(x, t), keeping the denoiser's answer."""

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

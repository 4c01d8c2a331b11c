r"""Dormand-Prince 5(4) on the probability-flow ODE: steps as long as the wanted accuracy allows, sample by sample.

Seven stages, the last at the end of the step, where the next one begins ("first same as last"), give two solutions of
orders 5 and 4; their difference estimates the error of the step:

.. math::
    k_i = v\Big(x + h\sum_{j < i} a_{ij} k_j,\; t + c_i h\Big), \qquad
    x_s = x + h\sum_i b_i k_i, \qquad e = h\sum_i (b_i - \hat b_i) k_i .

A step is accepted where the error measured against the tolerance,

.. math::  E = \sqrt{\tfrac1d\textstyle\sum_k\big(e_k / (a_{tol} + r_{tol}\max(|x_k|, |x_{s, k}|))\big)^2} ,

is at most 1, and the next size is, with the error E' of the accepted step before (PI control),

.. math::  h \cdot \min\!\big(10, \max(.2,\; .9\, E^{-.17}\, E'^{.04})\big) .

Every sample has its own time, step size and decision; the denoiser is called with one time per sample. What a sample
becomes does not depend on the others; what a batch costs is the largest cost in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.denoisers.contract import over_events
from diffuscope.errors import InputError
from diffuscope.samplers.contract import Evaluation, State
from diffuscope.samplers.ddim import frozen_denoised_step
from diffuscope.samplers.instant import Instant
from diffuscope.samplers.noise import Noise
from diffuscope.samplers.ode import is_singular

Times = Float[Tensor, " batch"]

NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)  # c_2 .. c_7
STAGES = (  # a_2 .. a_7; the last row is b
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)  # b - b^

BETA = 0.04  # the weight of the step before in the PI control
SAFETY, LEAST, MOST = 0.9, 0.2, 10.0


@dataclass(frozen=True)
class DormandPrinceStep:
    """The end of one step: x_s of order 5, the denoiser and the velocity there, and the estimated error of x_s."""

    x_s: Batch
    denoised: Batch
    velocity: Batch
    error: Batch


def dormand_prince_step(denoiser: Denoiser, x_t: Batch, v_t: Batch, t: Times, s: Times) -> DormandPrinceStep:
    """One step from times `t` to `s`, each sample its own, given the velocity `v_t` at the start: six evaluations."""
    h = over_events(s - t, x_t)
    slopes, stage, denoised = [v_t], x_t, x_t
    for node, row in zip(NODES, STAGES, strict=True):
        at = s if node == 1 else t + node * (s - t)
        stage = x_t + h * _combined(row, slopes)
        denoised = denoiser(stage, at)
        slopes.append(_velocity(denoiser, stage, denoised, at))
    return DormandPrinceStep(stage, denoised, slopes[-1], h * _combined(ERROR, slopes))


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
        end = torch.full_like(t, s.t)
        v = _velocity(denoiser, x, denoised, t)
        size = self._first_size(denoiser, x, v, t, end)
        error_before, refused = torch.full_like(t, 1e-4), torch.zeros_like(t).bool()
        evaluations = 1
        while bool((t > end).any()):
            if evaluations + len(NODES) > self.max_evaluations:
                raise InputError(
                    f"max_evaluations: expected enough to go from t = {state.t:g} to {s.t:g} at rtol = {self.rtol:g}, "
                    f"atol = {self.atol:g}, got {self.max_evaluations}, spent at t = {float(t.max()):g}"
                )
            t_next = torch.where(size < t - end, t - size, end)
            attempt = dormand_prince_step(denoiser, x, v, t, t_next)
            evaluations += len(NODES)
            error = self._norm(attempt.error, x, attempt.x_s).nan_to_num(nan=torch.inf)
            accepted = (error <= 1) & (t > end)
            size = (t - t_next) * _growth(error, error_before, accepted, refused)
            error_before = torch.where(accepted, error.clamp_min(1e-4), error_before)
            refused = ~accepted
            t = torch.where(accepted, t_next, t)
            here = accepted.reshape(-1, *[1] * (x.ndim - 1))
            x = torch.where(here, attempt.x_s, x)
            denoised = torch.where(here, attempt.denoised, denoised)
            v = torch.where(here, attempt.velocity, v)
        return State(s, x, (Evaluation(s, x, denoised),))

    def _norm(self, value: Batch, x: Batch, x_s: Batch) -> Times:
        """Root mean square over a sample's coordinates, in units of the tolerance."""
        allowed = self.atol + self.rtol * torch.maximum(x.abs(), x_s.abs()).double()
        return (value.double() / allowed).flatten(1).square().mean(1).sqrt()

    def _first_size(self, denoiser: Denoiser, x: Batch, v: Batch, t: Times, end: Times) -> Times:
        """A step over which an Euler step, then the change of the slope, is a hundredth of the tolerance."""
        d_0, d_1 = self._norm(x, x, x), self._norm(v, x, x)
        small = (d_0 < 1e-5) | (d_1 < 1e-5)
        h_0 = torch.where(small, 1e-6, 0.01 * d_0 / d_1.clamp_min(1e-5)).minimum(t - end)
        probe = x - over_events(h_0, x) * v
        v_probe = _velocity(denoiser, probe, denoiser(probe, t - h_0), t - h_0)
        d_2 = self._norm(v_probe - v, x, x) / h_0
        h_1 = (0.01 / torch.maximum(d_1, d_2).clamp_min(1e-15)) ** (1 / 5)
        return torch.minimum(100 * h_0, h_1)


def _known_or_asked(denoiser: Denoiser, state: State) -> Batch:
    """The denoiser at the state: the last stage of the step before, if the state is still the one that it was for."""
    if state.history and state.history[-1].x_t is state.x_t and state.history[-1].at == state.at:
        return state.history[-1].denoised
    return denoiser(state.x_t, state.t)


def _velocity(denoiser: Denoiser, x: Batch, denoised: Batch, t: Times) -> Batch:
    """v = alpha' D + sigma' (x - alpha D) / sigma, each sample at its own time."""
    schedule = denoiser.schedule
    growth = schedule.sigma_dot(t) / schedule.sigma(t)
    gain = schedule.alpha_dot(t) - growth * schedule.alpha(t)
    return over_events(growth, x) * x + over_events(gain, x) * denoised


def _combined(weights: Sequence[float], slopes: Sequence[Batch]) -> Batch:
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        if weight:
            total = total + weight * slope
    return total


def _growth(error: Times, error_before: Times, accepted: Tensor, refused: Tensor) -> Times:
    """The factor of the next step size; no growth right after a refusal."""
    proportional = error.clamp_min(1e-10) ** -(1 / 5 - 0.75 * BETA)
    factor = SAFETY * proportional * torch.where(accepted, error_before**BETA, 1.0)
    most = torch.where(refused | ~accepted, 1.0, MOST)
    return factor.clamp_min(LEAST).minimum(most)

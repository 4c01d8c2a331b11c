r"""Integrating a vector field to a given tolerance, sample by sample: the Dormand-Prince 5(4) pair with step control.

Seven stages, the last at the end of the step, where the next one begins ("first same as last"), give two solutions of
orders 5 and 4 of :math:`\dot y = F(y, t)`; their difference estimates the error of the step from t to t + h:

.. math::
    k_i = F\Big(y + h\sum_{j < i} a_{ij} k_j,\; t + c_i h\Big), \qquad
    y' = y + h\sum_i b_i k_i, \qquad e = h\sum_i (b_i - \hat b_i) k_i .

A step is accepted where the error in units of the tolerance, E (measured by the caller's norm), is at most 1. With the
error E' of the accepted step before, the next size is (PI control)

.. math::  h \cdot \min\!\big(10, \max(0.2,\; 0.9\, E^{-0.17}\, E'^{0.04})\big) .

Time may run in either direction. Every sample has its own time, step size and decision, and does not depend on the
others; the field is called with one time per sample, and a batch costs what its most expensive sample costs.

Source: Dormand & Prince 1980, *A family of embedded Runge-Kutta formulae*, J. Comp. Appl. Math. 6(1); first size and
control: Hairer, Norsett & Wanner, *Solving Ordinary Differential Equations I*, II.4 and IV.2 of volume II.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, over_events

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


@dataclass(frozen=True, eq=False)
class Slope:
    """A field evaluated at a point: dy/dt, and other tensors of that evaluation that the caller wants to keep.

    >>> import torch
    >>> from diffuscope.samplers import Slope
    >>> y = torch.tensor([[3.0]])
    >>> Slope(-2 * y, kept=(y,)).value  # dy/dt = -2 y
    tensor([[-6.]])
    """

    value: Batch
    kept: tuple[Tensor, ...] = ()


Field = Callable[[Batch, Times], Slope]  # F(y, t), each sample at its own time
Norm = Callable[[Batch, Batch, Batch], Times]  # the size of a change of y between y and y', in units of the tolerance


@dataclass(frozen=True, eq=False)
class PairStep:
    """The end of one step: y' of order 5, the slope there, and the estimated error of y'."""

    y: Batch
    slope: Slope
    error: Batch


@dataclass(frozen=True, eq=False)
class Integrated:
    """The ends of the points, the slope there, and the number of evaluations of the field."""

    y: Batch
    slope: Slope
    evaluations: int


class EvaluationsSpentError(Exception):
    """The evaluations allowed did not suffice; `reached` is the time that every sample reached.

    >>> import torch
    >>> from diffuscope.samplers import EvaluationsSpentError, Slope, integrate
    >>> y, zero = torch.ones(1, 1), torch.zeros(1, dtype=torch.float64)
    >>> size = lambda change, y, y_end: change.abs().flatten(1).amax(1).double()
    >>> try:
    ...     integrate(lambda y, t: Slope(y * float("nan")), y, zero, zero + 1, Slope(y), norm=size, max_evaluations=50)
    ... except EvaluationsSpentError as spent:
    ...     print(spent.reached.tolist())
    [0.0]
    """

    def __init__(self, reached: Times) -> None:
        super().__init__("the evaluations allowed did not suffice")
        self.reached = reached


def pair_step(field: Field, y: Batch, slope: Slope, t: Times, s: Times) -> PairStep:
    """One step from times `t` to `s`, each sample its own, given the slope at the start: six evaluations."""
    h = over_events(s - t, y)
    slopes, stage, last = [slope.value], y, slope
    for node, row in zip(NODES, STAGES, strict=True):
        at = s if node == 1 else t + node * (s - t)
        stage = y + h * _combined(row, slopes)
        last = field(stage, at)
        slopes.append(last.value)
    return PairStep(stage, last, h * _combined(ERROR, slopes))


def integrate(
    field: Field, y: Batch, start: Times, end: Times, slope: Slope, *, norm: Norm, max_evaluations: int
) -> Integrated:
    """Carry every sample from its `start` to its `end`, given the slope at the start.

    One evaluation chooses the first size, and each attempt takes six. Raises EvaluationsSpentError when they would
    exceed `max_evaluations`, as they do for a field that returns NaN.

    >>> import math, torch
    >>> from diffuscope.samplers import Slope, integrate
    >>> y, t = torch.tensor([[3.0], [5.0]], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    >>> size = lambda change, y, y_end: change.abs().flatten(1).amax(1) / 1e-7
    >>> end = torch.tensor([1.0, -2.0], dtype=torch.float64)  # each sample has its own
    >>> done = integrate(lambda y, t: Slope(-y), y, t, end, Slope(-y), norm=size, max_evaluations=1000)
    >>> [round(value, 4) for value in (done.y.flatten() * end.exp()).tolist()]  # y(t) e^t = y(0)
    [3.0, 5.0]
    """
    t, direction = start, (end - start).sign()
    size = _first_size(field, y, slope.value, t, end, norm)
    error_before, refused = torch.full_like(t, 1e-4), torch.zeros_like(t).bool()
    evaluations = 1
    while bool((direction * (end - t) > 0).any()):
        if evaluations + len(NODES) > max_evaluations:
            raise EvaluationsSpentError(t)
        t_next = torch.where(size < direction * (end - t), t + direction * size, end)
        attempt = pair_step(field, y, slope, t, t_next)
        evaluations += len(NODES)
        error = norm(attempt.error, y, attempt.y).nan_to_num(nan=torch.inf)
        accepted = (error <= 1) & (direction * (end - t) > 0)
        size = direction * (t_next - t) * _growth(error, error_before, accepted, refused)
        error_before = torch.where(accepted, error.clamp_min(1e-4), error_before)
        refused = ~accepted
        t = torch.where(accepted, t_next, t)
        y = _where(accepted, attempt.y, y)
        kept = zip(attempt.slope.kept, slope.kept, strict=True)
        value = _where(accepted, attempt.slope.value, slope.value)
        slope = Slope(value, tuple(_where(accepted, *pair) for pair in kept))
    return Integrated(y, slope, evaluations)


def _first_size(field: Field, y: Batch, slope: Batch, t: Times, end: Times, norm: Norm) -> Times:
    """The step whose error is about a hundredth of the tolerance, from a trial Euler step that moves y by 1 %."""
    direction = (end - t).sign()
    d_0, d_1 = norm(y, y, y), norm(slope, y, y)
    small = (d_0 < 1e-5) | (d_1 < 1e-5)
    h_0 = torch.where(small, 1e-6, 0.01 * d_0 / d_1).minimum(direction * (end - t))
    probe = y + over_events(direction * h_0, y) * slope
    d_2 = norm(field(probe, t + direction * h_0).value - slope, y, y) / h_0
    h_1 = (0.01 / torch.maximum(d_1, d_2).clamp_min(1e-15)) ** (1 / 5)
    return torch.minimum(100 * h_0, h_1)


def _where(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(chosen.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _combined(weights: Sequence[float], slopes: Sequence[Batch]) -> Batch:
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        if weight:
            total = total + weight * slope
    return total


def _growth(error: Times, error_before: Times, accepted: Tensor, refused: Tensor) -> Times:
    """The factor of the next step size; no growth right after a refusal."""
    proportional = error ** -(1 / 5 - 0.75 * BETA)  # infinite without an error, and limited below
    factor = SAFETY * proportional * torch.where(accepted, error_before**BETA, 1.0)
    most = torch.where(refused | ~accepted, 1.0, MOST)
    return factor.clamp_min(LEAST).minimum(most)

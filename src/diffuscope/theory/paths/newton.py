r"""Damped Newton on the action of many paths at once, by one banded Cholesky factorization.

The Hessian of a path couples neighboring nodes alone, so that it is banded with 2d - 1 bands above the diagonal; those
of all paths are stacked into one banded matrix, and a step costs :math:`O(P N d^3)`. Damping adds :math:`\mu` times the
block Laplacian of the kinetic part, that of :math:`\partial^2 L / \partial v^2` alone, which leaves slow modes free and
holds back what is rough. Where the Hessian is not positive definite, a path takes its Gauss-Newton part, which always
is: with :math:`J = \partial f / \partial x`,

.. math::
    \partial^2 L \approx \tfrac12 \begin{pmatrix} -J & I \end{pmatrix}^T D^{-1} \begin{pmatrix} -J & I \end{pmatrix} .

A path is stationary where the largest component of its gradient is at most `TOLERANCE` times the largest momentum of
an edge, of which the gradient is a difference.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.linalg import get_lapack_funcs
from torch import Tensor

from .discrete_action import Mesh, Nodes, Quadratic, action, at_edges, derivatives, quadratic
from .lagrangian import ActionDensity

TOLERANCE = 1e-10
ITERATIONS = 1000
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-4, 1e-8, 1e12
EPSILON = torch.finfo(torch.float64).eps
ROUNDING = 1e-13  # of the action: a smaller change says nothing

dpbtrf, dpbtrs = get_lapack_funcs(("pbtrf", "pbtrs"), dtype=np.float64)

SecondDerivatives = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""The positive part of (L_xx, L_xv, L_vv) at states, velocities and times of edges."""


@dataclass(frozen=True, eq=False)
class Stationary:
    """Where Newton's method ended: nodes, actions, largest gradients relative to the momenta, iterations."""

    x: Nodes
    action: Float[Tensor, " paths"]
    residual: Float[Tensor, " paths"]
    minimum: Bool[Tensor, " paths"]
    iterations: int

    @property
    def converged(self) -> Bool[Tensor, " paths"]:
        """Which paths are stationary."""
        return self.residual <= TOLERANCE


def newton(
    density: ActionDensity,
    x: Nodes,
    times: Mesh,
    weight: float,
    positive: SecondDerivatives | None = None,
    *,
    frames: Float[Tensor, "paths inner d k"] | None = None,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
) -> Stationary:
    """Minimize the action of every path from where it starts, its two ends fixed.

    With `frames` each interior node moves in the span of its k columns alone. A path ends where its residual is at most
    `tolerance`, or its next step is lost in rounding.
    """
    x = x.double().clone()
    damping, ended = np.zeros(len(x)), np.zeros(len(x), dtype=bool)
    state, taken = _at(density, x, times, weight, positive, frames), 0
    for _ in range(iterations):
        active = ~(state.residual <= tolerance).numpy() & (damping < MOST_DAMPING) & ~ended
        if not active.any():
            break
        taken += 1
        factors, damping = _factored_hessians(state, damping, active)
        coordinates = _solved(factors, state.quadratic.gradient)
        slope = (state.quadratic.gradient * coordinates).sum((1, 2)).numpy()
        trial = _moved(x, coordinates, frames)
        moved = (trial - x).abs().amax((1, 2)) <= 4 * EPSILON * x.abs().amax((1, 2))
        ended = active & moved.numpy()
        change, accepted = _judged(density, trial, times, weight, state, slope, active)
        if (active & ~accepted).any():  # back to the bottom of a curved valley: a second step with the same Hessian
            again = _gradient(density, trial, times, weight, frames)
            second = _moved(trial, _solved(factors, torch.nan_to_num(again)), frames)
            second_change, better = _judged(density, second, times, weight, state, slope, active & ~accepted)
            trial = torch.where(torch.from_numpy(better)[:, None, None], second, trial)
            change, accepted = np.where(better, second_change, change), accepted | better
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = change / (slope / 2)
        damping = np.where(active & ~accepted, np.maximum(4 * damping, FIRST_DAMPING), damping)
        damping = np.where(accepted & (ratio > 0.75), damping / 4, damping)
        damping = np.where(damping < LEAST_DAMPING, 0, damping)
        if accepted.any():
            x = torch.where(torch.from_numpy(accepted)[:, None, None], trial, x)
            state = _at(density, x, times, weight, positive, frames)
    return Stationary(x, state.quadratic.action, state.residual, is_minimum(state.quadratic), taken)


@dataclass(frozen=True, eq=False)
class _State:
    """The quadratic model, its positive part, the kinetic part, and how far it is from stationary."""

    quadratic: Quadratic
    positive: Quadratic | None
    kinetic: Quadratic
    residual: Float[Tensor, " paths"]
    scale: Float[Tensor, " paths"]


def _at(
    density: ActionDensity,
    x: Nodes,
    times: Mesh,
    weight: float,
    positive: SecondDerivatives | None,
    frames: Tensor | None,
) -> _State:
    state, velocity, at = at_edges(x, times, weight)
    paths, edges, d = state.shape
    flat = state.reshape(-1, d), velocity.reshape(-1, d), at.repeat(paths)
    found = derivatives(density, *flat)
    whole = quadratic(found, times, paths, weight)
    zero = torch.zeros_like(found.xx)
    kinetic = quadratic(replace(found, xx=zero, xv=zero), times, paths, weight)
    part = None
    if positive is not None:
        xx, xv, vv = positive(*flat)
        part = quadratic(replace(found, xx=xx, xv=xv, vv=vv), times, paths, weight)
    momentum = torch.einsum("nij,nj->ni", found.vv, flat[1]).reshape(paths, -1).abs().amax(1)
    size = torch.maximum(whole.size, momentum)
    if frames is not None:
        whole, kinetic = whole.within(frames), kinetic.within(frames)
        part = part and part.within(frames)
    slope = whole.gradient.abs().flatten(1)
    largest = slope.amax(1) if slope.shape[1] else slope.new_zeros(paths)  # a curve on a line has no choice
    residual = largest / size.clamp(min=torch.finfo(size.dtype).tiny)
    scale = (found.value.reshape(paths, edges).abs() @ times.diff()) + (momentum * x.abs().flatten(1).amax(1))
    return _State(whole, part, kinetic, torch.nan_to_num(residual, nan=torch.inf), scale)


Factors = list[tuple[ndarray, ndarray]]
"""Cholesky factors of stacked Hessians, each with the numbers of the paths in it."""


def _moved(x: Nodes, coordinates: Tensor, frames: Tensor | None) -> Nodes:
    step = coordinates if frames is None else torch.einsum("pndk,pnk->pnd", frames, coordinates)
    return torch.cat([x[:, :1], x[:, 1:-1] + step, x[:, -1:]], 1)


def _judged(
    density: ActionDensity, trial: Nodes, times: Mesh, weight: float, state: _State, slope: ndarray, asked: ndarray
) -> tuple[ndarray, ndarray]:
    """The change of every action, and which of the paths asked for may go there."""
    change = (action(density, trial, times, weight) - state.quadratic.action).numpy()
    scale = ROUNDING * state.quadratic.action.abs().numpy() + ROUNDING * state.scale.numpy()  # a sum may overflow
    lost = (np.abs(slope) <= scale) & (np.abs(change) <= 10 * scale)  # in rounding: the gradient decides
    return change, asked & ((change <= 1e-4 * slope) | lost)


def _gradient(density: ActionDensity, x: Nodes, times: Mesh, weight: float, frames: Tensor | None) -> Tensor:
    """That of the action at the interior nodes, in the coordinates of the frames."""
    state, velocity, at = at_edges(x, times, weight)
    paths, d = len(state), state.shape[2]
    state, velocity = state.requires_grad_(), velocity.requires_grad_()
    value = density(state.reshape(-1, d), velocity.reshape(-1, d), at.repeat(paths))
    found = torch.autograd.grad(value.sum(), (state, velocity), materialize_grads=True, allow_unused=True)
    h = times.diff()[:, None]
    left, right = (1 - weight) * h * found[0] - found[1], weight * h * found[0] + found[1]
    gradient = right[:, :-1] + left[:, 1:]
    return gradient if frames is None else torch.einsum("pndk,pnd->pnk", frames, gradient)


def _factored_hessians(state: _State, damping: ndarray, active: ndarray) -> tuple[Factors, ndarray]:
    """Factors of the active paths' Hessians, and the damping that made them positive definite."""
    damping, choice = damping.copy(), np.zeros(len(damping), dtype=bool)  # choice: the positive part alone
    factors: Factors = []
    pending = np.flatnonzero(active)
    while len(pending):
        bands = banded(*_damped(state, pending, damping, choice))
        factor, good = _factored(bands, len(pending))
        if good:
            factors.append((pending[:good], factor[:, : good * (bands.shape[1] // len(pending))]))
        if good < len(pending):
            failed = pending[good]
            if state.positive is not None and not choice[failed]:
                choice[failed] = True
            else:
                damping[failed] = max(4 * damping[failed], FIRST_DAMPING)
                if damping[failed] > MOST_DAMPING:
                    good += 1  # given up: no step
        pending = pending[good:]
    return factors, damping


def _solved(factors: Factors, gradient: Tensor) -> Tensor:
    """-H^-1 g of the factored paths, zero for the others."""
    step = torch.zeros_like(gradient)
    for rows, factor in factors:
        solved, _ = dpbtrs(factor, gradient[rows].reshape(-1).numpy())
        step[rows] = -torch.from_numpy(solved).reshape(gradient[rows].shape)
    return step


def _damped(state: _State, rows: ndarray, damping: ndarray, choice: ndarray) -> tuple[Tensor, Tensor]:
    index = torch.from_numpy(rows)
    mu = torch.from_numpy(damping[rows])[:, None, None, None]
    diagonal, upper = state.quadratic.diagonal[index], state.quadratic.upper[index]
    if state.positive is not None:
        positive = torch.from_numpy(choice[rows])[:, None, None, None]
        diagonal = torch.where(positive, state.positive.diagonal[index], diagonal)
        upper = torch.where(positive, state.positive.upper[index], upper)
    return diagonal + mu * state.kinetic.diagonal[index], upper + mu * state.kinetic.upper[index]


def banded(
    diagonal: Float[Tensor, "paths n d d"], upper: Float[Tensor, "paths above d d"]
) -> Float[ndarray, "bands m"]:
    """LAPACK's upper band storage of the stacked block-tridiagonal matrices: A_ij at [2d - 1 + i - j, j]."""
    paths, n, d, _ = diagonal.shape
    bands = np.zeros((2 * d, paths, n, d))
    for row in range(d):
        for column in range(d):
            if row <= column:
                bands[2 * d - 1 + row - column, :, :, column] = diagonal[..., row, column].numpy()
            bands[d - 1 + row - column, :, 1:, column] = upper[..., row, column].numpy()
    return np.asfortranarray(bands.reshape(2 * d, -1))


def _factored(bands: ndarray, paths: int) -> tuple[ndarray, int]:
    """The Cholesky factor, and how many of the leading paths it holds for."""
    if not np.isfinite(bands).all():
        width = bands.shape[1] // paths
        bad = int(np.flatnonzero(~np.isfinite(bands).all(0))[0]) // width
        return _factored(bands[:, : bad * width], bad) if bad else (bands, 0)
    factor, info = dpbtrf(bands)
    return factor, paths if info == 0 else (info - 1) // (bands.shape[1] // paths)


def is_minimum(model: Quadratic) -> Bool[Tensor, " paths"]:
    """Whether the Hessian of every path is positive definite; an empty one is."""
    if not model.diagonal.numel():
        return torch.ones(len(model.diagonal), dtype=torch.bool)
    found = []
    for diagonal, upper in zip(model.diagonal, model.upper, strict=True):
        bands = banded(diagonal[None], upper[None])
        found.append(bool(np.isfinite(bands).all()) and dpbtrf(bands)[1] == 0)
    return torch.tensor(found)

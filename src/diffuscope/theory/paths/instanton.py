r"""The most likely path from a stable fixed point to a saddle, to high accuracy: a boundary value problem.

At energy zero the path of least action solves Hamilton's equations of :math:`H = f\cdot p + p^T D p`,

.. math::  \dot x = f(x) + 2 D p, \qquad \dot p = -J(x)^T p, \qquad J = \partial f / \partial x ,

and takes an infinite time at both ends. On a finite time it begins on the linear unstable manifold of (a, 0), which is
:math:`p = \Sigma_a^{-1}(x - a)` with :math:`J\Sigma_a + \Sigma_a J^T + 2D = 0`, and ends on the linear stable manifold
of (s, 0). Its first state, along the direction from a that it begins
with, fixes the origin of time; a term :math:`\alpha\,\nabla H`, whose
:math:`\alpha` vanishes at the solution, makes up for the energy, which is conserved and hence a condition too many
(Beyn 1990, https://doi.org/10.1093/imanum/10.3.379). D may be singular, as it is never inverted.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.integrate import solve_bvp
from scipy.interpolate import CubicSpline
from scipy.linalg import expm, schur, solve_continuous_lyapunov
from torch import Tensor

from diffuscope.errors import InputError

from .dynamics import Dynamics
from .fixed_points import FixedPoint
from .geometric_action import geometric_action
from .lagrangian import Lagrangian

INTERVALS = 100  # of the curve that the path is begun with
ADDED = (1.0, 0.3, 0.1, 0.03, 0.01, 0.0, 0.0)  # to a singular D, as shares of its mean eigenvalue, in turn
LEAVING, ARRIVING = 1e-5, 1e-3  # distances from the ends, as shares of that between them
TOLERANCE, ROUGH = 1e-8, 1e-4  # of the residual, of the path and of those on the way to a singular D
NODES, THINNED = 20_000, 500
PROLONGATIONS = 5
SLACK = 5.0  # an end this many times as far off as wanted is near enough
ASTRAY = 0.3  # share of the distance between the ends that a path may be off the saddle before it is prolonged
STRAY = 1e-5  # largest alpha of a solution, in units of the slowest rate


@dataclass(frozen=True, eq=False)
class Instanton:
    """States and momenta (nodes, d) at times, from `LEAVING` off the stable point to about `ARRIVING` off the saddle.

    `dissipation` is alpha, whose distance from 0 is the error of the energy.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, transition_rate
    >>> wells = Dynamics(lambda x: -x * (x - 1) * (x - 4), 0.5)
    >>> path = transition_rate(wells, torch.tensor([0.0]), torch.tensor([1.0])).path
    >>> x = path.states
    >>> bool((path.momenta - x * (x - 1) * (x - 4) / 0.5).abs().max() < 1e-4)  # p = U'(x) / D: against the drift
    True
    """

    times: Float[Tensor, " nodes"]
    states: Float[Tensor, "nodes d"]
    momenta: Float[Tensor, "nodes d"]
    dissipation: float


Guess = tuple[np.ndarray, np.ndarray, np.ndarray]  # times, states, momenta


def instanton(
    dynamics: Dynamics, stable: FixedPoint, saddle: FixedPoint, initial: Float[Tensor, "nodes d"] | None = None
) -> Instanton:
    """The path from `stable` to `saddle` for a constant D; `initial` is a curve near it, by default a straight line.

    Raises InputError where no path is
    found, and where the noise does not reach every direction.
    """
    a, s = stable.state.numpy(), saddle.state.numpy()
    d, length = len(a), float(np.linalg.norm(s - a))
    D = dynamics.matrix_at(stable.state[None], torch.zeros(1))[0].numpy()
    added = ADDED if dynamics.silent(d).shape[1] else (0.0,)
    first = Dynamics(dynamics.drift, torch.from_numpy(D + added[0] * np.trace(D) / d * np.eye(d)))
    if d == 1:  # a curve on a line has no choice
        curve = torch.from_numpy(np.linspace(a, s, INTERVALS + 1))
    else:
        curve = geometric_action(first, stable.state, saddle.state, INTERVALS, initial=initial).curve
    guess = _curve_guess(first, curve.numpy(), first.constant_matrix.numpy())
    for share in added[:-1]:
        found = _solved(dynamics, stable, saddle, D + share * np.trace(D) / d * np.eye(d), guess, ROUGH)
        guess = _arriving(_thinned(found), saddle, length)
    if len(added) > 1:
        guess = _leaving(guess, stable, length, D)
    for _ in range(PROLONGATIONS):
        found = _solved(dynamics, stable, saddle, D, guess, TOLERANCE)
        left = float((found.states[0] - stable.state).norm()) / length
        arrived = float((found.states[-1] - saddle.state).norm()) / length
        if left <= SLACK * LEAVING and arrived <= SLACK * ARRIVING:
            return found
        guess = _leaving(_arriving(_thinned(found), saddle, length), stable, length, D)
    raise InputError("initial: the path does not come near the saddle; expected a curve nearer to the path")


def stationary_covariance(J: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Sigma with J Sigma + Sigma J^T + 2 D = 0. Raises InputError where it is singular."""
    covariance = solve_continuous_lyapunov(J, -2 * D)
    eigenvalues = np.linalg.eigvalsh((covariance + covariance.T) / 2)
    if not eigenvalues[0] > 1e-12 * eigenvalues[-1]:
        raise InputError("diffusion: expected noise that reaches every direction through the drift, and it does not")
    return (covariance + covariance.T) / 2


def _solved(
    dynamics: Dynamics, stable: FixedPoint, saddle: FixedPoint, D: np.ndarray, guess: Guess, tolerance: float
) -> Instanton:
    times, states, momenta = guess
    a, s = stable.state.numpy(), saddle.state.numpy()
    d, L, P = len(a), float(np.linalg.norm(s - a)), float(np.abs(momenta).max())
    J_a, J_s = stable.jacobian.numpy(), saddle.jacobian.numpy()
    precision = np.linalg.inv(stationary_covariance(J_a, D)) * L / P
    linear = np.block([[J_s, 2 * D * P / L], [np.zeros((d, d)), -J_s.T]])
    unstable = schur(linear.T, sort="rhp")[1][:, :d]
    leaving = (states[0] - a) / np.linalg.norm(states[0] - a)
    lagrangian, slowest = Lagrangian(dynamics), -float(stable.eigenvalues.real.max())

    def rates(t: np.ndarray, z: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        x, p = torch.from_numpy(z[:d].T * L + a), z[d:].T * P
        f = dynamics.drift_at(x, torch.zeros(len(t), dtype=torch.float64)).detach().numpy()
        J = lagrangian.jacobian(x, torch.zeros(len(t), dtype=torch.float64)).numpy()
        by_p, by_x = (f + 2 * p @ D) / L, np.einsum("nij,ni->nj", J, p) / P
        return np.concatenate([(by_p + alpha[0] * by_x).T, (-by_x + alpha[0] * by_p).T])

    def ends(first: np.ndarray, last: np.ndarray, alpha: np.ndarray) -> np.ndarray:  # noqa: ARG001
        arriving = np.concatenate([last[:d] - (s - a) / L, last[d:]])
        return np.concatenate([
            (first[d:] - precision @ first[:d]) / LEAVING,
            unstable.T @ arriving / ARRIVING,
            [leaving @ first[:d] / LEAVING - 1],
        ])  # fmt: skip

    z = np.concatenate([((states - a) / L).T, momenta.T / P])
    found = solve_bvp(rates, ends, times, z, p=[0.0], tol=tolerance, bc_tol=1e-7, max_nodes=NODES)
    distance = np.linalg.norm(found.y[:d, -1] * L + a - s) / L
    if not found.success or not abs(found.p[0]) <= STRAY or distance > ASTRAY:
        raise InputError(
            "initial: no path from the stable point to the saddle was found from this curve (it ends at "
            f"{distance:.2g} of their distance from the saddle); expected one nearer to the path"
        )
    return Instanton(
        times=torch.from_numpy(found.x),
        states=torch.from_numpy(found.y[:d].T * L + a),
        momenta=torch.from_numpy(found.y[d:].T * P),
        dissipation=float(found.p[0]) * slowest,
    )


def _curve_guess(dynamics: Dynamics, curve: np.ndarray, D: np.ndarray) -> Guess:
    """Times and momenta of a curve at energy zero: xdot = phi' |f|_K / |phi'|_K and p = K (xdot - f) / 2."""
    length = np.r_[0, np.linalg.norm(np.diff(curve, axis=0), axis=1).cumsum()]
    length /= length[-1]
    spline = CubicSpline(length, curve)
    at = np.r_[np.geomspace(LEAVING, 0.5, 150)[:-1], 1 - np.geomspace(0.5, ARRIVING, 150)]
    x, tangent = spline(at), spline(at, 1)
    f = dynamics.drift_at(torch.from_numpy(x), torch.zeros(len(x), dtype=torch.float64)).detach().numpy()
    K = np.linalg.inv(D)
    slowness = np.sqrt(np.einsum("ni,ij,nj->n", tangent, K, tangent) / np.einsum("ni,ij,nj->n", f, K, f))
    times = np.r_[0, (np.diff(at) * (slowness[1:] + slowness[:-1]) / 2).cumsum()]
    return times, x, (tangent / slowness[:, None] - f) @ K / 2


def _thinned(path: Instanton) -> Instanton:
    """At most twice `THINNED` of the nodes: a rough path has more than it needs."""
    kept = slice(None, None, max(1, len(path.times) // THINNED))
    return Instanton(path.times[kept], path.states[kept], path.momenta[kept], path.dissipation)


def _arriving(path: Instanton, saddle: FixedPoint, length: float) -> Guess:
    """The path with an end as near to the saddle as wanted, by the linear flow there."""
    times, states, momenta = path.times.numpy(), path.states.numpy(), path.momenta.numpy()
    offset = states[-1] - saddle.state.numpy()
    distance, rate = np.linalg.norm(offset) / length, float(saddle.eigenvalues.real.max())
    if distance <= ARRIVING:
        return times, states, momenta
    after = np.linspace(0, np.log(distance / ARRIVING) / rate, 20)[1:]
    decay = np.exp(-rate * after)[:, None]
    states = np.r_[states, saddle.state.numpy() + decay * offset]
    return np.r_[times, times[-1] + after], states, np.r_[momenta, decay * momenta[-1]]


def _leaving(guess: Guess, stable: FixedPoint, length: float, D: np.ndarray) -> Guess:
    """The path with a start as near to the stable point as wanted, by the linear flow there."""
    times, states, momenta = guess
    offset = states[0] - stable.state.numpy()
    distance, slowest = np.linalg.norm(offset) / length, -float(stable.eigenvalues.real.max())
    if distance <= LEAVING:
        return guess
    J = stable.jacobian.numpy()
    precision = np.linalg.inv(stationary_covariance(J, D))
    before = np.linspace(-np.log(distance / LEAVING) / slowest, 0, 200)[:-1]
    off = np.stack([expm((J + 2 * D @ precision) * t) @ offset for t in before])
    times = np.r_[before, times - times[0]] - before[0]
    return times, np.r_[off + stable.state.numpy(), states], np.r_[off @ precision, momenta]

r"""The Hessian of the quasipotential along the most likely path, and the prefactor that follows from it.

With :math:`p = \nabla S` on the path, two derivatives of :math:`f\cdot\nabla S + \nabla S^T D\,\nabla S = 0` give the
Riccati equation of :math:`H = \nabla\nabla S`, and the next order of :math:`C e^{-S}` in the noise gives the change of
C along the path,

.. math::
    \dot H = -\Big(H J + J^T H + 2 H D H + \sum_k p_k \nabla\nabla f_k\Big), \qquad
    \frac{d}{dt}\ln C = -(\nabla\cdot f + \operatorname{tr} D H) .

At a stable point H is the inverse of the stationary covariance of the linear dynamics. Along the path :math:`H\dot x =
\dot p` holds, and is imposed: near the saddle the errors of this component, and of no other, would grow. At the saddle
a smooth quasipotential has :math:`J + 2DH` with the eigenvalues of -J; a solution that diverges, or tends to something
else, is a caustic (in the example of Maier & Stein at beta = 4), where the prefactor has another form.

Source: Maier & Stein 1997, https://doi.org/10.1137/S0036139994271753; Bouchet & Reygner 2016,
https://doi.org/10.1007/s00023-016-0507-4.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicSpline
from torch import Tensor

from diffuscope.errors import InputError

from .dynamics import Dynamics
from .fixed_points import FixedPoint
from .instanton import Instanton, stationary_covariance
from .lagrangian import Lagrangian

LARGEST = 1e6  # of |H|, relative to its value at the stable point: beyond it the solution diverges
AGREEMENT = 0.05  # of the eigenvalues at the saddle, relative to the largest
ACCURACY = 1e-9


@dataclass(frozen=True, eq=False)
class Curvatures:
    """Hessians of the quasipotential at both ends, its difference `barrier`, and the integral of div f + tr D H."""

    at_stable: Float[Tensor, "d d"]
    at_saddle: Float[Tensor, "d d"]
    barrier: float
    expansion: float


def curvatures(dynamics: Dynamics, stable: FixedPoint, saddle: FixedPoint, path: Instanton) -> Curvatures:
    """H, S and ln C along `path`. Raises InputError where H diverges or does not tend to that of a smooth saddle."""
    d = len(stable.state)
    D = dynamics.matrix_at(stable.state[None], torch.zeros(1))[0].numpy()
    start = np.linalg.inv(stationary_covariance(stable.jacobian.numpy(), D))
    at = _along(dynamics, path, D)
    times = path.times.numpy()

    def split(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        H = y[: d * d].reshape(d, d)
        return (H + H.T) / 2, y[d * d :]

    def rates(t: float, y: np.ndarray) -> np.ndarray:
        J, bend, e, g, p = at(t)
        H = with_tangent(split(y)[0], e, g)
        change = -(H @ J + J.T @ H + 2 * H @ D @ H + bend)
        return np.r_[change.reshape(-1), np.trace(J) + np.trace(D @ H), p @ D @ p]

    def diverges(t: float, y: np.ndarray) -> float:  # noqa: ARG001
        return LARGEST * np.abs(start).max() - np.abs(y[: d * d]).max()

    diverges.terminal = True  # pyright: ignore[reportFunctionMemberAccess]
    z = (path.states[0] - stable.state).numpy()
    y = np.r_[start.reshape(-1), 0.0, z @ start @ z / 2]
    scale = np.r_[np.full(d * d, np.abs(start).max()), 1, 1]
    found = solve_ivp(rates, times[[0, -1]], y, "LSODA", rtol=ACCURACY, atol=ACCURACY * scale, events=diverges,
                      dense_output=True)  # fmt: skip
    if found.status != 0:
        raise InputError(
            f"saddle: the Riccati equation of the quasipotential diverges {times[-1] - found.t[-1]:.3g} before the end "
            "of the path (a caustic): expected a path that reaches the saddle smoothly"
        )
    rate = float(saddle.eigenvalues.real.max())

    def hessian(t: float) -> np.ndarray:
        _, _, e, g, _ = at(t)
        return with_tangent(split(found.sol(t))[0], e, g)

    end = times[-1]
    H = 2 * hessian(end) - hessian(end - np.log(2) / rate)  # its error halves where the distance does
    _require_smooth(saddle, D, H)
    z = (path.states[-1] - saddle.state).numpy()
    expansion, action = split(found.y[:, -1])[1]
    expansion += rates(end, found.y[:, -1])[d * d] / rate  # what is left beyond the end falls as e^(-rate t)
    return Curvatures(torch.from_numpy(start), torch.from_numpy(H), float(action - z @ H @ z / 2), float(expansion))


def with_tangent(H: np.ndarray, e: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The symmetric matrix that maps the unit vector e to g and is H across it."""
    P = np.eye(len(e)) - np.outer(e, e)
    return P @ H @ P + np.outer(e, g) + np.outer(g, e) - (e @ g) * np.outer(e, e)


def _along(dynamics: Dynamics, path: Instanton, D: np.ndarray) -> Callable[[float], tuple[np.ndarray, ...]]:
    """J, sum_k p_k hess f_k, the tangent e, g = pdot / |xdot| and p, as functions of time, by splines."""
    x = path.states.clone().requires_grad_()
    n, d = x.shape
    zeros = torch.zeros(n, dtype=torch.float64)
    f = dynamics.drift_at(x, zeros)
    J = Lagrangian(dynamics).jacobian(path.states, zeros).numpy()
    along_p = _gradient((f * path.momenta).sum(), x)
    bend = torch.stack([_gradient(along_p[:, i].sum(), x).detach() for i in range(d)], 1).numpy()
    p = path.momenta.numpy()
    velocity = f.detach().numpy() + 2 * p @ D
    speed = np.linalg.norm(velocity, axis=1, keepdims=True)
    e, g = velocity / speed, -np.einsum("nij,ni->nj", J, p) / speed
    packed = np.concatenate([J.reshape(n, -1), bend.reshape(n, -1), e, g, p], 1)
    spline = CubicSpline(path.times.numpy(), packed)

    def at(t: float) -> tuple[np.ndarray, ...]:
        J, bend, e, g, p = np.split(spline(t), np.cumsum([d * d, d * d, d, d]))
        return J.reshape(d, d), bend.reshape(d, d), e / np.linalg.norm(e), g, p

    return at


def _gradient(of: Tensor, at: Tensor) -> Tensor:
    if not of.requires_grad:
        return torch.zeros_like(at)
    (found,) = torch.autograd.grad(of, at, create_graph=True, allow_unused=True)
    return torch.zeros_like(at) if found is None else found


def _require_smooth(saddle: FixedPoint, D: np.ndarray, H: np.ndarray) -> None:
    J = saddle.jacobian.numpy()
    expected = np.sort_complex(-np.linalg.eigvals(J))
    got = np.sort_complex(np.linalg.eigvals(J + 2 * D @ H))
    if np.abs(got - expected).max() > AGREEMENT * np.abs(expected).max() or np.linalg.det(H) >= 0:
        shown = ", ".join(f"{value.real:.3g}" for value in got)
        raise InputError(
            "saddle: the Riccati equation of the quasipotential does not tend to its solution at a smooth saddle "
            f"(J + 2DH has the eigenvalues {shown} instead of those of -J): expected a path that reaches it smoothly"
        )

r"""The minimum energy path of a gradient system by the string method.

Where :math:`K f = -\nabla V` for a constant :math:`K = D^{-1}`, the curve of least action between two states runs along
the drift, forward or backward: :math:`f` has no component normal to it. The nodes follow
the normal component and are then placed at equal distances again, in turn, until they stay. Uphill
the action is the height climbed,

.. math::  W = \int_{f \cdot d\varphi < 0} -\,d\varphi^T K f = \Delta V .

It needs no derivative of the drift but to check that the system has a potential, and so it is an independent check of
`geometric_action`; it converges linearly, and finds minima only.

Source: E, Ren & Vanden-Eijnden 2002, https://doi.org/10.1103/PhysRevB.66.052301.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq
from torch import Tensor

from diffuscope.checked_numbers import require_count
from diffuscope.errors import InputError

from .dynamics import Dynamics, require_regular
from .geometric_action import equidistant
from .lagrangian import Lagrangian
from .least_action import checked_ends, straight

ASYMMETRY = 1e-8  # of the Jacobian of K f, relative, above which there is no potential
TOLERANCE = 1e-9  # displacement of a node in a round, per length of the string
ROUNDS = 20_000
QUADRATURE = 8  # Gauss-Legendre points between knots


@dataclass(frozen=True, eq=False)
class MinimumEnergyPath:
    """The curve, its action uphill, and its highest point.

    `heights` are the potential over that of the start at the nodes; `saddle` is where it is largest, `barrier` the
    height there. `normal_drift` is the largest normal component of the drift at a node over the largest drift:
    what the spline through finitely many nodes leaves. `rounds` were needed.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, string
    >>> wells = Dynamics(lambda x: -x * (x - 1) * (x - 4), 0.5)  # U = x^4 / 4 - 5 x^3 / 3 + 2 x^2
    >>> found = string(wells, torch.tensor([0.0]), torch.tensor([4.0]), 8)
    >>> [round(value, 5) for value in (found.barrier, float(found.saddle), float(found.heights[-1]))]  # over D
    [1.16667, 1.0, -21.33333]
    """

    curve: Float[Tensor, "nodes d"]
    heights: Float[Tensor, " nodes"]
    action: float
    barrier: float
    saddle: Float[Tensor, " d"]
    normal_drift: float
    rounds: int


def string(
    dynamics: Dynamics,
    start: Float[Tensor, " d"],
    end: Float[Tensor, " d"],
    intervals: int = 40,
    *,
    initial: Float[Tensor, "nodes d"] | None = None,
) -> MinimumEnergyPath:
    """The minimum energy path of `intervals` pieces from `start` to `end`, which stay where they are.

    Raises InputError for a drift that takes a time or has no potential (with the asymmetry of its Jacobian), a D that
    is singular or depends on the state, and a string that does not settle.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, string
    >>> wells = Dynamics(lambda x: x - x**3, 0.25)
    >>> round(string(wells, torch.tensor([-1.0]), torch.tensor([1.0])).barrier, 6)  # 1/4 over D
    1.0
    """
    a, b = checked_ends(dynamics, start, end)
    if not dynamics.autonomous or not dynamics.constant or dynamics.silent(a.shape[1]).shape[1]:
        raise InputError("dynamics: expected a drift of (x) alone and a constant, regular D, as a potential has")
    require_count("intervals", intervals, 2)
    mesh = torch.linspace(0, 1, intervals + 1, dtype=torch.float64)
    x = straight(a, b, mesh) if initial is None else torch.cat([a, initial.detach().double()[1:-1], b])[None]
    require_regular(dynamics, x[0], mesh.new_zeros(x.shape[1]))
    _require_potential(dynamics, x[0])
    x = equidistant(x, intervals)
    for rounds in range(1, ROUNDS + 1):
        moved = equidistant(_moved(dynamics, x), intervals)
        length = float(x.diff(dim=1).norm(dim=2).sum())
        if not np.isfinite(length) or length > 1e6 * float((b - a).norm()):
            raise InputError("initial: the string runs away along the drift; choose ends inside the same wells")
        settled = float((moved - x).norm(dim=2).max()) <= TOLERANCE * length
        x = moved
        if settled:
            _require_potential(dynamics, x[0])
            return _measured(dynamics, x[0], rounds)
    raise InputError(
        f"intervals: the string of {intervals} pieces has not settled after {ROUNDS:,} rounds; try fewer pieces, or an "
        "initial curve near the path"
    )


def _moved(dynamics: Dynamics, x: Float[Tensor, "one nodes d"]) -> Float[Tensor, "one nodes d"]:
    """The inner nodes after a Runge-Kutta step along the normal component of the drift.

    A step along the whole drift would stop at a curve that is invariant under the step and not under the drift. A
    displacement of the curve decays and is carried along it; the step is within the stability limits of both.
    """
    t = x.new_zeros(x.shape[1])

    def f(at: Tensor) -> Tensor:
        normal = _normal(dynamics.drift_at(at, t).detach(), _tangents(at))
        normal[[0, -1]] = 0
        return normal

    start = x[0]
    rate = float(Lagrangian(dynamics, "FW").jacobian(start, t).norm(dim=(1, 2)).max())
    speed = float(dynamics.drift_at(start, t).detach().norm(dim=1).max())
    step = 1 / (rate + speed / float(start.diff(dim=0).norm(dim=1).min()))
    one = f(start)
    two = f(start + step / 2 * one)
    three = f(start + step / 2 * two)
    four = f(start + step * three)
    return (start + step / 6 * (one + 2 * two + 2 * three + four))[None]


def _tangents(x: Float[Tensor, "nodes d"]) -> Float[Tensor, "nodes d"]:
    nodes = np.linspace(0, 1, len(x))
    return torch.from_numpy(CubicSpline(nodes, x.numpy()).derivative()(nodes))


def _normal(f: Float[Tensor, "nodes d"], along: Float[Tensor, "nodes d"]) -> Float[Tensor, "nodes d"]:
    unit = along / along.norm(dim=1, keepdim=True)
    return f - (f * unit).sum(1, keepdim=True) * unit


def _require_potential(dynamics: Dynamics, x: Float[Tensor, "nodes d"]) -> None:
    t = x.new_zeros(len(x))
    J = dynamics.precision_at(x, t) @ Lagrangian(dynamics, "FW").jacobian(x, t)
    asymmetry = float((J - J.mT).abs().max() / J.abs().max().clamp_min(1e-300))
    if asymmetry > ASYMMETRY:
        raise InputError(
            f"drift: expected D times the gradient of a potential, got an asymmetry of {asymmetry:.2g} of the Jacobian "
            "of D^-1 f; without a potential use geometric_action"
        )


def _measured(dynamics: Dynamics, x: Float[Tensor, "nodes d"], rounds: int) -> MinimumEnergyPath:
    """Heights by integrating the drift along the spline through the nodes, from turning point to turning point."""
    nodes = np.linspace(0, 1, len(x))
    spline = CubicSpline(nodes, x.numpy())
    tangent = spline.derivative()
    K = dynamics.precision_at(x[:1], x.new_zeros(1))[0].numpy()

    def slope(at: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        f = dynamics.drift_at(torch.from_numpy(spline(at)), torch.zeros(len(at))).detach().numpy()
        return -np.einsum("ni,ij,nj->n", tangent(at), K, f)

    values = slope(nodes)
    turns = [
        brentq(lambda at: float(slope(np.array([at]))[0]), *ends)
        for ends, signs in zip(itertools.pairwise(nodes), itertools.pairwise(np.sign(values)), strict=True)
        if signs[0] * signs[1] < 0
    ]
    knots = np.union1d(nodes, np.array(turns))
    points, weights = np.polynomial.legendre.leggauss(QUADRATURE)
    half = np.diff(knots) / 2
    at = (knots[:-1] + half)[:, None] + half[:, None] * points
    rises = (slope(at.ravel()).reshape(at.shape) @ weights) * half
    heights = np.r_[0, np.cumsum(rises)]
    f = dynamics.drift_at(x, x.new_zeros(len(x))).detach()
    normal = _normal(f, _tangents(x))[1:-1].norm(dim=1).max()
    return MinimumEnergyPath(
        curve=x,
        heights=torch.from_numpy(heights[np.searchsorted(knots, nodes)]),
        action=float(np.maximum(rises, 0).sum()),
        barrier=float(heights.max()),
        saddle=torch.from_numpy(spline(knots[heights.argmax()])),
        normal_drift=float(normal / f.norm(dim=1).max()),
        rounds=rounds,
    )

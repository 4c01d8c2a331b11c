r"""The most likely path when the duration is free: a curve, found without its parametrization.

On paths of energy E the speed is known, :math:`|\dot x|_K = \sqrt{|f|_K^2 + 4E}` with :math:`|u|_K^2 = u^T D^{-1} u`,
and the action is a functional of the curve alone,

.. math::
    W_E = \int \tfrac12 \Big( |d\varphi|_K \sqrt{|f|_K^2 + 4E} - \langle d\varphi, f\rangle_K \Big), \qquad
    T = \frac{dW_E}{dE} = \int \frac{|d\varphi|_K}{\sqrt{|f|_K^2 + 4E}}, \qquad S = W_E - E\,T .

E = 0 is the least action over all durations: from a fixed point it takes an infinite time, and its value is the
quasipotential between the ends. The curve is minimized by Newton's method on the displacements of its nodes normal to
it; then nodes are placed at equal distances again, until they stay.

Sources: Heymann & Vanden-Eijnden 2008, https://doi.org/10.1002/cpa.20238 (E = 0, by descent); the fixed energy is
Maupertuis' principle.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from torch import Tensor

from diffuscope.checked_numbers import require_count
from diffuscope.errors import InputError

from .discrete_action import MIDPOINT, Mesh, Nodes, edgewise
from .dynamics import Dynamics, require_regular
from .least_action import checked_ends, halved_mesh, on_halved_mesh, straight
from .newton import TOLERANCE, Stationary, newton

ROUNDS = 100
ROUND, BUDGET = 50, 250  # iterations of Newton's method in a round, and in all
UNEVEN = 0.02  # share by which distances between nodes may differ


@dataclass(frozen=True, eq=False)
class GeometricAction:
    """The curve, its action W_E, and its certificate: `residual`, `extrapolated`, and changes when N doubles.

    `duration` is infinite for E = 0 between fixed points, and here as large as the distance of the first midpoint from
    the fixed point makes it: nodes at equal distances do not resolve the neighborhood of a fixed point below an energy
    of the order of their distance squared, and `duration_change` is then of the size of the duration.

    >>> import math, torch
    >>> from diffuscope.theory.paths import Dynamics, geometric_action
    >>> spring = Dynamics(lambda x: -x, 0.5)
    >>> found = geometric_action(spring, torch.tensor([3.0]), torch.tensor([1.0]), 100)
    >>> round(found.action, 6) + 0.0, round(found.duration - math.log(3), 3) + 0.0  # along the drift: free
    (0.0, 0.0)
    """

    curve: Float[Tensor, "nodes d"]
    action: float
    duration: float
    energy: float
    residual: float
    action_change: float
    duration_change: float
    extrapolated: float
    minimum: bool


def geometric_action(
    dynamics: Dynamics,
    start: Float[Tensor, "..."],
    end: Float[Tensor, "..."],
    intervals: int = 200,
    *,
    energy: float = 0.0,
    initial: Float[Tensor, "..."] | None = None,
) -> GeometricAction:
    """The curve of least action from `start` to `end`, both (d,), of `intervals` straight pieces.

    `initial` is a curve to begin with, (nodes, d), of any number of nodes; by default the straight line. Raises
    InputError for a drift or diffusion that takes a time or is singular, an energy below -|f|^2 / 4 on the curve, and
    where no stationary curve is found.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, geometric_action
    >>> spring = Dynamics(lambda x: -x, 0.5)
    >>> found = geometric_action(spring, torch.tensor([1.0]), torch.tensor([3.0]), 10)
    >>> round(found.action, 6)  # uphill: (3^2 - 1^2) / 2 over D
    8.0
    """
    a, b = checked_ends(dynamics, start, end)
    if len(a) != 1 or start.ndim != 1:
        raise InputError(f"start: expected one state, (d,), got shape {tuple(start.shape)}")
    require_count("intervals", intervals, 2)
    if not dynamics.autonomous:
        raise InputError("drift: expected a function of (x) alone where the duration is free, got one of (x, t)")
    if dynamics.silent(a.shape[1]).shape[1]:
        raise InputError("diffusion: expected noise in every direction where the duration is free, got a singular D")
    mesh = torch.linspace(0, 1, intervals + 1, dtype=torch.float64)
    x = straight(a, b, mesh) if initial is None else _checked_curve(initial, a, b)
    require_regular(dynamics, x[0], torch.zeros(x.shape[1], dtype=torch.float64))
    density = CurveDensity(dynamics, energy)
    least = density.least_energy(x[0])
    if not energy >= least:
        raise InputError(f"energy: expected at least -|f|^2 / 4 along the curve, {least:.4g}, got {energy}")
    found = minimized(density, equidistant(x, intervals), mesh)
    finer = minimized(density, equidistant(on_halved_mesh(found.x), 2 * intervals), halved_mesh(mesh))
    W, W2 = float(found.action), float(finer.action)
    T, T2 = (
        float(edgewise(density.duration, curve.x, at, MIDPOINT).detach()[0] @ at.diff())
        for curve, at in ((found, mesh), (finer, halved_mesh(mesh)))
    )
    return GeometricAction(
        curve=found.x[0],
        action=W,
        duration=T,
        energy=float(energy),
        residual=max(float(found.residual), float(finer.residual)),
        action_change=abs(W - W2),
        duration_change=abs(T - T2) if math.isfinite(T) and math.isfinite(T2) else math.inf,
        extrapolated=W2 - (W - W2) / 3,
        minimum=bool(found.minimum) and bool(finer.minimum),
    )


@dataclass(frozen=True, eq=False)
class CurveDensity:
    """The density of W_E per unit of any parameter of the curve, and that of the duration."""

    dynamics: Dynamics
    energy: float

    def __call__(self, x: Tensor, v: Tensor, t: Tensor) -> Float[Tensor, " n"]:
        K, f = self.dynamics.precision_at(x, t), self.dynamics.drift_at(x, t)
        length = torch.einsum("ni,nij,nj->n", v, K, v).sqrt()
        return (length * self._speed(K, f) - torch.einsum("ni,nij,nj->n", v, K, f)) / 2

    def duration(self, x: Tensor, v: Tensor, t: Tensor) -> Float[Tensor, " n"]:
        """dT per unit of the parameter."""
        K, f = self.dynamics.precision_at(x, t), self.dynamics.drift_at(x, t)
        return torch.einsum("ni,nij,nj->n", v, K, v).sqrt() / self._speed(K, f)

    def least_energy(self, x: Float[Tensor, "nodes d"]) -> float:
        """-|f|^2 / 4 where the drift along a curve is smallest: below it the path would stop there."""
        t = x.new_zeros(len(x))
        K, f = self.dynamics.precision_at(x, t), self.dynamics.drift_at(x, t)
        return -float(torch.einsum("ni,nij,nj->n", f, K, f).detach().min()) / 4

    def _speed(self, K: Tensor, f: Tensor) -> Float[Tensor, " n"]:
        return (torch.einsum("ni,nij,nj->n", f, K, f) + 4 * self.energy).sqrt()


def minimized(density: CurveDensity, x: Nodes, mesh: Mesh) -> Stationary:
    """Newton's method on normal displacements and nodes at equal distances, in turn until both hold."""
    if x.shape[2] == 1:  # a curve on a line has no choice
        return newton(density, x, mesh, MIDPOINT, frames=x.new_zeros(1, x.shape[1] - 2, 1, 0))
    intervals = x.shape[1] - 1
    found, rounds, spent = None, 0, 0
    while rounds < ROUNDS and spent < BUDGET:
        found = newton(density, x, mesh, MIDPOINT, frames=normals(x), iterations=ROUND)
        rounds, spent = rounds + 1, spent + found.iterations
        distances = found.x.diff(dim=1).norm(dim=2)
        uneven = float((distances.amax() - distances.amin()) / distances.mean())
        if bool(found.converged.all()) and uneven <= UNEVEN:
            return found
        if not bool(torch.isfinite(found.x).all()):
            break
        x = equidistant(found.x, intervals)
    left = float("nan") if found is None else float(found.residual.max())
    raise InputError(
        f"intervals: no stationary curve of {intervals} pieces: after {rounds} rounds the gradient is {left:.2g} of "
        f"its momenta, expected {TOLERANCE:g}; try more intervals, an initial curve near a solution, or a given "
        "duration: to leave a limit cycle or an unstable spiral no curve of finite length is the least"
    )


def normals(x: Nodes) -> Float[Tensor, "paths inner d k"]:
    """An orthonormal basis of the space normal to the curve at every interior node."""
    tangent = x[:, 2:] - x[:, :-2]
    Q, _ = torch.linalg.qr(tangent[..., None], mode="complete")
    return Q[..., 1:]


def equidistant(x: Nodes, intervals: int) -> Float[Tensor, "paths placed d"]:
    """The curve, as a cubic spline through its nodes, at `intervals` + 1 nodes of equal distances along it."""
    placed = []
    for curve in x.numpy():
        length = np.r_[0, np.linalg.norm(np.diff(curve, axis=0), axis=1).cumsum()]
        distinct = np.r_[True, np.diff(length) > 0]
        spline = CubicSpline(length[distinct], curve[distinct])
        nodes = spline(np.linspace(0, length[-1], intervals + 1))
        nodes[[0, -1]] = curve[[0, -1]]  # the ends, which the spline rounds
        placed.append(nodes)
    return torch.from_numpy(np.stack(placed))


def _checked_curve(initial: Tensor, a: Tensor, b: Tensor) -> Nodes:
    x = initial.detach().double()
    if x.ndim != 2 or len(x) < 3 or x.shape[1] != a.shape[1] or not bool(torch.isfinite(x).all()):
        raise InputError(
            f"initial: expected finite states of a curve, (nodes, {a.shape[1]}), at least 3, got {tuple(initial.shape)}"
        )
    return torch.cat([a, x[1:-1], b])[None]

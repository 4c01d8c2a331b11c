r"""The curve of least action in any time, also where it meets a fixed point of the drift.

Where the drift vanishes the action of a curve, :math:`\tfrac12(|d\varphi|_K |f|_K - \langle d\varphi, f\rangle_K)`, has
the geometry of a cone, and the least curve between two states may pass through its tip with a corner: it relaxes to an
attractor before it climbs out, or arrives at a saddle in one direction and leaves it in another. Newton's method knows
no corners. So the two states are joined through fixed points near the straight line and its bends: a graph whose edges
are smooth curves of least action, and whose shortest path is the curve. It is taken where no smooth curve costs less.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from torch import Tensor

from diffuscope.errors import InputError

from .dynamics import Dynamics
from .fixed_points import fixed_point
from .geometric_action import GeometricAction, equidistant, geometric_action
from .lagrangian import Lagrangian

COARSE = 50  # pieces of the curves that are compared; the least is refined
SHORTEST = 10  # pieces of an edge
FIXED_POINTS = 4  # the nearest to the straight line
NEAR = 1e-6  # states at less than this share of the distance of the ends are one
LESS = 1e-3  # share by which a curve with corners must be less than a smooth one: more than coarse curves are off

Curve = Float[Tensor, "nodes d"]
State = Float[Tensor, " d"]


@dataclass(frozen=True, eq=False)
class LeastCurve:
    """The curve, and how many of the starts led to a stationary one."""

    found: GeometricAction
    ended: int


def least_curve(dynamics: Dynamics, a: State, b: State, shapes: Sequence[Curve], intervals: int) -> LeastCurve:
    """From a to b, begun with every curve of `shapes`; through fixed points where one of them fails.

    Raises the InputError of the first start where nothing is found.
    """
    coarse = min(intervals, COARSE)
    _require_drift(dynamics, shapes[0])
    smooth: list[GeometricAction] = []
    failures: list[InputError] = []
    for shape in shapes:
        try:
            rough = geometric_action(dynamics, a, b, coarse, initial=shape)
            smooth.append(rough)
            if intervals > coarse:
                smooth[-1] = geometric_action(dynamics, a, b, intervals, initial=rough.curve)
        except InputError as error:
            failures.append(error)
    least = min(smooth, key=_rank, default=None)
    if not failures:
        assert least is not None
        return LeastCurve(least, len(smooth))
    chain = _Graph(dynamics, [a, *_fixed_points(dynamics, a, b, shapes), b]).shortest()
    if chain and (least is None or _rather(chain, least)):
        return LeastCurve(_joined(dynamics, chain, intervals), len(smooth))
    if least is None:
        raise failures[0]
    return LeastCurve(least, len(smooth))


def _rather(chain: Sequence[GeometricAction], smooth: GeometricAction) -> bool:
    """Whether the curve with corners is less, or the smooth one is the same, rounded off within its nodes."""
    less = sum(map(_cost, chain)) - _cost(smooth)
    if not smooth.minimum or less < -LESS * _cost(smooth):
        return True
    corners = torch.stack([each.curve[-1] for each in chain[:-1]])
    spacing = float(smooth.curve.diff(dim=0).norm(dim=1).max())
    return less <= LESS * _cost(smooth) and float(torch.cdist(corners, smooth.curve).amin(1).max()) <= 2 * spacing


def _require_drift(dynamics: Dynamics, x: Curve) -> None:
    f = dynamics.drift_at(x, x.new_zeros(len(x))).detach()
    if not bool(f.any()):
        raise InputError(
            "duration: expected a positive number where the drift vanishes all along the way, since the action of a "
            "free duration is then 0 in the limit of an infinite one"
        )


def _rank(found: GeometricAction) -> tuple[bool, float]:
    return not found.minimum, found.extrapolated


def _cost(found: GeometricAction) -> float:
    return max(found.extrapolated, 0.0)


def _fixed_points(dynamics: Dynamics, a: State, b: State, shapes: Sequence[Curve]) -> list[Float[Tensor, " d"]]:
    """Those that Newton's method finds from where the drift is least along the curves, nearest to the middle first."""
    middle, size = (a + b) / 2, float((b - a).norm())
    found: list[Tensor] = []
    for shape in shapes:
        speed = dynamics.drift_at(shape, shape.new_zeros(len(shape))).detach().norm(dim=1)
        inner = speed[1:-1]
        least = ((inner <= speed[:-2]) & (inner <= speed[2:])).nonzero()[:, 0] + 1
        for k in {*least.tolist(), 0, len(shape) - 1, len(shape) // 2}:
            try:
                state = fixed_point(dynamics, shape[k]).state
            except InputError:
                continue
            known = [a, b, *found]
            if min(float((state - other).norm()) for other in known) > NEAR * size and bool(
                dynamics.inside(state[None])[0]
            ):
                found.append(state)
    near = [state for state in found if float((state - middle).norm()) <= 1.5 * size]
    return sorted(near, key=lambda state: float((state - middle).norm()))[:FIXED_POINTS]


@dataclass(frozen=True, eq=False)
class _Graph:
    """The first state, fixed points, and the last; an edge is computed when it is asked for."""

    dynamics: Dynamics
    states: list[Tensor]
    known: dict[tuple[int, int], GeometricAction | None] = field(default_factory=dict)

    def edge(self, i: int, j: int) -> GeometricAction | None:
        """The least smooth curve from the one to the other, by coarse pieces."""
        if (i, j) not in self.known:
            self.known[i, j] = self._edge(self.states[i], self.states[j])
        return self.known[i, j]

    def _edge(self, start: Tensor, end: Tensor) -> GeometricAction | None:
        free = _relaxation(self.dynamics, start, end)
        if free is not None:
            return free
        s = torch.linspace(0, 1, COARSE + 1, dtype=torch.float64)[:, None]
        line = start + s * (end - start)
        found: list[GeometricAction] = []
        bends = [torch.zeros_like(end)]
        if len(end) > 1:
            frame, _ = torch.linalg.qr((end - start)[:, None], mode="complete")
            bends += [sign * 0.3 * (end - start).norm() * frame[:, 1] for sign in (1, -1)]
        for k, bend in enumerate(bends):
            if k and any(each.minimum for each in found):
                break
            try:
                initial = line + torch.sin(torch.pi * s) * bend
                found.append(geometric_action(self.dynamics, start, end, COARSE, initial=initial))
            except InputError:
                continue
        return min(found, key=_rank, default=None)

    def shortest(self) -> list[GeometricAction]:
        """The edges of the least sum from the first state to the last over another one at least, if there are any."""
        last = len(self.states) - 1
        cost, before = {0: 0.0}, {}
        done: set[int] = set()
        while set(cost) - done:
            i = min(set(cost) - done, key=lambda k: cost[k])
            done.add(i)
            if i == last:
                break
            for j in set(range(1, last + 1)) - done - ({last} if i == 0 else set()):
                found = self.edge(i, j)
                if found is not None and cost[i] + _cost(found) < cost.get(j, math.inf):
                    cost[j], before[j] = cost[i] + _cost(found), i
        if last not in before:
            return []
        way = [last]
        while way[-1] != 0:
            way.append(before[way[-1]])
        edges = [self.edge(i, j) for i, j in itertools.pairwise(reversed(way))]
        return [edge for edge in edges if edge is not None]


def _relaxation(dynamics: Dynamics, start: State, end: State) -> GeometricAction | None:
    """The drift's own curve from `start`, which costs nothing, if it leads to the stable fixed point `end`."""
    zero, size = start.new_zeros(1), float((end - start).norm())
    if bool(dynamics.drift_at(end[None], zero).abs().max() > NEAR * size) or bool(
        dynamics.drift_at(start[None], zero).abs().max() < NEAR * size
    ):
        return None
    eigenvalues = torch.linalg.eigvals(Lagrangian(dynamics).jacobian(end[None], zero)[0]).real
    if not bool((eigenvalues < 0).all()):
        return None

    def rate(_: float, x: np.ndarray) -> np.ndarray:
        return dynamics.drift_at(torch.from_numpy(x)[None], zero).detach()[0].numpy()

    def arrived(_: float, x: np.ndarray) -> float:
        return float(np.linalg.norm(x - end.numpy())) - NEAR * size

    arrived.terminal = True  # pyright: ignore[reportFunctionMemberAccess]
    longest = 100 / float(eigenvalues.abs().min())
    found = solve_ivp(rate, (0, longest), start.numpy(), "LSODA", rtol=1e-8, atol=1e-10 * size, events=arrived)
    if found.status != 1:
        return None
    curve = torch.cat([torch.from_numpy(found.y.T.copy()), end[None]])
    return GeometricAction(
        curve=equidistant(curve[None], COARSE)[0], action=0.0, duration=math.inf, energy=0.0, residual=0.0,
        action_change=0.0, duration_change=math.inf, extrapolated=0.0, minimum=True,
    )  # fmt: skip


def _joined(dynamics: Dynamics, chain: Sequence[GeometricAction], intervals: int) -> GeometricAction:
    """The edges, refined to `intervals` pieces together, as one curve."""
    lengths = [float(each.curve.diff(dim=0).norm(dim=1).sum()) for each in chain]
    pieces = [max(round(intervals * length / sum(lengths)), SHORTEST) for length in lengths]
    pieces[lengths.index(max(lengths))] += intervals - sum(pieces)
    fine = [
        replace(each, curve=equidistant(each.curve[None], max(count, 2))[0])
        if _relaxation(dynamics, each.curve[0], each.curve[-1])
        else geometric_action(dynamics, each.curve[0], each.curve[-1], max(count, 2), initial=each.curve)
        for each, count in zip(chain, pieces, strict=True)
    ]
    return GeometricAction(
        curve=torch.cat([fine[0].curve[:1], *(each.curve[1:] for each in fine)]),
        action=sum(each.action for each in fine),
        duration=math.inf,
        energy=0.0,
        residual=max(each.residual for each in fine),
        action_change=sum(each.action_change for each in fine),
        duration_change=math.inf,
        extrapolated=sum(each.extrapolated for each in fine),
        minimum=all(each.minimum for each in fine),
    )

r"""Readings of a field at points: y_i = (field of a channel at the point s_i) + r_i eps_i, for any points of the box.

The value between nodes is the multilinear interpolation of the nodes around,

.. math::  u(s) = \sum_{c \in \{0, 1\}^{d}} \prod_k \bigl(c_k \theta_k + (1 - c_k)(1 - \theta_k)\bigr)\, u_{i + c},
    \qquad  \theta_k = (s_k - x_{i_k}) / h_k ,

a linear observation with an error of order h^2 of the field itself. Every reading has its own standard deviation r_i;
readings with r_i > 0 are divided by it, so that one observation of noise 1 holds them all, and those with r_i = 0 are
another, hard one.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.errors import InputError

from .grid import Grid
from .observations import LinearObservation
from .problem import Problem

EDGE = 1e-9  # of a box, in its lengths: coordinates that were rounded are still inside


@dataclass(frozen=True, eq=False, kw_only=True)
class Sensors:
    """`m` readings: points (m, axes), the index of a channel, values, and standard deviations (0: exact).

    `units` are words for the axes, the channels and the noise, where they are known, and `origin` is where the readings
    come from. `rows` are the numbers of the readings in their file, from 1 on, for messages.

    >>> import torch
    >>> from diffuscope.physics import PROBLEMS, Sensors
    >>> problem, x = PROBLEMS["poisson-1d"](nodes=5), torch.linspace(0, 1, 5, dtype=torch.float64)
    >>> points, of_solution = torch.tensor([[0.3]]).double(), torch.tensor([1])
    >>> one = Sensors(points=points, channels=of_solution, values=torch.tensor([3.0]), noise=torch.tensor([0.5]))
    >>> h, y = one.noisy(problem)  # over the noise; between the nodes 0.25 and 0.5, u = 0.8 x 3/16 + 0.2 x 1/4
    >>> round(float(h(torch.stack([0 * x, x * (1 - x)])[None])), 6), float(y)
    (0.4, 6.0)
    """

    points: Float[Tensor, "m axes"]
    channels: Int[Tensor, " m"]
    values: Float[Tensor, " m"]
    noise: Float[Tensor, " m"]
    rows: tuple[int, ...] = ()
    units: tuple[tuple[str, str], ...] = ()
    origin: str = "given"

    def __len__(self) -> int:
        return len(self.values)

    @property
    def copies(self) -> int:
        """Noisy readings that repeat another in place, channel and value: independent noise hardly makes two alike."""
        keys = torch.cat([self.points, self.channels[:, None].double(), self.values[:, None]], 1)[self.noise > 0]
        return len(keys) - len(keys.unique(dim=0))

    def matrix(self, problem: Problem) -> Float[Tensor, "m D"]:
        """One row per reading over the flattened field (channels, *grid)."""
        grid, D = problem.equation.grid, math.prod(problem.event_shape)
        rows = torch.zeros(len(self), len(problem.channels), grid.size, dtype=torch.float64)
        rows[torch.arange(len(self)), self.channels] = interpolation(grid, self.points)
        return rows.reshape(len(self), D)

    def noisy(self, problem: Problem) -> tuple[LinearObservation, Float[Tensor, " m"]]:
        """The readings with noise, over their standard deviations: an observation of noise 1, and its values."""
        kept = self.noise > 0
        r = self.noise[kept]
        return LinearObservation(self.matrix(problem)[kept] / r[:, None], problem.event_shape, 1.0), self.values[
            kept
        ] / r

    def exact(self, problem: Problem) -> tuple[LinearObservation, Float[Tensor, " m"]]:
        """The readings without noise."""
        kept = self.noise == 0
        return LinearObservation(self.matrix(problem)[kept], problem.event_shape, 0.0), self.values[kept]


def interpolation(grid: Grid, points: Float[Tensor, "m axes"]) -> Float[Tensor, "m N"]:
    """Multilinear interpolation from the nodes of `grid` to `points` in its box; see above.

    >>> interpolation(Grid((3,)), torch.tensor([[0.125]], dtype=torch.float64)).tolist()
    [[0.75, 0.25, 0.0]]
    """
    below, share = [], []
    for axis in range(grid.axes):
        n, around = grid.shape[axis], grid.periodic[axis]
        place = (points[:, axis].double() - grid.origin[axis]) / grid.spacing[axis]
        cell = place.floor().clamp(0, (n if around else n - 1) - 1)
        below.append(cell.long())
        share.append((place - cell).clamp(0, 1))
    matrix = torch.zeros(len(points), grid.size, dtype=torch.float64)
    for corner in itertools.product((0, 1), repeat=grid.axes):
        node = torch.zeros(len(points), dtype=torch.long)
        weight = torch.ones(len(points), dtype=torch.float64)
        for axis, step in enumerate(corner):
            node = node * grid.shape[axis] + (below[axis] + step) % grid.shape[axis]
            weight = weight * (share[axis] if step else 1 - share[axis])
        # a node beyond the last one of a bounded axis wraps around with weight 0
        matrix.scatter_add_(1, node[:, None], weight[:, None])
    return matrix


def axis_names(problem: Problem) -> tuple[str, ...]:
    """x, or x and y; t and x where the first axis is time, as in a problem whose given is an initial condition."""
    names = ("x", "y", "z") if problem.joint else ("t", "x", "y")
    return names[: problem.equation.grid.axes]


def box(problem: Problem) -> tuple[tuple[float, float], ...]:
    """The ends of the domain along every axis."""
    grid = problem.equation.grid
    return tuple((o, o + length) for o, length in zip(grid.origin, grid.lengths, strict=True))


def require_readings(sensors: Sensors, problem: Problem, argument: str) -> Sensors:
    """The readings, each exact one once; InputError for what no field of the problem can have.

    That is: no readings, points outside the domain, values that are not finite, negative noise, exact readings that
    contradict each other, and a coefficient that is not positive.
    """
    names, ends = axis_names(problem), box(problem)
    if len(sensors) == 0:
        raise InputError(f"{argument}: expected at least one reading, got none in {sensors.origin}")
    for k, name in enumerate(names):
        low, high = ends[k]
        slack = EDGE * (high - low)
        column = sensors.points[:, k]
        _refuse(sensors, argument, ~column.isfinite(), f"expected finite {name}, got", column)
        outside = (column < low - slack) | (column > high + slack)
        _refuse(sensors, argument, outside, f"expected {name} in the domain, {low:g} to {high:g}, got", column)
    _refuse(sensors, argument, ~sensors.values.isfinite(), "expected a finite value, got", sensors.values)
    bad = ~(sensors.noise >= 0) | sensors.noise.isinf()
    _refuse(sensors, argument, bad, "expected noise >= 0 (a standard deviation), got", sensors.noise)
    if problem.given == "coefficient":
        bad = (sensors.channels == 0) & (sensors.values <= 0)
        _refuse(sensors, argument, bad, "expected a positive coefficient, got", sensors.values)
    return _each_exact_one_once(sensors, argument)


def _refuse(sensors: Sensors, argument: str, bad: Tensor, words: str, values: Tensor) -> None:
    found = bad.nonzero()[:, 0]
    if len(found):
        i = int(found[0])
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise InputError(f"{argument}: {sensors.origin}, {_row(sensors, i)}: {words} {float(values[i]):g}{more}")


def _row(sensors: Sensors, i: int) -> str:
    return f"row {sensors.rows[i] if sensors.rows else i + 1}"


def _each_exact_one_once(sensors: Sensors, argument: str) -> Sensors:
    seen: dict[tuple[float, ...], int] = {}
    kept = []
    for i in range(len(sensors)):
        if float(sensors.noise[i]) == 0:
            key = (float(sensors.channels[i]), *sensors.points[i].tolist())
            first = seen.setdefault(key, i)
            a, b = float(sensors.values[first]), float(sensors.values[i])
            if abs(a - b) > 1e-12 * abs(a):
                raise InputError(
                    f"{argument}: {sensors.origin}, {_row(sensors, first)} and {_row(sensors, i)[4:]}: expected one "
                    f"exact value (noise 0) at a point, got {a:g} and {b:g}"
                )
            if first != i:
                continue
        kept.append(i)
    index = torch.tensor(kept)
    return Sensors(
        points=sensors.points[index], channels=sensors.channels[index], values=sensors.values[index],
        noise=sensors.noise[index], rows=tuple(sensors.rows[i] for i in kept) if sensors.rows else (),
        units=sensors.units, origin=sensors.origin,
    )  # fmt: skip

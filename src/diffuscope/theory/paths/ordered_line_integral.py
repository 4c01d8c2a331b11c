r"""The quasipotential of a fixed point on a grid of the plane, by ordered line integrals.

.. math::  W(x) = \inf_{\varphi:\, x^* \to x} \int \tfrac12 \Big( |d\varphi|_K |f|_K - \langle d\varphi, f\rangle_K
           \Big), \qquad K = D^{-1},

the least action over all curves and durations. Values are accepted in increasing order, as in Dijkstra's method: the
least tentative value is final. A point is updated from every accepted point within `reach` nodes, and from the
segments between accepted neighbors, where W and the drift are interpolated linearly; each straight piece is integrated
by Simpson's rule, with the drift at its midpoint from the grid of half the spacing. Around the fixed point, W is the
quadratic form :math:`\tfrac12 y^T C^{-1} y` of the linearized drift, :math:`J C + C J^T + 2 D = 0`.

The search ends when it meets the edge of the grid: beyond that value a curve might leave the box and return. It is a
reference for `geometric_action`, which may find a curve that is least only nearby; its error falls about linearly with
the spacing, if the reach grows.

Source: Dahiya & Cameron 2018, https://doi.org/10.1007/s10915-017-0590-9.
"""

import heapq
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import solve_continuous_lyapunov
from torch import Tensor

from diffuscope.checked_numbers import require_count
from diffuscope.errors import InputError

from .dynamics import Dynamics
from .fixed_points import fixed_point

SHARES = np.linspace(0, 1, 9)  # positions on a segment that are tried before a parabola is fitted
AROUND = np.array([(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)])


@dataclass(frozen=True, eq=False)
class Quasipotential:
    """W on the nodes, NaN where it is above `level`, the value at which the search met the edge of the grid.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, quasipotential
    >>> found = quasipotential(Dynamics(lambda x: -x, 0.5), torch.zeros(2), (-1.0, 1.0, -2.0, 2.0), 9)
    >>> abs(found.level - 1) < 0.02, abs(found.at(torch.tensor([0.5, 0.5])) - 0.5) < 0.02  # |x|^2 / (2 D), to the edge
    (True, True)
    """

    x: Float[Tensor, " n"]
    y: Float[Tensor, " m"]
    values: Float[Tensor, "n m"]
    level: float

    def at(self, state: Float[Tensor, "2"]) -> float:
        """W at a state by bilinear interpolation; NaN outside of what was reached."""
        i, u = _cell(self.x, float(state[0]))
        j, v = _cell(self.y, float(state[1]))
        corners = self.values[i : i + 2, j : j + 2]
        weights = torch.outer(*(torch.tensor([1 - share, share], dtype=torch.float64) for share in (u, v)))
        return float((weights * corners)[weights > 1e-9].sum())  # a corner without weight may be NaN


def quasipotential(
    dynamics: Dynamics,
    start: Float[Tensor, "2"],
    box: tuple[float, float, float, float],
    nodes: int = 65,
    *,
    reach: int | None = None,
) -> Quasipotential:
    """W from the stable fixed point near `start` on nodes x nodes points of `box` = (x0, x1, y0, y1).

    `reach` is in nodes; by default it grows as the square root of their number along an axis. Raises InputError for a
    drift that takes a time, a D that depends on the state or is singular, and a fixed point that is not stable or less
    than two nodes from the edge.

    >>> import torch
    >>> found = quasipotential(Dynamics(lambda x: -x, 1.0), torch.zeros(2), (-2.0, 2.0, -2.0, 2.0), 17)
    >>> abs(found.at(torch.tensor([1.0, 0.0])) - 0.5) < 0.02
    True
    """
    if not dynamics.autonomous or not dynamics.constant or dynamics.silent(2).shape[1]:
        raise InputError("dynamics: expected a drift of (x) alone and a constant, regular D")
    x0, x1, y0, y1 = map(float, box)
    if not (x0 < x1 and y0 < y1):
        raise InputError(f"box: expected x0 < x1 and y0 < y1, got {box}")
    require_count("nodes", nodes, 9)
    if reach is not None:
        require_count("reach", reach, 1)
    begin = fixed_point(dynamics, start.double(), "start")
    if begin.kind != "stable":
        raise InputError(f"start: expected a stable fixed point, got one that is {begin.kind}")
    x, y = np.linspace(x0, x1, nodes), np.linspace(y0, y1, nodes)
    K = dynamics.precision_at(begin.state[None], torch.zeros(1))[0].numpy()
    search = _Search(x, y, K, _half_grid_drift(dynamics, x, y), round(nodes**0.5) if reach is None else reach)
    D = np.linalg.inv(K)
    covariance = solve_continuous_lyapunov(begin.jacobian.numpy(), -2 * D)
    level = search.run(begin.state.numpy(), np.linalg.inv(covariance))
    values = np.where(search.accepted, search.values, np.nan)
    return Quasipotential(torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(values), level)


class _Search:
    """Tentative and accepted values on the grid. `drift` is on the grid of half the spacing."""

    def __init__(self, x: np.ndarray, y: np.ndarray, K: np.ndarray, drift: np.ndarray, reach: int) -> None:
        self.x, self.y, self.K, self.drift = x, y, K, drift
        self.spacing = np.array([x[1] - x[0], y[1] - y[0]])
        self.values = np.full((len(x), len(y)), np.inf)
        self.accepted = np.zeros((len(x), len(y)), dtype=bool)
        offsets = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
        self.offsets = offsets[((offsets**2).sum(1) <= reach**2) & (offsets != 0).any(1)]
        self.queue: list[tuple[float, int, int]] = []

    def run(self, center: np.ndarray, precision: np.ndarray) -> float:
        """Accept in order until the edge is met, whose value is returned."""
        i, j = np.round((center - [self.x[0], self.y[0]]) / self.spacing).astype(int)
        near = np.concatenate([[(i, j)], AROUND + np.array([i, j])])
        if near.min() < 1 or (near.max(0) >= np.array(self.values.shape) - 1).any():
            raise InputError("box: expected the fixed point at least two nodes from the edge")
        away = np.stack([self.x[near[:, 0]], self.y[near[:, 1]]], 1) - center
        self._propose(near, 0.5 * np.einsum("ni,ij,nj->n", away, precision, away))
        while self.queue:
            value, i, j = heapq.heappop(self.queue)
            if self.accepted[i, j]:
                continue
            self.accepted[i, j] = True
            if i in (0, len(self.x) - 1) or j in (0, len(self.y) - 1):
                return value
            self._update_from(np.array([i, j]))
        return float("inf")

    def _propose(self, at: np.ndarray, values: np.ndarray) -> None:
        better = values < self.values[at[:, 0], at[:, 1]]
        np.minimum.at(self.values, (at[better, 0], at[better, 1]), values[better])
        for (i, j), value in zip(at[better], values[better], strict=True):
            heapq.heappush(self.queue, (float(value), int(i), int(j)))

    def _update_from(self, node: np.ndarray) -> None:
        """Every point in reach that is not accepted, from the node and from the segments to its accepted neighbors."""
        targets = node + self.offsets
        inside = (targets >= 0).all(1) & (targets < self.values.shape).all(1)
        targets = targets[inside]
        targets = targets[~self.accepted[targets[:, 0], targets[:, 1]]]
        neighbors = node + AROUND
        ends = np.concatenate([node[None], neighbors[self.accepted[neighbors[:, 0], neighbors[:, 1]]]])
        if not len(targets):
            return
        best = self._least(node, ends, targets).min(0)
        self._propose(targets, best)

    def _least(self, node: np.ndarray, ends: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The least value of each target over the segments from the node to each of the ends, (ends, targets)."""
        W0, W1 = self.values[node[0], node[1]], self.values[ends[:, 0], ends[:, 1]][:, None]
        middle = ends[:, None] + targets
        base0, base1 = self.drift[tuple(2 * node)], self.drift[2 * ends[:, 0], 2 * ends[:, 1]][:, None]
        mid0, mid1 = self.drift[tuple((node + targets).T)], self.drift[middle[..., 0], middle[..., 1]]
        top = self.drift[2 * targets[:, 0], 2 * targets[:, 1]]
        d0 = (targets - node) * self.spacing
        d1 = (targets - ends[:, None]) * self.spacing

        def value(s: np.ndarray) -> np.ndarray:
            share = s[..., None]
            Kd = (d0 + share * (d1 - d0)) @ self.K
            length = np.sqrt((Kd * (d0 + share * (d1 - d0))).sum(-1))

            def density(f: np.ndarray) -> np.ndarray:
                return (length * np.sqrt(((f @ self.K) * f).sum(-1)) - (Kd * f).sum(-1)) / 2

            base, mid = base0 + share * (base1 - base0), mid0 + share * (mid1 - mid0)
            return W0 + s * (W1 - W0) + (density(base) + 4 * density(mid) + density(top)) / 6

        tried = np.stack([value(np.full(d1.shape[:2], s)) for s in SHARES])
        k = tried[1:-1].argmin(0) + 1
        low, mid, high = (np.take_along_axis(tried, (k + shift)[None], 0)[0] for shift in (-1, 0, 1))
        bend = low - 2 * mid + high
        with np.errstate(divide="ignore", invalid="ignore"):
            shift = np.where(bend > 0, (low - high) / (2 * bend), 0.0).clip(-1, 1)
        refined = value(SHARES[k] + shift * (SHARES[1] - SHARES[0]))
        return np.minimum(tried.min(0), refined)


def _half_grid_drift(dynamics: Dynamics, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """f on (2n - 1) x (2m - 1) nodes: index i + j is the midpoint of the nodes i and j."""
    X, Y = np.meshgrid(
        np.linspace(x[0], x[-1], 2 * len(x) - 1), np.linspace(y[0], y[-1], 2 * len(y) - 1), indexing="ij"
    )
    states = torch.from_numpy(np.stack([X.ravel(), Y.ravel()], 1))
    f = dynamics.drift_at(states, torch.zeros(len(states))).detach().numpy()
    if not np.isfinite(f).all():
        raise InputError("drift: expected finite values in the box, got NaN or infinity")
    return f.reshape(*X.shape, 2)


def _cell(axis: Float[Tensor, " n"], at: float) -> tuple[int, float]:
    if not float(axis[0]) <= at <= float(axis[-1]):
        raise InputError(f"state: expected coordinates in the box, {float(axis[0]):g} to {float(axis[-1]):g}, got {at}")
    position = (at - float(axis[0])) / float(axis[1] - axis[0])
    i = min(int(position), len(axis) - 2)
    return i, position - i

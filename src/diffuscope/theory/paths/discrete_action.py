r"""The action of a path on a mesh, with its gradient and its block-tridiagonal Hessian.

On nodes :math:`x_0 \ldots x_N` at times :math:`t_0 < \ldots < t_N`, with :math:`h_i = t_{i+1} - t_i`,

.. math::
    S = \sum_i h_i\, L(\bar x_i, v_i, \bar t_i), \qquad v_i = \frac{x_{i+1} - x_i}{h_i}, \qquad
    \bar x_i = (1 - w) x_i + w\,x_{i+1}, \quad \bar t_i = (1 - w) t_i + w\,t_{i+1},

the midpoint rule for w = 1/2, of second order, and the left-point rule for w = 0, of first order, in which most
published numbers are. An edge contributes to the nodes at its two ends only: with a = x_i, b = x_{i+1} and the
derivatives of L at the edge,

.. math::
    \partial_a = (1 - w)\,\partial_x - \partial_v / h, \qquad \partial_b = w\,\partial_x + \partial_v / h ,

from which gradient and Hessian follow. Ends are fixed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .lagrangian import ActionDensity

Nodes = Float[Tensor, "paths nodes d"]
Mesh = Float[Tensor, " nodes"]
MIDPOINT, LEFT = 0.5, 0.0


@dataclass(frozen=True, eq=False)
class Edges:
    """Derivatives of L on all edges of all paths: value (n,), gradients (n, d) and second derivatives (n, d, d)."""

    value: Tensor
    x: Tensor
    v: Tensor
    xx: Tensor
    xv: Tensor
    vv: Tensor


@dataclass(frozen=True, eq=False)
class Quadratic:
    """S of every path with its gradient at the interior nodes and its Hessian: diagonal blocks, and those above."""

    action: Float[Tensor, " paths"]
    gradient: Float[Tensor, "paths inner d"]
    diagonal: Float[Tensor, "paths inner d d"]
    upper: Float[Tensor, "paths above d d"]
    size: Float[Tensor, " paths"]  # the largest |dS_i / dx| of a single edge, of which the gradient is a difference

    def within(self, frames: Float[Tensor, "paths inner d k"]) -> "Quadratic":
        """The same in coordinates u of the nodes, x = x_0 + frames u."""
        return Quadratic(
            self.action,
            torch.einsum("pndk,pnd->pnk", frames, self.gradient),
            frames.mT @ self.diagonal @ frames,
            frames[:, :-1].mT @ self.upper @ frames[:, 1:],
            self.size,
        )


def at_edges(x: Nodes, times: Mesh, weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """(state, velocity, time) of every edge: (paths, edges, d) twice, and (edges,)."""
    h = times.diff()
    state = (1 - weight) * x[:, :-1] + weight * x[:, 1:]
    return state, x.diff(dim=1) / h[:, None], (1 - weight) * times[:-1] + weight * times[1:]


def action(density: ActionDensity, x: Nodes, times: Mesh, weight: float = MIDPOINT) -> Float[Tensor, " paths"]:
    """S of every path."""
    state, velocity, at = at_edges(x, times, weight)
    paths, edges, d = state.shape
    flat = state.reshape(-1, d).requires_grad_()  # an Onsager-Machlup density needs its own derivative
    value = density(flat, velocity.reshape(-1, d), at.repeat(paths)).detach()
    return value.reshape(paths, edges) @ times.diff()


def derivatives(density: ActionDensity, x: Tensor, v: Tensor, t: Tensor) -> Edges:
    """All first and second derivatives of L, by 2 d passes backward."""
    d = x.shape[1]
    x, v = x.detach().requires_grad_(), v.detach().requires_grad_()
    value = density(x, v, t)
    first = torch.autograd.grad(value.sum(), (x, v), create_graph=True, materialize_grads=True, allow_unused=True)
    columns = [
        [_second(gradient[:, k], x, v) for k in range(d)] for gradient in first
    ]  # [x or v][k]: derivatives of dL/dx_k by x and by v
    xx = torch.stack([by_x for by_x, _ in columns[0]], 1)
    xv = torch.stack([by_v for _, by_v in columns[0]], 1)
    vv = torch.stack([by_v for _, by_v in columns[1]], 1)
    return Edges(value.detach(), first[0].detach(), first[1].detach(), xx, xv, vv)


def quadratic(edges: Edges, times: Mesh, paths: int, weight: float) -> Quadratic:
    """Gradient and Hessian at the interior nodes of every path from the derivatives on its edges."""
    d, h = edges.x.shape[1], times.diff()
    a, b = 1 - weight, weight

    def by_path(values: Tensor) -> Tensor:
        return values.reshape(paths, len(h), *values.shape[1:])

    h1, h2 = h[:, None], h[:, None, None]
    x, v, xx, xv, vv = (by_path(each) for each in (edges.x, edges.v, edges.xx, edges.xv, edges.vv))
    left, right = a * h1 * x - v, b * h1 * x + v
    left_left = a * a * h2 * xx - a * (xv + xv.mT) + vv / h2
    right_right = b * b * h2 * xx + b * (xv + xv.mT) + vv / h2
    left_right = a * b * h2 * xx + a * xv - b * xv.mT - vv / h2
    size = torch.stack([left, right]).abs().amax((0, 2, 3)) if d else h.new_zeros(paths)
    return Quadratic(
        action=by_path(edges.value) @ h,
        gradient=right[:, :-1] + left[:, 1:],
        diagonal=right_right[:, :-1] + left_left[:, 1:],
        upper=left_right[:, 1:-1],
        size=size,
    )


def _second(gradient: Tensor, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    if not gradient.requires_grad:
        return torch.zeros_like(x), torch.zeros_like(v)
    by_x, by_v = torch.autograd.grad(
        gradient.sum(), (x, v), retain_graph=True, materialize_grads=True, allow_unused=True
    )
    return by_x, by_v


def edgewise(function: Callable[[Tensor, Tensor, Tensor], Tensor], x: Nodes, times: Mesh, weight: float) -> Tensor:
    """function(state, velocity, time) of every edge, as (paths, edges, ...)."""
    state, velocity, at = at_edges(x, times, weight)
    paths, edges, d = state.shape
    found = function(state.reshape(-1, d), velocity.reshape(-1, d), at.repeat(paths))
    return found.reshape(paths, edges, *found.shape[1:])

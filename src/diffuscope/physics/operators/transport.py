r"""The outflow of a flux from the cells around the nodes, central and conservative.

.. math::
    (\nabla\cdot F)_i = \frac{F_{i+1/2} - F_{i-1/2}}{w_i}, \qquad F_{i+1/2} = F(u_i, u_{i+1}), \qquad F(u, u) = f(u),

with w the width of the cell (`flux_form`). At a wall the flux is that of the value there, f(u), so du/dn = 0 holds and
mass crosses the wall. Along a periodic axis the sum of w (div F) is zero: mass is conserved to rounding.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from diffuscope.physics.grid import Grid

Flux = Callable[[Tensor, Tensor], Tensor]


def outflow(u: Float[Tensor, "batch *grid"], grid: Grid, axis: int, flux: Flux) -> Float[Tensor, "batch *grid"]:
    """The outflow along one axis, differentiable."""
    left, right = _sides(u, grid, axis)
    return flux(left, right).diff(dim=axis + 1) / _widths(grid, axis).to(u)


def outflow_matrix(
    u: Float[Tensor, "batch *grid"], grid: Grid, axis: int, slopes: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
) -> csr_array:
    """Its derivative, one block per sample; `slopes` are dF/d(left) and dF/d(right) of the flux."""
    unknowns = torch.arange(u.numel()).reshape(u.shape)
    columns = _sides(unknowns, grid, axis)
    widths = _widths(grid, axis)
    n, at = grid.shape[axis], axis + 1
    entries, rows, places = [], [], []
    for slope, column in zip(slopes(*_sides(u.double(), grid, axis)), columns, strict=True):
        slope = slope.expand(column.shape)
        for first, sign in ((1, 1), (0, -1)):  # the face after the node, and the face before it
            entries.append(sign * slope.narrow(at, first, n) / widths)
            rows.append(unknowns)
            places.append(column.narrow(at, first, n))
    values, i, j = (np.concatenate([part.flatten().numpy() for part in parts]) for parts in (entries, rows, places))
    return csr_array(coo_array((values, (i, j)), shape=(u.numel(),) * 2))


def _sides(u: Tensor, grid: Grid, axis: int) -> tuple[Tensor, Tensor]:
    """The values left and right of the n + 1 faces along an axis; a wall has the same on both sides."""
    n, at = grid.shape[axis], axis + 1
    first, last = u.narrow(at, 0, 1), u.narrow(at, n - 1, 1)
    before, after = (last, first) if grid.periodic[axis] else (first, last)
    return torch.cat([before, u], at), torch.cat([u, after], at)


def _widths(grid: Grid, axis: int) -> Tensor:
    line = Grid((grid.shape[axis],), (grid.lengths[axis],), (grid.periodic[axis],))
    return line.weights.reshape(-1, *[1] * (grid.axes - axis - 1))

r"""The operator -div(a grad u) as a balance of fluxes over cells around the nodes.

.. math::  (L_a u)_i = \sum_{\text{axes}} \frac{q_{i+1/2} - q_{i-1/2}}{w_i}, \qquad
           q_{i+1/2} = a_{i+1/2}\,\frac{u_i - u_{i+1}}{h}, \qquad
           a_{i+1/2} = \frac{2\,a_i\,a_{i+1}}{a_i + a_{i+1}} .

A cell reaches halfway to the neighbors of its node: its width is w = h, and w = h/2 at the two ends of a bounded axis,
where it ends at the boundary. What leaves a cell through a face enters its neighbor, so the sum over cells telescopes
to what crosses the boundary. The harmonic mean is the conductance of two half intervals in series: in one dimension
the fluxes are exact for a coefficient that jumps halfway between nodes. With a = 1 it is the five-point Laplacian
(three points in 1-D).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.physics.grid import Grid


@dataclass(frozen=True)
class FluxForm:
    """-div(a grad u) on a grid with one of "dirichlet", "neumann", "periodic" per axis.

    A node on both a Dirichlet and a Neumann side belongs to the Dirichlet side.
    """

    grid: Grid
    boundary: tuple[str, ...]

    @cached_property
    def dirichlet(self) -> Bool[Tensor, "*grid"]:
        """The nodes whose value the boundary condition holds."""
        held = torch.zeros(self.grid.shape, dtype=torch.bool)
        for axis, kind in enumerate(self.boundary):
            if kind == "dirichlet":
                held.index_fill_(axis, torch.tensor([0, self.grid.shape[axis] - 1]), True)
        return held

    @cached_property
    def singular(self) -> bool:
        """Whether no boundary holds a value, so that constants are in the kernel of L."""
        return "dirichlet" not in self.boundary

    def conductance(self, a: Float[Tensor, "batch *grid"]) -> list[Tensor]:
        """The harmonic means of `a` at the faces after every node, one tensor per axis."""
        return [2 * a * (after := a.roll(-1, axis + 1)) / (a + after) for axis in range(self.grid.axes)]

    def apply(
        self, u: Float[Tensor, "batch *grid"], conductance: Sequence[Tensor] | None = None
    ) -> Float[Tensor, "batch *grid"]:
        """L u with the coefficient 1, or with the given coefficients at the faces; differentiable in both."""
        total = torch.zeros_like(u)
        for axis, h in enumerate(self.grid.spacing):
            flux = self._open(axis).to(u) * (u - u.roll(-1, axis + 1)) / h
            if conductance is not None:
                flux = flux * conductance[axis]
            total = total + (flux - flux.roll(1, axis + 1)) / self._widths(axis).to(u)
        return total

    def matrix(self, conductance: Sequence[Float[Tensor, "*grid"]] | None = None) -> csr_array:
        """L as an N x N matrix, float64."""
        nodes = np.arange(self.grid.size).reshape(self.grid.shape)
        rows, columns, values = [], [], []
        for axis, h in enumerate(self.grid.spacing):
            q = self._open(axis).expand(self.grid.shape).numpy() / h
            if conductance is not None:
                q = q * conductance[axis].double().numpy()
            w = self._widths(axis).expand(self.grid.shape).numpy()
            after, w_after = np.roll(nodes, -1, axis), np.roll(w, -1, axis)
            rows += [nodes, nodes, after, after]
            columns += [nodes, after, after, nodes]
            values += [q / w, -q / w, q / w_after, -q / w_after]
        entries = np.concatenate([v.ravel() for v in values])
        index = tuple(np.concatenate([k.ravel() for k in indices]) for indices in (rows, columns))
        matrix = csr_array(coo_array((entries, index), shape=(self.grid.size,) * 2))
        matrix.eliminate_zeros()
        return matrix

    def hold(self, matrix: csr_array) -> csr_array:
        """The matrix with the rows of the Dirichlet nodes replaced by those of the identity."""
        held = self.dirichlet.flatten().numpy().astype(float)
        kept = csr_array(matrix.multiply((1 - held)[:, None]))
        kept.eliminate_zeros()
        nodes = np.arange(self.grid.size)
        return csr_array(kept + csr_array((held, (nodes, nodes)), shape=matrix.shape))

    def sources(
        self, forcing: Float[Tensor, "*batch_grid"], data: Float[Tensor, "*batch_grid"]
    ) -> Float[Tensor, "*batch_grid"]:
        r"""The right-hand side from a forcing and boundary data: a value at Dirichlet nodes, a du/dn at Neumann nodes.

        A Neumann datum g, the outward derivative a du/dn (its mean over the part of the boundary that belongs to the
        node), is what enters the cell of the node: a source g |boundary| / |cell| beside the forcing, g times 2/h.
        """
        per_cell = torch.zeros(self.grid.shape, dtype=forcing.dtype)
        for axis, kind in enumerate(self.boundary):
            if kind == "neumann":
                ends = torch.zeros(self.grid.shape[axis], dtype=forcing.dtype)
                ends[[0, -1]] = 2 / self.grid.spacing[axis]
                per_cell = per_cell + self._along(axis, ends)
        return torch.where(self.dirichlet, data, forcing + per_cell * data)

    def _open(self, axis: int) -> Tensor:
        """1 at the nodes that have a face after them; the last node of a bounded axis has none."""
        faces = torch.ones(self.grid.shape[axis], dtype=torch.float64)
        if self.boundary[axis] != "periodic":
            faces[-1] = 0
        return self._along(axis, faces)

    def _widths(self, axis: int) -> Tensor:
        """The widths of the cells along an axis."""
        widths = torch.full((self.grid.shape[axis],), self.grid.spacing[axis], dtype=torch.float64)
        if self.boundary[axis] != "periodic":
            widths[[0, -1]] /= 2
        return self._along(axis, widths)

    def _along(self, axis: int, values: Tensor) -> Tensor:
        return values.reshape(-1, *[1] * (self.grid.axes - axis - 1))


def boundary_kinds(grid: Grid, boundary: str | tuple[str, ...]) -> tuple[str, ...]:
    """One kind per axis: a single name is meant for all bounded axes. Raises InputError for kinds that do not fit."""
    named = (boundary,) * grid.axes if isinstance(boundary, str) else tuple(boundary)
    kinds = tuple("periodic" if around else kind for kind, around in zip(named, grid.periodic, strict=False))
    bounded = [kind for kind, around in zip(named, grid.periodic, strict=False) if not around]
    if len(named) != grid.axes or not set(bounded) <= {"dirichlet", "neumann"}:
        raise InputError(
            f'boundary: expected "dirichlet" or "neumann" for each of {grid.axes} axes (a periodic axis is one of the '
            f"grid), got {boundary!r}"
        )
    return kinds

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
    """-div(a grad u) on a grid with "dirichlet" or "neumann" sides, one for all bounded axes or one per axis.

    `boundary` becomes one kind per axis, "periodic" where the grid is. A node on both a Dirichlet and a Neumann side
    belongs to the Dirichlet side. Raises InputError for kinds that do not fit.

    >>> from diffuscope.physics import Grid
    >>> from diffuscope.physics.operators import FluxForm
    >>> grid = Grid((3, 5))
    >>> L = FluxForm(grid, "neumann").apply(grid.coordinates[None, ..., 1] ** 2)[0]
    >>> L[1].tolist(), float((grid.weights * L).sum())  # -(y^2)'' inside, and nothing leaves through a wall
    ([-2.0, -2.0, -2.0, -2.0, 14.0], 0.0)
    """

    grid: Grid
    boundary: str | tuple[str, ...]

    def __post_init__(self) -> None:
        kinds = (self.boundary,) * self.grid.axes if isinstance(self.boundary, str) else tuple(self.boundary)
        bounded = [kind for kind, around in zip(kinds, self.grid.periodic, strict=False) if not around]
        if len(kinds) != self.grid.axes or not set(bounded) <= {"dirichlet", "neumann"}:
            raise InputError(
                f'boundary: expected "dirichlet" or "neumann" for each bounded axis of {self.grid.axes}, got '
                f"{self.boundary!r}"
            )
        per_axis = tuple("periodic" if around else k for k, around in zip(kinds, self.grid.periodic, strict=True))
        object.__setattr__(self, "boundary", per_axis)

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

    def matrix(self, conductance: Sequence[Float[Tensor, "batch *grid"]] | None = None) -> csr_array:
        """L as an N x N matrix, float64; for coefficients of a batch, the blocks of a diagonal."""
        if conductance is None:
            conductance = [torch.ones(1, *self.grid.shape, dtype=torch.float64)] * self.grid.axes
        shape = conductance[0].shape
        nodes = np.arange(conductance[0].numel()).reshape(shape)
        rows, columns, values = [], [], []
        for axis, h in enumerate(self.grid.spacing):
            q = (conductance[axis].double() * self._open(axis) / h).numpy()
            w = self._widths(axis).expand(shape).numpy()
            after, w_after = np.roll(nodes, -1, axis + 1), np.roll(w, -1, axis + 1)
            rows += [nodes, nodes, after, after]
            columns += [nodes, after, after, nodes]
            values += [q / w, -q / w, q / w_after, -q / w_after]
        return _assembled(nodes.size, rows, columns, values)

    def hold(self, matrix: csr_array) -> csr_array:
        """A matrix with the rows of the Dirichlet nodes replaced by those of the identity, in every block of N rows."""
        nodes = np.arange(len(matrix.indptr) - 1)
        held = np.tile(self.dirichlet.flatten().numpy(), len(nodes) // self.grid.size)
        entries = matrix.tocoo()
        free = ~held[entries.row]
        return _assembled(
            len(nodes), [entries.row, nodes], [entries.col, nodes], [entries.data * free, held.astype(float)]
        )

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


def _assembled(size: int, rows: list[np.ndarray], columns: list[np.ndarray], values: list[np.ndarray]) -> csr_array:
    """A matrix of `size` rows and columns from its entries; those at one place add, and zeros are left out."""
    i, j, entries = (np.concatenate([part.ravel() for part in parts]) for parts in (rows, columns, values))
    kept = entries != 0
    return csr_array(coo_array((entries[kept], (i[kept], j[kept])), shape=(size, size)))

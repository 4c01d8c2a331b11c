r"""A box tiled by equal cells, in one, two or three dimensions: the domain of a density.

Cell i of an axis with N cells on :math:`[a, b]` has width :math:`h = (b - a)/N`, center :math:`a + (i + \tfrac12)h` and
faces :math:`a + i h`, :math:`a + (i + 1) h`. For a spectral method the centers are collocation points of the periodic
box, for a finite-volume method the cells are its volumes: one grid serves both.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

DIMENSIONS = 3
LARGEST = 2**27  # cells: one array of float64 is then 1 GB


@dataclass(frozen=True)
class Grid:
    """Equal cells on the box from `low` to `high`, `cells[k]` of them along axis k.

    Raises InputError for a box that is empty or not finite, for other than 1 to 3 axes, for fewer than 2 cells along an
    axis, and above 2^27 cells.

    >>> from diffuscope.densities import Grid
    >>> Grid.line(1, 3, 4).centers().tolist(), Grid.square(0, 1, 4).volume  # 1 + (i + 1/2) / 2, and 1/16
    ([1.25, 1.75, 2.25, 2.75], 0.0625)
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    cells: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.cells) <= DIMENSIONS or not len(self.low) == len(self.high) == len(self.cells):
            given = f"{len(self.low)}, {len(self.high)} and {len(self.cells)}"
            raise InputError(f"grid: expected low, high and cells of 1 to {DIMENSIONS} axes each, got {given}")
        for low, high in zip(self.low, self.high, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise InputError(f"grid: expected finite low < high on every axis, got {low} .. {high}")
        if min(self.cells) < 2 or math.prod(self.cells) > LARGEST:
            raise InputError(f"cells: expected at least 2 per axis and at most 2^27 in all, got {self.cells}")

    @classmethod
    def line(cls, low: float | int, high: float | int, cells: int) -> "Grid":
        """An interval."""
        return cls((float(low),), (float(high),), (cells,))

    @classmethod
    def square(cls, low: float | int, high: float | int, cells: int, *, dimensions: int = 2) -> "Grid":
        """The same interval along every axis."""
        return cls((float(low),) * dimensions, (float(high),) * dimensions, (cells,) * dimensions)

    @property
    def dimensions(self) -> int:
        return len(self.cells)

    @property
    def lengths(self) -> tuple[float, ...]:
        """b - a along every axis."""
        return tuple(high - low for low, high in zip(self.low, self.high, strict=True))

    @property
    def widths(self) -> tuple[float, ...]:
        """The cell width h along every axis."""
        return tuple(length / n for length, n in zip(self.lengths, self.cells, strict=True))

    @property
    def volume(self) -> float:
        """The volume of one cell."""
        return math.prod(self.widths)

    def centers(self, axis: int = 0) -> Float[Tensor, " cells"]:
        """Centers of the cells along one axis, float64."""
        return self.low[axis] + (torch.arange(self.cells[axis], dtype=torch.float64) + 0.5) * self.widths[axis]

    def faces(self, axis: int = 0) -> Float[Tensor, " faces"]:
        """The N + 1 faces along one axis, float64."""
        return self.low[axis] + torch.arange(self.cells[axis] + 1, dtype=torch.float64) * self.widths[axis]

    def points(self) -> Float[Tensor, "*cells d"]:
        """The center of every cell."""
        return _mesh([self.centers(axis) for axis in range(self.dimensions)])

    def face_points(self, axis: int) -> Float[Tensor, "*faces d"]:
        """The center of every face across `axis`: one more than cells along that axis."""
        return _mesh([self.faces(k) if k == axis else self.centers(k) for k in range(self.dimensions)])

    def evaluate(self, log_density: Callable[[Tensor], Tensor]) -> Float[Tensor, "*cells"]:
        """exp of `log_density` ((n, d) -> (n,)) at the center of every cell."""
        return log_density(self.points().reshape(-1, self.dimensions)).exp().reshape(self.cells)

    def averages(self, log_density: Callable[[Tensor], Tensor], *, nodes: int = 8) -> Float[Tensor, "*cells"]:
        """Averages over the cells of exp(`log_density`) by Gauss-Legendre quadrature with `nodes` points per axis.

        Exact for polynomials of degree 2 nodes - 1 in each coordinate. The memory is one array of cells, whatever
        `nodes`.
        """
        places, weights = np.polynomial.legendre.leggauss(nodes)
        centers, widths = self.points().reshape(-1, self.dimensions), torch.tensor(self.widths, dtype=torch.float64)
        total = torch.zeros(self.cells, dtype=torch.float64)
        for index in np.ndindex(*(nodes,) * self.dimensions):  # a few quadrature nodes, each for all cells at once
            shift = torch.tensor(places[list(index)]) / 2 * widths
            weight = math.prod(weights[list(index)] / 2)
            total += weight * log_density(centers + shift).exp().reshape(self.cells)
        return total


def _mesh(axes: list[Tensor]) -> Tensor:
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)

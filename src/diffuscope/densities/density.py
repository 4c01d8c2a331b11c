r"""A probability density on a grid, one value per cell, with its mass, moments, entropies and distances.

.. math::
    \text{mass} = V\sum_i p_i, \qquad
    \mathrm{KL}(p\,\|\,q) = V\sum_i p_i\log\frac{p_i}{q_i}, \qquad
    H(p) = -V\sum_i p_i\log p_i, \qquad V = \text{volume of a cell} .

A value is the average over its cell (finite volumes) or the value at its center (spectral methods); the two differ by
O(h^2), and the sums above by less than rounding once the density is resolved on a periodic box.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .grid import Grid

ROUNDING = 1e-12  # of the largest value: a spectral method leaves less than this where a density vanishes


@dataclass(frozen=True, eq=False)
class Density:
    """Values on a grid, float64; positivity and mass one are measured, not enforced.

    Raises InputError for values of another shape than the grid's, or not finite.

    >>> import torch
    >>> from diffuscope.densities import Density, Grid
    >>> density = Density(Grid.line(0, 2, 4), torch.tensor([1.0, 0.5, 0.25, 0.25]))
    >>> density.mass(), density.mean().item()  # the cells hold 1/2, 1/4, 1/8, 1/8
    (1.0, 0.6875)
    >>> round(density.entropy(), 6)  # -(0.5 log 0.5 + 0.5 log 0.25) / 2 = 3/4 log 2
    0.51986
    """

    grid: Grid
    values: Float[Tensor, "*cells"]

    def __post_init__(self) -> None:
        if tuple(self.values.shape) != self.grid.cells:
            raise InputError(f"values: expected the grid's shape {self.grid.cells}, got {tuple(self.values.shape)}")
        if not bool(torch.isfinite(self.values).all()):
            raise InputError("values: expected finite values, got NaN or infinity")
        object.__setattr__(self, "values", self.values.double())

    def mass(self) -> float:
        """The integral over the box."""
        return self.grid.volume * float(self.values.detach().sum())

    def lowest(self) -> float:
        """The smallest value: negative where a scheme lost positivity."""
        return float(self.values.detach().min())

    def mean(self) -> Float[Tensor, " d"]:
        """The first moment, divided by the mass. Raises InputError for a density without mass."""
        return self._shares() @ self.grid.points().reshape(-1, self.grid.dimensions)

    def covariance(self) -> Float[Tensor, "d d"]:
        """The second central moment of the cell centers, divided by the mass.

        Raises InputError for a density without mass.
        """
        weights = self._shares()
        centered = self.grid.points().reshape(-1, self.grid.dimensions) - self.mean()
        return centered.T @ (weights[:, None] * centered)

    def entropy(self) -> float:
        """-int p log p in nats. Raises InputError where a value is negative beyond rounding."""
        p = self._nonnegative()
        return -self.grid.volume * float(torch.xlogy(p, p).sum())

    def relative_entropy(self, other: "Density") -> float:
        """KL(self || other) in nats, infinite where `other` is empty and self is not; rounding counts as empty.

        Raises InputError for another grid, and where a value of either is negative beyond rounding.
        """
        self._require_same_grid(other)
        p, q = self._nonnegative(), other._nonnegative()
        if bool(((q == 0) & (p > ROUNDING * p.max())).any()):
            return math.inf
        both = (p > 0) & (q > 0)
        return self.grid.volume * float((p[both] * (p[both] / q[both]).log()).sum())

    def l1_distance(self, other: "Density") -> float:
        """int |p - q|: twice the total variation."""
        self._require_same_grid(other)
        return self.grid.volume * float((self.values - other.values).detach().abs().sum())

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n d"]:
        """Independent draws from the density, constant within every cell.

        Raises InputError where a value is negative beyond rounding, and for a density without mass.
        """
        below = self._nonnegative().reshape(-1).cumsum(0)
        if not float(below[-1]) > 0:
            raise InputError("density: expected one with mass to sample from, got none")
        u = torch.rand(n, dtype=torch.float64, generator=generator) * below[-1]
        cell = torch.searchsorted(below, u, right=True).clamp(max=len(below) - 1)
        corner = torch.stack(torch.unravel_index(cell, self.grid.cells), dim=-1).double()
        inside = torch.rand(n, self.grid.dimensions, dtype=torch.float64, generator=generator)
        widths = torch.tensor(self.grid.widths, dtype=torch.float64)
        return torch.tensor(self.grid.low, dtype=torch.float64) + (corner + inside) * widths

    def _require_same_grid(self, other: "Density") -> None:
        if self.grid != other.grid:
            raise InputError(f"other: expected a density on the same grid {self.grid}, got {other.grid}")

    def _shares(self) -> Float[Tensor, " n"]:
        """The share of the mass in every cell, in one row."""
        if float(self.values.detach().sum()) == 0:
            raise InputError("density: expected one with mass, got none")
        return (self.values / self.values.sum()).reshape(-1)

    def _nonnegative(self) -> Tensor:
        """The values without their graph; those that are negative within rounding become 0."""
        values = self.values.detach()
        if self.lowest() < -ROUNDING * float(values.max()):
            raise InputError(f"density: expected values >= 0, got {self.lowest():.3g}")
        return values.clamp(min=0)


def histogram(points: Float[Tensor, "n d"], grid: Grid) -> Density:
    """The density of `points`: counts / (n V). Points outside the box are lost, so that the mass falls below 1.

    The standard error in a cell of probability P is sqrt(P (1 - P) / n) / V. Raises InputError for an empty or
    non-finite batch, or points of another dimension than the grid's.

    >>> import torch
    >>> from diffuscope.densities import Grid, histogram
    >>> density = histogram(torch.tensor([[1.1], [1.2], [1.9], [5.0]]), Grid.line(1, 2, 2))
    >>> density.values.tolist(), density.mass()  # 2 / (4 * 0.5), 1 / (4 * 0.5); one point of four is outside
    ([1.0, 0.5], 0.75)
    """
    if points.ndim != 2 or points.shape[1] != grid.dimensions or len(points) == 0:
        raise InputError(f"points: expected shape (n >= 1, {grid.dimensions}), got {tuple(points.shape)}")
    if not bool(torch.isfinite(points).all()):
        raise InputError("points: expected finite values, got NaN or infinity")
    low, widths = torch.tensor(grid.low, dtype=torch.float64), torch.tensor(grid.widths, dtype=torch.float64)
    cells = torch.tensor(grid.cells)
    index = ((points.double() - low) / widths).floor().long()
    index = index[((index >= 0) & (index < cells)).all(1)]
    flat = torch.zeros(len(index), dtype=torch.int64)
    for axis, n in enumerate(grid.cells):
        flat = flat * n + index[:, axis]
    counts = torch.bincount(flat, minlength=math.prod(grid.cells)).reshape(grid.cells)
    return Density(grid, counts.double() / (len(points) * grid.volume))

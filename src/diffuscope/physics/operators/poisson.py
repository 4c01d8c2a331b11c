r"""Poisson's equation, :math:`-\Delta u + s^2 u = f`, with a screening s >= 0."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.physics.grid import Grid

from .laplacian import ShiftedLaplacian, synthesis, wavenumbers


@dataclass(frozen=True)
class Poisson(ShiftedLaplacian):
    r"""-Laplace u + s^2 u = f on a box, second order.

    `given` is f, and the boundary value at Dirichlet nodes. At a Neumann node the half cell of the node is balanced:
    its `given` is f where du/dn = 0, and f + (2/h) g where du/dn = g (`sources` adds it). Without a Dirichlet side and
    without screening, sources must have mean zero, and so has the solution. Raises InputError for a screening that is
    not a number >= 0.

    >>> from diffuscope.physics import Grid
    >>> poisson = Poisson(Grid((5,)))
    >>> f = poisson.sources(torch.full((1, 5), 2.0), torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0]]))
    >>> poisson.solve(f)[0].tolist()  # x (1 - x) + x
    [0.0, 0.4375, 0.75, 0.9375, 1.0]
    """

    grid: Grid
    boundary: str | tuple[str, ...] = "dirichlet"
    screening: float | int = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.screening < math.inf:
            raise InputError(f"screening: expected a number >= 0, got {self.screening}")
        self.form  # noqa: B018  (refuses boundaries that do not fit)

    @property
    def shift(self) -> float:
        """s^2."""
        return float(self.screening) ** 2

    def draw(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *grid"]:
        """Random sums of eight modes an axis, with boundary values of zero: see `random_sources`."""
        return random_sources(self, n, generator=generator)


def random_sources(
    equation: ShiftedLaplacian, n: int, *, modes: int = 8, generator: torch.Generator
) -> Float[Tensor, "n *grid"]:
    r"""f = sum_k c_k phi_k over the first `modes` modes of every axis, c_k ~ N(0, 1 / prod_axes k^2), independent.

    phi_k is the product over axes of sin(k pi x / L) (Dirichlet), cos(k pi x / L) (Neumann), or both sin and cos of
    2 k pi x / L (periodic), k >= 1: every f has mean zero where it must. Dirichlet values are zero, and du/dn = 0.
    """
    grid = equation.grid
    bases = []
    for axis, kind in enumerate(equation.form.boundary):
        x = grid.along(axis) - grid.origin[axis]
        kappa = wavenumbers(grid, axis, kind).unique()
        kappa = kappa[kappa > 0][:modes, None]
        phi = {"dirichlet": torch.sin, "neumann": torch.cos}
        basis = phi[kind](kappa * x) if kind in phi else torch.cat([torch.cos(kappa * x), torch.sin(kappa * x)])
        k = torch.arange(1, len(kappa) + 1, dtype=torch.float64).repeat(len(basis) // len(kappa))
        bases.append(basis / k[:, None])
    f = torch.randn(n, *[len(basis) for basis in bases], dtype=torch.float64, generator=generator)
    return torch.where(equation.form.dirichlet, 0.0, synthesis(f, bases))

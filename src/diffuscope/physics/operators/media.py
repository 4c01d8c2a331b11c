r"""Random coefficients: a Gaussian field in the cosines of the box, thresholded or exponentiated.

.. math::  g \sim N\bigl(0, \, (-\Delta + \tau^2)^{-2}\bigr) \quad \text{with} \quad \partial g / \partial n = 0 ,

scaled to an average variance of one (Li et al., Fourier neural operator, arXiv 2010.08895, with tau = 3 on the unit
square). Without its constant mode g has mean zero. Two-phase media are g >= 0 and g < 0; a log-normal one is exp(s g).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.physics.grid import Grid

from .laplacian import wavenumbers


def smooth_field(grid: Grid, n: int, *, tau: float | int = 3.0, generator: torch.Generator) -> Float[Tensor, "n *grid"]:
    """Draws of g, float64; a periodic axis has cosines and sines."""
    bases, squares = [], torch.zeros((), dtype=torch.float64)
    for axis, around in enumerate(grid.periodic):
        x = grid.along(axis) - grid.origin[axis]
        kappa = wavenumbers(grid, axis, "periodic" if around else "neumann")[:, None]
        sine = torch.arange(len(kappa))[:, None] % 2 == 0 if around else torch.zeros_like(kappa, dtype=torch.bool)
        basis = torch.where(sine & (kappa > 0), torch.sin(kappa * x), torch.cos(kappa * x))
        bases.append(basis / basis.square().mean(1, keepdim=True).sqrt())
        squares = squares[..., None] + kappa[:, 0].square()
    std = 1 / (squares + float(tau) ** 2)
    std[(0,) * grid.axes] = 0
    std = std / std.square().sum().sqrt()
    g = std * torch.randn(n, *grid.shape, dtype=torch.float64, generator=generator)
    for axis, basis in enumerate(bases):
        g = torch.movedim(torch.movedim(g, axis + 1, -1) @ basis, -1, axis + 1)
    return g


@dataclass(frozen=True)
class TwoPhase:
    """a = `high` where g >= 0, and `low` elsewhere. Raises InputError for values that are not positive."""

    high: float | int = 1.0
    low: float | int = 0.05
    tau: float | int = 3.0

    def __post_init__(self) -> None:
        if not min(self.high, self.low) > 0:
            raise InputError(f"high, low: expected positive coefficients, got {self.high} and {self.low}")

    def draw(self, grid: Grid, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *grid"]:
        """Draws of a, float64."""
        g = smooth_field(grid, n, tau=self.tau, generator=generator)
        return torch.where(g >= 0, torch.full_like(g, self.high), torch.full_like(g, self.low))


@dataclass(frozen=True)
class LogNormal:
    """a = exp(s g) for the standard deviation s of log a."""

    deviation: float | int = 1.0
    tau: float | int = 3.0

    def draw(self, grid: Grid, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *grid"]:
        """Draws of a, float64."""
        return torch.exp(self.deviation * smooth_field(grid, n, tau=self.tau, generator=generator))

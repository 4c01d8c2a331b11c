r"""Helmholtz's equation, :math:`-\Delta u - k^2 u = f`: waves of one frequency."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.checked_numbers import require_positive
from diffuscope.errors import InputError
from diffuscope.physics.grid import Grid

from .laplacian import ShiftedLaplacian
from .poisson import random_sources

RESONANT = 1e-8  # how near k^2 may come to an eigenvalue, relative to it


@dataclass(frozen=True)
class Helmholtz(ShiftedLaplacian):
    r"""-Laplace u - k^2 u = f on a box, second order while k h is small; `given` as in `Poisson`.

    Raises InputError for a wavenumber that is not positive, and for a resonant one: k^2 an eigenvalue of -Laplacian,
    of the box or of the grid, to one part in 10^8.

    >>> import torch
    >>> from diffuscope.physics import Grid, Helmholtz
    >>> f = torch.tensor([[0.0, 0.3125, -0.25, 0.3125, 0.0]])  # 2 - 9 x (1 - x) inside
    >>> [round(u, 6) for u in Helmholtz(Grid((5,)), wavenumber=3).solve(f)[0].tolist()]  # x (1 - x)
    [0.0, 0.1875, 0.25, 0.1875, 0.0]
    >>> Helmholtz(Grid((65,)), wavenumber=2 * torch.pi)
    Traceback (most recent call last):
        ...
    diffuscope.errors.InputError: wavenumber: expected k^2 off the eigenvalues of -Laplacian, got 39.4784 at 39.4784
    """

    grid: Grid
    wavenumber: float | int = 1.0
    boundary: str | tuple[str, ...] = "dirichlet"

    def __post_init__(self) -> None:
        k = float(self.wavenumber)
        require_positive(wavenumber=self.wavenumber)
        for continuous in (True, False):
            spectrum = self.eigenvalues(continuous=continuous).flatten()
            nearest = float(spectrum[(spectrum - k**2).abs().argmin()])
            if abs(nearest - k**2) <= RESONANT * k**2:
                raise InputError(
                    f"wavenumber: expected k^2 off the eigenvalues of -Laplacian, got {k**2:.6g} at {nearest:.6g}"
                )

    @property
    def shift(self) -> float:
        """-k^2."""
        return -(float(self.wavenumber) ** 2)

    def draw(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *grid"]:
        """Random sums of eight modes an axis, with boundary values of zero: see `random_sources`."""
        return random_sources(self, n, generator=generator)

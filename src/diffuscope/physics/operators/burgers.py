r"""Burgers' equation, :math:`u_t + (u^2/2)_x = \nu u_{xx}`.

The flux between two nodes is :math:`F(u, v) = (u^2 + uv + v^2)/6` (Tadmor 1987, Math. Comp. 49, 91): it conserves mass,
and since :math:`(u - v) F(u, v) = (u^3 - v^3)/6` telescopes, the convection neither makes nor destroys energy, whatever
the grid. With the midpoint rule, on a periodic axis,

.. math::
    \frac{1}{2\tau} \sum_i h \left[ (u_i^k)^2 - (u_i^{k-1})^2 \right]
      = -\nu \sum_i h \left( \frac{\bar u_{i+1} - \bar u_i}{h} \right)^2, \qquad \bar u = \frac{u^{k-1} + u^k}{2},

so no step is too large to be stable. A front of width nu / (jump of u) that the nodes do not resolve has wiggles.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.sparse import csr_array
from torch import Tensor

from diffuscope.checked_numbers import require_positive
from diffuscope.errors import InputError
from diffuscope.physics.grid import Grid

from .evolution import Evolution, repeated
from .transport import outflow, outflow_matrix


@dataclass(frozen=True, eq=False)
class Burgers(Evolution):
    """u_t + (u^2/2)_x = viscosity u_xx + source; `given` is the initial condition.

    Raises InputError for a viscosity that is not positive, and for more than one axis of space.

    >>> grid = Grid((9, 16), (0.5, 1.0), (False, True))  # time, space
    >>> burgers = Burgers(grid, 0.01)
    >>> u = burgers.solve(torch.sin(2 * math.pi * burgers.space.coordinates[None, :, 0]))
    >>> u.shape, bool(u.sum(-1).abs().max() < 1e-13)
    (torch.Size([1, 9, 16]), True)
    """

    grid: Grid
    viscosity: float | int
    boundary: str | tuple[str, ...] = "dirichlet"
    source: Tensor | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(viscosity=self.viscosity)
        if self.space.axes != 1:
            raise InputError(f"grid: expected one axis of time and one of space, got {self.grid.shape}")

    @property
    def linear(self) -> bool:
        """No."""
        return False

    def rate(self, u: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        """-(u^2/2)_x + nu u_xx."""
        return -outflow(u, self.space, 0, _flux) - self.viscosity * self.form.apply(u)

    def slope(self, u: Float[Tensor, "batch *space"]) -> csr_array:
        """The derivative of the rate."""
        viscous = repeated(self.viscosity * self.form.matrix(), len(u))
        return csr_array(-outflow_matrix(u, self.space, 0, _flux_slopes) - viscous)

    def draw(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *given"]:
        r"""Random initial conditions; on a periodic axis, of mean zero, with :math:`\kappa = 2 \pi k` and z = x / L,

        .. math::  a = \sum_{k \ge 1} \frac{625 \sqrt 2}{(\kappa^2 + 25)^2}
                       (\xi_k \cos\kappa z + \eta_k \sin\kappa z), \qquad \xi_k, \eta_k \sim N(0, 1),

        which is N(0, 625^2 (25 - Laplace)^-4) without its mean, as in the public data of Li et al. 2021
        (arXiv:2111.03794); with walls, as `Evolution.draw`.
        """
        if not self.space.periodic[0]:
            return super().draw(n, generator=generator)
        nodes = self.space.shape[0]
        kappa = 2 * math.pi * torch.arange(1, (nodes - 1) // 2 + 1, dtype=torch.float64)[:, None]
        z = torch.arange(nodes, dtype=torch.float64) / nodes
        waves = torch.cat([torch.cos(kappa * z), torch.sin(kappa * z)])
        deviations = (625 * math.sqrt(2) / (kappa**2 + 25) ** 2).repeat(2, 1)
        return torch.randn(n, len(waves), dtype=torch.float64, generator=generator) @ (deviations * waves)


def _flux(left: Tensor, right: Tensor) -> Tensor:
    return (left.square() + left * right + right.square()) / 6


def _flux_slopes(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    return (2 * left + right) / 6, (left + 2 * right) / 6

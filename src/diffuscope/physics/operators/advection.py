r"""Advection and diffusion, :math:`u_t + c \cdot \nabla u = \kappa \Delta u`, with a constant velocity c.

Central fluxes :math:`c\,(u_i + u_{i+1})/2` conserve mass and, with diffusion off, energy. They are of order 2, and have
wiggles where the cells do not resolve a layer: at a Peclet number :math:`|c| h / \kappa` above 2, next to a Dirichlet
side that the flow runs into.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.sparse import csr_array
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.physics.grid import Grid

from .evolution import Evolution, repeated
from .transport import Flux, outflow, outflow_matrix


@dataclass(frozen=True, eq=False)
class AdvectionDiffusion(Evolution):
    """u_t + velocity . grad u = diffusivity Lap u + source; `given` is the initial condition.

    `velocity` is one number per axis of space. Raises InputError for another count of them, and for a diffusivity that
    is negative.

    >>> import math, torch
    >>> from diffuscope.physics import AdvectionDiffusion, Grid
    >>> wave = AdvectionDiffusion(Grid((3, 8), (0.5, 1.0), (False, True)), velocity=(1.0,), diffusivity=0)
    >>> u = wave.solve(torch.cos(2 * math.pi * wave.space.along(0))[None])[0]
    >>> z = 0.25 * 8 * math.sin(math.pi / 4)  # the step times the symbol of the central difference
    >>> round(float(u[1, 2]), 6), round(math.sin(2 * math.atan(z / 2)), 6)  # a quarter of the period downstream
    (0.942809, 0.942809)
    >>> bool((u.sum(1)).abs().max() < 1e-12)  # mass
    True
    """

    grid: Grid
    velocity: tuple[float | int, ...]
    diffusivity: float | int = 1.0
    boundary: str | tuple[str, ...] = "dirichlet"
    source: Tensor | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.velocity) != self.space.axes or not all(map(math.isfinite, self.velocity)):
            raise InputError(f"velocity: expected {self.space.axes} finite numbers, got {self.velocity}")
        if not 0 <= self.diffusivity < math.inf:
            raise InputError(f"diffusivity: expected a number >= 0, got {self.diffusivity}")

    @property
    def linear(self) -> bool:
        """Yes."""
        return True

    def rate(self, u: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        """-c . grad u + kappa Lap u."""
        total = -self.diffusivity * self.form.apply(u)
        for axis, c in enumerate(self.velocity):
            total = total - outflow(u, self.space, axis, _carried(float(c)))
        return total

    def slope(self, u: Float[Tensor, "batch *space"]) -> csr_array:
        """The matrix of the rate, once per sample."""
        one = torch.zeros(1, *self.space.shape, dtype=torch.float64)
        total = -self.diffusivity * self.form.matrix()
        for axis, c in enumerate(self.velocity):
            half = torch.tensor(c / 2, dtype=torch.float64)
            total = total - outflow_matrix(one, self.space, axis, lambda *_, half=half: (half, half))
        return repeated(total, len(u))


def _carried(c: float) -> Flux:
    return lambda left, right: c * (left + right) / 2

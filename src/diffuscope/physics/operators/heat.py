r"""The heat equation, :math:`u_t = \kappa \Delta u`.

In the discrete eigenfunctions of the Laplacian, of eigenvalues lambda, every step multiplies a mode by
:math:`(1 - z/2) / (1 + z/2)`, :math:`z = \tau\kappa\lambda`: stable at any step, and no mode grows. Modes with z far
above 2 alternate in sign and decay slowly; a rough initial condition asks for tau of the order of h / kappa or below.
"""

from dataclasses import dataclass

from jaxtyping import Float
from scipy.sparse import csr_array
from torch import Tensor

from diffuscope.checked_numbers import require_positive
from diffuscope.physics.grid import Grid

from .evolution import Evolution, repeated


@dataclass(frozen=True, eq=False)
class Heat(Evolution):
    """u_t = diffusivity Lap u + source in any number of dimensions; `given` is the initial condition.

    Raises InputError for a diffusivity that is not positive.

    >>> import math, torch
    >>> heat = Heat(Grid((3, 5)), 0.1)
    >>> a = torch.sin(math.pi * heat.space.along(0))[None]
    >>> u = heat.solve(a)
    >>> z = 0.5 * 0.1 * 64 * math.sin(math.pi / 8) ** 2
    >>> bool(torch.allclose(u[:, 2], ((1 - z / 2) / (1 + z / 2)) ** 2 * a))
    True
    """

    grid: Grid
    diffusivity: float | int = 1.0
    boundary: str | tuple[str, ...] = "dirichlet"
    source: Tensor | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(diffusivity=self.diffusivity)

    @property
    def linear(self) -> bool:
        """Yes."""
        return True

    def rate(self, u: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        """kappa Lap u."""
        return -self.diffusivity * self.form.apply(u)

    def slope(self, u: Float[Tensor, "batch *space"]) -> csr_array:
        """kappa Lap, once per sample."""
        return repeated(-self.diffusivity * self.form.matrix(), len(u))

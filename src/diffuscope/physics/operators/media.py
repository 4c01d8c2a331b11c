r"""Random coefficients: a Gaussian field in the cosines of the box, thresholded or exponentiated.

.. math::  g \sim N\bigl(0, \, (-\Delta + \tau^2)^{-\alpha}\bigr) \quad \text{with} \quad \partial g / \partial n = 0 ,

without its constant mode, so that g has mean zero in every field, and scaled to a variance of one, averaged over the
nodes. Two-phase media are g >= 0 and g < 0, log-normal ones exp(s g). The distribution is that of Li et al. (Fourier
neural operator, arXiv 2010.08895: alpha = 2, tau = 3); alpha = 3, tau = 10 and a contrast of 18 are those of the public
16 x 16 Darcy fields, by fit.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.checked_numbers import require_positive
from diffuscope.errors import InputError
from diffuscope.physics.grid import Grid
from diffuscope.physics.random_fields import two_phase

from .laplacian import synthesis, wavenumbers


@dataclass(frozen=True)
class SmoothField:
    """g, of power `alpha` and inverse length `tau`. Raises InputError for parameters that are not positive.

    >>> import torch
    >>> from diffuscope.physics import Grid
    >>> from diffuscope.physics.operators import SmoothField
    >>> grid = Grid((9,))
    >>> g = SmoothField().draw(grid, 1000, generator=torch.Generator().manual_seed(0))
    >>> bool((g @ grid.weights).abs().max() < 1e-12)  # every field has mean zero
    True
    >>> variance = g.square().mean(1)  # over the nodes
    >>> bool((variance.mean() - 1).abs() < 4 * variance.std() / 1000**0.5)
    True
    """

    alpha: float | int = 3.0
    tau: float | int = 10.0

    def __post_init__(self) -> None:
        require_positive(alpha=self.alpha, tau=self.tau)

    def draw(self, grid: Grid, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *grid"]:
        """Draws of g, float64; along a periodic axis in sines and cosines."""
        bases, squares = [], torch.zeros((), dtype=torch.float64)
        for axis, around in enumerate(grid.periodic):
            x = grid.along(axis) - grid.origin[axis]
            kappa = wavenumbers(grid, axis, "periodic" if around else "neumann")[:, None]
            odd = torch.arange(len(kappa))[:, None] % 2 == 1
            basis = torch.where(odd | (kappa == 0) | (not around), torch.cos(kappa * x), torch.sin(kappa * x))
            bases.append(basis / basis.square().mean(1, keepdim=True).sqrt())
            squares = squares[..., None] + kappa[:, 0].square()
        std = (squares + self.tau**2) ** (-self.alpha / 2)
        std[(0,) * grid.axes] = 0
        std = std / std.square().sum().sqrt()
        g = std * torch.randn(n, *grid.shape, dtype=torch.float64, generator=generator)
        return synthesis(g, bases)


SMOOTH = SmoothField()


@dataclass(frozen=True)
class TwoPhase:
    """a = `high` where g >= 0, and `low` elsewhere. Raises InputError for values that are not positive.

    >>> from diffuscope.physics import Grid
    >>> a = TwoPhase(high=2.0, low=0.5).draw(Grid((8, 8)), 1, generator=torch.Generator().manual_seed(0))
    >>> a.unique().tolist()
    [0.5, 2.0]
    """

    high: float | int = 1.0
    low: float | int = 1 / 18
    field: SmoothField = SMOOTH

    def __post_init__(self) -> None:
        if not (0 < self.high < math.inf and 0 < self.low < math.inf):
            raise InputError(f"high, low: expected positive coefficients, got {self.high} and {self.low}")

    def draw(self, grid: Grid, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *grid"]:
        """Draws of a, float64."""
        g = self.field.draw(grid, n, generator=generator)
        return two_phase(g, low=self.low, high=self.high)


@dataclass(frozen=True)
class LogNormal:
    """a = exp(s g), s the standard deviation of log a. Raises InputError for an s that is negative or not finite.

    >>> import torch
    >>> from diffuscope.physics import Grid
    >>> from diffuscope.physics.operators import LogNormal
    >>> a, b = (LogNormal(s).draw(Grid((9,)), 2, generator=torch.Generator().manual_seed(0)) for s in (0.5, 1.5))
    >>> bool((b / a**3 - 1).abs().max() < 1e-12)  # exp(1.5 g) = exp(0.5 g)^3
    True
    """

    std: float | int = 1.0
    field: SmoothField = SMOOTH

    def __post_init__(self) -> None:
        if not 0 <= self.std < math.inf:
            raise InputError(f"std: expected a number >= 0, got {self.std}")

    def draw(self, grid: Grid, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *grid"]:
        """Draws of a, float64."""
        return torch.exp(self.std * self.field.draw(grid, n, generator=generator))

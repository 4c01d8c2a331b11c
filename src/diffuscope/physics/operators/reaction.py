r"""Reaction and diffusion, :math:`u_t = \kappa \Delta u + r(u)`.

:math:`r = u - u^3` is Allen and Cahn's (stable states -1 and 1), :math:`r = u (1 - u)` Fisher's (an unstable state 0
and a stable one 1), :math:`r = u (1 - u)(u - a)` Nagumo's (stable states 0 and 1). The reaction is taken implicitly, by
Newton's method, so that stiff ones need no small steps for stability.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.sparse import csr_array, diags_array
from torch import Tensor

from diffuscope.checked_numbers import require_positive
from diffuscope.physics.grid import Grid

from .evolution import Evolution, repeated


@dataclass(frozen=True)
class Reaction:
    """r(u) and r'(u), node by node; `start` takes a Gaussian field to initial conditions for which u stays bounded.

    >>> import torch
    >>> from diffuscope.physics import Grid, ReactionDiffusion
    >>> from diffuscope.physics.operators import Reaction
    >>> decay = Reaction(lambda u: -3 * u, lambda u: -3 + 0 * u)
    >>> u = ReactionDiffusion(Grid((3, 5)), 0.1, decay, "neumann").solve(torch.full((1, 5), 98.0))
    >>> [round(value, 6) for value in u[0, :, 2].tolist()]  # the midpoint rule, step 1/2: (1 - 3/4) / (1 + 3/4) = 1/7
    [98.0, 14.0, 2.0]
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    start: Callable[[Tensor], Tensor] = lambda field: field


def allen_cahn() -> Reaction:
    """u - u^3.

    >>> import torch
    >>> from diffuscope.physics.operators import allen_cahn
    >>> r, u = allen_cahn(), torch.tensor(2.0)
    >>> float(r.value(u)), float(r.slope(u))  # 2 - 8, 1 - 12
    (-6.0, -11.0)
    """
    return Reaction(lambda u: u - u**3, lambda u: 1 - 3 * u**2)


def fisher() -> Reaction:
    """u (1 - u); what is below 0 runs away from it, so initial conditions are squares of fields.

    >>> import torch
    >>> from diffuscope.physics.operators import fisher
    >>> r, u = fisher(), torch.tensor(-3.0)
    >>> float(r.value(u)), float(r.slope(u)), float(r.start(u))  # -3 (1 + 3), 1 + 6, 3^2
    (-12.0, 7.0, 9.0)
    """
    return Reaction(lambda u: u * (1 - u), lambda u: 1 - 2 * u, torch.square)


def nagumo(threshold: float) -> Reaction:
    """u (1 - u)(u - threshold).

    >>> import torch
    >>> from diffuscope.physics.operators import nagumo
    >>> r, u = nagumo(0.25), torch.tensor(2.0)
    >>> float(r.value(u)), float(r.slope(u))  # 2 (-1) 1.75, (1 - 4) 1.75 + 2 (-1)
    (-3.5, -7.25)
    """
    return Reaction(lambda u: u * (1 - u) * (u - threshold), lambda u: (1 - 2 * u) * (u - threshold) + u * (1 - u))


@dataclass(frozen=True, eq=False)
class ReactionDiffusion(Evolution):
    """u_t = diffusivity Lap u + r(u) + source; `given` is the initial condition.

    Raises InputError for a diffusivity that is not positive.

    >>> import torch
    >>> from diffuscope.physics import Grid, ReactionDiffusion
    >>> from diffuscope.physics.operators import fisher
    >>> grid = Grid((3, 5), lengths=(5 / 3, 1.0))
    >>> u = ReactionDiffusion(grid, 0.1, fisher(), "neumann").solve(torch.full((1, 5), 0.5))
    >>> [round(value, 6) for value in u[0, 1].tolist()]  # 0.5 + (5/6) r(0.6), the midpoint rule
    [0.7, 0.7, 0.7, 0.7, 0.7]
    """

    grid: Grid
    diffusivity: float | int
    reaction: Reaction
    boundary: str | tuple[str, ...] = "dirichlet"
    source: Tensor | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(diffusivity=self.diffusivity)

    @property
    def linear(self) -> bool:
        """No."""
        return False

    def rate(self, u: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        """kappa Lap u + r(u)."""
        return self.reaction.value(u) - self.diffusivity * self.form.apply(u)

    def slope(self, u: Float[Tensor, "batch *space"]) -> csr_array:
        """kappa Lap + diag r'(u)."""
        diffusion = repeated(-self.diffusivity * self.form.matrix(), len(u))
        return csr_array(diffusion + diags_array(self.reaction.slope(u.double()).flatten().numpy()))

    def draw(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *given"]:
        """Random initial conditions: the reaction's `start` of the field that the other equations in time draw."""
        return self.reaction.start(super().draw(n, generator=generator))

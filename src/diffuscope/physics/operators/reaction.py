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

from diffuscope.physics.grid import Grid
from diffuscope.physics.positive import require_positive

from .evolution import Evolution, repeated


@dataclass(frozen=True)
class Reaction:
    """r(u) and r'(u), node by node; `start` takes a Gaussian field to initial conditions for which u stays bounded."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    start: Callable[[Tensor], Tensor] = lambda field: field


def allen_cahn() -> Reaction:
    """u - u^3."""
    return Reaction(lambda u: u - u**3, lambda u: 1 - 3 * u**2)


def fisher() -> Reaction:
    """u (1 - u); what is below 0 runs away from it, so initial conditions are squares of fields."""
    return Reaction(lambda u: u * (1 - u), lambda u: 1 - 2 * u, torch.square)


def nagumo(threshold: float) -> Reaction:
    """u (1 - u)(u - threshold)."""
    return Reaction(lambda u: u * (1 - u) * (u - threshold), lambda u: (1 - 2 * u) * (u - threshold) + u * (1 - u))


@dataclass(frozen=True, eq=False)
class ReactionDiffusion(Evolution):
    """u_t = diffusivity Lap u + r(u) + source; `given` is the initial condition.

    Raises InputError for a diffusivity that is not positive.

    >>> grid = Grid((5, 9))
    >>> u = ReactionDiffusion(grid, 0.1, fisher(), "neumann").solve(torch.ones(1, 9))
    >>> bool(torch.allclose(u, torch.ones(1, 5, 9, dtype=torch.float64)))  # 1 is a stable state
    True
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

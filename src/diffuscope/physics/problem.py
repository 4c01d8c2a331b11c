"""An inverse problem: an equation, its random fields, and what their channels are called.

A field of a problem is a tensor (batch, channels, *grid). Where what is given has the shape of the solution (a forcing,
a coefficient), the channels are (given, solution); where it is an initial condition, which is the first row of the
solution, there is one channel.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .operators.equation import Equation


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An equation whose fields are inferred from partial observations.

    >>> import torch
    >>> from diffuscope.physics import Grid, Poisson, Problem
    >>> problem = Problem(name="rod", title="A rod", equation=Poisson(Grid((5,))), given="forcing")
    >>> x = torch.linspace(0, 1, 5, dtype=torch.float64)
    >>> f = torch.tensor([0.0, 2.0, 2.0, 2.0, 0.0], dtype=torch.float64)
    >>> float(problem.residual(torch.stack([f, x * (1 - x)])[None]).abs().max())  # -u'' = 2, and u = 0 at both ends
    0.0
    """

    name: str
    title: str
    equation: Equation
    given: str  # what the equation is given: "forcing", "coefficient", "initial condition"

    @property
    def joint(self) -> bool:
        """Whether what is given is a channel of its own."""
        return tuple(self.equation.given_shape) == self.equation.grid.shape

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels."""
        return (self.given, "solution") if self.joint else ("solution",)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """(channels, *grid)."""
        return (len(self.channels), *self.equation.grid.shape)

    def fields(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n channels *grid"]:
        """Random problems and their solutions, float64: draws from the generated prior."""
        given = self.equation.draw(n, generator=generator)
        solution = self.equation.solve(given)
        return torch.stack([given, solution], 1) if self.joint else solution[:, None]

    def residual(self, fields: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch *grid"]:
        """F(solution; given) of joint fields; without a channel for it, what is given is the first row."""
        u = fields[:, -1]
        return self.equation.residual(u, fields[:, 0] if self.joint else u[:, 0])

r"""The contract of a discretized PDE: F(u; a) = 0 for a solution u and what is given, a.

.. math::  F : \mathbb{R}^{N} \times \mathbb{R}^{A} \to \mathbb{R}^{N}, \qquad J = \partial F / \partial u .

`a` is a forcing (Poisson, Helmholtz), a coefficient (Darcy) or an initial condition (the equations in time, whose u
has time as its first axis). F has one component per node: the equation at inner nodes, in its physical scaling (with
1/h^2 where it has second derivatives), and the boundary or initial condition at the others.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from scipy.sparse import csr_array
from torch import Tensor

from diffuscope.physics.grid import Grid


@runtime_checkable
class Equation(Protocol):
    """A discretized PDE on a grid. Fields are batches, (batch, *grid); `given` is (batch, *given_shape).

    >>> from diffuscope.physics import Equation, Grid, Poisson
    >>> isinstance(Poisson(Grid((5,))), Equation)
    True
    """

    @property
    def grid(self) -> Grid:
        """Of the solution; its first axis is time for an equation in time."""
        ...

    @property
    def given_shape(self) -> tuple[int, ...]:
        """The shape of what is given."""
        ...

    def residual(
        self, u: Float[Tensor, "batch *grid"], given: Float[Tensor, "batch *given"]
    ) -> Float[Tensor, "batch *grid"]:
        """F(u; given), differentiable by autograd in both, in the dtype of `u`."""
        ...

    def jacobian(self, u: Float[Tensor, "*grid"], given: Float[Tensor, "*given"]) -> csr_array:
        """dF/du of one field, N x N, float64, by hand; tests compare it with autograd."""
        ...

    def solve(self, given: Float[Tensor, "batch *given"]) -> Float[Tensor, "batch *grid"]:
        """The solutions, float64, by SciPy's sparse direct methods; Newton's method where F is not linear in u.

        Raises InputError where there is no solution (a coefficient that is not positive, a resonant Helmholtz
        problem, Newton's method that does not converge), and says which.
        """
        ...

    def draw(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *given"]:
        """Random problems, float64."""
        ...

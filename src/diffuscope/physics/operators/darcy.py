r"""Darcy flow, :math:`-\nabla \cdot (a \nabla u) = f`, with a positive coefficient that may jump.

Fluxes are conservative, with harmonic means at the faces between cells (`FluxForm`): a jump of `a` is placed halfway
between two nodes.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from scipy.sparse import csr_array
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.memory import chunk_size
from diffuscope.physics.grid import Grid

from .factorization import Factorization
from .flux_form import FluxForm
from .media import LogNormal, TwoPhase

TWO_PHASE = TwoPhase()
NODES = 2**13  # of the fields that are factored at once


@dataclass(frozen=True, eq=False)
class Darcy:
    r"""F(u; a) = -div(a grad u) - f at free nodes, u - f at Dirichlet nodes; `given` is the coefficient at the nodes.

    `forcing` is a number, f at free nodes with u = 0 on the boundary; or a field of the grid, f at free nodes (with
    what enters through a Neumann boundary: `FluxForm.sources`) and the value at Dirichlet nodes. Without a Dirichlet
    side it must have mean zero, and so has the solution. `media` draws coefficients: `TwoPhase` or `LogNormal`.

    >>> from diffuscope.physics import Grid
    >>> darcy = Darcy(Grid((5,)))
    >>> a = torch.full((1, 5), 0.5)
    >>> darcy.solve(a)[0].tolist()  # x (1 - x)
    [0.0, 0.1875, 0.25, 0.1875, 0.0]
    """

    grid: Grid
    forcing: float | int | Float[Tensor, "*grid"] = 1.0
    boundary: str | tuple[str, ...] = "dirichlet"
    media: TwoPhase | LogNormal = TWO_PHASE

    def __post_init__(self) -> None:
        f = self.source
        if f.shape != self.grid.shape:
            raise InputError(f"forcing: expected a number or a field of {self.grid.shape}, got one of {tuple(f.shape)}")
        mean, size = float((self.grid.weights * f).sum()), float((self.grid.weights * f.abs()).sum())
        if self.singular and abs(mean) > 1e-14 * size * math.sqrt(self.grid.size):
            raise InputError(
                f"forcing: expected one of mean zero (no boundary value is held), got a mean of "
                f"{mean / float(self.grid.weights.sum()):.3g}"
            )

    @cached_property
    def form(self) -> FluxForm:
        """The fluxes."""
        return FluxForm(self.grid, self.boundary)

    @cached_property
    def source(self) -> Float[Tensor, "*grid"]:
        """The right-hand side, float64."""
        if isinstance(self.forcing, Tensor):
            return self.forcing.double()
        uniform = torch.full(self.grid.shape, float(self.forcing), dtype=torch.float64)
        return torch.where(self.form.dirichlet, 0.0, uniform)

    @property
    def given_shape(self) -> tuple[int, ...]:
        """That of the grid."""
        return self.grid.shape

    @property
    def singular(self) -> bool:
        """Whether constants solve the homogeneous equation: the solution of mean zero is taken."""
        return self.form.singular

    def residual(
        self, u: Float[Tensor, "batch *grid"], given: Float[Tensor, "batch *grid"]
    ) -> Float[Tensor, "batch *grid"]:
        """-div(a grad u) - f at free nodes, u - f at Dirichlet nodes."""
        inside = self.form.apply(u, self.form.conductance(given.to(u)))
        return torch.where(self.form.dirichlet.to(u.device), u, inside) - self.source.to(u)

    def jacobian(self, u: Float[Tensor, "*grid"], given: Float[Tensor, "*grid"]) -> csr_array:  # noqa: ARG002
        """-div(a grad) with the identity at Dirichlet nodes; it does not depend on `u`."""
        return self._matrix(given.detach().double()[None])

    def solve(self, given: Float[Tensor, "batch *grid"]) -> Float[Tensor, "batch *grid"]:
        """The solutions; one factorization for as many fields as have 2^13 nodes, as the blocks of a diagonal.

        Raises InputError for a coefficient that is not positive, and says where.
        """
        require_positive(given)
        weights = self.grid.weights.flatten().numpy() if self.singular else None
        at_once = 1 if self.singular else chunk_size(NODES, each=self.grid.size)
        solutions = []
        for a in given.detach().double().split(at_once):
            factors = Factorization(self._matrix(a), weights)
            f = self.source.expand_as(a)
            solutions.append(factors.solve(f.reshape(1, -1)).reshape(a.shape))
        return torch.cat(solutions)

    def draw(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *grid"]:
        """Random coefficients of the `media`."""
        return self.media.draw(self.grid, n, generator=generator)

    def _matrix(self, a: Float[Tensor, "batch *grid"]) -> csr_array:
        return self.form.hold(self.form.matrix(self.form.conductance(a)))


def require_positive(a: Float[Tensor, "batch *grid"]) -> None:
    """Raises InputError where a coefficient is not a positive number, and says where."""
    bad = ~((a > 0) & a.isfinite())
    if bool(bad.any()):
        field, *node = bad.nonzero()[0].tolist()
        raise InputError(
            f"given: expected a positive coefficient, got {float(a[field, *node]):.6g} at node {tuple(node)} of field "
            f"{field} ({int(bad.sum())} such values)"
        )

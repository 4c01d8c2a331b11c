r"""Equations in time, all steps at once: the implicit midpoint rule on a grid whose first axis is time.

.. math::
    \frac{\partial u}{\partial t} = R(u) + s, \qquad
    F^0 = u^0 - a, \qquad
    F^k = \frac{u^k - u^{k-1}}{\tau} - R\!\left(\frac{u^{k-1} + u^k}{2}\right) - \frac{s^{k-1} + s^k}{2},
    \quad k = 1 \dots,

a is the initial condition and s a source. At Dirichlet nodes :math:`F^k = u^k - a`: they keep their initial values; a
Neumann side has du/dn = 0. The rule is of order 2, for linear R it is that of Crank and Nicolson, and it keeps what R
keeps that is linear or quadratic in u (mass, energy) exactly. R is discretized in space by conservative fluxes, of
order 2. The Jacobian is block bidiagonal,

.. math::
    \frac{\partial F^k}{\partial u^k} = \frac{I}{\tau} - \frac{1}{2} R'\!\left(u^{k-1/2}\right), \qquad
    \frac{\partial F^k}{\partial u^{k-1}} = -\frac{I}{\tau} - \frac{1}{2} R'\!\left(u^{k-1/2}\right),

and solving is stepping: one factorization for all steps and samples where R is linear, else Newton's method for all
samples together, whose matrices are the blocks of one.
"""

from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array, diags_array, eye_array, hstack, kron, vstack
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.memory import chunk_size
from diffuscope.physics.grid import Grid
from diffuscope.physics.random_fields import Matern, reflected_field

from .factorization import Factorization
from .flux_form import FluxForm

NEWTON = 30  # iterations a step
UNKNOWNS = 2**17  # of the samples that Newton's method takes together


class Evolution:
    """An `Equation` u_t = R(u) + s. A child has `rate`, R, and `slope`, R', and says whether R is linear.

    `boundary` is "dirichlet" or "neumann" for each bounded axis of space; `source` is s at the nodes of the grid.

    >>> import torch
    >>> from diffuscope.physics import Grid, Heat
    >>> from diffuscope.physics.operators import Evolution
    >>> heat = Heat(Grid((3, 5)), 0.1, "neumann")
    >>> u = heat.solve(torch.tensor([[0.0, 0.0, 8.0, 4.0, 0.0]]))[0]
    >>> isinstance(heat, Evolution), [round(total, 6) for total in (u @ heat.space.weights).tolist()]  # nothing leaves
    (True, [3.0, 3.0, 3.0])
    """

    grid: Grid
    boundary: str | tuple[str, ...]
    source: Tensor | None

    def rate(self, u: Float[Tensor, "batch *space"]) -> Float[Tensor, "batch *space"]:
        """R(u), in space; its values at Dirichlet nodes are not read."""
        raise NotImplementedError

    def slope(self, u: Float[Tensor, "batch *space"]) -> csr_array:
        """dR/du of every sample, the blocks of a block diagonal matrix; rows of Dirichlet nodes are not read."""
        raise NotImplementedError

    @property
    def linear(self) -> bool:
        """Whether R is linear in u."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        if self.grid.axes < 2 or self.grid.periodic[0]:
            raise InputError(
                f"grid: expected a first axis of time, not periodic, and axes of space, got {self.grid.shape}, "
                f"periodic {self.grid.periodic}"
            )
        if self.source is not None and tuple(self.source.shape) != self.grid.shape:
            raise InputError(f"source: expected values on the grid {self.grid.shape}, got {tuple(self.source.shape)}")
        self.form  # noqa: B018  (refuses boundaries that do not fit)

    @cached_property
    def space(self) -> Grid:
        """The grid without its axis of time."""
        grid = self.grid
        return Grid(grid.shape[1:], grid.lengths[1:], grid.periodic[1:], grid.origin[1:])

    @cached_property
    def form(self) -> FluxForm:
        """-Laplacian in space."""
        return FluxForm(self.space, self.boundary)

    @property
    def step(self) -> float:
        """tau."""
        return self.grid.spacing[0]

    @property
    def given_shape(self) -> tuple[int, ...]:
        """That of space: the initial condition."""
        return self.space.shape

    def residual(
        self, u: Float[Tensor, "batch *grid"], given: Float[Tensor, "batch *given"]
    ) -> Float[Tensor, "batch *grid"]:
        """F(u; a)."""
        a = given.to(u)[:, None]
        before, after = u[:, :-1], u[:, 1:]
        rate = self.rate(((before + after) / 2).flatten(0, 1)).reshape(after.shape)
        inside = (after - before) / self.step - rate - self._sources.to(u)
        return torch.cat([u[:, :1] - a, torch.where(self.form.dirichlet, after - a, inside)], 1)

    def jacobian(self, u: Float[Tensor, "*grid"], given: Float[Tensor, "*given"]) -> csr_array:  # noqa: ARG002
        """dF/du, block bidiagonal."""
        first, steps = self.space.size, u[1:].numel()
        diagonal, below = self._blocks(self.slope(((u[1:] + u[:-1]) / 2).double()), len(u) - 1)
        outside = csr_array((steps, first))
        return csr_array(
            vstack([eye_array(first, first + steps), hstack([outside, diagonal]) + hstack([below, outside])])
        )

    def solve(self, given: Float[Tensor, "batch *given"]) -> Float[Tensor, "batch *grid"]:
        """Step by step, float64.

        Raises InputError for values that are not finite, and where Newton's method does not converge.
        """
        if not bool(given.isfinite().all()):
            raise InputError("given: expected a finite initial condition, got values that are not")
        a = given.double()
        with torch.no_grad():
            if self.linear:
                return self._solve_linear(a)
            at_once = chunk_size(UNKNOWNS, each=self.space.size)
            parts = [self._solve_nonlinear(part, i * at_once) for i, part in enumerate(a.split(at_once))]
        return torch.cat(parts)

    def draw(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *given"]:
        """Random initial conditions: a Matern field, nu = 5/2, of length 0.2 of the shortest side and variance 1,
        reflected at the walls so that it satisfies the boundary conditions."""
        covariance = Matern(0.2 * min(self.space.lengths), 2.5)
        return reflected_field(self.space, tuple(self.form.boundary), covariance, n, generator=generator)

    @cached_property
    def _sources(self) -> Float[Tensor, "steps *space"]:
        if self.source is None:
            return torch.zeros(self.grid.shape[0] - 1, *[1] * self.space.axes, dtype=torch.float64)
        return (self.source[1:] + self.source[:-1]).double() / 2

    def _blocks(self, slope: csr_array, copies: int) -> tuple[csr_array, csr_array]:
        """The blocks dF^k/du^k, with the identity in the rows of Dirichlet nodes, and dF^k/du^(k-1), zero there."""
        held = self.form.dirichlet.flatten().repeat(copies).numpy()
        free = np.repeat(~held, np.diff(slope.indptr))
        half = csr_array((slope.data / -2 * free, slope.indices, slope.indptr), shape=(len(held),) * 2)
        step = (~held).astype(float) / self.step
        return csr_array(half + diags_array(step + held)), csr_array(half + diags_array(-step))

    def _solve_linear(self, a: Tensor) -> Tensor:
        slope = self.slope(torch.zeros(1, *self.space.shape, dtype=torch.float64))
        factors = Factorization(self._blocks(slope, 1)[0])
        rows = [a]
        for source in self._sources:
            right = rows[-1] / self.step + self.rate(rows[-1]) / 2 + source
            right = torch.where(self.form.dirichlet, a, right)
            rows.append(factors.solve(right.flatten(1)).reshape(a.shape))
        return torch.stack(rows, 1)

    def _solve_nonlinear(self, a: Tensor, first: int) -> Tensor:
        rows = [a]
        for k, source in enumerate(self._sources, 1):
            before = rows[-1]
            u = 2 * before - rows[-2] if k > 1 else before
            moving = torch.ones(len(a), dtype=torch.bool)
            for _ in range(NEWTON):
                change = self._newton(before, u, a, source)
                u = u - change
                moving = ~(change.flatten(1).abs().amax(1) <= 1e-9 * (1 + u.flatten(1).abs().amax(1)))
                if not bool(moving.any()):  # quadratic convergence: the error left is below rounding
                    break
            else:
                raise InputError(
                    f"given: expected Newton's method to converge, got no convergence in time step {k} of field "
                    f"{first + int(moving.int().argmax())}; a finer grid in time helps"
                )
            rows.append(u)
        return torch.stack(rows, 1)

    def _newton(self, before: Tensor, u: Tensor, a: Tensor, source: Tensor) -> Tensor:
        """J^-1 F for one step of all samples."""
        middle = (before + u) / 2
        F = torch.where(self.form.dirichlet, u - a, (u - before) / self.step - self.rate(middle) - source)
        factors = Factorization(self._blocks(self.slope(middle), len(a))[0])
        return factors.solve(F.reshape(1, -1)).reshape(u.shape)


def repeated(matrix: csr_array, samples: int) -> csr_array:
    """The block diagonal matrix that has the same block for every sample."""
    return csr_array(kron(eye_array(samples), matrix, format="csr"))

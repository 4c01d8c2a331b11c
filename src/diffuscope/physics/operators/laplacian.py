r"""-Laplacian plus a constant, :math:`-\Delta u + c\,u = f`: what Poisson's and Helmholtz's equation share.

On the box the discrete operator is a sum over axes, and its eigenvalues are known in closed form:

.. math::  \lambda = \sum_{\text{axes}} \frac{4}{h^2} \sin^2 \frac{\kappa h}{2}, \qquad
           \kappa = \frac{k \pi}{L} \ \text{(bounded)}, \quad \frac{2 k \pi}{L} \ \text{(periodic)},

for the products of sin(kappa x) (Dirichlet, k >= 1), cos(kappa x) (Neumann, k >= 0), or both (periodic).
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from scipy.sparse import csr_array, eye_array
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.physics.grid import Grid

from .factorization import Factorization
from .flux_form import FluxForm


class ShiftedLaplacian:
    """F(u; f) = L u + c u - f at the nodes that are free, u - f at the Dirichlet nodes; an `Equation`.

    `given` is the forcing at free nodes (with what enters the cell through a Neumann boundary) and the value at
    Dirichlet nodes; `sources` makes it from a forcing and boundary data.

    >>> from diffuscope.physics import Grid, Poisson
    >>> from diffuscope.physics.operators import ShiftedLaplacian
    >>> rod = Poisson(Grid((5,)), screening=3)
    >>> isinstance(rod, ShiftedLaplacian), rod.shift
    (True, 9.0)
    >>> [round(value, 6) for value in rod.eigenvalues().tolist()]  # 64 sin^2(k pi / 8): 32 (1 - sqrt(1/2)), 32, ...
    [9.372583, 32.0, 54.627417]
    """

    grid: Grid
    boundary: str | tuple[str, ...]

    @property
    def shift(self) -> float:
        """c."""
        raise NotImplementedError

    @cached_property
    def form(self) -> FluxForm:
        """The fluxes."""
        return FluxForm(self.grid, self.boundary)

    @property
    def given_shape(self) -> tuple[int, ...]:
        """That of the grid."""
        return self.grid.shape

    @property
    def singular(self) -> bool:
        """Whether constants solve the homogeneous equation: the solution of mean zero is taken."""
        return self.form.singular and self.shift == 0

    def residual(
        self, u: Float[Tensor, "batch *grid"], given: Float[Tensor, "batch *grid"]
    ) -> Float[Tensor, "batch *grid"]:
        """L u + c u - f at free nodes, u - f at Dirichlet nodes."""
        inside = self.form.apply(u) + self.shift * u
        return torch.where(self.form.dirichlet.to(u.device), u, inside) - given.to(u)

    def jacobian(self, u: Float[Tensor, "*grid"], given: Float[Tensor, "*grid"]) -> csr_array:  # noqa: ARG002
        """L + c with the identity at Dirichlet nodes; depends on neither argument."""
        return self._matrix

    def solve(self, given: Float[Tensor, "batch *grid"]) -> Float[Tensor, "batch *grid"]:
        """The solutions; one factorization for all. Without a Dirichlet side and with c = 0, those of mean zero.

        Raises InputError for values that are not finite, and there for a forcing whose mean is not zero.
        """
        if not bool(given.isfinite().all()):
            field, *node = (~given.isfinite()).nonzero()[0].tolist()
            value = float(given[field, *node])
            raise InputError(f"given: expected finite values, got {value} at node {tuple(node)} of field {field}")
        if self.singular:
            self._require_compatible(given)
        return self._factors.solve(given.flatten(1)).reshape(given.shape)

    def sources(
        self, forcing: Float[Tensor, "*batch_grid"], boundary: Float[Tensor, "*batch_grid"]
    ) -> Float[Tensor, "*batch_grid"]:
        """What is given, from a forcing and boundary data (only read at boundary nodes): see `FluxForm.sources`."""
        return self.form.sources(forcing, boundary)

    def eigenvalues(self, *, continuous: bool = False) -> Float[Tensor, "*modes"]:
        """Of the discrete operator L (c not included), or those of -Laplacian that it approximates."""
        total = torch.zeros((), dtype=torch.float64)
        for axis, kind in enumerate(self.form.boundary):
            kappa = wavenumbers(self.grid, axis, kind)
            h = self.grid.spacing[axis]
            per_axis = kappa.square() if continuous else (2 / h * torch.sin(kappa * h / 2)).square()
            total = total[..., None] + per_axis
        return total

    def _require_compatible(self, given: Tensor) -> None:
        """Refuses a mean that is more than the rounding error of the forcing's dtype."""
        f, axes = given.double(), tuple(range(1, given.ndim))
        weights = self.grid.weights / self.grid.weights.sum()
        mean, size = (weights * f).sum(axes), (weights * f.abs()).sum(axes)
        off = mean.abs() > 32 * torch.finfo(given.dtype).eps * size
        if bool(off.any()):
            field = int(off.nonzero()[0])
            raise InputError(
                f"given: expected sources of mean zero (no boundary value is held), got a mean of "
                f"{float(mean[field]):.3g} in field {field}"
            )

    @cached_property
    def _matrix(self) -> csr_array:
        return self.form.hold(csr_array(self.form.matrix() + self.shift * eye_array(self.grid.size)))

    @cached_property
    def _factors(self) -> Factorization:
        return Factorization(self._matrix, self.grid.weights.flatten().numpy() if self.singular else None)


def wavenumbers(grid: Grid, axis: int, kind: str) -> Float[Tensor, " modes"]:
    """The kappa of the eigenfunctions along one axis; twice on a periodic axis, for a sine and a cosine."""
    n, length = grid.shape[axis], grid.lengths[axis]
    if kind == "periodic":
        return 2 * torch.pi / length * torch.arange(n, dtype=torch.float64).add(1).div(2, rounding_mode="floor")
    k = torch.arange(1, n - 1) if kind == "dirichlet" else torch.arange(n)
    return torch.pi / length * k.double()


def synthesis(coefficients: Float[Tensor, "n *modes"], bases: Sequence[Tensor]) -> Float[Tensor, "n *grid"]:
    """Sums of products of functions along the axes, whose values are the rows (modes, nodes) of one basis an axis."""
    fields = coefficients
    for axis, basis in enumerate(bases, 1):
        fields = torch.movedim(torch.movedim(fields, axis, -1) @ basis, -1, axis)
    return fields

r"""Diffusion in a potential as a Schroedinger equation: symmetric, diagonalized once, then exact at every time.

For :math:`dX = -\nabla U\,dt + \sqrt{2D}\,dB` with stationary distribution :math:`p_\infty \propto e^{-U/D}`, the
function :math:`\psi = p/\sqrt{p_\infty}` obeys an equation with a self-adjoint operator,

.. math::
    \partial_t\psi = -H\psi, \qquad H = -D\Delta + V, \qquad V = \frac{|\nabla U|^2}{4D} - \frac{\Delta U}{2}, \qquad
    p_t = \sqrt{p_\infty}\;Q e^{-\Lambda t} Q^T \frac{p_0}{\sqrt{p_\infty}}, \qquad H = Q\Lambda Q^T,

where :math:`\Lambda_0 = 0` belongs to :math:`\sqrt{p_\infty}` itself, and the other eigenvalues are the relaxation
rates. At the centers of a grid of width h the second derivative of the sinc interpolant is (Colbert & Miller 1992),

.. math::  -\partial_x^2 \;\to\; \frac{1}{h^2}\Big\{\frac{\pi^2}{3}\ (i = j),\quad \frac{2(-1)^{i-j}}{(i-j)^2}\Big\},

and for a density that is resolved and vanishes at the edges of the box it converges faster than any power of h.

**Where it fails.** In the tails :math:`p_0/\sqrt{p_\infty}` may be astronomically large, and every error of H is
multiplied by it. The backward semigroup preserves the constant 1; computed, it gives :math:`u = 1 + \delta(x)`, where
:math:`\delta` is rounding, the grid's error and the box's error, all divided by :math:`\sqrt{p_\infty(x)}`. By duality
the error of the mass is :math:`E_{p_0}\delta`, so that

.. math::
    E_{p_0}|\delta| = \int p_0\,\frac{\big|e^{-Ht}\sqrt{p_\infty} - \sqrt{p_\infty}\big| + \epsilon\max\sqrt{p_\infty}}
    {\sqrt{p_\infty}}\,dx

bounds the error of the mass, at no more than the cost of the solution. In 451 cases of a double well with errors from
1e-9 to 1e26, the largest error of p was 0.006 to 17 times the sum of this number and the value of :math:`p_0` at the
edges; `error_estimate` is 20 times that sum, and a density is refused where it exceeds a tolerance.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .density import Density
from .grid import Grid
from .resolution import unresolved

LARGEST = 4096  # cells: H and its eigenvectors are then 134 MB each
SAFETY = 20
ROUNDING = torch.finfo(torch.float64).eps


@dataclass(frozen=True, eq=False)
class PotentialDiffusion:
    """dX = -grad U dt + sqrt(2 D) dB on a box, diagonalized: made by `PotentialDiffusion.diagonalize`.

    `rates`: the eigenvalues of H in rising order, 0 first, then the relaxation rates; their absolute error is rounding
    times the largest, so that a smaller Kramers rate is not resolved. `modes`: eigenvectors, one per column. `root`:
    the square root of the normalized stationary density.

    >>> import math
    >>> from diffuscope.densities import Density, Grid, PotentialDiffusion
    >>> grid = Grid.line(-4, 4, 64)
    >>> process = PotentialDiffusion.diagonalize(lambda x: x[:, 0] ** 2, grid, diffusivity=0.25)  # dX = -2 X dt + ...
    >>> [round(rate, 6) for rate in process.rates[1:4].tolist()], round(process.stationary().covariance().item(), 6)
    ([2.0, 4.0, 6.0], 0.125)
    >>> start = Density(grid, grid.evaluate(lambda x: -5 * (x[:, 0] - 0.5) ** 2))  # N(0.5, 0.1)
    >>> end = process.evolve(start, math.log(2) / 2)
    >>> round(end.mean().item(), 6), round(end.covariance().item(), 6)  # 0.5 / 2, 0.1 / 4 + 0.125 (1 - 1/4)
    (0.25, 0.11875)
    """

    grid: Grid
    rates: Float[Tensor, " n"]
    modes: Float[Tensor, "n n"]
    root: Float[Tensor, " n"]

    @classmethod
    def diagonalize(
        cls, potential: Callable[[Tensor], Tensor], grid: Grid, *, diffusivity: float | int = 1.0
    ) -> "PotentialDiffusion":
        """For U = `potential` ((n, d) -> (n,), twice differentiable by autograd) in one to three dimensions.

        The cost is a dense eigendecomposition, cubic in the number n of cells: about 1 ms for 64, 15 s for 4,096, the
        largest allowed, and 3 n^2 numbers of memory. Raises InputError for more cells, for a diffusivity that is
        not finite and positive, and where U or its first two derivatives are not finite.
        """
        n = math.prod(grid.cells)
        if n > LARGEST:
            raise InputError(f"grid: expected at most {LARGEST} cells for a dense eigendecomposition, got {n}")
        if not (math.isfinite(diffusivity) and diffusivity > 0):
            raise InputError(f"diffusivity: expected a finite number > 0, got {diffusivity}")
        U, gradient, laplacian = _derivatives(potential, grid.points().reshape(n, grid.dimensions))
        H = torch.diag((gradient**2).sum(1) / (4 * diffusivity) - laplacian / 2)
        for axis in range(grid.dimensions):
            before, after = math.prod(grid.cells[:axis]), math.prod(grid.cells[axis + 1 :])
            across = diffusivity * _minus_second_derivative(grid, axis)
            H += torch.kron(torch.kron(torch.eye(before), across), torch.eye(after))
        rates, modes = torch.linalg.eigh(H)
        root = torch.exp(-(U - U.min()) / (2 * diffusivity))
        return cls(grid, rates, modes, root / (grid.volume * (root**2).sum()).sqrt())

    def stationary(self) -> Density:
        """p_inf, proportional to exp(-U/D), with mass one on the box."""
        return Density(self.grid, (self.root**2).reshape(self.grid.cells))

    def evolve(self, density: Density, t: float | int, *, tolerance: float | int = 1e-6) -> Density:
        """The density after a time t >= 0. Differentiable in the density.

        Raises InputError for another grid and a negative t, and, with the measured number, where more than `tolerance`
        of the density is `unresolved` by the grid, or the `error_estimate` exceeds it.
        """
        coarse, error = unresolved(density), self.error_estimate(density, t)
        allowed = f"(tolerance {float(tolerance):.0e})"
        edge = _edge(density)
        if SAFETY * edge > tolerance:
            raise InputError(f"density: expected 0 at the edge, got {edge:.1e} of its maximum {allowed}")
        if not coarse <= tolerance:
            raise InputError(f"density: the grid is too coarse, {coarse:.1e} of the spectrum is unresolved {allowed}")
        if not error <= tolerance:
            worst = int((density.values.abs().reshape(-1) / self.root).argmax())
            x = ", ".join(f"{x:.3g}" for x in self.grid.points().reshape(-1, self.grid.dimensions)[worst].tolist())
            raise InputError(
                f"density: its error may be {error:.1e} {allowed}, as p/sqrt(p_inf) is too large, most at x = ({x}); "
                "expected a smaller box, a narrower density or a finer grid"
            )
        positive = self.root > 0  # elsewhere the density is zero too, or was refused
        psi = torch.where(positive, density.values.reshape(-1), 0.0) / torch.where(positive, self.root, 1.0)
        psi = self._propagate(psi, t)
        return Density(self.grid, (self.root * psi).reshape(self.grid.cells))

    def error_estimate(self, density: Density, t: float | int) -> float:
        """The largest error to expect of `evolve`, in units of the density's mass times the maximum of p_inf.

        20 (E|delta| + the density at the edge of the box over its maximum), see above; the part of the density that the
        grid does not resolve comes on top. Infinite where p_inf vanishes in float64 and the density does not. Raises
        InputError for another grid and for a t that is negative or not finite.
        """
        if density.grid != self.grid:
            raise InputError(f"density: expected one on {self.grid}, got one on {density.grid}")
        if not (math.isfinite(t) and t >= 0):
            raise InputError(f"t: expected a finite time >= 0, got {t}")
        p = density.values.detach().abs().reshape(-1)
        off = (self._propagate(self.root, t) - self.root).abs() + ROUNDING * self.root.max()
        defect = torch.where(p > 0, p / self.root * off, 0.0).sum() / p.sum()
        return SAFETY * (float(defect) + _edge(density))

    def _propagate(self, psi: Float[Tensor, " n"], t: float | int) -> Float[Tensor, " n"]:
        return self.modes @ (torch.exp(-self.rates * t) * (self.modes.T @ psi))


def _edge(density: Density) -> float:
    """The largest value in the outermost cells over the largest of all."""
    p = density.values.detach().abs()
    ends = [p.select(axis, end).max() for axis in range(p.ndim) for end in (0, -1)]
    return float(torch.stack(ends).max() / p.max())


def _derivatives(
    potential: Callable[[Tensor], Tensor], points: Float[Tensor, "n d"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """U, its gradient and its Laplacian at the points."""
    x = points.clone().requires_grad_()
    with torch.enable_grad():
        U = potential(x) + 0 * (x**2).sum(1)  # the zero keeps the graph of a linear potential's constant gradient
        (gradient,) = torch.autograd.grad(U.sum(), x, create_graph=True)
        columns = [torch.autograd.grad(gradient[:, k].sum(), x, retain_graph=True)[0][:, k] for k in range(x.shape[1])]
    values = U.detach(), gradient.detach(), torch.stack(columns).sum(0)
    if not all(bool(torch.isfinite(value).all()) for value in values):
        raise InputError("potential: expected finite values and derivatives on the grid, got NaN or infinity")
    return values


def _minus_second_derivative(grid: Grid, axis: int) -> Float[Tensor, "cells cells"]:
    index = torch.arange(grid.cells[axis], dtype=torch.float64)
    lag = index[:, None] - index
    off_diagonal = 2 * torch.cos(math.pi * lag) / torch.where(lag == 0, 1.0, lag) ** 2
    return torch.where(lag == 0, math.pi**2 / 3, off_diagonal) / grid.widths[axis] ** 2

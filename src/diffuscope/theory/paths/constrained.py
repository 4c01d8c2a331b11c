r"""Paths that have no choice in some directions: the silent ones of a singular diffusion.

With an orthonormal basis n of the silent directions the path must satisfy :math:`c = n^T(v - f) = 0` on every edge. The
augmented density

.. math::  L + \lambda\cdot c + \tfrac{\rho}{2} |c|^2, \qquad \lambda \leftarrow \lambda + \rho\,c ,

has the constrained path as its limit, and :math:`n\lambda` is its momentum in those directions. With no silent
direction this is Newton's method once.

Source: Hestenes 1969, https://doi.org/10.1007/BF00927673.
"""

from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .discrete_action import MIDPOINT, Mesh, Nodes, edgewise
from .lagrangian import ActionDensity, Lagrangian
from .newton import SecondDerivatives, Stationary, newton

ROUNDS = 60
SATISFIED = 1e-11  # of the largest velocity
STIFFENING = 10.0
INNER = 1e-14
STIFFEST = 1e3  # more, and rounding in the penalty hides the constraint


@dataclass(frozen=True, eq=False)
class Multipliers:
    """lambda on every edge, and the basis n of the silent directions."""

    values: Float[Tensor, "paths edges silent"]
    basis: Float[Tensor, "d silent"]

    @property
    def momenta(self) -> Float[Tensor, "paths edges d"]:
        """The momentum in silent directions."""
        return self.values @ self.basis.T

    def on_halved_mesh(self) -> "Multipliers":
        """Both halves of an edge have its multiplier."""
        return replace(self, values=self.values.repeat_interleave(2, dim=1))

    def of(self, kept: slice) -> "Multipliers":
        """Those of some paths."""
        return replace(self, values=self.values[kept])


def constrained_newton(
    density: Lagrangian, x: Nodes, times: Mesh, begin: Multipliers | None = None
) -> tuple[Stationary, Multipliers]:
    """Minimize the action of every path under the constraints of its silent directions."""
    n = density.dynamics.silent(x.shape[2])
    values = x.new_zeros(len(x), len(times) - 1, n.shape[1]).double()
    multipliers = begin or Multipliers(values, n)
    if n.shape[1] == 0:
        return newton(density, x, times, MIDPOINT, gauss_newton(density)), multipliers

    def violation(x: Tensor, v: Tensor, t: Tensor) -> Float[Tensor, "edges silent"]:
        return (v - density.dynamics.drift_at(x, t)) @ n

    rho = float(density.dynamics.precision_at(x[:1, 0], times[:1]).abs().max()) * 10
    stiffest = STIFFEST * rho
    left, found = torch.inf, None
    for _ in range(ROUNDS):
        flat = multipliers.values.reshape(-1, n.shape[1])

        augmented = partial(_augmented, density, violation, flat, rho)
        # the residual is relative to momenta that the penalty makes large
        found = newton(augmented, x, times, MIDPOINT, gauss_newton(density, rho), tolerance=INNER)
        x = found.x
        c = edgewise(violation, x, times, MIDPOINT).detach()
        multipliers = replace(multipliers, values=multipliers.values + rho * c)
        was, left = left, float(c.abs().max() / x.diff(dim=1).div(times.diff()[:, None]).abs().max())
        if left <= SATISFIED:
            return found, multipliers
        if left > was / STIFFENING and rho < stiffest:
            rho *= STIFFENING
    raise InputError(
        f"end: no path reaches it along the directions without noise: after {ROUNDS} rounds the constraint is off by "
        f"{left:.2g} of the largest velocity"
    )


def _augmented(
    density: Lagrangian, violation: ActionDensity, flat: Tensor, rho: float, x: Tensor, v: Tensor, t: Tensor
) -> Tensor:
    c = violation(x, v, t)
    return density(x, v, t) + (flat * c).sum(1) + rho / 2 * c.square().sum(1)


def gauss_newton(density: Lagrangian, rho: float = 0.0) -> SecondDerivatives:
    """The positive part of the second derivatives: (-J, I)^T (D^-1 / 2 + rho n n^T) (-J, I)."""

    def parts(x: Tensor, _: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        J = density.jacobian(x, t)
        n = density.dynamics.silent(x.shape[1])
        K = density.dynamics.precision_at(x, t) / 2 + rho * n @ n.T
        KJ = K @ J
        return J.mT @ KJ, -KJ.mT, K

    return parts

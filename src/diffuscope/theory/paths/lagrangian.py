r"""The action density of a noisy path: Freidlin-Wentzell or Onsager-Machlup.

For :math:`dX = f\,dt + G\,dW` with :math:`D = G G^T/2` the probability of a path is :math:`e^{-S}`,
:math:`S = \int L\,dt`, with

.. math::
    L_\mathrm{FW} = \tfrac14 (\dot x - f)^T D^{-1} (\dot x - f), \qquad
    L_\mathrm{OM} = L_\mathrm{FW} + \tfrac12 \nabla\cdot f .

The first is the limit of weak noise and allows a D that depends on the state. The second is the density of a tube
around the path at finite noise (the midpoint rule's Jacobian), for a constant D; with a D that depends on the state it
has curvature terms, and is refused. Momentum and energy are

.. math::
    p = \partial L / \partial \dot x = \tfrac12 D^{-1} (\dot x - f), \qquad
    E = p\cdot\dot x - L .

In the silent directions of a singular D the momentum is the multiplier of the constraint
:math:`n\cdot(\dot x - f) = 0`.

Sources: Onsager & Machlup 1953, https://doi.org/10.1103/PhysRev.91.1505; Vastola 2024,
https://arxiv.org/abs/2504.09761, whose L is the first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .dynamics import Dynamics, States, Times

Functional = Literal["FW", "OM"]


ActionDensity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""L(x, v, t), (n,), of states and velocities (n, d) at times (n,), differentiable twice by autograd, row by row."""


@dataclass(frozen=True, eq=False)
class Lagrangian:
    """The action density of `dynamics`. Raises InputError for "OM" where D depends on the state.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, Lagrangian
    >>> spring = Dynamics(lambda x: -2 * x, 0.5)
    >>> x, v, t = torch.tensor([[3.0]]).double().requires_grad_(), torch.tensor([[1.0]]).double(), torch.zeros(1)
    >>> Lagrangian(spring)(x, v, t).item(), Lagrangian(spring, "OM")(x, v, t).item()  # 7^2 / (4 x 0.5), less 2 / 2
    (24.5, 23.5)
    >>> Lagrangian(spring).momentum(x, v, t).item()  # (1 + 6) / (2 x 0.5)
    7.0
    """

    dynamics: Dynamics
    functional: Functional = "FW"

    def __post_init__(self) -> None:
        if self.functional not in ("FW", "OM"):
            raise InputError(f"functional: expected 'FW' or 'OM', got {self.functional!r}")
        if self.functional == "OM" and not self.dynamics.constant:
            raise InputError(
                "functional: expected 'FW' where the diffusion depends on the state (the Onsager-Machlup functional "
                "then has curvature terms, which are not implemented), got 'OM'"
            )

    def __call__(self, x: States, v: States, t: Times) -> Float[Tensor, " n"]:
        f = self.dynamics.drift_at(x, t)
        r = v - f
        value = torch.einsum("ni,nij,nj->n", r, self.dynamics.precision_at(x, t), r) / 4
        return value + divergence(f, x) / 2 if self.functional == "OM" else value

    def momentum(self, x: States, v: States, t: Times) -> States:
        """p = D^-1 (v - f) / 2, zero in silent directions."""
        return torch.einsum("nij,nj->ni", self.dynamics.precision_at(x, t), v - self.dynamics.drift_at(x, t)) / 2

    def jacobian(self, x: States, t: Times) -> Float[Tensor, "n d d"]:
        """df_i / dx_j, without a graph."""
        at = x.detach().double().requires_grad_()
        f = self.dynamics.drift_at(at, t)
        rows = [_gradient(f[:, i], at, create_graph=False) for i in range(x.shape[1])]
        return torch.stack(rows, 1)


def divergence(f: States, x: States) -> Float[Tensor, " n"]:
    """div f from the graph of f(x); zero for a constant f."""
    if not x.requires_grad:
        raise ValueError("x: expected states that require gradients, of which f was computed")
    terms = [_gradient(f[:, i], x, create_graph=True)[:, i] for i in range(x.shape[1])]
    return torch.stack(terms).sum(0)


def _gradient(of: Float[Tensor, " n"], at: States, *, create_graph: bool) -> States:
    if not of.requires_grad:
        return torch.zeros_like(at)
    (found,) = torch.autograd.grad(of.sum(), at, create_graph=create_graph, retain_graph=True, allow_unused=True)
    return torch.zeros_like(at) if found is None else found

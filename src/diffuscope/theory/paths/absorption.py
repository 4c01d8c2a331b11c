r"""Paths that end when they first leave a domain: where the most likely path is not what typical paths do.

A path that must reach a bound at T, and not before, keeps away from it until then: a condition on the whole path, which
the action of the path does not have. For a constant drift and constant D between bounds at distance L, with
:math:`u = \pi (x - a) / L` and :math:`\lambda_n = D (n\pi/L)^2`, the density at t of the paths from :math:`x_0` that
first reach the lower bound a at T is

.. math::
    \rho_t(x) \propto \sum_n \sin(n u_0) \sin(n u)\, e^{-\lambda_n t} \; \sum_n n \sin(n u)\, e^{-\lambda_n (T - t)} ;

the drift cancels. The mean bends away from the bound, while the most likely path is straight.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .conditioned import ConditionedPaths, kept_paths
from .discrete_action import Nodes
from .dynamics import Dynamics
from .least_action import checked_ends, checked_mesh

TERMS, POINTS = 400, 2000  # of the series, and of its integral over x


def absorbed_paths(
    dynamics: Dynamics,
    start: Float[Tensor, " d"],
    times: Float[Tensor, " nodes"],
    leaves: Callable[[Tensor], Tensor],
    *,
    since: float,
    attempts: int,
    generator: torch.Generator,
) -> ConditionedPaths:
    """Paths that first leave the domain at a node at or after `since`, in a state (n, d) for which `leaves` holds.

    Later nodes rest where the path left. Raises InputError for dynamics without a domain, and where fewer than two paths
    are kept.
    """
    if dynamics.domain is None:
        raise InputError("dynamics: expected a domain that paths can leave, got none")
    a, _ = checked_ends(dynamics, start, start)
    times = checked_mesh(times)
    early = times < since
    free = Dynamics(dynamics.drift, dynamics.diffusion, Until(dynamics, float(since)))  # pyright: ignore
    raise NotImplementedError

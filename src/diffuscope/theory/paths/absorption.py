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
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diffuscope.checked_numbers import require_positive
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

    Later nodes rest where the path left. Raises InputError for dynamics without a domain, and where fewer than two
    paths are kept.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, absorbed_paths
    >>> walk, start = Dynamics(lambda x: 0 * x, 0.5, domain=(0.0, 1.0)), torch.tensor([0.5])
    >>> found = absorbed_paths(walk, start, torch.linspace(0, 1, 41), lambda x: x[:, 0] < 0, since=0.2, attempts=2000,
    ...                        generator=torch.Generator().manual_seed(0))
    >>> x = found.states[:, :, 0]
    >>> bool((x[:, -1] < 0).all()), bool(((x[:, :8] > 0) & (x[:, :8] < 1)).all())  # node 8 is the time 0.2
    (True, True)
    """
    if dynamics.domain is None:
        raise InputError("dynamics: expected a domain that paths can leave, got none")
    a, _ = checked_ends(dynamics, start, start)
    times = checked_mesh(times)

    def late(x: Nodes, left: Int[Tensor, " paths"]) -> Bool[Tensor, " paths"]:
        node = left.clamp(max=len(times) - 1)
        return (left < len(times)) & (times[node] >= since) & leaves(x[torch.arange(len(x)), node])

    return kept_paths(dynamics, a[0], times, late, attempts, generator)


def absorbed_mean(
    start: float, duration: float, times: Float[Tensor, " n"], *, bounds: tuple[float, float], diffusion: float
) -> Float[Tensor, " n"]:
    """The mean at `times` of one-dimensional paths that first leave through the lower bound, exactly at `duration`.

    For any constant drift. Raises InputError for a start outside the bounds, and times that are not between 0 and
    `duration`.

    >>> import torch
    >>> from diffuscope.theory.paths import absorbed_mean
    >>> mean = absorbed_mean(1.5, 200.0, torch.tensor([100.0]), bounds=(1.0, 5.0), diffusion=0.5)
    >>> round(float(mean), 6)  # in between the density is sin^2: away from the bound that it must reach
    3.0
    """
    low, high = bounds
    if not low < start < high:
        raise InputError(f"start: expected a state between the bounds {low:g} and {high:g}, got {start:g}")
    require_positive(diffusion=diffusion)
    require_positive(duration=duration)
    t = times.double()
    if not bool(((t > 0) & (t < duration)).all()):
        raise InputError(f"times: expected times between 0 and the duration {duration:g}")
    n = torch.arange(1, TERMS + 1, dtype=torch.float64)
    u = math.pi * (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    rate = diffusion * (n * math.pi / (high - low)) ** 2
    waves = torch.sin(n[:, None] * u)
    reached = (torch.sin(n * math.pi * (start - low) / (high - low)) * torch.exp(-rate * t[:, None])) @ waves
    leaving = (n * torch.exp(-rate * (duration - t[:, None]))) @ waves
    weight = reached * leaving
    return low + (high - low) / math.pi * (weight @ u) / weight.sum(1)

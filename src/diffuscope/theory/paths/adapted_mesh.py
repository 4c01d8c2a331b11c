r"""Nodes where the path is fast: the direct method on times that follow the path it found.

A fast passage between slow states lies, on equal times, between two nodes; the discrete action has a minimum there that
costs too little or too much, and doubling the nodes hardly changes it. The energy of the exact path is constant, so
that its variation shows what the mesh has missed. New times with half of the nodes spread over the time and half over
the length of the path,

.. math::  \tfrac12 \frac{t}{T} + \tfrac12 \frac{s(t)}{s(T)} = \frac{k}{N}, \qquad k = 0, \dots, N ,

and the path minimized on them, in turn, lead to one whose energy is constant. No parameter of stiffness need be known.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from diffuscope.errors import InputError

from .constrained import gauss_newton
from .discrete_action import MIDPOINT, Mesh
from .dynamics import Dynamics
from .lagrangian import Functional, Lagrangian
from .least_action import LeastAction, least_action, straight
from .newton import newton

ROUNDS, ITERATIONS = 4, 200
COARSE = 100  # intervals of the equal mesh that a path is sought on where the one asked for has none


def energy_departure(path: LeastAction) -> float:
    """max |E - mean E| along the path over the largest p v."""
    E, v = path.energy[0], path.states[0].diff(dim=0) / path.times.diff()[:, None]
    work = torch.nan_to_num((path.momenta[0] * v).sum(1)).abs().max()
    return float((E - E.mean()).abs().max() / work.clamp(min=torch.finfo(E.dtype).tiny))


def spread(times: np.ndarray, share: np.ndarray, intervals: int) -> np.ndarray:
    """Times between the first and the last of `times`, half of them over the time and half over `share`, 0 to 1."""
    placed = (times - times[0]) / (times[-1] - times[0]) / 2 + share / 2
    new = PchipInterpolator(placed / placed[-1], times)(np.linspace(0, 1, intervals + 1))
    new[[0, -1]] = times[[0, -1]]
    return new


def respaced(
    times: Mesh, states: Float[Tensor, "nodes d"], intervals: int
) -> tuple[Float[Tensor, " placed"], Float[Tensor, "placed d"]]:
    """Half of the nodes over the time and half over the length of the path, with its states there."""
    t, x = times.numpy(), states.numpy()
    length = np.r_[0, np.linalg.norm(np.diff(x, axis=0), axis=1).cumsum()]
    new = spread(t, length / max(length[-1], np.finfo(float).tiny), intervals)
    return torch.from_numpy(new), torch.from_numpy(PchipInterpolator(t, x)(new))


def on_adapted_mesh(
    dynamics: Dynamics,
    start: Float[Tensor, " d"],
    end: Float[Tensor, " d"],
    times: Mesh,
    functional: Functional = "FW",
    *,
    begin: LeastAction | None = None,
) -> LeastAction:
    """The path on as many times as given, placed anew after every round; from `begin`, or from a path on a coarse mesh.

    Raises InputError as `least_action`, for the last times.
    """
    density = Lagrangian(dynamics, functional)
    if dynamics.silent(len(start)).shape[1]:
        raise InputError("diffusion: expected noise in every direction for adapted times, got a singular D")
    intervals = len(times) - 1
    if begin is None:
        t = torch.linspace(float(times[0]), float(times[-1]), min(intervals, COARSE) + 1, dtype=torch.float64)
        line = straight(start[None], end[None], t)
        x = newton(density, line, t, MIDPOINT, gauss_newton(density), iterations=ITERATIONS).x[0]
    else:
        t, x = begin.times, begin.states[0]
    for _ in range(ROUNDS):
        t, x = respaced(t, x, intervals)
        x = newton(density, x[None], t, MIDPOINT, gauss_newton(density), iterations=ITERATIONS).x[0]
        if not bool(torch.isfinite(x).all()):
            break
    return least_action(dynamics, start, end, t, functional, initial=x[None])

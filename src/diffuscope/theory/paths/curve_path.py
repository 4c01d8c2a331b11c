r"""A curve of given energy as a path in time.

Between neighboring nodes the curve takes the time :math:`|d\varphi|_K / \sqrt{|f|_K^2 + 4E}`, and its momentum is

.. math::  p = \tfrac12 D^{-1} \Big( \frac{\sqrt{|f|_K^2 + 4E}}{|\varphi'|_K}\,\varphi' - f \Big) .

Near a fixed point at E = 0 the time is infinite; momenta, energy and charges are not.
"""

import torch

from .discrete_action import MIDPOINT, at_edges
from .dynamics import Dynamics
from .geometric_action import GeometricAction
from .least_action import Certificate, LeastAction


def curve_path(dynamics: Dynamics, found: GeometricAction) -> LeastAction:
    """The curve on the times of its nodes, from 0; the momentum at a node is the mean of those of its two edges.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, curve_path, geometric_action
    >>> spring = Dynamics(lambda x: -x, 0.5)
    >>> path = curve_path(spring, geometric_action(spring, torch.tensor([1.0]), torch.tensor([3.0]), 4))
    >>> [round(p, 6) for p in path.momenta.flatten().tolist()]  # x / D at 1.25, 1.75, 2.25, 2.75
    [2.5, 3.5, 4.5, 5.5]
    """
    mesh = torch.linspace(0, 1, len(found.curve), dtype=torch.float64)
    state, v, _ = (each.squeeze(0) if each.ndim == 3 else each for each in at_edges(found.curve[None], mesh, MIDPOINT))
    t = torch.zeros(len(v), dtype=torch.float64)
    K, f = dynamics.precision_at(state, t).detach(), dynamics.drift_at(state, t).detach()
    length = torch.einsum("ni,nij,nj->n", v, K, v).sqrt()
    speed = (torch.einsum("ni,nij,nj->n", f, K, f) + 4 * found.energy).sqrt()
    times = torch.cat([torch.zeros(1, dtype=torch.float64), (length / speed * mesh.diff()).cumsum(0)])
    p = torch.einsum("nij,nj->ni", K, (speed / length)[:, None] * v - f) / 2
    certificate = Certificate(
        residual=torch.tensor([found.residual], dtype=torch.float64),
        action_change=torch.tensor([found.action_change], dtype=torch.float64),
        path_change=torch.tensor([torch.nan], dtype=torch.float64),
        extrapolated=torch.tensor([found.extrapolated], dtype=torch.float64),
        minimum=torch.tensor([found.minimum]),
        iterations=0,
    )
    return LeastAction(
        times=times,
        states=found.curve[None],
        action=torch.tensor([found.action], dtype=torch.float64),
        momenta=p[None],
        node_momenta=((p[1:] + p[:-1]) / 2)[None],
        energy=torch.full((1, len(p)), found.energy, dtype=torch.float64),
        certificate=certificate,
    )

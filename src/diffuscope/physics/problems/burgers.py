"""Burgers' equation u_t + u u_x = 0.01 u_xx on a periodic interval, from a random smooth initial condition."""

from diffuscope.physics.grid import Grid
from diffuscope.physics.operators import Burgers
from diffuscope.physics.problem import Problem

VISCOSITY, END = 0.01, 0.96  # those of the public data, whose 17 times are 0.06 apart


def burgers(nodes: int = 17) -> Problem:
    """To time 0.96 on a period of 1: `nodes` times, both ends included, and one point less around the period.

    >>> import torch
    >>> from diffuscope.physics.problems import burgers
    >>> u = burgers(nodes=9).fields(2, generator=torch.Generator().manual_seed(0))[:, 0]
    >>> mass = u.sum(2)
    >>> u.shape[1:], bool((mass - mass[:, :1]).abs().max() < 1e-9)  # 9 times, 8 points of a circle: nothing is lost
    (torch.Size([9, 8]), True)
    """
    grid = Grid((nodes, nodes - 1), (END, 1.0), (False, True))
    equation = Burgers(grid, viscosity=VISCOSITY)
    return Problem(name="burgers", title="Burgers' equation", equation=equation, given="initial condition")

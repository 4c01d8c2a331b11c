"""Burgers' equation u_t + u u_x = 0.01 u_xx on a periodic interval, from a random smooth initial condition."""

from diffuscope.physics.grid import Grid
from diffuscope.physics.operators import Burgers
from diffuscope.physics.problem import Problem

VISCOSITY = 0.01  # that of the public data


def burgers(nodes: int = 17) -> Problem:
    """On [0, 1] in time and space: `nodes` times, both ends included, and one point less around the period."""
    grid = Grid((nodes, nodes - 1), periodic=(False, True))
    equation = Burgers(grid, viscosity=VISCOSITY)
    return Problem(name="burgers", title="Burgers' equation", equation=equation, given="initial condition")

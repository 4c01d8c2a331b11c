"""Flow through a medium of two phases: -div(a grad u) = 1, u = 0 on the boundary, a = 1 or 1/18."""

from diffuscope.physics.grid import Grid
from diffuscope.physics.operators import Darcy
from diffuscope.physics.problem import Problem


def darcy(nodes: int = 16) -> Problem:
    """On the unit square; 16 nodes an axis as the smaller public data have, 32 as the larger."""
    equation = Darcy(Grid((nodes, nodes)))
    return Problem(name="darcy", title="Darcy flow through two phases", equation=equation, given="coefficient")

"""Flow through a medium of two phases: -div(a grad u) = 1, u = 0 on the boundary, a = 1 or 1/18."""

from diffuscope.physics.grid import Grid
from diffuscope.physics.operators import Darcy
from diffuscope.physics.problem import Problem


def darcy(nodes: int = 16) -> Problem:
    """On the unit square; 16 nodes an axis as the smaller public data have, 32 as the larger.

    >>> import torch
    >>> from diffuscope.physics.problems import darcy
    >>> problem = darcy(nodes=8)
    >>> fields = problem.fields(3, generator=torch.Generator().manual_seed(0))
    >>> [round(18 * a, 6) for a in fields[:, 0].unique().tolist()], bool(problem.residual(fields).abs().max() < 1e-10)
    ([1.0, 18.0], True)
    """
    equation = Darcy(Grid((nodes, nodes)))
    return Problem(name="darcy", title="Darcy flow through two phases", equation=equation, given="coefficient")

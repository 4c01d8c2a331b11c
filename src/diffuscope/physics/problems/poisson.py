"""Poisson's equation in one and two dimensions: -Laplace u = f, u = 0 on the boundary, f of eight random sine modes."""

from diffuscope.physics.grid import Grid
from diffuscope.physics.operators import Poisson
from diffuscope.physics.problem import Problem


def poisson_1d(nodes: int = 65) -> Problem:
    """-u'' = f on [0, 1].

    >>> import torch
    >>> from diffuscope.physics.problems import poisson_1d
    >>> problem, x = poisson_1d(nodes=5), torch.linspace(0, 1, 5, dtype=torch.float64)
    >>> f = torch.tensor([0.0, 2.0, 2.0, 2.0, 0.0], dtype=torch.float64)
    >>> float(problem.residual(torch.stack([f, x * (1 - x)])[None]).abs().max())  # -u'' = 2, and u = 0 at both ends
    0.0
    """
    title = "Poisson's equation on an interval"
    return Problem(name="poisson-1d", title=title, equation=Poisson(Grid((nodes,))), given="forcing")


def poisson_2d(nodes: int = 33) -> Problem:
    """-Laplace u = f on the unit square.

    >>> import torch
    >>> from diffuscope.physics.problems import poisson_2d
    >>> problem, (x, y) = poisson_2d(nodes=5), torch.meshgrid(*[torch.linspace(0, 1, 5).double()] * 2, indexing="ij")
    >>> inside = ~problem.equation.grid.boundary
    >>> f = 2 * y * (1 - y) + 2 * x * (1 - x)  # -Laplace of x (1 - x) y (1 - y)
    >>> fields = torch.stack([f * inside, x * (1 - x) * y * (1 - y)])
    >>> bool(problem.residual(fields[None]).abs().max() < 1e-12)
    True
    """
    title = "Poisson's equation on a square"
    return Problem(name="poisson-2d", title=title, equation=Poisson(Grid((nodes, nodes))), given="forcing")

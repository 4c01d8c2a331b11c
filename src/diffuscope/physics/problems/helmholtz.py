"""Waves of one frequency in a box: -Laplace u - k^2 u = f, u = 0 on the boundary, f of eight random sine modes."""

from diffuscope.physics.grid import Grid
from diffuscope.physics.operators import Helmholtz
from diffuscope.physics.problem import Problem

WAVENUMBER = 10.0  # 1.6 waves across the unit square; k^2 = 100 lies between the eigenvalues 98.7 and 128.3


def helmholtz(nodes: int = 33) -> Problem:
    """k = 10 on the unit square.

    >>> import torch
    >>> from diffuscope.physics.problems import helmholtz
    >>> problem, (x, y) = helmholtz(nodes=5), torch.meshgrid(*[torch.linspace(0, 1, 5).double()] * 2, indexing="ij")
    >>> u = x * (1 - x) * y * (1 - y)
    >>> f = 2 * y * (1 - y) + 2 * x * (1 - x) - 100 * u  # -Laplace u - k^2 u
    >>> fields = torch.stack([f * ~problem.equation.grid.boundary, u])
    >>> bool(problem.residual(fields[None]).abs().max() < 1e-12)
    True
    """
    equation = Helmholtz(Grid((nodes, nodes)), wavenumber=WAVENUMBER)
    return Problem(name="helmholtz", title="Helmholtz's equation on a square", equation=equation, given="forcing")

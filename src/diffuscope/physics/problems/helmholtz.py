"""Waves of one frequency in a box: -Laplace u - k^2 u = f, u = 0 on the boundary, f of eight random sine modes."""

from diffuscope.physics.grid import Grid
from diffuscope.physics.operators import Helmholtz
from diffuscope.physics.problem import Problem

WAVENUMBER = 10.0  # 1.6 waves across the unit square; k^2 = 100 lies between the eigenvalues 98.7 and 128.3


def helmholtz(nodes: int = 33) -> Problem:
    """k = 10 on the unit square."""
    equation = Helmholtz(Grid((nodes, nodes)), wavenumber=WAVENUMBER)
    return Problem(name="helmholtz", title="Helmholtz's equation on a square", equation=equation, given="forcing")

"""Poisson's equation in one and two dimensions: -Laplace u = f, u = 0 on the boundary, f of eight random sine modes."""

from diffuscope.physics.grid import Grid
from diffuscope.physics.operators import Poisson
from diffuscope.physics.problem import Problem


def poisson_1d(nodes: int = 65) -> Problem:
    """-u'' = f on [0, 1]."""
    title = "Poisson's equation on an interval"
    return Problem(name="poisson-1d", title=title, equation=Poisson(Grid((nodes,))), given="forcing")


def poisson_2d(nodes: int = 33) -> Problem:
    """-Laplace u = f on the unit square."""
    title = "Poisson's equation on a square"
    return Problem(name="poisson-2d", title=title, equation=Poisson(Grid((nodes, nodes))), given="forcing")

"""Inverse problems by name: functions of the number of nodes along an axis."""

from collections.abc import Callable

from diffuscope.physics.problem import Problem

from .burgers import burgers
from .darcy import darcy
from .helmholtz import helmholtz
from .poisson import poisson_1d, poisson_2d

PROBLEMS: dict[str, Callable[..., Problem]] = {
    "poisson-1d": poisson_1d,
    "poisson-2d": poisson_2d,
    "darcy": darcy,
    "helmholtz": helmholtz,
    "burgers": burgers,
}

__all__ = ["PROBLEMS", "burgers", "darcy", "helmholtz", "poisson_1d", "poisson_2d"]

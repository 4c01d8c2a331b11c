"""Discretized PDEs: residual, linearization, reference solver, random problems."""

from .burgers import Burgers
from .darcy import Darcy
from .equation import Equation
from .evolution import Evolution
from .factorization import Factorization, Inverse, inverse
from .flux_form import FluxForm
from .helmholtz import Helmholtz
from .laplacian import ShiftedLaplacian
from .media import LogNormal, TwoPhase
from .poisson import Poisson

__all__ = [
    "Burgers", "Darcy", "Equation", "Evolution", "Factorization", "FluxForm", "Helmholtz", "Inverse", "LogNormal",
    "Poisson", "ShiftedLaplacian", "TwoPhase", "inverse",
]  # fmt: skip

"""Discretized PDEs: residual, linearization, reference solver, random problems."""

from .darcy import Darcy
from .equation import Equation
from .factorization import Factorization, Inverse, inverse
from .flux_form import FluxForm
from .helmholtz import Helmholtz
from .laplacian import ShiftedLaplacian
from .media import LogNormal, TwoPhase
from .poisson import Poisson

__all__ = [
    "Darcy", "Equation", "Factorization", "FluxForm", "Helmholtz", "Inverse", "LogNormal", "Poisson",
    "ShiftedLaplacian", "TwoPhase", "inverse",
]  # fmt: skip

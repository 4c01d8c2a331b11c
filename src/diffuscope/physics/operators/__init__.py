"""Discretized PDEs: residual, linearization, reference solver, random problems."""

from .advection import AdvectionDiffusion
from .burgers import Burgers
from .darcy import Darcy
from .equation import Equation
from .evolution import Evolution
from .factorization import Factorization, Inverse, inverse
from .flux_form import FluxForm
from .heat import Heat
from .helmholtz import Helmholtz
from .laplacian import ShiftedLaplacian
from .media import LogNormal, SmoothField, TwoPhase
from .poisson import Poisson
from .reaction import Reaction, ReactionDiffusion, allen_cahn, fisher, nagumo

__all__ = [
    "AdvectionDiffusion", "Burgers", "Darcy", "Equation", "Evolution", "Factorization", "FluxForm", "Heat", "Helmholtz",
    "Inverse", "LogNormal", "Poisson", "Reaction", "ReactionDiffusion", "ShiftedLaplacian", "SmoothField", "TwoPhase",
    "allen_cahn", "fisher", "inverse", "nagumo",
]  # fmt: skip

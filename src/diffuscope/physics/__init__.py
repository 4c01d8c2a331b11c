"""Fields under a PDE: equations, observations, posteriors, and how good a posterior sampler is."""

from .grid import Grid
from .observations import (
    LinearObservation,
    NonlinearObservation,
    Observation,
    at_nodes,
    averages,
    log_likelihood,
    observe,
    where,
)
from .operators import Darcy, Equation, Helmholtz, Poisson, inverse
from .problem import Problem

__all__ = [
    "Darcy", "Equation", "Grid", "Helmholtz", "LinearObservation", "NonlinearObservation", "Observation", "Poisson",
    "Problem", "at_nodes", "averages", "inverse", "log_likelihood", "observe", "where",
]  # fmt: skip

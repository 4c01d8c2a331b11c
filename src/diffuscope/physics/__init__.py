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
from .operators import Equation
from .problem import Problem

__all__ = [
    "Equation", "Grid", "LinearObservation", "NonlinearObservation", "Observation", "Problem", "at_nodes", "averages",
    "log_likelihood", "observe", "where",
]  # fmt: skip

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
from .particles import Particles, sequential_monte_carlo
from .problem import Problem

__all__ = [
    "Equation", "Grid", "LinearObservation", "NonlinearObservation", "Observation", "Particles", "Problem", "at_nodes",
    "averages", "log_likelihood", "observe", "sequential_monte_carlo", "where",
]  # fmt: skip

"""Fields under a PDE: equations, observations, posteriors, and how good a posterior sampler is."""

from .conditioning import DPS, CovarianceGuided, GaussianGuide, NormalizedDPS, PiGDM, Projected
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
from .posterior import log_evidence, posterior, posterior_weights
from .problem import Problem

__all__ = [
    "DPS", "CovarianceGuided", "Equation", "GaussianGuide", "Grid", "LinearObservation", "NonlinearObservation",
    "NormalizedDPS", "Observation", "PiGDM", "Problem", "Projected", "at_nodes", "averages", "log_evidence",
    "log_likelihood", "observe", "posterior", "posterior_weights", "where",
]  # fmt: skip

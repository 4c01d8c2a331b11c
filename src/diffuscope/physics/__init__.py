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
from .operators import Darcy, Equation, Helmholtz, Poisson, inverse
from .posterior import log_evidence, posterior, posterior_means, posterior_weights
from .problem import Problem

__all__ = [
    "DPS", "CovarianceGuided", "Darcy", "Equation", "GaussianGuide", "Grid", "Helmholtz", "LinearObservation",
    "NonlinearObservation", "NormalizedDPS", "Observation", "PiGDM", "Poisson", "Problem", "Projected", "at_nodes",
    "averages", "inverse", "log_evidence", "log_likelihood", "observe", "posterior", "posterior_means",
    "posterior_weights", "where",
]  # fmt: skip

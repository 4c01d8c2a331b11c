"""Fields under a PDE: equations, observations, posteriors, and how good a posterior sampler is."""

from .conditioning import (
    DPS,
    CovarianceGuided,
    GaussianGuide,
    GaussNewtonProjected,
    NormalizedDPS,
    PiGDM,
    Projected,
    ResidualGuided,
    residual_observation,
)
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
from .particles import Particles, sequential_monte_carlo
from .posterior import log_evidence, posterior, posterior_means, posterior_weights
from .problem import Problem

__all__ = [
    "DPS", "CovarianceGuided", "Darcy", "Equation", "GaussNewtonProjected", "GaussianGuide", "Grid", "Helmholtz",
    "LinearObservation", "NonlinearObservation", "NormalizedDPS", "Observation", "Particles", "PiGDM", "Poisson",
    "Problem", "Projected", "ResidualGuided", "at_nodes", "averages", "inverse", "log_evidence", "log_likelihood",
    "observe", "posterior", "posterior_means", "posterior_weights", "residual_observation", "sequential_monte_carlo",
    "where",
]  # fmt: skip

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
    start_at_mean,
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
from .operators import (
    AdvectionDiffusion,
    Burgers,
    Darcy,
    Equation,
    Heat,
    Helmholtz,
    Poisson,
    ReactionDiffusion,
    inverse,
)
from .priors import gaussian_prior, joint_prior, joint_sine_prior, process_prior, sine_forcing, sine_prior
from .problem import Problem
from .random_fields import Matern, SquaredExponential, covariance_matrix, random_field, two_phase

__all__ = [
    "DPS", "CovarianceGuided", "Darcy", "Equation", "GaussNewtonProjected", "GaussianGuide", "Grid", "Helmholtz",
    "LinearObservation", "NonlinearObservation", "NormalizedDPS", "Observation", "Particles", "PiGDM", "Poisson",
    "Problem", "Projected", "ResidualGuided", "at_nodes", "averages", "inverse", "log_evidence", "log_likelihood",
    "observe", "posterior", "posterior_means", "posterior_weights", "residual_observation", "sequential_monte_carlo",
    "start_at_mean", "where",
    "AdvectionDiffusion", "Burgers", "Darcy", "Equation", "Grid", "Heat", "Helmholtz", "LinearObservation", "Matern",
    "NonlinearObservation", "Observation", "Poisson", "Problem", "ReactionDiffusion", "SquaredExponential", "at_nodes",
    "averages", "covariance_matrix", "gaussian_prior", "inverse", "joint_prior", "joint_sine_prior", "log_likelihood",
    "observe", "process_prior", "random_field", "sine_forcing", "sine_prior", "two_phase", "where",
    "DPS", "CovarianceGuided", "Darcy", "Equation", "GaussianGuide", "Grid", "Helmholtz", "LinearObservation",
    "NonlinearObservation", "NormalizedDPS", "Observation", "Particles", "PiGDM", "Poisson", "Problem", "Projected",
    "at_nodes", "averages", "inverse", "log_evidence", "log_likelihood", "observe", "posterior", "posterior_means",
    "posterior_weights", "sequential_monte_carlo", "where",
]  # fmt: skip

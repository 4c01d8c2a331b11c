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
    "AdvectionDiffusion", "Burgers", "Darcy", "Equation", "Grid", "Heat", "Helmholtz", "LinearObservation", "Matern",
    "NonlinearObservation", "Observation", "Poisson", "Problem", "ReactionDiffusion", "SquaredExponential", "at_nodes",
    "averages", "covariance_matrix", "gaussian_prior", "inverse", "joint_prior", "joint_sine_prior", "log_likelihood",
    "observe", "process_prior", "random_field", "sine_forcing", "sine_prior", "two_phase", "where",
]  # fmt: skip

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
from .exact_posterior import log_evidence, posterior, posterior_means, posterior_weights
from .grid import Grid
from .kernel_prior import KernelPrior
from .observation_file import read_sensors
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
from .particles import sequential_monte_carlo
from .prior_fields import Prior, generated_fields
from .prior_names import named_prior, own_prior
from .priors import gaussian_prior, joint_prior, joint_sine_prior, process_prior, sine_forcing, sine_prior
from .problem import Problem
from .problems import PROBLEMS
from .random_fields import Matern, SquaredExponential, covariance_matrix, random_field, two_phase
from .sensors import Sensors
from .solution import Solution, solve_inverse
from .solution_report import SolutionReport
from .weighted_draws import Particles

__all__ = [
    "DPS",
    "PROBLEMS",
    "AdvectionDiffusion",
    "Burgers",
    "CovarianceGuided",
    "Darcy",
    "Equation",
    "GaussNewtonProjected",
    "GaussianGuide",
    "Grid",
    "Heat",
    "Helmholtz",
    "KernelPrior",
    "LinearObservation",
    "Matern",
    "NonlinearObservation",
    "NormalizedDPS",
    "Observation",
    "Particles",
    "PiGDM",
    "Poisson",
    "Prior",
    "Problem",
    "Projected",
    "ReactionDiffusion",
    "ResidualGuided",
    "Sensors",
    "Solution",
    "SolutionReport",
    "SquaredExponential",
    "at_nodes",
    "averages",
    "covariance_matrix",
    "gaussian_prior",
    "generated_fields",
    "inverse",
    "joint_prior",
    "joint_sine_prior",
    "log_evidence",
    "log_likelihood",
    "named_prior",
    "observe",
    "own_prior",
    "posterior",
    "posterior_means",
    "posterior_weights",
    "process_prior",
    "random_field",
    "read_sensors",
    "residual_observation",
    "sequential_monte_carlo",
    "sine_forcing",
    "sine_prior",
    "solve_inverse",
    "start_at_mean",
    "two_phase",
    "where",
]  # fmt: skip

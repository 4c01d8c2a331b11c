"""Fields under a PDE: equations, observations, posteriors, and how good a posterior sampler is."""

from .conditioning import DPS, CovarianceGuided, GaussianGuide, NormalizedDPS, PiGDM, Projected
from .grid import Grid
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
from .operators import Darcy, Equation, Helmholtz, Poisson, inverse
from .posterior import log_evidence, posterior, posterior_means, posterior_weights
from .prior_fields import Prior, generated_fields
from .prior_names import named_prior, own_prior
from .problem import Problem
from .problems import PROBLEMS
from .sensors import Sensors
from .solution import Solution, solve_inverse
from .solution_report import SolutionReport

__all__ = [
    "DPS", "PROBLEMS", "CovarianceGuided", "Darcy", "Equation", "GaussianGuide", "Grid", "Helmholtz",
    "LinearObservation", "NonlinearObservation", "NormalizedDPS", "Observation", "PiGDM", "Poisson", "Prior",
    "Problem", "Projected", "Sensors", "Solution", "SolutionReport", "at_nodes", "averages", "generated_fields",
    "inverse", "log_evidence", "log_likelihood", "named_prior", "observe", "own_prior", "posterior",
    "posterior_means", "posterior_weights", "read_sensors", "solve_inverse", "where",
]  # fmt: skip

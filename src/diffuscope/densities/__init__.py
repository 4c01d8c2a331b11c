"""Densities that flow under a PDE: the heat, Fokker-Planck and backward equations, and likelihoods."""

from .anti_diffusion import AntiDiffusion, amplification, anti_diffuse, best_anti_diffusion
from .backward import expectation, expectations, gaussian_expectation
from .between_steps import BetweenSteps
from .characteristics import generated_log_density
from .density import Density, histogram
from .divergence import Divergence, ExactDivergence, HutchinsonDivergence, JacobianDivergence
from .entropy import entropy_rate, relative_entropy_rate
from .equation_residual import (
    ProbedScoreEquation,
    ScoreEquation,
    relative_residual,
    score_equation,
    score_equation_by_probes,
)
from .evidence_bound import VariationalBound, variational_bound
from .flow_map import Transported, transport
from .fokker_planck import (
    Boundary,
    FokkerPlanck,
    forward_equation,
    gradient_equation,
    homogeneous_equation,
    ito_equation,
)
from .gaussian_reverse import GaussianReverse
from .grid import Grid
from .heat import heat_flow, heat_flows, heat_kernel, periodic_heat_kernel
from .jacobian_symmetry import Curl, curl, curl_by_probes, relative_curl
from .likelihood import Likelihood, bits_per_dimension, dequantize, log_likelihood
from .relaxation import generator_matrix, relaxation_rates
from .resolution import mass_outside, unresolved
from .reverse import reverse_equation, reverse_evolution
from .schroedinger import PotentialDiffusion
from .score_information import (
    FisherInformation,
    PathEntropy,
    fisher_information,
    path_relative_entropy,
    relative_fisher,
)
from .semigroup import ornstein_uhlenbeck, transition
from .stepping import (
    BackwardEuler,
    CrankNicolson,
    PeacemanRachford,
    Scheme,
    Step,
    equal_steps,
    evolution,
    evolve,
    steps,
)
from .terminal import TerminalGaussian, terminal_gaussian

__all__ = [
    "AntiDiffusion", "BackwardEuler", "BetweenSteps", "Boundary", "CrankNicolson", "Curl", "Density", "Divergence",
    "ExactDivergence", "FisherInformation", "FokkerPlanck", "GaussianReverse", "Grid", "HutchinsonDivergence",
    "JacobianDivergence", "Likelihood", "PathEntropy", "PeacemanRachford", "PotentialDiffusion", "ProbedScoreEquation",
    "Scheme", "ScoreEquation", "Step", "TerminalGaussian", "Transported", "VariationalBound", "amplification",
    "anti_diffuse", "best_anti_diffusion", "bits_per_dimension", "curl", "curl_by_probes", "dequantize", "entropy_rate",
    "equal_steps", "evolution", "evolve", "expectation", "expectations", "fisher_information", "forward_equation",
    "gaussian_expectation", "generated_log_density", "generator_matrix", "gradient_equation", "heat_flow", "heat_flows",
    "heat_kernel", "histogram", "homogeneous_equation", "ito_equation", "log_likelihood", "mass_outside",
    "ornstein_uhlenbeck", "path_relative_entropy", "periodic_heat_kernel", "relative_curl", "relative_entropy_rate",
    "relative_fisher", "relative_residual", "relaxation_rates", "reverse_equation", "reverse_evolution",
    "score_equation", "score_equation_by_probes", "steps", "terminal_gaussian", "transition", "transport", "unresolved",
    "variational_bound",
]  # fmt: skip

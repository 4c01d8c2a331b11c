"""Densities that flow under a PDE: the heat, Fokker-Planck and backward equations, and likelihoods."""

from diffuscope.densities.anti_diffusion import AntiDiffusion, amplification, anti_diffuse, best_anti_diffusion
from diffuscope.densities.backward import expectation, expectations, gaussian_expectation
from diffuscope.densities.between_steps import BetweenSteps
from diffuscope.densities.characteristics import generated_log_density
from diffuscope.densities.curl import Curl, curl, curl_by_probes, relative_curl
from diffuscope.densities.density import Density, histogram
from diffuscope.densities.divergence import Divergence, ExactDivergence, HutchinsonDivergence, JacobianDivergence
from diffuscope.densities.entropy import entropy_rate, relative_entropy_rate
from diffuscope.densities.fokker_planck import (
    Boundary,
    FokkerPlanck,
    forward_equation,
    gradient_equation,
    homogeneous_equation,
    ito_equation,
)
from diffuscope.densities.gaussian_reverse import GaussianReverse
from diffuscope.densities.grid import Grid
from diffuscope.densities.heat import heat_flow, heat_flows, heat_kernel, periodic_heat_kernel
from diffuscope.densities.likelihood import Likelihood, bits_per_dimension, dequantize, log_likelihood
from diffuscope.densities.resolution import mass_outside, unresolved
from diffuscope.densities.reverse import reverse_equation, reverse_evolution
from diffuscope.densities.schroedinger import PotentialDiffusion
from diffuscope.densities.score_equation import (
    ProbedScoreEquation,
    ScoreEquation,
    relative_residual,
    score_equation,
    score_equation_by_probes,
)
from diffuscope.densities.score_information import (
    FisherInformation,
    PathEntropy,
    fisher_information,
    path_relative_entropy,
    relative_fisher,
)
from diffuscope.densities.semigroup import ornstein_uhlenbeck, transition
from diffuscope.densities.stepping import (
    BackwardEuler,
    CrankNicolson,
    PeacemanRachford,
    Scheme,
    Step,
    evolution,
    evolve,
    steps,
    uniform,
)
from diffuscope.densities.terminal import TerminalGaussian, terminal_gaussian
from diffuscope.densities.transport import Transported, transport
from diffuscope.densities.variational_bound import VariationalBound, variational_bound

__all__ = [
    "AntiDiffusion",
    "BackwardEuler",
    "BetweenSteps",
    "Boundary",
    "CrankNicolson",
    "Curl",
    "Density",
    "Divergence",
    "ExactDivergence",
    "FisherInformation",
    "FokkerPlanck",
    "GaussianReverse",
    "Grid",
    "HutchinsonDivergence",
    "JacobianDivergence",
    "Likelihood",
    "PathEntropy",
    "PeacemanRachford",
    "PotentialDiffusion",
    "ProbedScoreEquation",
    "Scheme",
    "ScoreEquation",
    "Step",
    "TerminalGaussian",
    "Transported",
    "VariationalBound",
    "amplification",
    "anti_diffuse",
    "best_anti_diffusion",
    "bits_per_dimension",
    "curl",
    "curl_by_probes",
    "dequantize",
    "entropy_rate",
    "evolution",
    "evolve",
    "expectation",
    "expectations",
    "fisher_information",
    "forward_equation",
    "gaussian_expectation",
    "generated_log_density",
    "gradient_equation",
    "heat_flow",
    "heat_flows",
    "heat_kernel",
    "histogram",
    "homogeneous_equation",
    "ito_equation",
    "log_likelihood",
    "mass_outside",
    "ornstein_uhlenbeck",
    "path_relative_entropy",
    "periodic_heat_kernel",
    "relative_curl",
    "relative_entropy_rate",
    "relative_fisher",
    "relative_residual",
    "reverse_equation",
    "reverse_evolution",
    "score_equation",
    "score_equation_by_probes",
    "steps",
    "terminal_gaussian",
    "transition",
    "transport",
    "uniform",
    "unresolved",
    "variational_bound",
]

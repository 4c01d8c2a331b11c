"""Densities that flow under a PDE: the heat, Fokker-Planck and backward equations, and likelihoods."""

from diffuscope.densities.anti_diffusion import AntiDiffusion, amplification, anti_diffuse, best_anti_diffusion
from diffuscope.densities.backward import expectation, expectations, gaussian_expectation
from diffuscope.densities.characteristics import generated_log_density
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
from diffuscope.densities.reverse import reverse_equation, reverse_evolution
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
from diffuscope.densities.transport import Transported, transport

__all__ = [
    "AntiDiffusion",
    "BackwardEuler",
    "Boundary",
    "CrankNicolson",
    "Density",
    "Divergence",
    "ExactDivergence",
    "FokkerPlanck",
    "GaussianReverse",
    "Grid",
    "HutchinsonDivergence",
    "JacobianDivergence",
    "PeacemanRachford",
    "Scheme",
    "Step",
    "Transported",
    "amplification",
    "anti_diffuse",
    "best_anti_diffusion",
    "entropy_rate",
    "evolution",
    "evolve",
    "expectation",
    "expectations",
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
    "ornstein_uhlenbeck",
    "periodic_heat_kernel",
    "relative_entropy_rate",
    "reverse_equation",
    "reverse_evolution",
    "steps",
    "transition",
    "transport",
    "uniform",
]

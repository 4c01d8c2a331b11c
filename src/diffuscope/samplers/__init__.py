"""Samplers that declare their order, and the closed-form jump over high noise."""

from diffuscope.samplers.adams_bashforth import DataAdamsBashforth, NoiseAdamsBashforth
from diffuscope.samplers.bridge import ReverseBridge
from diffuscope.samplers.brownian import BrownianPath
from diffuscope.samplers.calibrated import Calibrated
from diffuscope.samplers.calibration import calibrate
from diffuscope.samplers.churn import EDMChurn
from diffuscope.samplers.contract import Evaluation, Sampler, State, sample, trajectory
from diffuscope.samplers.ddim import DDIM
from diffuscope.samplers.ddim_eta import StochasticDDIM
from diffuscope.samplers.ddpm import DDPM, OptimalVariance, ReverseVariance, posterior_variance, upper_variance
from diffuscope.samplers.dormand_prince import DormandPrince
from diffuscope.samplers.dpm_solver import DPMSolverPP2M, DPMSolverPP2S, DPMSolverPP3M
from diffuscope.samplers.dpm_solver_sde import SDEDPMSolverPP2M, SDEDPMSolverPP3M
from diffuscope.samplers.dpm_solver_v3 import DPMSolverV3
from diffuscope.samplers.ems import ModelStatistics, estimate_statistics, plain_statistics
from diffuscope.samplers.error_control import EvaluationsSpentError, Slope, integrate
from diffuscope.samplers.eta import Eta, stochastic_until
from diffuscope.samplers.instant import Instant, instant, instants
from diffuscope.samplers.langevin import Langevin, MetropolisLangevin
from diffuscope.samplers.mixture_transition import MixtureTransition
from diffuscope.samplers.noise import Noise
from diffuscope.samplers.ode import Euler, Heun, RungeKutta4
from diffuscope.samplers.restart import Restart
from diffuscope.samplers.sde import EulerMaruyama, StochasticHeun, StrongOrder15
from diffuscope.samplers.teleport import Truncation, reallocate, teleport, truncate, warm_history
from diffuscope.samplers.teleport_error import SkipSuggestion, TeleportError, suggest_skip, teleport_error
from diffuscope.samplers.teleported import (
    Teleported,
    TeleportedSample,
    reallocated_times,
    suggest_sigma_skip,
    teleported_sample,
)
from diffuscope.samplers.unipc import UniPC

__all__ = [
    "DDIM",
    "DDPM",
    "BrownianPath",
    "Calibrated",
    "DPMSolverPP2M",
    "DPMSolverPP2S",
    "DPMSolverPP3M",
    "DPMSolverV3",
    "DataAdamsBashforth",
    "DormandPrince",
    "EDMChurn",
    "Eta",
    "Euler",
    "EulerMaruyama",
    "Evaluation",
    "EvaluationsSpentError",
    "Heun",
    "Instant",
    "Langevin",
    "MetropolisLangevin",
    "MixtureTransition",
    "ModelStatistics",
    "Noise",
    "NoiseAdamsBashforth",
    "OptimalVariance",
    "Restart",
    "ReverseBridge",
    "ReverseVariance",
    "RungeKutta4",
    "SDEDPMSolverPP2M",
    "SDEDPMSolverPP3M",
    "Sampler",
    "SkipSuggestion",
    "Slope",
    "State",
    "StochasticDDIM",
    "StochasticHeun",
    "StrongOrder15",
    "TeleportError",
    "Teleported",
    "TeleportedSample",
    "Truncation",
    "UniPC",
    "calibrate",
    "estimate_statistics",
    "instant",
    "instants",
    "integrate",
    "plain_statistics",
    "posterior_variance",
    "reallocate",
    "reallocated_times",
    "sample",
    "stochastic_until",
    "suggest_sigma_skip",
    "suggest_skip",
    "teleport",
    "teleport_error",
    "teleported_sample",
    "trajectory",
    "truncate",
    "upper_variance",
    "warm_history",
]

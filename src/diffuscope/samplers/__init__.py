"""Samplers that declare their order, and the closed-form jump over high noise."""

from .adams_bashforth import DataAdamsBashforth, NoiseAdamsBashforth
from .bridge import ReverseBridge
from .brownian import BrownianPath
from .calibrated import Calibrated
from .calibration import calibrate
from .churn import EDMChurn
from .consistency import consistency_samples, consistency_times
from .contract import Evaluation, Sampler, State, sample, trajectory
from .ddim import DDIM
from .ddim_eta import StochasticDDIM
from .ddpm import DDPM, OptimalVariance, ReverseVariance, posterior_variance, upper_variance
from .displacement import SkipSuggestion, TeleportError, suggest_skip, teleport_error
from .dormand_prince import DormandPrince
from .dpm_solver import DPMSolverPP2M, DPMSolverPP2S, DPMSolverPP3M
from .dpm_solver_sde import SDEDPMSolverPP2M, SDEDPMSolverPP3M
from .dpm_solver_v3 import DPMSolverV3
from .error_control import EvaluationsSpentError, Slope, integrate
from .eta import Eta, stochastic_until
from .gaussian_jump import Truncation, reallocate, teleport, truncate, warm_history
from .generation import conditioned, cycled, finish, generate, is_one_step, model_times, times_at
from .langevin import Langevin, MetropolisLangevin
from .mixture_transition import MixtureTransition
from .model_statistics import ModelStatistics, estimate_statistics, plain_statistics
from .noise import Noise
from .ode import Euler, Heun, RungeKutta4
from .restart import Restart
from .schedule_values import Instant, instant, instants
from .sde import EulerMaruyama, StochasticHeun, StrongOrder15
from .teleported import Teleported, TeleportedSample, reallocated_times, suggest_sigma_skip, teleported_sample
from .unipc import UniPC

__all__ = [
    "DDIM", "DDPM", "BrownianPath", "Calibrated", "DPMSolverPP2M", "DPMSolverPP2S", "DPMSolverPP3M", "DPMSolverV3",
    "DataAdamsBashforth", "DormandPrince", "EDMChurn", "Eta", "Euler", "EulerMaruyama", "Evaluation",
    "EvaluationsSpentError", "Heun", "Instant", "Langevin", "MetropolisLangevin", "MixtureTransition",
    "ModelStatistics", "Noise", "NoiseAdamsBashforth", "OptimalVariance", "Restart", "ReverseBridge", "ReverseVariance",
    "RungeKutta4", "SDEDPMSolverPP2M", "SDEDPMSolverPP3M", "Sampler", "SkipSuggestion", "Slope", "State",
    "StochasticDDIM", "StochasticHeun", "StrongOrder15", "TeleportError", "Teleported", "TeleportedSample",
    "Truncation", "UniPC", "calibrate", "conditioned", "consistency_samples", "consistency_times", "cycled",
    "estimate_statistics", "finish", "generate", "instant", "instants", "integrate", "is_one_step", "model_times",
    "plain_statistics", "posterior_variance", "reallocate", "reallocated_times", "sample", "stochastic_until",
    "suggest_sigma_skip", "suggest_skip", "teleport", "teleport_error", "teleported_sample", "times_at", "trajectory",
    "truncate", "upper_variance", "warm_history",
]  # fmt: skip

"""Samplers that declare their order, and the closed-form jump over high noise."""

from diffuscope.samplers.bridge import ReverseBridge
from diffuscope.samplers.contract import Evaluation, Sampler, State, sample, trajectory
from diffuscope.samplers.ddim import DDIM
from diffuscope.samplers.ddim_eta import StochasticDDIM
from diffuscope.samplers.ddpm import DDPM
from diffuscope.samplers.dpm_solver import DPMSolverPP2M
from diffuscope.samplers.eta import Eta, stochastic_until
from diffuscope.samplers.instant import Instant, instant, instants
from diffuscope.samplers.noise import Noise
from diffuscope.samplers.ode import Euler, Heun, RungeKutta4
from diffuscope.samplers.sde import EulerMaruyama, StochasticHeun, StrongOrder15
from diffuscope.samplers.teleport import Truncation, reallocate, teleport, truncate, warm_history
from diffuscope.samplers.teleport_error import SkipSuggestion, TeleportError, suggest_skip, teleport_error

__all__ = [
    "DDIM",
    "DDPM",
    "DPMSolverPP2M",
    "Eta",
    "Euler",
    "EulerMaruyama",
    "Evaluation",
    "Heun",
    "Instant",
    "Noise",
    "ReverseBridge",
    "RungeKutta4",
    "Sampler",
    "SkipSuggestion",
    "State",
    "StochasticDDIM",
    "StochasticHeun",
    "StrongOrder15",
    "TeleportError",
    "Truncation",
    "instant",
    "instants",
    "reallocate",
    "sample",
    "stochastic_until",
    "suggest_skip",
    "teleport",
    "teleport_error",
    "trajectory",
    "truncate",
    "warm_history",
]

"""Most likely paths of noisy dynamics: their action, what they conserve, and how often they happen."""

from .absorption import absorbed_mean, absorbed_paths
from .conditioned import ConditionedPaths, LinearBridge, conditioned_paths, linear_bridge
from .curve_path import curve_path
from .dynamics import Dynamics
from .fixed_duration import adapted_times, curve_of_duration, stiff_least_action, timed
from .fixed_points import FixedPoint, fixed_point, fixed_points
from .geometric_action import GeometricAction, geometric_action
from .instanton import Instanton
from .lagrangian import ActionDensity, Functional, Lagrangian
from .least_action import Certificate, LeastAction, least_action, least_of_density, straight
from .minimum_energy_path import MinimumEnergyPath, string
from .most_likely import Conserved, MostLikelyPath, most_likely_path
from .ordered_line_integral import Quasipotential, quasipotential
from .path_page import PathReport
from .rates import Rate, Transition, eyring_kramers, kramers, transition_rate
from .reverse import ReverseDiffusion, reverse_diffusion
from .shooting import Shot, shoot
from .symmetry import (
    FoundSymmetry,
    Symmetry,
    energy_balance,
    find_symmetries,
    rotation,
    scaling,
    time_shift,
    translation,
    variation,
    violation,
)

__all__ = [
    "ActionDensity", "Certificate", "ConditionedPaths", "Conserved", "Dynamics", "FixedPoint", "FoundSymmetry",
    "Functional", "GeometricAction", "Instanton", "Lagrangian", "LeastAction", "LinearBridge", "MinimumEnergyPath",
    "MostLikelyPath", "PathReport", "Quasipotential", "Rate", "ReverseDiffusion", "Shot", "Symmetry", "Transition",
    "absorbed_mean", "absorbed_paths", "adapted_times", "conditioned_paths", "curve_of_duration", "curve_path",
    "energy_balance", "eyring_kramers", "find_symmetries", "fixed_point", "fixed_points", "geometric_action", "kramers",
    "least_action", "least_of_density", "linear_bridge", "most_likely_path", "quasipotential", "reverse_diffusion",
    "rotation", "scaling", "shoot", "stiff_least_action", "straight", "string", "time_shift", "timed",
    "transition_rate", "translation", "variation", "violation",
]  # fmt: skip

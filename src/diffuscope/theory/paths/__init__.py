"""Most likely paths of noisy dynamics: their action, what they conserve, and how often they happen."""

from .dynamics import Dynamics
from .fixed_duration import curve_of_duration, stiff_least_action, timed
from .fixed_points import FixedPoint, fixed_point, fixed_points
from .geometric_action import GeometricAction, geometric_action
from .instanton import Instanton
from .lagrangian import ActionDensity, Functional, Lagrangian
from .least_action import Certificate, LeastAction, least_action, least_of_density, straight
from .rates import Rate, Transition, eyring_kramers, kramers, transition_rate
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
    "ActionDensity", "Certificate", "Dynamics", "FixedPoint", "FoundSymmetry", "Functional", "GeometricAction",
    "Instanton", "Lagrangian", "LeastAction", "Rate", "Symmetry", "Transition", "curve_of_duration", "energy_balance",
    "eyring_kramers", "find_symmetries", "fixed_point", "fixed_points", "geometric_action", "kramers", "least_action",
    "least_of_density", "rotation", "scaling", "stiff_least_action", "straight", "time_shift", "timed",
    "transition_rate", "translation", "variation", "violation",
]  # fmt: skip

"""Most likely paths of noisy dynamics: their action, what they conserve, and how often they happen."""

from .dynamics import Dynamics
from .lagrangian import ActionDensity, Functional, Lagrangian
from .least_action import Certificate, LeastAction, least_action, least_of_density, straight
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
    "ActionDensity", "Certificate", "Dynamics", "FoundSymmetry", "Functional", "Lagrangian", "LeastAction", "Symmetry",
    "energy_balance", "find_symmetries", "least_action", "least_of_density", "rotation", "scaling", "straight",
    "time_shift", "translation", "variation", "violation",
]  # fmt: skip

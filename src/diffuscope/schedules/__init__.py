"""Noise schedules: the two functions of time that define a diffusion."""

from .exploding import VE, GeometricVE, Karras
from .flow import RectifiedFlow
from .preserving import VP, Cosine, DiscreteVP, Sigmoid, ZeroTerminalVP
from .schedule import Schedule, Time, Times, as_time

__all__ = [
    "VE", "VP", "Cosine", "DiscreteVP", "GeometricVE", "Karras", "RectifiedFlow", "Schedule", "Sigmoid", "Time",
    "Times", "ZeroTerminalVP", "as_time",
]  # fmt: skip

"""Discretized PDEs: residual, linearization, reference solver, random problems."""

from .equation import Equation

__all__ = ["Equation"]

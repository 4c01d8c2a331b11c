"""Analytic denoisers: computed from the data, exactly over all of it."""

from .smoothed import Smoothed

__all__ = ["Smoothed"]

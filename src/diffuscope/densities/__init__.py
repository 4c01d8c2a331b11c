"""Densities that flow under a PDE: the heat, Fokker-Planck and backward equations, and likelihoods."""

from diffuscope.densities.density import Density, histogram
from diffuscope.densities.grid import Grid

__all__ = ["Density", "Grid", "histogram"]

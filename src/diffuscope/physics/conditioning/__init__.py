"""Posterior denoisers made from prior denoisers."""

from .conditioned import Conditioned
from .covariance_guided import CovarianceGuided
from .dps import DPS, NormalizedDPS
from .gauss_newton import GaussNewtonProjected, Projection
from .gaussian_guide import GaussianGuide
from .pigdm import PiGDM
from .projected import Projected
from .residual import ResidualGuided, affine, residual_observation

__all__ = [
    "DPS", "Conditioned", "CovarianceGuided", "GaussNewtonProjected", "GaussianGuide", "NormalizedDPS", "PiGDM",
    "Projected", "Projection", "ResidualGuided", "affine", "residual_observation",
]  # fmt: skip

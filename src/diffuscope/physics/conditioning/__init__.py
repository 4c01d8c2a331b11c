"""Posterior denoisers made from prior denoisers."""

from .conditioned import Conditioned
from .covariance_guided import CovarianceGuided
from .dps import DPS, NormalizedDPS
from .gaussian_guide import GaussianGuide
from .pigdm import PiGDM
from .projected import Projected

__all__ = ["DPS", "Conditioned", "CovarianceGuided", "GaussianGuide", "NormalizedDPS", "PiGDM", "Projected"]

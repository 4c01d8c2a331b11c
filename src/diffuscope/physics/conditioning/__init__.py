"""Posterior denoisers made from prior denoisers."""

from .conditioned import Conditioned
from .covariance_guided import CovarianceGuided
from .dps import DPS, NormalizedDPS
from .gaussian_guide import GaussianGuide
from .pigdm import PiGDM
from .projected import Projected
from .start import start_at_mean

__all__ = [
    "DPS",
    "Conditioned",
    "CovarianceGuided",
    "GaussianGuide",
    "NormalizedDPS",
    "PiGDM",
    "Projected",
    "start_at_mean",
]

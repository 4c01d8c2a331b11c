"""Data laws whose diffusion is known exactly."""

from diffuscope.exact.distribution import Distribution, Level, PosteriorCovariance
from diffuscope.exact.empirical import Denoised, Empirical, EmpiricalCovariance, Evidence
from diffuscope.exact.gaussian import Gaussian
from diffuscope.exact.mixture import GaussianMixture
from diffuscope.exact.neighbors import nearest_neighbors, nearest_other_neighbors
from diffuscope.exact.ring import Ring, RingCovariance

__all__ = [
    "Denoised",
    "Distribution",
    "Empirical",
    "EmpiricalCovariance",
    "Evidence",
    "Gaussian",
    "GaussianMixture",
    "Level",
    "PosteriorCovariance",
    "Ring",
    "RingCovariance",
    "nearest_neighbors",
    "nearest_other_neighbors",
]

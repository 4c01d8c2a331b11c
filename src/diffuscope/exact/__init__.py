"""Data laws whose diffusion is known exactly."""

from diffuscope.exact.distribution import Distribution, Level, PosteriorCovariance
from diffuscope.exact.gaussian import Gaussian
from diffuscope.exact.mixture import GaussianMixture

__all__ = ["Distribution", "Gaussian", "GaussianMixture", "Level", "PosteriorCovariance"]

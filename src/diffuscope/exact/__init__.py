"""Data laws whose diffusion is known exactly."""

from diffuscope.exact.distribution import Distribution, Level, PosteriorCovariance

__all__ = ["Distribution", "Level", "PosteriorCovariance"]

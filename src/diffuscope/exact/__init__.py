"""Data laws whose diffusion is known exactly."""

from diffuscope.exact.affine import Affine
from diffuscope.exact.blurred import Blurred
from diffuscope.exact.box import Box
from diffuscope.exact.curve import Curve
from diffuscope.exact.distribution import Distribution, Level, PosteriorCovariance
from diffuscope.exact.empirical import Denoised, Empirical, EmpiricalCovariance, Evidence
from diffuscope.exact.gaussian import Gaussian
from diffuscope.exact.mixture import GaussianMixture
from diffuscope.exact.neighbors import nearest_neighbors, nearest_other_neighbors
from diffuscope.exact.ring import Ring, RingCovariance
from diffuscope.exact.superposition import Superposition
from diffuscope.exact.toys import (
    TOYS,
    checkerboard,
    known_law,
    known_range,
    rings,
    spirals,
    swiss_roll,
    two_moons,
)

__all__ = [
    "TOYS",
    "Affine",
    "Blurred",
    "Box",
    "Curve",
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
    "Superposition",
    "checkerboard",
    "known_law",
    "known_range",
    "nearest_neighbors",
    "nearest_other_neighbors",
    "rings",
    "spirals",
    "swiss_roll",
    "two_moons",
]

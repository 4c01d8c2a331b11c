"""Data distributions whose diffusion is known exactly."""

from .affine import Affine
from .blurred import Blurred
from .box import Box
from .curve import Curve
from .distribution import Distribution, Level, PosteriorCovariance
from .empirical import Denoised, Empirical, EmpiricalCovariance, Evidence
from .gaussian import Gaussian
from .mixture import GaussianMixture
from .neighbors import nearest_neighbors, nearest_other_neighbors
from .ring import Ring, RingCovariance
from .superposition import Superposition
from .toys import TOYS, checkerboard, known_distribution, known_range, rings, spirals, swiss_roll, two_moons

__all__ = [
    "TOYS", "Affine", "Blurred", "Box", "Curve", "Denoised", "Distribution", "Empirical", "EmpiricalCovariance",
    "Evidence", "Gaussian", "GaussianMixture", "Level", "PosteriorCovariance", "Ring", "RingCovariance",
    "Superposition", "checkerboard", "known_distribution", "known_range", "nearest_neighbors",
    "nearest_other_neighbors", "rings", "spirals", "swiss_roll", "two_moons",
]  # fmt: skip

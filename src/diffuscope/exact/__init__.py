"""Data distributions whose diffusion is known exactly."""

from ._finite_set import Denoised, Evidence
from .affine import Affine
from .blurred import Blurred
from .box import Box
from .curve import Curve
from .distribution import Distribution, Level, PosteriorCovariance
from .empirical import Empirical, EmpiricalCovariance
from .finite_sample import (
    degrees_of_freedom,
    denoised_variance,
    effective_variance,
    expected_denoised,
    inflation,
    reliable_from,
    shrinkage,
    shrunk,
    too_few_examples,
)
from .gaussian import Gaussian
from .guided import GuidedGaussian, with_equal_tails
from .mixture import GaussianMixture
from .neighbors import nearest_neighbors, nearest_other_neighbors
from .posterior_draws import dense_covariance, posterior_noise, posterior_sample
from .ring import Ring, RingCovariance
from .saved import read_gaussian, write_gaussian
from .sharded import ShardedCovariance, ShardedEmpirical, sharded_neighbors, sharded_other_neighbors
from .streaming import LeadingPairs, leading_pairs, oversampled
from .streaming_shards import sharded_leading_pairs, sharded_moments
from .superposition import Superposition
from .toys import TOYS, checkerboard, known_distribution, known_range, rings, spirals, swiss_roll, two_moons
from .tracking import TrackedEmpirical

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
    "GuidedGaussian",
    "LeadingPairs",
    "Level",
    "PosteriorCovariance",
    "Ring",
    "RingCovariance",
    "ShardedCovariance",
    "ShardedEmpirical",
    "Superposition",
    "TrackedEmpirical",
    "checkerboard",
    "degrees_of_freedom",
    "denoised_variance",
    "dense_covariance",
    "effective_variance",
    "expected_denoised",
    "inflation",
    "known_distribution",
    "known_range",
    "leading_pairs",
    "nearest_neighbors",
    "nearest_other_neighbors",
    "oversampled",
    "posterior_noise",
    "posterior_sample",
    "read_gaussian",
    "reliable_from",
    "rings",
    "sharded_leading_pairs",
    "sharded_moments",
    "sharded_neighbors",
    "sharded_other_neighbors",
    "shrinkage",
    "shrunk",
    "spirals",
    "swiss_roll",
    "too_few_examples",
    "two_moons",
    "with_equal_tails",
    "write_gaussian",
]  # fmt: skip

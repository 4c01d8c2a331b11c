"""Geometry of generation: the plane, the dimension, the order of emergence, and what a push does."""

from .dimension import components_for, principal_shares
from .feature_emergence import (
    crossing_levels,
    emerged_share,
    emergence_level,
    fastest_level,
    feature_coordinates,
    measured_share,
    root_share,
)
from .plane import in_plane, outside, rotated, rotation_error, rotation_residual
from .pushes import along, denoised_gain, displacements, noise_relative_gain, sample_gain, state_gain
from .trajectories import Trajectories, follow, gaussian_trajectories
from .varied_samples import distances, gaussian_variation, principal_directions, random_directions, variations

__all__ = [
    "Trajectories", "along", "components_for", "crossing_levels", "denoised_gain", "displacements", "distances",
    "emerged_share", "emergence_level", "fastest_level", "feature_coordinates", "follow", "gaussian_trajectories",
    "gaussian_variation", "in_plane", "measured_share", "noise_relative_gain", "outside", "principal_directions",
    "principal_shares", "random_directions", "root_share", "rotated", "rotation_error", "rotation_residual",
    "sample_gain", "state_gain", "variations",
]  # fmt: skip

"""Analytic denoisers that explain what networks do, each computed exactly over the whole data set."""

from .aggregation import center_mean, overlap_mean
from .calibration import PatchSizes, patch_sizes
from .denoiser import AnalyticDenoiser, checked_images
from .masks import masked_score
from .patches import boundary_equivariant_score, equivariant_score, local_score, patch_composition
from .pca_masks import WienerMasks, pca_local_score, wiener_masks
from .smoothed import Smoothed
from .views import MaskView, SquareView, View, boundary_views, circular_views, crop_views, local_views

__all__ = [
    "AnalyticDenoiser", "MaskView", "PatchSizes", "Smoothed", "SquareView", "View", "WienerMasks",
    "boundary_equivariant_score", "boundary_views", "center_mean", "checked_images", "circular_views", "crop_views",
    "equivariant_score", "local_score", "local_views", "masked_score", "overlap_mean", "patch_composition",
    "patch_sizes", "pca_local_score", "wiener_masks",
]  # fmt: skip

"""Analytic denoisers: computed from the data, exactly over all of it."""

from .pca_masks import PCALocal, masked_means, wiener_masks
from .smoothed import Smoothed

__all__ = ["PCALocal", "Smoothed", "masked_means", "wiener_masks"]

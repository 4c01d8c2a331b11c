"""Generalization through variance: the noise of a learned score, and the samples that it makes."""

from .features import Affine, Axis, Bins, Constant, Features, Fourier, GaussianBumps, Products
from .linear_ensemble import LinearEnsemble, ridge_regression, train_linear
from .noise import Amplitude, Quenched, ScoreFields, White

__all__ = [
    "Affine", "Amplitude", "Axis", "Bins", "Constant", "Features", "Fourier", "GaussianBumps", "LinearEnsemble",
    "Products", "Quenched", "ScoreFields", "White", "ridge_regression", "train_linear",
]  # fmt: skip

"""Generalization through variance: the noise of a learned score, and the samples that it makes."""

from .effective import Steps, effective_white_sample, quenched_sample
from .feature_moments import FeatureMoments, feature_moments
from .features import Affine, Axis, Bins, Constant, Features, Fourier, GaussianBumps, Products
from .linear_ensemble import LinearEnsemble, ridge_regression, train_linear
from .linear_features import LinearFeatures, LinearScores, linear_features
from .noise import Amplitude, Quenched, ScoreFields, White
from .population import Population, Slice

__all__ = [
    "Affine", "Amplitude", "Axis", "Bins", "Constant", "FeatureMoments", "Features", "Fourier", "GaussianBumps",
    "LinearEnsemble", "LinearFeatures", "LinearScores", "Population", "Products", "Quenched", "ScoreFields", "Slice",
    "Steps", "White", "effective_white_sample", "feature_moments", "linear_features", "quenched_sample",
    "ridge_regression", "train_linear",
]  # fmt: skip

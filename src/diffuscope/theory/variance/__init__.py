"""Generalization through variance: the noise of a learned score, and the samples that it makes."""

from .decompose import Decomposition, Ensemble, decompose
from .effective import effective_white_sample, quenched_sample
from .features import Affine, Axis, Bins, Constant, Features, Fourier, GaussianBumps, Products
from .linear_ensemble import LinearEnsemble, ridge_regression, train_linear
from .naive import Naive, gaussian_variance, interleaved_sample
from .noise import Amplitude, Quenched, ScoreFields, White
from .proxy import ProxyCovariance, ProxyScore
from .semiclassical import Semiclassical, semiclassical_quenched, semiclassical_white

__all__ = [
    "Affine", "Amplitude", "Axis", "Bins", "Constant", "Decomposition", "Ensemble", "Features", "Fourier",
    "GaussianBumps", "LinearEnsemble", "Naive", "Products", "ProxyCovariance", "ProxyScore", "Quenched", "ScoreFields",
    "Semiclassical", "White", "decompose", "effective_white_sample", "gaussian_variance", "interleaved_sample",
    "quenched_sample", "ridge_regression", "semiclassical_quenched", "semiclassical_white", "train_linear",
]  # fmt: skip

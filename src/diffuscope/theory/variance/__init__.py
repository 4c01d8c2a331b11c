"""Generalization through variance: the noise of a learned score, and the samples that it makes."""

from .effective import Steps, effective_white_sample, quenched_sample
from .features import Affine, Axis, Bins, Constant, Features, Fourier, GaussianBumps, Products
from .noise import Amplitude, Quenched, ScoreFields, White

__all__ = [
    "Affine", "Amplitude", "Axis", "Bins", "Constant", "Features", "Fourier", "GaussianBumps", "Products", "Quenched",
    "ScoreFields", "Steps", "White", "effective_white_sample", "quenched_sample",
]  # fmt: skip

"""Generalization through variance: the noise of a learned score, and the samples that it makes."""

from .effective import effective_white_sample, quenched_sample
from .naive import Naive, gaussian_variance, interleaved_sample
from .noise import Amplitude, Quenched, ScoreFields, White
from .proxy import ProxyCovariance, ProxyScore
from .semiclassical import Semiclassical, semiclassical_quenched, semiclassical_white

__all__ = [
    "Amplitude", "Naive", "ProxyCovariance", "ProxyScore", "Quenched", "ScoreFields", "Semiclassical", "White",
    "effective_white_sample", "gaussian_variance", "interleaved_sample", "quenched_sample", "semiclassical_quenched",
    "semiclassical_white",
]  # fmt: skip

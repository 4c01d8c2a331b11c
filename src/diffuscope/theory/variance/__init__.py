"""Generalization through variance: the noise of a learned score, and the samples that it makes."""

from .effective import Steps, effective_white_sample, quenched_sample
from .noise import Amplitude, Quenched, ScoreFields, White

__all__ = [
    "Amplitude", "Quenched", "ScoreFields", "Steps", "White", "effective_white_sample", "quenched_sample",
]  # fmt: skip

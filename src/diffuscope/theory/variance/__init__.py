"""Generalization through variance: the noise of a learned score, and the samples that it makes."""

from .noise import Amplitude, Quenched, ScoreFields, White

__all__ = ["Amplitude", "Quenched", "ScoreFields", "White"]

"""Denoising score matching, the training loop as a generator, and checkpoints that resume bit for bit."""

from diffuscope.training.loop import Progress, averaged, fit, show_progress, train
from diffuscope.training.objective import (
    EDMWeight,
    LogNormalNoise,
    LogUniformNoise,
    NoiseLaw,
    PlainWeight,
    UniformTime,
    Weight,
    denoising_loss,
    squared_errors,
)
from diffuscope.training.recipe import new_denoiser, recipe
from diffuscope.training.settings import TrainingSettings

__all__ = [
    "EDMWeight",
    "LogNormalNoise",
    "LogUniformNoise",
    "NoiseLaw",
    "PlainWeight",
    "Progress",
    "TrainingSettings",
    "UniformTime",
    "Weight",
    "averaged",
    "denoising_loss",
    "fit",
    "new_denoiser",
    "recipe",
    "show_progress",
    "squared_errors",
    "train",
]

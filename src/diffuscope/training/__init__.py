"""Score-matching objectives, the training loop as a generator, and checkpoints that resume bit for bit."""

from diffuscope.distributed import of_process_0, process_group, processes, rank

from .default_model import new_denoiser, recipe, train_denoiser
from .log import DistanceLog, read_distances
from .loop import Progress, Stop, averaged, fit, show_progress, train
from .objective import (
    Denoising,
    EDMWeight,
    LogNormalNoise,
    LogUniformNoise,
    NoiseDistribution,
    NoiseWeight,
    Objective,
    PlainWeight,
    ScoreWeight,
    UniformTime,
    VelocityWeight,
    Weight,
    denoising_loss,
    squared_errors,
)
from .optimum import Distance, Excess, LevelDistance, Optimum
from .score_matching import explicit_losses, implicit_losses, implicit_losses_by_probe, signs, sliced_losses
from .settings import Precision, TrainingSettings
from .target_average import AveragedTarget, DataPosterior, NoiseFreeTarget
from .unbiased_risk import Implicit, ImplicitByProbe, Sliced

__all__ = [
    "AveragedTarget", "DataPosterior", "Denoising", "Distance", "DistanceLog", "EDMWeight", "Excess", "Implicit",
    "ImplicitByProbe", "LevelDistance", "LogNormalNoise", "LogUniformNoise", "NoiseDistribution", "NoiseFreeTarget",
    "NoiseWeight", "Objective", "Optimum", "PlainWeight", "Precision", "Progress", "ScoreWeight", "Sliced", "Stop",
    "TrainingSettings", "UniformTime", "VelocityWeight", "Weight", "averaged", "denoising_loss", "explicit_losses",
    "fit", "implicit_losses", "implicit_losses_by_probe", "new_denoiser", "of_process_0", "process_group", "processes",
    "rank", "read_distances", "recipe", "show_progress", "signs", "sliced_losses", "squared_errors", "train",
    "train_denoiser",
]  # fmt: skip

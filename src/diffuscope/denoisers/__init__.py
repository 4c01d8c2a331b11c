"""The denoiser contract, its conversions, and the networks that fulfil it."""

from diffuscope.denoisers.clocks import Clock, ScheduleTime, SignalTime, StepIndex, clock_of
from diffuscope.denoisers.contract import (
    Batch,
    BatchTime,
    Denoiser,
    ExactDenoiser,
    Rescheduled,
    denoised_to_noise,
    denoised_to_score,
    denoised_to_velocity,
    noise_to_denoised,
    over_events,
    score_to_denoised,
    velocity_to_denoised,
)
from diffuscope.denoisers.files import load_denoiser, save_denoiser
from diffuscope.denoisers.networks import MLP, LevelTable, LinearDenoiser, SymmetricLinearDenoiser, UNet
from diffuscope.denoisers.objects import load_callable, load_object
from diffuscope.denoisers.preconditioning import Preconditioned, Preconditioning, preconditioning
from diffuscope.denoisers.predictors import (
    DataPredictor,
    Network,
    NoisePredictor,
    VelocityPredictor,
    nearest_trained_time,
)
from diffuscope.denoisers.pretrained import with_label

__all__ = [
    "MLP",
    "Batch",
    "BatchTime",
    "Clock",
    "DataPredictor",
    "Denoiser",
    "ExactDenoiser",
    "LevelTable",
    "LinearDenoiser",
    "Network",
    "NoisePredictor",
    "Preconditioned",
    "Preconditioning",
    "Rescheduled",
    "ScheduleTime",
    "SignalTime",
    "StepIndex",
    "SymmetricLinearDenoiser",
    "UNet",
    "VelocityPredictor",
    "clock_of",
    "denoised_to_noise",
    "denoised_to_score",
    "denoised_to_velocity",
    "load_callable",
    "load_denoiser",
    "load_object",
    "nearest_trained_time",
    "noise_to_denoised",
    "over_events",
    "preconditioning",
    "save_denoiser",
    "score_to_denoised",
    "velocity_to_denoised",
    "with_label",
]

"""The denoiser contract, its conversions, and the networks that fulfill it."""

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
from diffuscope.denoisers.files import load_denoiser, load_npz, save_denoiser
from diffuscope.denoisers.guidance import ConditionalDenoiser, Guided, OfClass
from diffuscope.denoisers.networks import MLP, LevelTable, LinearDenoiser, SymmetricLinearDenoiser, UNet, seeded
from diffuscope.denoisers.objects import load_callable, load_object
from diffuscope.denoisers.preconditioning import Preconditioned, Preconditioning, preconditioning
from diffuscope.denoisers.predictors import (
    INTEGERS,
    Classes,
    DataPredictor,
    Network,
    NoisePredictor,
    VelocityPredictor,
    classes_of,
    nearest_trained_time,
)

__all__ = [
    "INTEGERS",
    "MLP",
    "Batch",
    "BatchTime",
    "Classes",
    "Clock",
    "ConditionalDenoiser",
    "DataPredictor",
    "Denoiser",
    "ExactDenoiser",
    "Guided",
    "LevelTable",
    "LinearDenoiser",
    "Network",
    "NoisePredictor",
    "OfClass",
    "Preconditioned",
    "Preconditioning",
    "Rescheduled",
    "ScheduleTime",
    "SignalTime",
    "StepIndex",
    "SymmetricLinearDenoiser",
    "UNet",
    "VelocityPredictor",
    "classes_of",
    "clock_of",
    "denoised_to_noise",
    "denoised_to_score",
    "denoised_to_velocity",
    "load_callable",
    "load_denoiser",
    "load_npz",
    "load_object",
    "nearest_trained_time",
    "noise_to_denoised",
    "over_events",
    "preconditioning",
    "save_denoiser",
    "score_to_denoised",
    "seeded",
    "velocity_to_denoised",
]

"""The denoiser contract, its conversions, and the networks that fulfill it."""

from .clocks import Clock, ScheduleTime, SignalTime, StepIndex, clock_of
from .contents import modules_within, tensors_within
from .contract import (
    Batch,
    BatchTime,
    Checked,
    Denoiser,
    ExactDenoiser,
    Rescheduled,
    denoised_to_noise,
    denoised_to_score,
    denoised_to_velocity,
    noise_to_denoised,
    over_events,
    require_batch,
    score_to_denoised,
    velocity_to_denoised,
)
from .counting import CountingDenoiser
from .devices import device_of, on_device
from .edm import Preconditioned, Preconditioning, preconditioning
from .files import load_denoiser, load_npz, save_denoiser
from .guidance import ConditionalDenoiser, Guided, OfClass
from .networks import MLP, LevelTable, LinearDenoiser, SymmetricLinearDenoiser, UNet, seeded
from .objects import given_weights, load_callable, load_model, load_network
from .predictors import (
    INTEGERS,
    Classes,
    DataPredictor,
    Network,
    NoisePredictor,
    VelocityPredictor,
    VPredictor,
    classes_of,
    nearest_trained_time,
)
from .statistics_fit import require_fits_data, require_fits_model, require_shape_and_range
from .weights import LoadedWeights, Weights, load_weights, loaded_weights
from .weights_file import WeightsFile, read_weights

__all__ = [
    "INTEGERS",
    "MLP",
    "Batch",
    "BatchTime",
    "Checked",
    "Classes",
    "Clock",
    "ConditionalDenoiser",
    "CountingDenoiser",
    "DataPredictor",
    "Denoiser",
    "ExactDenoiser",
    "Guided",
    "LevelTable",
    "LinearDenoiser",
    "LoadedWeights",
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
    "VPredictor",
    "VelocityPredictor",
    "Weights",
    "WeightsFile",
    "classes_of",
    "clock_of",
    "denoised_to_noise",
    "denoised_to_score",
    "denoised_to_velocity",
    "device_of",
    "given_weights",
    "load_callable",
    "load_denoiser",
    "load_model",
    "load_network",
    "load_npz",
    "load_weights",
    "loaded_weights",
    "modules_within",
    "nearest_trained_time",
    "noise_to_denoised",
    "on_device",
    "over_events",
    "preconditioning",
    "read_weights",
    "require_batch",
    "require_fits_data",
    "require_fits_model",
    "require_shape_and_range",
    "save_denoiser",
    "score_to_denoised",
    "seeded",
    "tensors_within",
    "velocity_to_denoised",
]  # fmt: skip

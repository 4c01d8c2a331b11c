"""The denoiser contract, its conversions, and the networks that fulfil it."""

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

__all__ = [
    "Batch",
    "BatchTime",
    "Denoiser",
    "ExactDenoiser",
    "Rescheduled",
    "denoised_to_noise",
    "denoised_to_score",
    "denoised_to_velocity",
    "noise_to_denoised",
    "over_events",
    "score_to_denoised",
    "velocity_to_denoised",
]

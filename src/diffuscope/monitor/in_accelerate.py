"""The monitor in a loop of accelerate: the model is unwrapped, process 0 looks, and all processes stop together."""

from collections.abc import Callable
from typing import Any

from diffuscope.denoisers import Denoiser

from .callback import Monitor


def accelerate_step(
    monitor: Monitor, accelerator: Any, step: int, model: Any, denoiser_of: Callable[[Any], Denoiser]
) -> bool:
    """Whether to stop after `step`: all processes must call it; `denoiser_of` takes the unwrapped model."""
    return monitor.after_step(step, lambda: denoiser_of(accelerator.unwrap_model(model)))

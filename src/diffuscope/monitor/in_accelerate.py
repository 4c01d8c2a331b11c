"""The monitor in a loop of accelerate: the model is unwrapped, process 0 looks, and all processes stop together."""

from collections.abc import Callable
from typing import Any

from diffuscope.denoisers import Denoiser

from .callback import Monitor


def accelerate_step(
    monitor: Monitor, accelerator: Any, step: int, model: Any, denoiser_of: Callable[[Any], Denoiser]
) -> bool:
    """Whether to stop after `step`: all processes must call it; `denoiser_of` takes the unwrapped model.

    >>> from diffuscope.data import toy_data
    >>> from diffuscope.monitor import Monitor, accelerate_step
    >>> from types import SimpleNamespace
    >>> monitor = Monitor(toy_data("two-moons", n_train=20, n_heldout=20), every=100)
    >>> accelerator = SimpleNamespace(unwrap_model=lambda model: model.module)  # in the place of an Accelerator
    >>> accelerate_step(monitor, accelerator, 50, model=None, denoiser_of=lambda model: model)  # not due
    False
    """
    return monitor.after_step(step, lambda: denoiser_of(accelerator.unwrap_model(model)))

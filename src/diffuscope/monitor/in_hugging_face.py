"""The monitor as a callback of the Hugging Face Trainer: `should_training_stop` is set where it says so."""

import importlib
from collections.abc import Callable
from typing import Any

from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError

from .callback import Monitor


def trainer_callback(monitor: Monitor, denoiser_of: Callable[[Any], Denoiser]) -> Any:
    """A `TrainerCallback` for `Trainer(callbacks=[...])`; `denoiser_of` takes the model that is trained.

    Raises InputError where transformers is not installed.
    """
    try:
        base: Any = importlib.import_module("transformers").TrainerCallback
    except (ImportError, AttributeError) as error:
        raise InputError("monitor: transformers is not installed; pip install transformers") from error

    class Monitoring(base):
        def on_step_end(self, args: Any, state: Any, control: Any, **of_the_run: Any) -> Any:
            del args
            if monitor.after_step(state.global_step, lambda: denoiser_of(of_the_run["model"])):
                control.should_training_stop = True
            return control

    return Monitoring()

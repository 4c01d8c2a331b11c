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

    >>> from diffuscope.data import toy_data
    >>> from diffuscope.monitor import Monitor, trainer_callback
    >>> import sys
    >>> from types import SimpleNamespace
    >>> from unittest.mock import patch
    >>> monitor = Monitor(toy_data("two-moons", n_train=20, n_heldout=20), every=100)
    >>> with patch.dict(sys.modules, transformers=SimpleNamespace(TrainerCallback=object)):  # if it is not installed
    ...     callback = trainer_callback(monitor, denoiser_of=lambda model: model.denoiser)
    >>> state, control = SimpleNamespace(global_step=50), SimpleNamespace(should_training_stop=False)
    >>> callback.on_step_end(None, state, control, model=None).should_training_stop  # 50 is not due
    False
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

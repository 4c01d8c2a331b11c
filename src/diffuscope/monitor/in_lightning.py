"""The monitor as a callback of Lightning: `trainer.should_stop` is set where it says so.

Steps are Lightning's `global_step`, optimizer steps; with several optimizers it may pass over a multiple of `every`.
"""

import importlib
from collections.abc import Callable
from typing import Any

from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError

from .callback import Monitor

PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def lightning_callback(monitor: Monitor, denoiser_of: Callable[[Any], Denoiser], package: str = PACKAGES[0]) -> Any:
    """A `Callback` for `Trainer(callbacks=[...])` of the `package` in use; `denoiser_of` takes your LightningModule.

    Raises InputError where the package is not installed.

    >>> from diffuscope.data import toy_data
    >>> from diffuscope.monitor import Monitor, lightning_callback
    >>> import sys
    >>> from types import SimpleNamespace
    >>> from unittest.mock import patch
    >>> monitor = Monitor(toy_data("two-moons", n_train=20, n_heldout=20), every=100)
    >>> with patch.dict(sys.modules, {"pytorch_lightning": SimpleNamespace(Callback=object)}):  # if it is not installed
    ...     callback = lightning_callback(monitor, lambda module: module.denoiser, package="pytorch_lightning")
    >>> trainer = SimpleNamespace(global_step=50, should_stop=False)
    >>> callback.on_train_batch_end(trainer, None)  # 50 is not due
    >>> callback.last, trainer.should_stop
    (50, False)
    """
    try:
        base: Any = importlib.import_module(package).Callback
    except (ImportError, AttributeError) as error:
        raise InputError(f"package: {package} has no Callback here; expected one of {', '.join(PACKAGES)}") from error

    class Monitoring(base):
        last = 0

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            step = trainer.global_step
            if step == self.last:  # gradients are accumulated
                return
            self.last = step
            if monitor.after_step(step, lambda: denoiser_of(pl_module)):
                trainer.should_stop = True

    return Monitoring()

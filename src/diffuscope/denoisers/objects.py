"""Denoisers from a file or as `module:object`, which allows any Python model."""

import inspect
import math
from pathlib import Path
from typing import Any

from diffuscope.errors import InputError
from diffuscope.files import load_object
from diffuscope.schedules import Schedule

from .contract import Denoiser
from .files import load_denoiser


def load_model(spec: str | Path) -> Denoiser:
    """The denoiser of a .safetensors file that `save_denoiser` wrote, or of `module:object` if there is no such file.

    Raises InputError as `load_denoiser` and `load_callable` do.
    """
    named = isinstance(spec, str) and ":" in spec and not Path(spec).exists()
    return load_callable(str(spec)) if named else load_denoiser(spec)


def load_callable(spec: str) -> Denoiser:
    """The denoiser that `module:object` names: an object with `.schedule`, or a callable that returns one.

    A class, or a function without `.schedule`, is called once without arguments. Raises InputError if the object is
    not found, needs arguments, cannot be called with (x_t, t) or has no schedule.
    """
    model = load_object(spec, "model")
    if isinstance(model, type) or (inspect.isroutine(model) and not hasattr(model, "schedule")):
        try:
            inspect.signature(model).bind()
        except (TypeError, ValueError) as error:  # other arguments; none that are known
            raise InputError(
                f"model: {spec} needs arguments; expected a denoiser, or a callable without arguments that returns one"
            ) from error
        model = model()
    if not isinstance(getattr(model, "schedule", None), Schedule):
        raise InputError(f"model: {spec} is a {type(model).__name__} without a .schedule of diffuscope.schedules")
    if not isinstance(model, Denoiser):
        raise InputError(f"model: {spec} is a {type(model).__name__} that cannot be called with (x_t, t)")
    _require_description(model, spec)
    return model


def _require_description(model: Any, spec: str) -> None:
    """Raises InputError for an event shape or a data range, where the model has one, that is none."""
    if hasattr(model, "event_shape"):
        shape = model.event_shape
        if not (isinstance(shape, tuple | list) and shape and all(isinstance(n, int) and n > 0 for n in shape)):
            raise InputError(f"model: {spec}.event_shape: expected sizes such as (1, 28, 28), got {shape!r}")
    if hasattr(model, "data_range"):
        ends = model.data_range
        numbers = isinstance(ends, tuple | list) and len(ends) == 2 and all(isinstance(x, int | float) for x in ends)
        if not (numbers and -math.inf < ends[0] < ends[1] < math.inf):
            raise InputError(f"model: {spec}.data_range: expected two finite numbers, the lower first, got {ends!r}")

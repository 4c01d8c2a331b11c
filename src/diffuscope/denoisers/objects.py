"""A denoiser that the user names as `module:object`, the way to bring any Python model."""

import inspect
from pathlib import Path

from diffuscope.errors import InputError
from diffuscope.files import load_object
from diffuscope.schedules import Schedule

from .contract import Denoiser
from .files import load_denoiser


def load_model(spec: str | Path) -> Denoiser:
    """A denoiser from a .safetensors file of ours, or from `module:object` (a file of that name goes first).

    Raises InputError where there is none, and for what `load_denoiser` and `load_callable` refuse.
    """
    named = isinstance(spec, str) and ":" in spec and not Path(spec).exists()
    return load_callable(str(spec)) if named else load_denoiser(spec)


def load_callable(spec: str) -> Denoiser:
    """The denoiser that `module:object` names: an object with `.schedule`, or what makes one without arguments.

    A class, or a function without `.schedule`, is called once. Raises InputError where the object is not found,
    needs arguments, cannot be called with (x_t, t) or has no schedule.
    """
    found = load_object(spec, "model")
    if isinstance(found, type) or (inspect.isroutine(found) and not hasattr(found, "schedule")):
        found = _made(found, spec)
    if not isinstance(getattr(found, "schedule", None), Schedule):
        raise InputError(f"model: {spec} is a {type(found).__name__} without a .schedule of diffuscope.schedules")
    if not isinstance(found, Denoiser):
        raise InputError(f"model: {spec} is a {type(found).__name__} that cannot be called with (x_t, t)")
    return found


def _made(maker: object, spec: str) -> object:
    assert callable(maker)
    try:
        inspect.signature(maker).bind()
    except TypeError as error:
        raise InputError(
            f"model: {spec} needs arguments; expected a denoiser, or what makes one without any"
        ) from error
    return maker()

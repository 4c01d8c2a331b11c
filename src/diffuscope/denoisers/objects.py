"""Objects named by the user as `module:object`, the way to bring any Python model."""

import importlib
import inspect
import sys
from pathlib import Path

from diffuscope.denoisers.contract import Denoiser
from diffuscope.errors import InputError
from diffuscope.schedules import Schedule


def load_object(spec: str, argument: str) -> object:
    """The object that `module:object` names; dots after the colon reach inside it.

    The current folder becomes importable. Raises InputError, naming `argument`, for another form, a module that
    is not found or fails while it is imported, and a name that it lacks.
    """
    module_name, _, path = spec.partition(":")
    if not all(part.isidentifier() for name in (module_name, path) for part in name.split(".")):
        raise InputError(f"{argument}: expected module:object, got {spec!r}")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        found: object = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise InputError(f"{argument}: no module named {error.name!r} here or in the environment") from error
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{argument}: importing {module_name!r} failed with {reason}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise InputError(f"{argument}: module {module_name!r} has no {path!r}")
        found = getattr(found, part)
    return found


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

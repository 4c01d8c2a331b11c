"""A target from its name: a peer's sampler, or any callable of the user."""

import inspect
from dataclasses import replace
from types import ModuleType
from typing import Any

from diffuscope.certify import Target, sampler_target
from diffuscope.errors import InputError
from diffuscope.files import load_object
from diffuscope.samplers import Sampler

from . import azula, diffuscope_samplers, diffusers, k_diffusion
from .libraries import read_options

_LIBRARIES: dict[str, ModuleType] = {
    "diffuscope": diffuscope_samplers,
    "azula": azula,
    "diffusers": diffusers,
    "k_diffusion": k_diffusion,
}


def load_target(name: str) -> Target:
    """The target that `name` names.

    `diffuscope:UniPC` is one of our samplers; `azula:REABSampler`, `diffusers:DPMSolverMultistepScheduler` and
    `k_diffusion:sample_dpmpp_2m` are other libraries'. `?option=value&option=value` after the name are their options
    (numbers, true, false, none, words).
    `module:callable` is `callable(denoiser, x_start, times, generator) -> x_end`, as `Target.run`, or a class that
    makes one without arguments; its attributes `order`, `stochastic` and `nfe_per_step` are its declarations. Where
    it has no `stochastic` it is taken as deterministic, which the name of the target then says. A `Target` is taken
    as it is.

    Importing a module runs it: name only modules that you trust.
    Raises InputError for a name of another form, a library that is absent, a sampler or an option that it lacks.
    """
    spec, question, text = name.partition("?")
    library, colon, sampler = spec.partition(":")
    if not (library and colon and sampler):
        raise InputError(f"target: expected library:sampler or module:callable, got {name!r}")
    options = read_options(text)
    if library in _LIBRARIES:
        return replace(_LIBRARIES[library].target(sampler, options), name=name)
    if question:
        raise InputError(f"target: options belong to the samplers of {', '.join(_LIBRARIES)}, got {name!r}")
    return _of_object(load_object(spec, "target"), name)


def known_targets() -> dict[str, tuple[str, ...]]:
    """The names that `load_target` takes, for each library that is installed."""
    known = {}
    for library, adapter in _LIBRARIES.items():
        try:
            known[library] = tuple(f"{library}:{sampler}" for sampler in adapter.names())
        except InputError:  # not installed
            continue
    return known


def _of_object(found: Any, name: str) -> Target:
    """The target that an object of the user is."""
    if isinstance(found, Target):
        return found
    if isinstance(found, type) and _takes(found):
        found = found()
    if isinstance(found, Sampler):
        return sampler_target(found)
    if not (callable(found) and _takes(found, *_RUN_ARGUMENTS)):
        raise InputError(
            f"target: {name} is a {type(found).__name__}; expected callable(denoiser, x_start, times, generator)"
        )
    order, nfe = _declared_number(found, "order", name), _declared_number(found, "nfe_per_step", name)
    stochastic = getattr(found, "stochastic", None)
    if stochastic not in (None, True, False):
        raise InputError(f"target: {name}.stochastic: expected True or False, got {stochastic!r}")
    shown = name if stochastic is not None else f"{name} (stochastic undeclared, taken as deterministic)"
    run: Any = found
    return Target(name=shown, run=run, order=order, stochastic=bool(stochastic), nfe_per_step=nfe)


_RUN_ARGUMENTS = ("denoiser", "x_start", "times", "generator")


def _takes(function: Any, *arguments: str) -> bool:
    """Whether `function` can be called with so many arguments by position."""
    try:
        inspect.signature(function).bind(*arguments)
    except (TypeError, ValueError):  # other arguments; no signature
        return False
    return True


def _declared_number(found: object, attribute: str, name: str) -> int | None:
    value = getattr(found, attribute, None)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InputError(f"target: {name}.{attribute}: expected a positive integer or None, got {value!r}")
    return value

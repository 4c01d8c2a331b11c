"""A target from its name: a sampler of a library, or any callable of the user."""

from dataclasses import replace
from types import ModuleType

from diffuscope.certify import Target, target_of
from diffuscope.errors import InputError
from diffuscope.files import load_object

from . import azula, diffuscope_samplers, diffusers, k_diffusion
from .libraries import read_options

_LIBRARIES: dict[str, ModuleType] = {
    "diffuscope": diffuscope_samplers,
    "azula": azula,
    "diffusers": diffusers,
    "k_diffusion": k_diffusion,
}


def load_target(name: str) -> Target:
    """The target called `name`.

    `diffuscope:UniPC` is one of our samplers; `azula:REABSampler`, `diffusers:DPMSolverMultistepScheduler` and
    `k_diffusion:sample_dpmpp_2m` are other libraries'. Options follow the name as `?option=value&option=value`
    (numbers, true, false, none, words).
    `module:callable` is whatever `certify.target_of` takes: a `Target`, or
    `callable(denoiser, x_start, times, generator) -> x_end` with its declarations as attributes.

    Importing a module runs it: use only modules that you trust.
    Raises InputError for a name of another form, an absent library, and an unknown sampler or option.

    >>> load_target("diffuscope:UniPC?predictor_order=2").order
    3
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
    return target_of(load_object(spec, "target"), name)


def known_targets() -> dict[str, tuple[str, ...]]:
    """The names that `load_target` accepts, for each installed library."""
    known = {}
    for library, adapter in _LIBRARIES.items():
        try:
            known[library] = tuple(f"{library}:{sampler}" for sampler in adapter.names())
        except InputError:  # not installed
            continue
    return known

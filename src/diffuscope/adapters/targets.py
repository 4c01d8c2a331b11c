"""A target from its name: a sampler of a library, or any callable of the user."""

from dataclasses import replace
from types import ModuleType

from diffuscope.certify import Target, target_of
from diffuscope.certify.as_shipped import Shipped
from diffuscope.errors import InputError
from diffuscope.files import load_object

from . import (
    azula,
    deepinv,
    diffuscope_samplers,
    diffusers,
    diffusers_as_shipped,
    flow_matching,
    k_diffusion,
    smalldiffusion,
    torchebm,
)
from .libraries import read_options

_LIBRARIES: dict[str, ModuleType] = {
    "diffuscope": diffuscope_samplers,
    "azula": azula,
    "diffusers": diffusers,
    "k_diffusion": k_diffusion,
    "smalldiffusion": smalldiffusion,
    "deepinv": deepinv,
    "flow_matching": flow_matching,
    "torchebm": torchebm,
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

    >>> from diffuscope.adapters import load_target
    >>> load_target("diffuscope:UniPC?predictor_order=2").order  # the corrector adds one
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


def load_shipped(name: str | object) -> Shipped:
    """The sampler called `name` with its library's own levels, start and timesteps, for `certify_as_shipped`.

    `diffusers:DDIMScheduler?timestep_spacing=trailing`, with any options of the constructor, or a scheduler object.
    Raises InputError for other libraries, absent ones, and an unknown scheduler or option.

    >>> from diffuscope.adapters import load_shipped
    >>> load_shipped("azula:DDIMSampler")
    Traceback (most recent call last):
    diffuscope.errors.InputError: target: as shipped are diffusers:NAME, got 'azula:DDIMSampler'
    """
    if not isinstance(name, str):
        return diffusers_as_shipped.shipped_scheduler(name)
    spec, _, text = name.partition("?")
    library, _, scheduler = spec.partition(":")
    if library != "diffusers":
        raise InputError(f"target: as shipped are diffusers:NAME, got {name!r}")
    return replace(diffusers_as_shipped.shipped_target(scheduler, read_options(text)), name=name)


def known_targets() -> dict[str, tuple[str, ...]]:
    """The names that `load_target` accepts, for each installed library.

    >>> from diffuscope.adapters import known_targets, load_target
    >>> names = known_targets()["diffuscope"]
    >>> "diffuscope:Heun" in names, all(load_target(name).name == name for name in names)
    (True, True)
    """
    known = {}
    for library, adapter in _LIBRARIES.items():
        try:
            known[library] = tuple(f"{library}:{sampler}" for sampler in adapter.names())
        except InputError:  # not installed
            continue
    return known

"""diffuscope's own samplers by name: `diffuscope:UniPC?predictor_order=2`."""

import inspect

from diffuscope import samplers
from diffuscope.certify import Target, sampler_target
from diffuscope.errors import InputError
from diffuscope.samplers import Sampler

from .libraries import Options, arguments_of, require_known


def names() -> tuple[str, ...]:
    """The samplers that need nothing but a denoiser."""
    return tuple(name for name in samplers.__all__ if _is_plain(getattr(samplers, name)))


def target(name: str, options: Options) -> Target:
    """The sampler class `name`, built with `options`. Raises InputError for an unknown sampler or option."""
    return sampler_target(made(name, options))


def made(name: str, options: Options) -> Sampler:
    """The sampler `name` with `options`. Raises InputError for an unknown sampler or option."""
    if name not in names():
        raise InputError(f"target: diffuscope has no sampler {name!r} by name; expected one of {', '.join(names())}")
    sampler = getattr(samplers, name)
    require_known(options, set(arguments_of(sampler)), f"diffuscope:{name}")
    return sampler(**options)


def _is_plain(exported: object) -> bool:
    """Whether `exported` is a sampler class that can be built without arguments."""
    if not (inspect.isclass(exported) and exported is not Sampler and hasattr(exported, "step")):
        return False
    return len(arguments_of(exported)) == len(inspect.signature(exported).parameters)

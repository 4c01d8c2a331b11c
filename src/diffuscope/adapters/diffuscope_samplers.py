"""diffuscope's own samplers by name: `diffuscope:UniPC?predictor_order=2`."""

import inspect

from diffuscope import samplers
from diffuscope.certify import Target, sampler_target
from diffuscope.errors import InputError
from diffuscope.samplers import Sampler

from .libraries import Options


def names() -> tuple[str, ...]:
    """The samplers that need nothing but a denoiser."""
    return tuple(name for name in samplers.__all__ if _is_plain(getattr(samplers, name)))


def target(name: str, options: Options) -> Target:
    """The sampler class `name`, built with `options`."""
    if name not in names():
        raise InputError(f"target: diffuscope has no sampler {name!r} that runs by name; it has {', '.join(names())}")
    made = getattr(samplers, name)
    known = inspect.signature(made).parameters
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(f"target: {name} has no option {', '.join(unknown)}; it has {', '.join(known) or 'none'}")
    sampler = made(**options)
    return sampler_target(sampler)


def _is_plain(found: object) -> bool:
    """A sampler class that can be built without arguments."""
    if not (inspect.isclass(found) and found is not Sampler and hasattr(found, "step")):
        return False
    parameters = inspect.signature(found).parameters.values()
    return all(parameter.default is not parameter.empty for parameter in parameters)

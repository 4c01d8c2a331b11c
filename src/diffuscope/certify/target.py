"""What can be certified: anything that takes a batch from one noise level to a lower one with a denoiser."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError
from diffuscope.samplers import DormandPrince, Sampler, sample
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule

Run = Callable[[Denoiser, Batch, Float[Tensor, " times"], torch.Generator | None], Batch]
Event = Literal["any", "vector", "image"]


@dataclass(frozen=True)
class Target:
    """A sampler, of this or another library, with its declared properties.

    `run(denoiser, x_start, times, generator)` walks the strictly decreasing float64 `times` of `denoiser.schedule`,
    one step between neighbors, from x_start at times[0], and returns the state at times[-1], in the dtype of x_start;
    at sigma(times[-1]) = 0 that is the finished sample. `generator` is None exactly for deterministic samplers.
    `order` is the declared order of convergence (weak order for a stochastic sampler), None if none is declared.
    `nfe_per_step` is the declared cost, None if it varies. `schedules` are those it can run in, its own first.
    `coarsest` and `finest` bound the numbers of steps that it accepts. `floor` is the relative accuracy of its own
    tables (float32 in some libraries) or of its error control, below which errors are not judged. `event` is the shape
    of a sample: batches of vectors (batch, d), of images (batch, channels, height, width), or any. `reaches_zero`
    declares that a last step to sigma = 0 gives the finished sample, False that there is none; None leaves it to be
    found out.
    `starts_at_zero_snr=False` declares that there is no start at alpha = 0, which is otherwise asked for.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.certify import Target
    >>> def my_ddim(denoiser, x, times, generator):
    ...     for t, s in zip(times[:-1], times[1:]):
    ...         alpha, sigma, D = denoiser.schedule.alpha, denoiser.schedule.sigma, denoiser(x, t)
    ...         x = alpha(s) * D + sigma(s) / sigma(t) * (x - alpha(t) * D)
    ...     return x
    >>> target = Target("my DDIM", my_ddim, order=1, stochastic=False, nfe_per_step=1, schedules=(VE(),))
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([1.0]), 0.0), VE())
    >>> round(float(target.run(point, torch.tensor([[26.0]]), torch.tensor([5.0, 3.0, 1.0]), None)), 4)  # 1 + 25 / 5
    6.0
    """

    name: str
    run: Run
    order: int | None
    stochastic: bool
    nfe_per_step: int | None
    schedules: tuple[Schedule, ...] = (VE(), VP(), RectifiedFlow())
    coarsest: int = 1
    finest: int = 1000
    floor: float = 1e-12
    event: Event = "any"
    reaches_zero: bool | None = None
    starts_at_zero_snr: bool | None = None


def sampler_target(sampler: Sampler, name: str | None = None) -> Target:
    """`sampler` with its declared properties.

    An adaptive sampler chooses its steps by a tolerance, so that no order in the number of times is declared.

    >>> from diffuscope.certify import sampler_target
    >>> from diffuscope.samplers import DDPM, DormandPrince, UniPC
    >>> targets = [sampler_target(sampler) for sampler in (UniPC(2), DDPM(), DormandPrince())]
    >>> [(target.name, target.order, target.stochastic, target.nfe_per_step) for target in targets]
    [('UniPC', 3, False, 1), ('DDPM', 1, True, 1), ('DormandPrince', None, False, None)]
    """
    return Target(
        name or type(sampler).__name__,
        lambda denoiser, x, times, generator: sample(sampler, denoiser, x, times, noise=generator),
        None if isinstance(sampler, DormandPrince) else sampler.order,
        sampler.stochastic,
        sampler.nfe_per_step,
        reaches_zero=True,
    )


def target_of(given: Any, name: str | None = None) -> Target:
    """Anything that can be certified as a target: a `Target`, a `Sampler`, or a callable, which is called `name`.

    A callable takes (denoiser, x_start, times, generator) as `Target.run` does, or is a class whose instances do, built
    without arguments. What it declares are its attributes `order`, `stochastic`, `nfe_per_step`, `schedules`,
    `coarsest`, `finest`, `floor`, `event`, `reaches_zero` and `starts_at_zero_snr`, all optional. Without `stochastic`
    it is taken as deterministic, and the name of the target says so.

    Raises InputError for another object, and for an attribute of the wrong kind.

    >>> from diffuscope.certify import target_of
    >>> class Mine:
    ...     order, stochastic, nfe_per_step = 2, False, 3
    ...     def __call__(self, denoiser, x_start, times, generator):
    ...         return x_start
    >>> target = target_of(Mine)
    >>> target.name, target.order, target.nfe_per_step
    ('Mine', 2, 3)
    """
    if isinstance(given, Target):
        return given
    if isinstance(given, type) and _takes(given):
        try:
            given = given()
        except Exception as error:
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(f"target: {called(given)}() failed with {said}") from error
    if isinstance(given, Sampler):
        return sampler_target(given, name)
    name = name or called(given)
    if not (callable(given) and _takes(given, "denoiser", "x_start", "times", "generator")):
        expected = "callable(denoiser, x_start, times, generator)"
        raise InputError(f"target: {name} is a {type(given).__name__}; expected {expected}")
    declared = {field: _declared(given, field, name) for field in _KINDS if hasattr(given, field)}
    order, stochastic, nfe = (declared.pop(field, None) for field in ("order", "stochastic", "nfe_per_step"))
    shown = name if stochastic is not None else f"{name} (stochastic undeclared, taken as deterministic)"
    run: Any = given
    return Target(shown, run, order, bool(stochastic), nfe, **declared)


def called(given: object) -> str:
    """The name of a function, class or object: its `__name__`, after the class that it belongs to if there is one.

    >>> from diffuscope.certify.target import called
    >>> def make(order):
    ...     def heun(denoiser, x_start, times, generator):
    ...         return x_start
    ...     heun.__name__ = f"heun_{order}"
    ...     return heun
    >>> called(make(2)), called(dict.fromkeys), called(3)
    ('heun_2', 'dict.fromkeys', 'int')
    """
    name = str(getattr(given, "__name__", type(given).__name__))
    within = str(getattr(given, "__qualname__", name)).rpartition("<locals>.")[2]
    return within if within.rpartition(".")[2] == name else name


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "order": ("a positive integer or None", lambda value: value is None or _positive(value)),
    "stochastic": ("True or False", lambda value: value is True or value is False),
    "nfe_per_step": ("a positive integer or None", lambda value: value is None or _positive(value)),
    "schedules": (
        "a tuple of schedules",
        lambda value: isinstance(value, tuple) and bool(value) and all(isinstance(each, Schedule) for each in value),
    ),
    "coarsest": ("a positive integer", _positive),
    "finest": ("a positive integer", _positive),
    "floor": ("a number between 0 and 1", lambda value: isinstance(value, float) and 0 < value < 1),
    "event": ("'any', 'vector' or 'image'", lambda value: value in ("any", "vector", "image")),
    "reaches_zero": ("True, False or None", lambda value: value in (True, False, None)),
    "starts_at_zero_snr": ("True, False or None", lambda value: value in (True, False, None)),
}


def _declared(given: object, attribute: str, name: str) -> Any:
    value = getattr(given, attribute)
    expected, fits = _KINDS[attribute]
    if not fits(value):
        raise InputError(f"target: {name}.{attribute}: expected {expected}, got {value!r}")
    return value


def _takes(function: Any, *arguments: str) -> bool:
    """Whether `function` can be called with these positional arguments."""
    try:
        inspect.signature(function).bind(*arguments)
    except (TypeError, ValueError):  # other arguments; no signature
        return False
    return True

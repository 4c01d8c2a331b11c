"""What the adapters share: import a library, read the options of its samplers, provide it with our noise."""

import importlib
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser, denoised_to_noise
from diffuscope.errors import InputError

Option = bool | int | float | str | None
Options = Mapping[str, Option]

_WORDS: dict[str, Option] = {"true": True, "false": False, "none": None}


def library(module: str, package: str, argument: str = "target") -> ModuleType:
    """The imported `module`; `package` is its name for pip.

    Raises InputError, naming `argument`, where it is absent or fails to import.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the library's own code
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if f"{module}.".startswith(f"{error.name}."):
            raise not_installed(package, argument=argument) from error
        raise InputError(f"{argument}: importing {module} failed with no module named {error.name!r}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{argument}: importing {module} failed with {reason}") from error


def not_installed(package: str, arguments: str | None = None, argument: str = "target") -> InputError:
    """The error for an absent library; `arguments` of pip install are the package unless given."""
    return InputError(f"{argument}: {package} is not installed; pip install {arguments or package}")


def read_options(text: str, argument: str = "target") -> dict[str, Option]:
    """Options as numbers, booleans, None and words; nothing is evaluated.

    Raises InputError, naming `argument`, for a part without `=`, an empty name or a name given twice.

    >>> read_options("a=1&b=0.5&c=true&d=word")
    {'a': 1, 'b': 0.5, 'c': True, 'd': 'word'}
    """
    options: dict[str, Option] = {}
    for part in text.split("&") if text else []:
        name, equals, value = part.partition("=")
        if not (equals and name.isidentifier()):
            raise InputError(f"{argument}: expected options as name=value joined by &, got {part!r}")
        if name in options:
            raise InputError(f"{argument}: option {name!r} is given twice")
        options[name] = _read(value)
    return options


def _read(value: str) -> Option:
    if value.lower() in _WORDS:
        return _WORDS[value.lower()]
    for number in (int, float):
        with suppress(ValueError):
            return number(value)
    return value


def arguments_of(function: Callable[..., object]) -> dict[str, object]:
    """The named arguments with defaults, which are those that a user may set, and these defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def require_known(options: Options, known: set[str], target: str, argument: str = "target") -> None:
    """Raises InputError, naming them, for options that `target` does not have."""
    if unknown := sorted(set(options) - known):
        has = ", ".join(sorted(known)) or "none"
        raise InputError(f"{argument}: {target} has no option {', '.join(map(repr, unknown))}; expected {has}")


def seed_from(generator: torch.Generator) -> int:
    """A seed drawn from `generator`, for libraries that take a number."""
    return int(torch.empty((), dtype=torch.int64, device=generator.device).random_(generator=generator))


def velocity(denoiser: Denoiser, x_t: Batch, t: Float[Tensor, ""]) -> Batch:
    """The probability flow's dx/dt in our time: alpha' D + sigma' eps with eps = (x - alpha D)/sigma."""
    schedule, denoised = denoiser.schedule, denoiser(x_t, t)
    noise = denoised_to_noise(x_t, denoised, schedule, t)
    return schedule.alpha_dot(t) * denoised + schedule.sigma_dot(t) * noise


class BrownianNoise:
    r"""k-diffusion's `noise_sampler`: :math:`(W_b - W_a)/\sqrt{a - b}` of one Brownian motion W over noise levels.

    A step from level a may query first its middle and then its end, which contains the first increment, as in the
    library's own Brownian tree. Levels decrease within a step and from step to step. All draws are from `generator`.
    """

    def __init__(self, x: Batch, generator: torch.Generator | None) -> None:
        self.x, self.generator = x, generator
        self.start, self.lowest = math.nan, math.nan
        self.displacement = torch.zeros_like(x)  # from start to lowest

    def __call__(self, level: Float[Tensor, ""] | float, next_level: Float[Tensor, ""] | float) -> Batch:
        """The standardized increment from `level` down to `next_level`."""
        start, end = float(level), float(next_level)
        if start != self.start:
            self.start, self.lowest, self.displacement = start, start, torch.zeros_like(self.x)
        device = self.x.device if self.generator is None else self.generator.device
        fresh = torch.randn(self.x.shape, generator=self.generator, dtype=self.x.dtype, device=device).to(self.x.device)
        self.displacement = self.displacement + math.sqrt(max(0.0, self.lowest - end)) * fresh
        self.lowest = end
        return self.displacement / math.sqrt(start - end)


@contextmanager
def global_noise_from(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Seeds torch's global generators from `generator` and restores them afterwards.

    For libraries that draw with `torch.randn_like`. With None the generators are only restored.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        if generator is not None:
            torch.manual_seed(seed_from(generator))
        yield

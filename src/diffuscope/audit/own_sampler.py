"""The owner's own sampler, named as module:callable: a sampler of this library's contract, or any function.

A function is called as `function(denoiser, x_start, times, generator)` with states at `times[0]`, decreasing times of
the denoiser's schedule, and the generator of its randomness; it returns finished samples of the shape of `x_start`.
"""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, CountingDenoiser, Denoiser
from diffuscope.errors import InputError
from diffuscope.files import load_object
from diffuscope.samplers import Sampler, finish

from .subject import EVALUATION_BATCH

Finish = Callable[[Denoiser, Batch, Float[Tensor, " times"], torch.Generator], Batch]


def sampler_digest(name: str) -> str:
    """What identifies the code of the sampler `name`: its file's content, and its own state as it shows itself."""
    found = load_object(name, "sampler")
    kind = found if inspect.isroutine(found) or isinstance(found, type) else type(found)
    try:
        code = Path(inspect.getsourcefile(kind) or "").read_bytes()
    except (OSError, TypeError):
        code = b""
    shown = "" if inspect.isroutine(found) or isinstance(found, type) else repr(found)
    return hashlib.sha256(code + shown.encode()).hexdigest()


def own_sampler(name: str) -> Finish:
    """The sampler `name` as one function from start states to finished samples.

    Raises InputError for a name that is not found and an object that is neither a sampler nor such a function, and,
    when it is called, for samples of another shape and samples that are not finite.
    """
    found = load_object(name, "sampler")
    sampler = found() if isinstance(found, type) and hasattr(found, "step") else found
    if isinstance(sampler, Sampler):
        return lambda denoiser, x_start, times, generator: finish(denoiser, sampler, x_start, times, noise=generator)
    if not callable(sampler):
        raise InputError(f"sampler: {name} is a {type(sampler).__name__}, expected a sampler or a function")
    try:
        inspect.signature(sampler).bind(None, None, None, None)
    except TypeError as error:
        raise InputError(f"sampler: expected {name}(denoiser, x_start, times, generator), but {error}") from error

    def checked(
        denoiser: Denoiser, x_start: Batch, times: Float[Tensor, " times"], generator: torch.Generator
    ) -> Batch:
        parts = []
        for part in x_start.split(EVALUATION_BATCH):
            with torch.no_grad():
                samples = sampler(denoiser, part, times, generator)
            if not isinstance(samples, Tensor) or samples.shape != part.shape:
                got = tuple(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
                raise InputError(f"sampler: expected samples of shape {tuple(part.shape)} from {name}, got {got}")
            if not bool(torch.isfinite(samples).all()):
                raise InputError(f"sampler: expected finite samples from {name}, got NaN or infinity")
            parts.append(samples.to(part))
        return torch.cat(parts)

    return checked


@dataclass(frozen=True)
class OwnRow:
    """The owner's sampler and its number of steps for every budget."""

    finish: Callable[[Denoiser, Batch, Float[Tensor, " times"]], Batch]
    steps: tuple[int, ...]


def own_row(
    name: str, denoiser: Denoiser, start: Batch, times: Callable[[int], Float[Tensor, " times"]], budgets: Sequence[int]
) -> OwnRow | None:
    """None without a sampler of the owner's, if it is random, or if its NFE do not grow with the grid."""
    if not name:
        return None
    own = own_sampler(name)

    def made(model: Denoiser, x: Batch, grid: Float[Tensor, " times"], seed: int = 0) -> Batch:
        return own(model, x, grid, torch.Generator().manual_seed(seed))

    calls, steps = [], []
    for grid in (times(4), times(8)):
        counted = CountingDenoiser(denoiser)
        if not torch.equal(made(counted, start[:8], grid), made(denoiser, start[:8], grid, 1)):
            return None
        calls.append(counted.calls)
        steps.append(len(grid) - 1)
    per_step = (calls[1] - calls[0]) / max(1, steps[1] - steps[0])
    if per_step < 1:
        return None
    last = calls[0] - per_step * steps[0]
    return OwnRow(made, tuple(max(1, int((budget - last) / per_step)) for budget in budgets))

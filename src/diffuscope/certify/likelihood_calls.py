"""A likelihood of someone else, called: what it raises or returns wrongly becomes one line about its own code."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import unwrap
from pathlib import Path
from types import CodeType, FunctionType, MethodType

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError

LogDensity = Callable[[Denoiser, Batch, float, torch.Generator], Float[Tensor, " batch"]]

LONGEST = 200  # characters of an exception's message


class TargetFaultError(Exception):
    """The target raised an exception or returned something else than log-densities; the message is one line."""


@dataclass(frozen=True)
class Calls:
    """`log_density`, called with fresh generators and copies of the points.

    Raises TargetFaultError for whatever it raises, SystemExit included, and for answers of another type or shape; an
    InputError, a stated limit of the target, is passed on.
    """

    log_density: LogDensity

    def __call__(self, denoiser: Denoiser, x_t: Batch, t: float, seed: int) -> Float[Tensor, " batch"]:
        """log p_t(x_t) as the target says it, in its dtype."""
        try:
            values: object = self.log_density(denoiser, x_t.clone(), t, torch.Generator().manual_seed(seed))
        except (KeyboardInterrupt, InputError):
            raise
        except BaseException as error:  # someone else's code, sys.exit included
            raise TargetFaultError(self._raised(error)) from error
        if not isinstance(values, Tensor):
            came = "None" if values is None else type(values).__name__
            raise TargetFaultError(f"Expected a tensor with one log-density per sample, got {came}{self._from()}.")
        if values.shape != (len(x_t),):
            shape = f"{tuple(values.shape)} for {len(x_t)} samples"
            raise TargetFaultError(f"Expected one value per sample, got shape {shape}{self._from()}.")
        if not values.is_floating_point():
            raise TargetFaultError(f"Expected floating-point values, got {values.dtype}{self._from()}.")
        return values.detach().cpu()

    def _raised(self, error: BaseException) -> str:
        """The exception, and the innermost line of the target's own file that it passed."""
        code = code_of(self.log_density)
        frames = traceback.extract_tb(error.__traceback__)[1:]
        own = [frame for frame in frames if code and frame.filename == code.co_filename] or frames
        place = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
        message = next(iter(str(error).splitlines()), "")[:LONGEST] or "no message"
        return f"Raised {type(error).__name__}{place}: {message}"

    def _from(self) -> str:
        """Where the target is defined."""
        code = code_of(self.log_density)
        return f" from {Path(code.co_filename).name}:{code.co_firstlineno}" if code else ""


def code_of(target: object) -> CodeType | None:
    """The code of a function, a method, a partial or an object with __call__; None for others."""
    while isinstance(target, partial):
        target = target.func
    if not isinstance(target, FunctionType | MethodType):
        target = vars(type(target)).get("__call__", target)
    found = getattr(unwrap(target) if callable(target) else target, "__code__", None)
    return found if isinstance(found, CodeType) else None

"""A likelihood of someone else, called: what it raises or returns wrongly becomes one line about its own code."""

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

from .asked import TargetError, blamed

LogDensity = Callable[[Denoiser, Batch, float, torch.Generator], Float[Tensor, " batch"]]


@dataclass(frozen=True)
class Calls:
    """`log_density`, called with fresh generators and copies of the points.

    Raises TargetError for whatever it raises, SystemExit included, and for answers of another type or shape; an
    InputError, a stated limit of the target, is passed on.
    """

    log_density: LogDensity

    def __call__(self, denoiser: Denoiser, x_t: Batch, t: float, seed: int) -> Float[Tensor, " batch"]:
        """log p_t(x_t) as the target says it, in its dtype."""
        values: object = blamed(self.log_density, denoiser, x_t.clone(), t, torch.Generator().manual_seed(seed))
        if not isinstance(values, Tensor):
            came = "None" if values is None else type(values).__name__
            raise TargetError(f"Expected a tensor with one log-density per sample, got {came}{self._from()}.")
        if values.shape != (len(x_t),):
            shape = f"{tuple(values.shape)} for {len(x_t)} samples"
            raise TargetError(f"Expected one value per sample, got shape {shape}{self._from()}.")
        if not values.is_floating_point():
            raise TargetError(f"Expected floating-point values, got {values.dtype}{self._from()}.")
        return values.detach().cpu()

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

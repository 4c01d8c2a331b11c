"""A denoiser that counts its calls."""

from dataclasses import dataclass
from typing import Any

from diffuscope.schedules import Schedule

from .contract import Batch, BatchTime, Denoiser


@dataclass(eq=False)
class CountingDenoiser:
    """`denoiser`, its attributes included, with a counter: `calls` is the number of function evaluations so far."""

    denoiser: Denoiser
    calls: int = 0

    @property
    def schedule(self) -> Schedule:
        """The schedule of `denoiser`."""
        return self.denoiser.schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        self.calls += 1
        return self.denoiser(x_t, t)

    def __getattr__(self, name: str) -> Any:
        if name == "denoiser":  # not yet set, as in a copy
            raise AttributeError(name)
        return getattr(self.denoiser, name)

"""A denoiser that counts its calls."""

from dataclasses import dataclass

from diffuscope.denoisers import Batch, BatchTime, Denoiser
from diffuscope.schedules import Schedule


@dataclass(eq=False)
class CountingDenoiser:
    """`denoiser` with a counter: `calls` is the number of function evaluations so far."""

    denoiser: Denoiser
    calls: int = 0

    @property
    def schedule(self) -> Schedule:
        """The schedule of `denoiser`."""
        return self.denoiser.schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        self.calls += 1
        return self.denoiser(x_t, t)

"""A denoiser that counts its calls."""

from dataclasses import dataclass, field

from diffuscope.denoisers import Batch, BatchTime, Denoiser
from diffuscope.schedules import Schedule


@dataclass(eq=False)
class CountingDenoiser:
    """Passes everything on to `denoiser`; `calls` is how often it was asked."""

    denoiser: Denoiser
    calls: int = field(default=0)

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        self.calls += 1
        return self.denoiser(x_t, t)

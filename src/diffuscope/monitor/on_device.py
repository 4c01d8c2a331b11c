"""A denoiser on a GPU, asked with batches on the CPU, where the exact objects of a look are."""

from dataclasses import dataclass

import torch

from diffuscope.denoisers import Batch, BatchTime, Denoiser
from diffuscope.schedules import Schedule


@dataclass(frozen=True, eq=False)
class OnDevice:
    """The same denoiser; its answers have the data type and the device of `x_t`."""

    denoiser: Denoiser
    device: torch.device

    @property
    def schedule(self) -> Schedule:
        """That of the denoiser."""
        return self.denoiser.schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        return self.denoiser(x_t.to(self.device), t).to(x_t)

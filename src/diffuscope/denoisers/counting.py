"""A denoiser that counts its calls."""

from dataclasses import dataclass
from typing import Any

from diffuscope.schedules import Schedule

from .contract import Batch, BatchTime, Denoiser


@dataclass(eq=False)
class CountingDenoiser:
    """`denoiser`, its attributes included, with a counter: `calls` is the number of function evaluations so far.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian, Heun
    >>> from diffuscope.denoisers import CountingDenoiser
    >>> from diffuscope.samplers import sample
    >>> denoiser = CountingDenoiser(ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VE()))
    >>> x = sample(Heun(), denoiser, torch.ones(5, 1), torch.tensor([4.0, 2.0, 1.0, 0.5]))  # 3 steps of 2 evaluations
    >>> denoiser.calls
    6
    """

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

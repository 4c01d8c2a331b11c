r"""How a step calls the denoiser: the class of every sample, the precision, compiled or not, alone or in company.

With `precision = "bfloat16"` the matrix products and convolutions of the network round inputs and outputs to 8 bits of
significand (`torch.autocast`), a relative error up to :math:`2^{-8}` each; so is what lies between two of them.
Weights, gradients, Adam's moments, the average, the preconditioning around the network and every exact target keep the
precision they have. Compilation (`torch.compile`) reorders sums. Up to that, neither changes what is computed.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from diffuscope.denoisers import Batch, BatchTime, Classes, Denoiser, classes_of
from diffuscope.schedules import Schedule

from .parallel import processes, require_device
from .settings import TrainingSettings


class Evaluation:
    """`denoiser` as the steps of a run call it, with a class for every sample or without."""

    def __init__(self, denoiser: nn.Module, settings: TrainingSettings, device: torch.device) -> None:
        self.schedule: Schedule = cast(Denoiser, denoiser).schedule
        self.classes = classes_of(denoiser)
        self._call = cast(nn.Module, torch.compile(denoiser)) if settings.compiled else denoiser
        if processes() > 1:
            require_device(device)
            # broadcasts the weights of process 0, and averages gradients as they become known
            own = [device.index] if device.type == "cuda" else None
            self._call = DistributedDataParallel(self._call, device_ids=own)
        self._half = settings.precision == "bfloat16"
        self._device = device.type

    def __call__(self, x_t: Batch, t: BatchTime, y: Classes = None) -> Batch:
        asked = () if y is None else (y,)
        with self._precision():
            return self._call(x_t, t, *asked)

    def leave(self) -> None:
        """Let go of the other processes; the denoiser is not called any more."""
        del self._call

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self._device, dtype=torch.bfloat16) if self._half else nullcontext()

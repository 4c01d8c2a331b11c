r"""How a step calls the denoiser: in which precision, compiled or not, in one process or several.

With `precision = "bfloat16"` the matrix products and convolutions of the network round inputs and outputs to 8 bits of
significand (`torch.autocast`), a relative error up to :math:`2^{-8}` each, and so do the operations between them.
Weights, gradients, Adam's moments, the average, the preconditioning around the network and every exact target keep
their precision. Compilation (`torch.compile`) reorders sums. Up to rounding, neither changes what is computed.
"""

from contextlib import nullcontext
from typing import cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from diffuscope.denoisers import Batch, BatchTime, Classes, Denoiser, classes_of
from diffuscope.distributed import processes, require_device
from diffuscope.schedules import Schedule

from .settings import TrainingSettings


class Evaluation:
    """`denoiser` as the steps of a run call it, with one class per sample or without classes."""

    def __init__(self, denoiser: nn.Module, settings: TrainingSettings, device: torch.device) -> None:
        self.schedule: Schedule = cast(Denoiser, denoiser).schedule
        self.classes = classes_of(denoiser)
        self._call = cast(nn.Module, torch.compile(denoiser)) if settings.compiled else denoiser
        if processes() > 1:
            require_device(device)
            # broadcasts the weights of process 0, and averages gradients as the backward pass yields them
            device_ids = [device.index] if device.type == "cuda" else None
            self._call = DistributedDataParallel(self._call, device_ids=device_ids)
        self._bfloat16 = settings.precision == "bfloat16"
        self._device = device.type

    def __call__(self, x_t: Batch, t: BatchTime, y: Classes = None) -> Batch:
        classes = () if y is None else (y,)
        with torch.autocast(self._device, dtype=torch.bfloat16) if self._bfloat16 else nullcontext():
            return self._call(x_t, t, *classes)

    def leave(self) -> None:
        """Release the other processes; the denoiser cannot be called afterwards."""
        del self._call

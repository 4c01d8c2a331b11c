"""A second device on any machine: PyTorch's lazy backend, which can be started once in a process."""

from functools import cache

import torch
import torch._lazy.ts_backend


@cache
def second_device() -> torch.device:
    """It computes the numbers of the CPU, and refuses whatever mixes its tensors with those of the CPU."""
    torch._lazy.ts_backend.init()
    return torch.device("lazy")

"""Where networks run: --device, in PyTorch's words, checked before any work."""

import os

import torch

from diffuscope.errors import InputError

from .processes import under_torchrun

MPS = "mps has no float64, in which times and noise levels are computed"


def chosen_device(name: str | None) -> torch.device:
    """The device that --device names: by default the CPU, and under torchrun the GPU of this process if there is one.

    Raises InputError for what this machine lacks, and under torchrun for one GPU for all processes.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    own = int(os.environ.get("LOCAL_RANK", "0")) if under_torchrun() else 0
    if name is None:
        return torch.device("cuda", own) if under_torchrun() and count else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device: expected cpu, cuda or cuda:N, got {name!r}") from None
    if device.type == "mps":
        raise InputError(f"device: expected cpu or cuda, as {MPS}, got {name}")
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device: expected cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cpu":
        return torch.device("cpu")
    if not count:
        raise InputError(f"device: expected cpu, as this machine has no CUDA device, got {name}")
    if under_torchrun() and device.index is not None and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        raise InputError(f"device: expected cpu or cuda, as each process of torchrun has a GPU of its own, got {name}")
    index = own if device.index is None else device.index
    if under_torchrun() and own >= count:
        return torch.device("cuda", own)  # `process_group` says how many GPUs there are
    if not 0 <= index < count:
        raise InputError(f"device: expected cuda:0 to cuda:{count - 1}, the CUDA devices of this machine, got {name}")
    return torch.device("cuda", index)

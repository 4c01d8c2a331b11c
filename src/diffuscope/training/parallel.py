r"""Data-parallel training under `torchrun`: every process takes its share of the same batch.

All processes hold the whole state and draw the whole batch (indices, classes, times, noise) from equal generators;
process r of R computes the rows :math:`rB/R .. (r+1)B/R - 1` of it, and PyTorch's `DistributedDataParallel` averages
the gradients:

.. math::  g = \frac1R \sum_r \nabla \frac{R}{B} \sum_{b \in r} \ell_b = \nabla \frac1B \sum_b \ell_b .

So R processes take the step that one takes with the same batch, up to the order of summation, and the state does not
know R: a run resumes with another number of processes. (An objective that draws for itself draws other numbers in every
process; batch norm, whose statistics would be those of a share, is refused.) Process 0 writes the checkpoint and the
log; an error of its own is raised in all.
"""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from diffuscope.errors import InputError

Made = TypeVar("Made")


@contextmanager
def process_group() -> Iterator[torch.device]:
    """Under `torchrun`, join the other processes (NCCL on GPUs, Gloo on CPUs) until the block ends; else do nothing.

    Yields the device of this process: its GPU if there is one under `torchrun`, otherwise the CPU. Raises InputError
    for more processes than GPUs.
    """
    if not dist.is_torchelastic_launched():
        yield torch.device("cpu")
        return
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        if int(os.environ["LOCAL_RANK"]) >= torch.cuda.device_count():
            raise InputError(
                f"nproc-per-node: expected at most the number of GPUs, {torch.cuda.device_count()}, "
                f"got {os.environ['LOCAL_WORLD_SIZE']}"
            )
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield device
    finally:
        # Gloo's threads must be gone before Python is torn down, or they abort the process; they go with the group's
        # last owner, which may be a cycle
        gc.collect()
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, 0 where it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def processes() -> int:
    """How many train together, 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(rows: Shaped[Tensor, "batch *event"]) -> Shaped[Tensor, "share *event"]:
    """This process's rows of the whole batch."""
    size = len(rows) // processes()
    return rows[rank() * size : (rank() + 1) * size]


def gathered(rows: Shaped[Tensor, " share"]) -> Shaped[Tensor, " batch"]:
    """The whole batch from the shares of all processes, in order."""
    if processes() == 1:
        return rows
    shares = [torch.empty_like(rows) for _ in range(processes())]
    dist.all_gather(shares, rows.contiguous())
    return torch.cat(shares)


def of_process_0(make: Callable[[], Made], device: torch.device) -> Made | None:
    """What `make` gives in process 0, None in the others, which wait for it; its InputError is raised in all."""
    made, line = None, ""
    if rank() == 0:
        try:
            made = make()
        except InputError as error:
            if processes() == 1:
                raise
            line = str(error)
    if processes() > 1:
        told: list[str] = [line]
        dist.broadcast_object_list(told, 0, device=device)
        if told[0]:
            raise InputError(told[0])
    return made


def said_by_process_0(value: bool, device: torch.device) -> bool:
    """The value that process 0 gives."""
    if processes() == 1:
        return value
    told = torch.tensor([value], dtype=torch.uint8, device=device)
    dist.broadcast(told, 0)
    return bool(told.item())


def wait_for_all() -> None:
    """Wait until every process is here."""
    if processes() > 1:
        dist.barrier()


def require_device(device: torch.device) -> None:
    """Raises InputError where this device cannot take part in the group."""
    if dist.get_backend() == "nccl" and device.type != "cuda":
        raise InputError(f"denoiser: expected its parameters on a GPU under torchrun with NCCL, got {device}")


def require_even(batch_size: int) -> None:
    """Raises InputError where the processes cannot have equal shares."""
    if batch_size % processes():
        raise InputError(f"batch_size: expected a multiple of the number of processes, {processes()}, got {batch_size}")

r"""Data-parallel training under `torchrun`: every process takes its share of the same batch.

All processes hold the whole state and draw the whole batch (indices, classes, times, noise) from equal generators;
process r of R computes the rows :math:`rB/R .. (r+1)B/R - 1` of it, and PyTorch's `DistributedDataParallel` averages
the gradients:

.. math::  g = \frac1R \sum_r \nabla \frac{R}{B} \sum_{b \in r} \ell_b = \nabla \frac1B \sum_b \ell_b .

So R processes take the step that one takes with the same batch, up to the order of summation, and the state does not
know R: a run resumes with another number of processes. Process 0 writes the checkpoint and the log.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from diffuscope.errors import InputError


@contextmanager
def process_group() -> Iterator[torch.device]:
    """Under `torchrun`, join the other processes (NCCL on GPUs, Gloo on CPUs) until the block ends; else do nothing.

    Yields the device of this process: its GPU if there is one under `torchrun`, otherwise the CPU.
    """
    if not dist.is_torchelastic_launched():
        yield torch.device("cpu")
        return
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
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


def agreed(value: bool, device: torch.device) -> bool:
    """What process 0 says."""
    if processes() == 1:
        return value
    told = torch.tensor([value], dtype=torch.uint8, device=device)
    dist.broadcast(told, 0)
    return bool(told.item())


def together() -> None:
    """Wait until every process is here."""
    if processes() > 1:
        dist.barrier()


def require_even(batch_size: int) -> None:
    """Raises InputError where the processes cannot have equal shares."""
    if batch_size % processes():
        raise InputError(f"batch_size: expected a multiple of the number of processes, {processes()}, got {batch_size}")

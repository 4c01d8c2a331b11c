r"""Several processes under `torchrun`: who they are, what each takes, what they share.

The processes are equals that run the same program; process 0 alone writes files. In training process r of R computes
the rows :math:`rB/R .. (r+1)B/R - 1` of a batch that all have drawn from equal generators, and PyTorch's
`DistributedDataParallel` averages the gradients,

.. math::  g = \frac1R \sum_r \nabla \frac{R}{B} \sum_{b \in r} \ell_b = \nabla \frac1B \sum_b \ell_b ,

so that R processes take the same step as one process with the same batch, up to the order of summation, and the state
does not depend on R: a run can resume with another number of processes. (An objective that draws its own random
numbers draws different ones in each process; batch norm, whose statistics would be those of a share, is refused.) If
process 0 fails to write, the error is raised in all processes.

Other work is shared where a caller says that all processes do the same, by `sharing` (see `shared_work`), and nothing
is within `alone`.
"""

import atexit
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from diffuscope.errors import InputError

Made = TypeVar("Made")
PATIENCE = timedelta(days=30)  # of a process for the others; torchrun ends them all when one has ended


@dataclass
class _Here:
    """What this process takes part in."""

    host: "dist.ProcessGroup | None" = None  # of tensors on the CPU, joined by `process_group`
    alone: int = 0  # depths of blocks
    sharing: int = 0


_HERE = _Here()


@contextmanager
def process_group(device: torch.device | None = None) -> Iterator[torch.device]:
    """Under `torchrun`, join the other processes (NCCL on GPUs, Gloo on CPUs) until the block ends; else do nothing.

    Yields the device of this process: `device`, or else under `torchrun` its GPU if there are any, otherwise the CPU.
    Raises InputError for more processes than GPUs.
    """
    if not dist.is_torchelastic_launched():
        yield torch.device("cpu") if device is None else device
        return
    cuda = torch.cuda.is_available() if device is None else device.type == "cuda"
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        if int(os.environ["LOCAL_RANK"]) >= torch.cuda.device_count():
            raise InputError(
                f"nproc-per-node: expected at most the number of GPUs, {torch.cuda.device_count()}, "
                f"got {os.environ['LOCAL_WORLD_SIZE']}"
            )
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    _HERE.host = dist.new_group(backend="gloo", timeout=PATIENCE) if cuda else dist.group.WORLD  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield device
    finally:
        _HERE.host = None
        # Gloo's threads abort the process unless they end before the interpreter shuts down; they end with the last
        # reference to the group, which may be held by a cycle, and by the caller's own variables until it ends
        gc.collect()
        dist.destroy_process_group()
        atexit.register(gc.collect)


def rank() -> int:
    """The rank of this process, 0 without a process group and within `alone`."""
    return dist.get_rank() if dist.is_initialized() and not _HERE.alone else 0


def processes() -> int:
    """The number of processes, 1 without a process group and within `alone`."""
    return dist.get_world_size() if dist.is_initialized() and not _HERE.alone else 1


@contextmanager
def alone() -> Iterator[None]:
    """Until the block ends this process does all work by itself, as if there were no others."""
    _HERE.alone += 1
    try:
        yield
    finally:
        _HERE.alone -= 1


@contextmanager
def sharing() -> Iterator[None]:
    """Until the block ends, work is shared with the other processes of `process_group`, all of which come here.

    In a group that others made, as of a user's own training, this process works alone.
    """
    if _HERE.host is None:
        with alone():
            yield
        return
    _HERE.sharing += 1
    try:
        yield
    finally:
        _HERE.sharing -= 1


def sharers() -> int:
    """The number of processes that share work here: 1 outside of `sharing`."""
    return processes() if _HERE.sharing else 1


def host_group() -> "dist.ProcessGroup | None":
    """The group of all processes for tensors on the CPU; None for the default one."""
    return _HERE.host


def _group_of(values: Tensor) -> "dist.ProcessGroup | None":
    """The group for tensors where these are: NCCL knows none on the CPU."""
    return _HERE.host if values.device.type == "cpu" else None


def share(rows: Shaped[Tensor, "batch *event"]) -> Shaped[Tensor, "share *event"]:
    """This process's rows of the whole batch."""
    size = len(rows) // processes()
    return rows[rank() * size : (rank() + 1) * size]


def shard(n: int) -> tuple[int, int]:
    """start and stop of this process's rows of n, n r/R .. n (r+1)/R rounded down: all rows once, perhaps none here."""
    return n * rank() // processes(), n * (rank() + 1) // processes()


def summed(values: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """The sum of the `values` of all processes, which have equal shapes."""
    if processes() == 1:
        return values
    total = values.contiguous().clone()
    dist.all_reduce(total, group=_group_of(total))
    return total


def made_by_all(make: Callable[[], Made]) -> Made:
    """The result of `make` in every process; an InputError in any of them is raised in all, that of the least rank."""
    if processes() == 1:
        return make()
    made, message = None, ""
    try:
        made = make()
    except InputError as error:
        message = str(error)
    messages: list[str] = [""] * processes()
    dist.all_gather_object(messages, message, group=_HERE.host)
    for each in messages:
        if each:
            raise InputError(each)
    return cast(Made, made)


def gathered(rows: Shaped[Tensor, " share"]) -> Shaped[Tensor, " batch"]:
    """The whole batch from the shares of all processes, in order."""
    if processes() == 1:
        return rows
    shares = [torch.empty_like(rows) for _ in range(processes())]
    dist.all_gather(shares, rows.contiguous(), group=_group_of(rows))
    return torch.cat(shares)


def of_process_0(make: Callable[[], Made], device: torch.device) -> Made | None:
    """The result of `make` in process 0, None in the others, which wait for it; an InputError is raised in all."""
    if processes() == 1:
        return make()
    made, messages = None, [""]
    if rank() == 0:
        try:
            with alone():  # the others wait
                made = make()
        except InputError as error:
            messages = [str(error)]
    dist.broadcast_object_list(messages, 0, device=device)
    if messages[0]:
        raise InputError(messages[0])
    return made


def said_by_process_0(value: bool, device: torch.device) -> bool:
    """The `value` of process 0, in all processes."""
    if processes() == 1:
        return value
    shared = torch.tensor([value], dtype=torch.uint8, device=device)
    dist.broadcast(shared, 0)
    return bool(shared.item())


def wait_for_all() -> None:
    """Wait until every process has reached this call."""
    if processes() > 1:
        dist.barrier(group=_HERE.host)


def require_device(device: torch.device) -> None:
    """Raises InputError where this device cannot take part in the group."""
    if dist.get_backend() == "nccl" and device.type != "cuda":
        raise InputError(f"denoiser: expected its parameters on a GPU under torchrun with NCCL, got {device}")


def require_even(batch_size: int) -> None:
    """Raises InputError where the processes cannot have equal shares."""
    if batch_size % processes():
        raise InputError(f"batch_size: expected a multiple of the number of processes, {processes()}, got {batch_size}")

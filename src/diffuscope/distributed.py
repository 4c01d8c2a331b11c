r"""Several processes under `torchrun`: who they are, what each takes, what they share.

The processes are equals that run the same program; process 0 alone writes files. In training process r of R computes
the rows :math:`rB/R .. (r+1)B/R - 1` of a batch that all have drawn from equal generators, and PyTorch's
`DistributedDataParallel` averages the gradients,

.. math::  g = \frac1R \sum_r \nabla \frac{R}{B} \sum_{b \in r} \ell_b = \nabla \frac1B \sum_b \ell_b ,

so that R processes take the same step as one process with the same batch, up to the order of summation, and the state
does not depend on R: a run can resume with another number of processes. (An objective that draws its own random
numbers draws different ones in each process; batch norm, whose statistics would be those of a share, is refused.) If
process 0 fails to write, the error is raised in all processes. An error that one process alone meets, between two
meetings, ends it, and the others at their next meeting; torchrun ends whoever is not on the way to one. Nothing waits
for a time limit of its own: some work takes hours.

Other work is shared where a caller says that all processes do the same, by `sharing` (see `shared_work`), and nothing
is within `alone`.
"""

import atexit
import gc
import json
import os
from collections.abc import Callable, Iterator, Mapping
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
ENDED = "torchrun: expected all processes to go on, and one has ended"
PATIENCE = timedelta(days=30)  # of a process for the others; torchrun ends them all when one has ended


class FailedElsewhereError(InputError):
    """The InputError of another process, raised here too."""

    elsewhere = True


class CrashedElsewhereError(RuntimeError):
    """Any other error of another process, raised here too."""

    elsewhere = True


@dataclass
class _Here:
    """What this process takes part in."""

    host: "dist.ProcessGroup | None" = None  # of tensors on the CPU, joined by `process_group`
    alone: int = 0  # depths of blocks
    sharing: int = 0
    shared: int = 0  # blocks of sharing so far


_HERE = _Here()


@contextmanager
def process_group(device: torch.device | None = None) -> Iterator[torch.device]:
    """Under `torchrun`, join the other processes (NCCL on GPUs, Gloo on CPUs) until the block ends; else do nothing.

    Yields the device of this process: `device`, or else under `torchrun` its GPU if there are any, otherwise the CPU.
    Raises InputError for more processes than GPUs, and FailedElsewhereError at the end of the block if it ended because
    another process has.

    >>> from diffuscope.training import process_group, processes, rank
    >>> with process_group() as device:  # python; under torchrun --nproc-per-node 4 it prints 0 4 .. 3 4
    ...     print(rank(), processes())
    0 1
    """
    if not dist.is_torchelastic_launched():
        yield torch.device("cpu") if device is None else device
        return
    cuda = torch.cuda.is_available() if device is None else device.type == "cuda"
    if not cuda:
        device = torch.device("cpu")
    elif device is None or device.index is None:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
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
    except RuntimeError as error:
        # what PyTorch says in the processes that are left, also of the gradients that a backward pass averages
        if isinstance(error, dist.DistError) or "gloo/transport" in str(error):
            raise FailedElsewhereError(ENDED) from error
        raise
    finally:
        _HERE.host = None
        # Gloo's threads abort the process unless they end before the interpreter shuts down; they end with the last
        # reference to the group, which may be held by a cycle, and by the caller's own variables until it ends
        gc.collect()
        dist.destroy_process_group()
        atexit.register(gc.collect)


def rank() -> int:
    """The rank of this process, 0 without a process group and within `alone`.

    >>> from diffuscope.training import rank
    >>> rank()  # without torchrun
    0
    """
    return dist.get_rank() if dist.is_initialized() and not _HERE.alone else 0


def processes() -> int:
    """The number of processes, 1 without a process group and within `alone`.

    >>> from diffuscope.training import processes
    >>> processes()  # without torchrun
    1
    """
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
    _HERE.shared += 1
    try:
        yield
    finally:
        _HERE.sharing -= 1


def blocks_of_sharing() -> int:
    """How many blocks of `sharing` this process has entered: equal in processes that do the same."""
    return _HERE.shared


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
    """The result of `make` in every process; an error in any of them is raised in all, that of the least rank."""
    if processes() == 1:
        return make()
    made, own = _tried(make)
    told: list[tuple[bool, str] | None] = [None] * processes()
    dist.all_gather_object(told, said_of(own), group=_HERE.host)
    for each_rank, each in enumerate(told):
        if each is not None:
            raise own if own is not None and each_rank == rank() else error_elsewhere(*each)
    return cast(Made, made)


def _tried(make: Callable[[], Made]) -> tuple[Made | None, Exception | None]:
    try:
        return make(), None
    except Exception as error:
        return None, error


def said_of(error: Exception | None) -> tuple[bool, str] | None:
    """What the other processes are told of an error: whether it is an InputError, and its line."""
    if error is None:
        return None
    return (True, str(error)) if isinstance(error, InputError) else (False, f"{type(error).__name__}: {error}")


def error_elsewhere(is_input: bool, line: str) -> FailedElsewhereError | CrashedElsewhereError:
    """The error to raise for that of another process."""
    return FailedElsewhereError(line) if is_input else CrashedElsewhereError(line)


def gathered(rows: Shaped[Tensor, " share"]) -> Shaped[Tensor, " batch"]:
    """The whole batch from the shares of all processes, in order."""
    if processes() == 1:
        return rows
    shares = [torch.empty_like(rows) for _ in range(processes())]
    dist.all_gather(shares, rows.contiguous(), group=_group_of(rows))
    return torch.cat(shares)


def of_process_0(make: Callable[[], Made], device: torch.device | None = None) -> Made | None:
    """The result of `make` in process 0, None in the others, which wait for it; an error is raised in all.

    In a group that others made, words travel by its `device`.

    >>> from diffuscope.training import of_process_0
    >>> of_process_0(lambda: 6 * 7)  # one process, which is process 0
    42
    """
    if processes() == 1:
        return make()
    made, own = None, None
    if rank() == 0:
        with alone():  # the others wait
            made, own = _tried(make)
    told = [said_of(own)]
    dist.broadcast_object_list(told, 0, group=_HERE.host, device=device if _HERE.host is None else None)
    if told[0] is not None:
        raise error_elsewhere(*told[0]) if own is None else own
    return made


def said_by_process_0(value: bool, device: torch.device) -> bool:
    """The `value` of process 0, in all processes."""
    if processes() == 1:
        return value
    shared = torch.tensor([value], dtype=torch.uint8, device=device)
    dist.broadcast(shared, 0)
    return bool(shared.item())


def require_same(given: Mapping[str, object]) -> None:
    """Raises InputError, in all processes, unless all have the same of each name; values as JSON has them.

    Otherwise one result would be made of several models, data or seeds.
    """
    if processes() == 1:
        return
    told: list[dict[str, str]] = [{}] * processes()
    dist.all_gather_object(told, {name: json.dumps(value) for name, value in given.items()}, group=_HERE.host)
    differ = [name.partition(".")[0] for name in given if any(each.get(name) != told[0].get(name) for each in told)]
    if differ or any(each.keys() != told[0].keys() for each in told):
        names = ", ".join(dict.fromkeys(differ)) or "torchrun"
        raise InputError(
            f"{names}: expected the same in all processes of torchrun, got others in some; draw weights and data from "
            "a fixed seed"
        )


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

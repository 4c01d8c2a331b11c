r"""Several processes under `torchrun`: who they are, what each takes, what they share.

The processes are equals that run the same program; process 0 alone writes files. In training process r of R computes
the rows :math:`rB/R .. (r+1)B/R - 1` of a batch that all have drawn from equal generators, and PyTorch's
`DistributedDataParallel` averages the gradients,

.. math::  g = \frac1R \sum_r \nabla \frac{R}{B} \sum_{b \in r} \ell_b = \nabla \frac1B \sum_b \ell_b ,

so that R processes take the same step as one process with the same batch, up to the order of summation, and the state
does not depend on R: a run can resume with another number of processes. (An objective that draws its own random
numbers draws different ones in each process; batch norm, whose statistics would be those of a share, is refused.) If
process 0 fails to write, the error is raised in all processes.

An audit shares pieces of work (`shared`): piece i is made by process i mod R, and all receive all results, the same
bytes, so that no decision taken from them can differ. Pieces do not depend on R, and neither do the results. An error
in any piece is raised in all processes. What is a piece, or is done within `alone`, shares nothing further.
"""

import atexit
import gc
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Shaped, UInt8
from numpy import ndarray
from torch import Tensor

from diffuscope.errors import InputError

Made = TypeVar("Made")
Arrays = dict[str, ndarray]
PATIENCE = timedelta(days=30)  # of a process for the others; torchrun ends them all when one has ended
ERROR = "error"  # the name under which a process tells why it failed


class FailedElsewhere(InputError):
    """The InputError of another process, raised here too."""

    elsewhere = True


class CrashedElsewhere(RuntimeError):
    """Any other error of another process, raised here too."""

    elsewhere = True


@dataclass
class _Here:
    """What this process takes part in."""

    host: "dist.ProcessGroup | None" = None  # of tensors on the CPU, joined by `process_group`
    alone: int = 0
    calls: int = 0


_HERE = _Here()


@contextmanager
def process_group() -> Iterator[torch.device]:
    """Under `torchrun`, join the other processes (NCCL on GPUs, Gloo on CPUs) until the block ends; else do nothing.

    Yields the device of this process: under `torchrun` its GPU if there are any, otherwise the CPU. Raises InputError
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
    dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    _HERE.host = dist.new_group(backend="gloo", timeout=PATIENCE) if cuda else dist.group.WORLD
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
    """Share work with the processes of `process_group`; alone in a group that others made, as of a user's training."""
    if _HERE.host is not None:
        yield
        return
    with alone():
        yield


def shared(pieces: Sequence[Callable[[], Arrays]]) -> list[Arrays]:
    """What each of `pieces` makes, in order: arrays by name; all processes call this with equal pieces.

    Piece i is made by process i mod R, alone. An InputError is raised in all processes, as FailedElsewhere in those
    that did not meet it; another exception likewise, as CrashedElsewhere.

    >>> [made["square"].item() for made in shared([lambda i=i: {"square": np.array(i**2)} for i in range(3)])]
    [0, 1, 4]
    """
    if processes() == 1:
        return [piece() for piece in pieces]
    _HERE.calls += 1
    own: Exception | None = None
    mine: dict[str, Arrays] = {}
    its_own = range(rank(), len(pieces), processes())
    try:
        with alone():
            for index in its_own:
                mine[str(index)] = pieces[index]()
    except Exception as error:
        own, mine = error, {ERROR: _told(error)}
    made: dict[str, Arrays] = {}
    for failed, found in enumerate(_exchanged(_packed(mine), len(pieces))):
        part = _unpacked(found)
        if ERROR in part:
            if failed == rank() and own is not None:
                raise own
            is_input, said = json.loads(part[ERROR]["json"].tobytes())
            raise FailedElsewhere(said) if is_input else CrashedElsewhere(said)
        made |= part
    return [made.get(str(index), {}) for index in range(len(pieces))]


def shared_rows(
    function: Callable[[Any], Any], x: Shaped[Tensor, "n *event"], block: int
) -> Shaped[Tensor, "n *other"]:
    """`function` of `x`, a block of rows at a time, the blocks shared among the processes; on the device of `x`.

    Blocks are the same for any number of processes, since the rounding of a network depends on them.
    """
    if processes() == 1:
        return torch.cat([function(part) for part in x.split(block)])
    made = shared([partial(_rows, function, part) for part in x.split(block)])
    return torch.cat([torch.from_numpy(part["rows"]) for part in made]).to(x.device)


def told_by_process_0(make: Callable[[], Made]) -> Made:
    """What `make` returns in process 0, in all processes; if there are several, as JSON would have it."""
    if processes() == 1:
        return make()
    return json.loads(shared([lambda: _as_json(make())])[0]["json"].tobytes())


def _rows(function: Callable[[Any], Any], x: Tensor) -> Arrays:
    return {"rows": function(x).detach().cpu().numpy()}


def _as_json(value: object) -> Arrays:
    return {"json": np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)}


def _told(error: Exception) -> Arrays:
    is_input = isinstance(error, InputError)
    return _as_json((is_input, str(error) if is_input else f"{type(error).__name__}: {error}"))


def _packed(made: Mapping[str, Arrays]) -> UInt8[Tensor, " bytes"]:
    content = io.BytesIO()
    flat = {f"{piece}/{name}": array for piece, arrays in made.items() for name, array in arrays.items()}
    np.savez(content, allow_pickle=False, **flat)
    return torch.frombuffer(bytearray(content.getbuffer()), dtype=torch.uint8)


def _unpacked(content: UInt8[Tensor, " bytes"]) -> dict[str, Arrays]:
    made: dict[str, Arrays] = {}
    with np.load(io.BytesIO(content.numpy().data), allow_pickle=False) as stored:
        for key in stored.files:
            piece, _, name = key.partition("/")
            made.setdefault(piece, {})[name] = stored[key]
    return made


def _exchanged(mine: UInt8[Tensor, " bytes"], pieces: int) -> list[Tensor]:
    """The bytes of every process."""
    here = torch.tensor([_HERE.calls, pieces, len(mine)])
    heads = [torch.empty_like(here) for _ in range(processes())]
    dist.all_gather(heads, here, group=_HERE.host)
    if any(not torch.equal(head[:2], here[:2]) for head in heads):
        raise RuntimeError("the processes of one run no longer do the same")
    sizes = [int(head[2]) for head in heads]
    padded = torch.zeros(max(sizes), dtype=torch.uint8)
    padded[: len(mine)] = mine
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded, group=_HERE.host)
    return [part[:size] for part, size in zip(parts, sizes, strict=True)]


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
    """The result of `make` in process 0, None in the others, which wait for it; an InputError is raised in all."""
    if processes() == 1:
        return make()
    made, messages = None, [""]
    if rank() == 0:
        try:
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
        dist.barrier()


def require_device(device: torch.device) -> None:
    """Raises InputError where this device cannot take part in the group."""
    if dist.get_backend() == "nccl" and device.type != "cuda":
        raise InputError(f"denoiser: expected its parameters on a GPU under torchrun with NCCL, got {device}")


def require_even(batch_size: int) -> None:
    """Raises InputError where the processes cannot have equal shares."""
    if batch_size % processes():
        raise InputError(f"batch_size: expected a multiple of the number of processes, {processes()}, got {batch_size}")

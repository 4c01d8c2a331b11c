"""Work that the processes of a run share: each makes some pieces of it, and all receive all results.

Piece i of n is made by process i mod R, and every process receives the same bytes, so that no decision taken from them
can differ. What the pieces are does not depend on R, and so neither do the results, bit for bit, on equal machines with
equal numbers of threads. An error in any piece is raised in all processes. A piece shares nothing further.

Arrays travel as NumPy archives without pickle, the format of the stages on disk.
"""

import io
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Shaped, UInt8
from numpy import ndarray
from torch import Tensor

from diffuscope.distributed import (
    ENDED,
    FailedElsewhereError,
    alone,
    blocks_of_sharing,
    error_elsewhere,
    host_group,
    processes,
    rank,
    said_of,
    sharers,
)

Made = TypeVar("Made")
Arrays = dict[str, ndarray]
ERROR = "error"  # the name under which a process tells why it failed
_CALLS = itertools.count()


def shared(pieces: Sequence[Callable[[], Arrays]]) -> list[Arrays]:
    """What each of `pieces` makes, in order: arrays by name; all processes call this with equal pieces.

    Piece i is made by process i mod R, alone. An InputError is raised in all processes, as FailedElsewhereError in
    those that did not meet it; another exception likewise, as CrashedElsewhereError.

    >>> [made["square"].item() for made in shared([lambda i=i: {"square": np.array(i**2)} for i in range(3)])]
    [0, 1, 4]
    """
    if sharers() == 1:
        return [piece() for piece in pieces]
    own: Exception | None = None
    mine: dict[str, Arrays] = {}
    its_own = range(rank(), len(pieces), processes())
    try:
        with alone():
            for index in its_own:
                mine[str(index)] = pieces[index]()
    except Exception as error:
        own, mine = error, {ERROR: _as_json(said_of(error))}
    made: dict[str, Arrays] = {}
    for failed, found in enumerate(_exchanged(_packed(mine), len(pieces))):
        part = _unpacked(found)
        if ERROR in part:
            if failed == rank() and own is not None:
                raise own
            raise error_elsewhere(*_of_json(part[ERROR]))
        made |= part
    return [made.get(str(index), {}) for index in range(len(pieces))]


def shared_rows(
    function: Callable[[Any], Any], x: Shaped[Tensor, "n *event"], block: int
) -> Shaped[Tensor, "n *other"]:
    """`function` of `x`, a block of rows at a time, the blocks shared among the processes; on the device of `x`.

    Blocks are the same for any number of processes, since the rounding of a network depends on them.
    """
    return torch.cat(shared_tensors([partial(function, part) for part in x.split(block)], x.device))


def shared_tensors(pieces: Sequence[Callable[[], Any]], device: torch.device) -> list[Tensor]:
    """As `shared`, for pieces that make one tensor each."""
    if sharers() == 1:
        return [piece() for piece in pieces]
    made = shared([partial(_array, piece) for piece in pieces])
    return [torch.from_numpy(part["array"]).to(device) for part in made]


def told_by_process_0(make: Callable[[], Made]) -> Made:
    """What `make` returns in process 0, in all processes; if there are several, as JSON would have it."""
    if sharers() == 1:
        return make()
    return _of_json(shared([lambda: _as_json(make())])[0])


def _array(piece: Callable[[], Tensor]) -> Arrays:
    return {"array": piece().detach().cpu().numpy()}


def _as_json(value: object) -> Arrays:
    return {"json": np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)}


def _of_json(made: Arrays) -> Any:
    return json.loads(made["json"].tobytes())


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
    """The bytes of every process; FailedElsewhereError where one of them has ended."""
    here = torch.tensor([next(_CALLS), blocks_of_sharing(), pieces, len(mine)])
    heads = _of_all(here)
    if any(not torch.equal(head[:-1], here[:-1]) for head in heads):
        raise RuntimeError("the processes of one run no longer do the same")
    sizes = [int(head[-1]) for head in heads]
    padded = torch.zeros(max(sizes), dtype=torch.uint8)
    padded[: len(mine)] = mine
    return [part[:size] for part, size in zip(_of_all(padded), sizes, strict=True)]


def _of_all(mine: Tensor) -> list[Tensor]:
    """The tensors of all processes, which have one shape."""
    found = [torch.empty_like(mine) for _ in range(processes())]
    try:
        dist.all_gather(found, mine, group=host_group())
    except RuntimeError as error:
        raise FailedElsewhereError(ENDED) from error
    return found

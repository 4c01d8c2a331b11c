"""The processes of a run as threads of this one, each with a rank: what `torch.distributed` does among them, in small.

The real thing, by Gloo, is in `launched`; here a test is as quick as its work, and sees every rank.
"""

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from diffuscope import distributed, shared_work

PATIENCE = 20  # seconds


class Group:
    """The functions of `torch.distributed` that the library calls; all ranks meet in each."""

    DistError = torch.distributed.DistError

    def __init__(self, count: int, backend: str = "gloo") -> None:
        self.count, self.backend, self.here = count, backend, threading.local()
        self.barrier_of_all, self.slots = threading.Barrier(count), [None] * count

    def is_initialized(self) -> bool:
        return True

    def get_rank(self) -> int:
        return self.here.rank

    def get_world_size(self) -> int:
        return self.count

    def get_backend(self) -> str:
        return self.backend

    def _met(self, mine: Any) -> list[Any]:
        self.slots[self.here.rank] = mine
        self.barrier_of_all.wait(PATIENCE)
        found = list(self.slots)
        self.barrier_of_all.wait(PATIENCE)
        return found

    def barrier(self, group: Any = None) -> None:
        self._met(group)

    def all_gather(self, found: list[Tensor], mine: Tensor, group: Any = None) -> None:
        del group
        assert len(found) == self.count
        for place, part in zip(found, self._met(mine.clone()), strict=True):
            place.copy_(part)

    def all_gather_object(self, found: list[Any], mine: Any, group: Any = None) -> None:
        del group
        found[:] = self._met(mine)

    def all_reduce(self, mine: Tensor, group: Any = None) -> None:
        del group
        mine.copy_(torch.stack(self._met(mine.clone())).sum(0))

    def broadcast(self, mine: Tensor, source: int) -> None:
        mine.copy_(self._met(mine.clone())[source])

    def broadcast_object_list(self, mine: list[Any], source: int, group: Any = None, device: Any = None) -> None:
        del group, device
        mine[:] = self._met(list(mine))[source]


class _Here(threading.local):
    """What every rank takes part in, in a group of our own."""

    def __init__(self) -> None:
        self.host, self.alone, self.sharing, self.shared = "all", 0, 0, 0


class _Calls(threading.local):
    """Counted by every rank."""

    def __init__(self) -> None:
        self.count = itertools.count()

    def __next__(self) -> int:
        return next(self.count)


def in_processes(
    monkeypatch: pytest.MonkeyPatch, count: int, work: Callable[[], Any], backend: str = "gloo"
) -> list[Any]:
    """What `work` returns or raises in each of `count` ranks."""
    group, found = Group(count, backend), list[Any]([None] * count)

    def run(rank: int) -> None:
        group.here.rank = rank
        try:
            found[rank] = work()
        except BaseException as error:
            found[rank] = error

    with monkeypatch.context() as patch:
        patch.setattr(distributed, "dist", group)
        patch.setattr(shared_work, "dist", group)
        patch.setattr(distributed, "_HERE", _Here())
        patch.setattr(shared_work, "_CALLS", _Calls())
        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return found

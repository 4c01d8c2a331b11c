"""Several processes under `torchrun`: the first one speaks, and whatever ends them all is said once.

A process that failed asks the others' common store whether it is the first; it says its line, then how it ended, and
the others end likewise. Torchrun ends all processes when one has ended with an error, so that nobody ends before the
line is said; and nobody waits for long, since a process may have been killed.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch.distributed as dist

PATIENCE = timedelta(seconds=10)


def under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def follows() -> bool:
    """Whether this process is one of several and not the first of them, which alone speaks and writes."""
    return under_torchrun() and int(os.environ.get("RANK", "0")) > 0


@contextmanager
def following_silently() -> Iterator[None]:
    """Nothing is printed until the block ends by a process that follows."""
    if not follows():
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


class Ending:
    """How this process ends beside others."""

    def __init__(self, error: BaseException) -> None:
        self.store = _store()
        self.told = getattr(error, "elsewhere", False)
        self.key = f"diffuscope/ended/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"

    def code_of_others(self) -> int | None:
        """The exit code of the process that says the line; None if this one has to say it."""
        if self.store is None:
            return None
        try:
            if not self.told and self.store.add(f"{self.key}/claims", 1) == 1:
                return None
            self.store.wait([f"{self.key}/code"], PATIENCE)
            return int(self.store.get(f"{self.key}/code"))
        except (RuntimeError, ValueError):  # the one that should say it was killed
            return None

    def say_code(self, code: int) -> None:
        """Let the others end."""
        if self.store is None:
            return
        try:
            self.store.set(f"{self.key}/code", str(code))
        except RuntimeError:
            sys.stderr.flush()


def _store() -> "dist.Store | None":
    """The store that torchrun holds for its processes; None without one."""
    if not under_torchrun():
        return None
    import torch.distributed as dist  # which nobody else waits for

    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return dist.TCPStore(address, port, is_master=False, timeout=PATIENCE, wait_for_workers=False)
    except (KeyError, RuntimeError, ValueError):
        return None

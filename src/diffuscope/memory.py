"""The memory that is free, so that a claim of more is refused before it is allocated; chunks of a bounded size."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from diffuscope.errors import InputError

MEMINFO = Path("/proc/meminfo")
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def require_memory(needed: float | int, argument: str, what: str) -> None:
    """Raises InputError, naming `argument`, if `what` needs more bytes than are free.

    >>> from diffuscope.memory import require_memory
    >>> require_memory(1000, "rank", "a small matrix")
    >>> require_memory(8e21, "rank", "a large matrix")
    Traceback (most recent call last):
        ...
    diffuscope.errors.InputError: rank: a large matrix needs 8e+12 GB of memory; expected at most ...
    """
    free = available_memory()
    if needed > free:
        raise InputError(
            f"{argument}: {what} needs {needed / 1e9:,.3g} GB of memory; expected at most {free / 1e9:.3g}"
        )


def chunk_size(budget: int, *, each: int) -> int:
    """How many things of size `each` fit into `budget` together, at least one.

    >>> from diffuscope.memory import chunk_size
    >>> [chunk_size(10, each=size) for size in (0, 3, 5, 10, 11)]
    [10, 3, 2, 1, 1]
    """
    return max(1, budget // max(1, each))


def ranges(n: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive ranges of at most `size` that cover 0 .. n - 1.

    >>> from diffuscope.memory import ranges
    >>> list(ranges(7, 3)), list(ranges(6, 3)), list(ranges(0, 3))
    ([(0, 3), (3, 6), (6, 7)], [(0, 3), (3, 6)], [])
    """
    return ((start, min(start + size, n)) for start in range(0, n, size))


def available_memory() -> float:
    """Bytes that can be allocated, within the limit of a container; infinite where the system does not say."""
    limits = [float(found[1]) for found in [re.match(r"(\d+)$", _text(CONTAINER_LIMIT))] if found]
    free = re.search(r"^MemAvailable:\s*(\d+) kB", _text(MEMINFO), re.MULTILINE)
    if free:
        limits.append(1024 * float(free[1]))
    elif hasattr(os, "sysconf"):
        limits.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    return min(limits, default=float("inf"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""

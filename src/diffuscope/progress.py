"""Progress as a bar on a terminal; in a file, a pipe or where NO_COLOR is set, as plain lines.

A plain line is written where a new stage begins, and every ten seconds within it.
"""

import os
import sys
import time
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

SECONDS = 10.0


class PlainLines(tqdm):
    """A progress bar that writes lines: nothing is overwritten, and nothing is left open at the end."""

    _shown: tuple[str | None, float] = (None, 0.0)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write the state as one line, if it is due."""
        del pos
        stage, now = self.postfix or None, time.monotonic()
        if msg is not None or (self.n == 0 and stage is None):
            return
        if self._shown[0] != stage or now - self._shown[1] >= SECONDS:
            self._shown = stage, now
            of = "" if self.total is None else f"/{self.total:g}"
            print(f"{self.desc}: {self.n:g}{of}{'' if stage is None else f', {stage}'}", file=self.fp, flush=True)

    def clear(self, *_: Any, **__: Any) -> None:
        """Nothing to clear."""

    def close(self) -> None:
        """Write nothing more."""
        self.disable = True


def progress_bar(
    iterable: Iterable[Any] | None = None,
    *,
    desc: str,
    unit: str,
    total: int | None = None,
    initial: int = 0,
    leave: bool = True,
    disable: bool = False,
) -> tqdm:
    """A bar over `iterable`, or over `total` calls of `update`, on stderr.

    >>> from diffuscope.progress import progress_bar
    >>> sum(progress_bar([1, 2, 4], desc="adding", unit="number"))
    7
    """
    unseen = sys.stderr is None  # closed by the caller
    plain = unseen or not sys.stderr.isatty() or bool(os.environ.get("NO_COLOR"))
    kind, interval = (PlainLines, SECONDS) if plain else (tqdm, 0.5)
    return kind(
        iterable,
        desc=desc,
        unit=unit,
        total=total,
        initial=initial,
        leave=leave,
        disable=disable or unseen,
        mininterval=interval,
        dynamic_ncols=True,
    )

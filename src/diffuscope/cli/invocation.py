"""The words of the command that runs, for whatever says how to repeat it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

typed: ContextVar[tuple[str, ...]] = ContextVar("typed", default=())  # none where a command is called from Python


@contextmanager
def typed_words(words: Sequence[str]) -> Iterator[None]:
    """`typed` has these words until the block ends."""
    token = typed.set(tuple(words))
    try:
        yield
    finally:
        typed.reset(token)

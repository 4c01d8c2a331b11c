"""Rows of examples that are made when they are read: what would be another copy of large data is never formed.

`rows_of` are the rows that a map makes of some examples: a tensor where that is small, and otherwise `RowsOf`, which
can be indexed and split like one. `nearest_rows` searches either, part by part, with the answers of a search in all.

No more than AT_ONCE bytes are made at a time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.memory import chunk_size

from .shared_neighbors import nearest_neighbors

AT_ONCE = 256 * 2**20  # bytes of rows, as float32
Events = Float[Tensor, "_ *event"]
Rows = Float[Tensor, "_ features"]
Map = Callable[[Events], Rows]


@dataclass(frozen=True, eq=False)
class RowsOf:
    """The rows `function(events[index])`, made when they are read; `width` is their length."""

    events: Events = field(repr=False)
    index: Int[Tensor, " n"] | None = field(repr=False)
    function: Map = field(repr=False)
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.width

    def __len__(self) -> int:
        return len(self.events) if self.index is None else len(self.index)

    def __getitem__(self, places: Tensor) -> Tensor:
        """The rows at `places`, of any shape: (*places, width)."""
        flat = places.flatten()
        found = self.events[flat if self.index is None else self.index[flat]]
        return self.function(found).reshape(*places.shape, self.width)

    def split(self, size: int) -> Iterator[Tensor]:
        """Parts of `size` rows, one at a time."""
        parts = self.events.split(size) if self.index is None else (self.events[i] for i in self.index.split(size))
        return map(self.function, parts)


AnyRows = Rows | RowsOf


def flat(x: Events) -> Rows:
    """Examples as they are."""
    return x.flatten(1)


def rows_of(events: Events, function: Map = flat, index: Int[Tensor, " n"] | None = None) -> AnyRows:
    """The rows `function(events[index])`, of all events by default.

    They are a tensor where they take AT_ONCE bytes at most, or a quarter of what the events take.
    """
    count = len(events) if index is None else len(index)
    if function is flat and index is None:
        return flat(events)
    first = function(events[:1])
    width = first.shape[1]
    rows = RowsOf(events, index, function, width)
    if 4 * count * max(width, events[0].numel()) <= AT_ONCE:
        return function(events if index is None else events[index])
    if 4 * width > events[0].numel():
        return rows
    # few numbers of each event are made once, part by part
    made = torch.empty(count, width, dtype=first.dtype)
    start = 0
    for part in rows.split(at_once(events[0].numel())):
        made[start : start + len(part)] = part
        start += len(part)
    return made


def part_of(rows: AnyRows, places: Int[Tensor, " n"]) -> AnyRows:
    """The rows at `places`, made when they are read if the others are."""
    if not isinstance(rows, RowsOf):
        return rows[places]
    return replace(rows, index=places if rows.index is None else rows.index[places])


def at_once(width: int) -> int:
    """How many rows of this many numbers take at most AT_ONCE bytes; at least one."""
    return chunk_size(AT_ONCE, each=4 * width)


def few_enough(most: int, width: int) -> int:
    """At most `most` examples of `width` numbers, and no more than take AT_ONCE bytes, but 256 at least.

    >>> few_enough(10_000, 64), few_enough(10_000, 12_288), few_enough(10_000, 196_608)
    (10000, 5461, 341)
    """
    return min(most, max(256, at_once(width)))


def nearest_rows(queries: Rows, rows: AnyRows, k: int) -> tuple[Float[Tensor, "queries k"], Int[Tensor, "queries k"]]:
    """`exact.nearest_neighbors` of rows that are made part by part; the least index first among equals, as there."""
    if not isinstance(rows, RowsOf):
        return nearest_neighbors(queries, rows, k)
    distances = torch.full((len(queries), k), torch.inf, dtype=torch.float64)
    indices, start = torch.zeros(len(queries), k, dtype=torch.int64), 0
    for part in rows.split(at_once(rows.width)):
        near, places = nearest_neighbors(queries, part, min(k, len(part)))
        merged, order = torch.cat([distances, near], 1).sort(dim=1, stable=True)
        distances = merged[:, :k]
        indices = torch.cat([indices, places + start], 1).gather(1, order[:, :k])
        start += len(part)
    return distances, indices

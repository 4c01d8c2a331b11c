"""Permutations of the names of rows: the null hypothesis that a generator knows no more of one set than of another.

As many units of either set are chosen at random. A unit is a row, or a group of rows that are not independent (the
images of one patient), all of which have one name. If the units of both sets come from one distribution and the
samples do not depend on which is which, every assignment of the names is equally likely given the samples.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numpy import ndarray
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.memory import chunk_size, ranges

from .rows_of import AnyRows, at_once, few_enough

PERMUTATIONS = 999
CHUNK = 4_000_000  # names held at once
Groups = Shaped[ndarray, " _"]
Rows = Float[Tensor, "_ features"]
Statistics = Callable[[Float[ndarray, "n permutations"]], Float[ndarray, "statistics permutations"]]


@dataclass(frozen=True, kw_only=True, eq=False)
class NamedRows:
    """Chosen rows of two sets: `index` counts through the first set, then through the second, in random order."""

    index: Int[ndarray, " n"]
    unit: Int[ndarray, " n"]
    is_first: Bool[ndarray, " units"]

    @property
    def first(self) -> Bool[ndarray, " n"]:
        """Which rows are of the first set."""
        return self.is_first[self.unit]

    def permuted(
        self, statistics: Statistics, rng: np.random.Generator, permutations: int | None = None
    ) -> tuple[Float[ndarray, " statistics"], Float[ndarray, "statistics permutations"]]:
        """The statistics of the names (1 for the first set, 0 for the second), as they are and under permutations.

        Of these there are 999, or as many as are given.
        """
        count = PERMUTATIONS if permutations is None else permutations
        parts = [statistics(names) for names in self._names(rng, count)]
        return parts[0][:, 0], np.concatenate(parts[1:], axis=1)

    def _names(self, rng: np.random.Generator, count: int) -> Iterator[Float[ndarray, "n permutations"]]:
        yield self.first[:, None].astype(np.float32)
        for start, stop in ranges(count, chunk_size(CHUNK, each=len(self.unit))):
            copies = np.tile(self.is_first, (stop - start, 1))
            yield rng.permuted(copies, axis=1).T[self.unit].astype(np.float32)


def named_rows(
    first: int | Groups, second: int | Groups, rng: np.random.Generator, *, most: int | None = None
) -> NamedRows:
    """As many units of either set, and at most `most`. A set is a number of rows, or the groups of its rows.

    Raises InputError for a group in both sets.

    >>> rows = named_rows(3, np.array(["p1", "p1", "p2"]), np.random.default_rng(0))
    >>> len(rows.is_first), int(rows.first.sum())
    (4, 2)
    """
    if not isinstance(first, int) and not isinstance(second, int) and len(both := np.intersect1d(first, second)):
        raise InputError(
            f"groups: expected no group in both training and held-out data, got {both[0]} in both "
            f"({len(both):,} in all)"
        )
    units = [
        np.arange(rows) if isinstance(rows, int) else np.unique(rows, return_inverse=True)[1].ravel()
        for rows in (first, second)
    ]
    counts = [int(of.max(initial=-1)) + 1 for of in units]
    size = min(*counts, *([] if most is None else [most]))
    indices, numbers = [], []
    for of, count, number_from, row_from in zip(units, counts, (0, size), (0, len(units[0])), strict=True):
        number = np.full(count, -1)
        number[rng.permutation(count)[:size]] = np.arange(size) + number_from
        kept = np.flatnonzero(number[of] >= 0)
        indices.append(kept + row_from)
        numbers.append(number[of[kept]])
    order = rng.permutation(sum(map(len, numbers)))
    return NamedRows(
        index=np.concatenate(indices)[order], unit=np.concatenate(numbers)[order], is_first=np.arange(2 * size) < size
    )


def named_pool(
    first: AnyRows,
    second: AnyRows,
    rng: np.random.Generator,
    first_groups: Groups | None = None,
    second_groups: Groups | None = None,
    *,
    most: int | None = None,
) -> tuple[NamedRows, Rows]:
    """The chosen rows of two sets with their names; see `named_rows`. Of wide rows no more than `few_enough` units."""
    most = few_enough(len(first) if most is None else most, first.shape[1])
    named = named_rows(
        len(first) if first_groups is None else first_groups,
        len(second) if second_groups is None else second_groups,
        rng,
        most=most,
    )
    before = named.index < len(first)
    rows = torch.empty(len(named.index), first.shape[1], dtype=first[torch.zeros(1, dtype=torch.long)].dtype)
    for of, places, start in ((first, before, 0), (second, ~before, len(first))):
        for part in torch.from_numpy(np.flatnonzero(places)).split(at_once(first.shape[1])):
            rows[part] = of[torch.from_numpy(named.index)[part] - start]
    return named, rows

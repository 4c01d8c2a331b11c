r"""Distances between rows of tables, column by column in the manner of Gower (1971).

.. math::  d(x, y) = \frac1C \sum_{c=1}^{C} d_c(x_c, y_c), \qquad
           d_c = \begin{cases} \min(|x_c - y_c| / r_c,\, 1) & \text{numeric, of range } r_c \\
                               1[x_c \ne y_c] & \text{categorical} \end{cases}

A missing value is at distance 0 from a missing one and 1 from any other. Ranges are those of training and held-out rows
together, so that their names are exchangeable. The parts d_c are rounded to multiples of 2^-40: their sums are then
exact, whatever the order, so that tied rows are tied, and the sum without one column is a difference.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from numpy import ndarray

from diffuscope.errors import InputError
from diffuscope.memory import chunk_size, ranges

Columns = Sequence[Shaped[ndarray, " _"]]
UNIT = 2.0**40
CHUNK = 2_000_000  # pairs of rows at once


@dataclass(frozen=True, eq=False)
class ColumnDistances:
    """The distances of tables whose columns are `categorical` or have the `ranges` of numeric ones."""

    categorical: Bool[ndarray, " columns"]
    ranges: Float[ndarray, " columns"]

    def by_column(
        self, queries: Columns, rows: Columns
    ) -> Iterator[tuple[slice, Float[ndarray, "columns chunk rows"]]]:
        """The parts d_c, for a chunk of the queries at a time."""
        for ends in ranges(len(queries[0]), chunk_size(CHUNK, each=len(rows[0]) * len(queries))):
            chunk = slice(*ends)
            yield chunk, np.stack([self._part(c, queries[c][chunk], rows[c]) for c in range(len(queries))])

    def _part(self, c: int, queries: ndarray, rows: ndarray) -> Float[ndarray, "chunk rows"]:
        if self.categorical[c]:
            return (queries[:, None] != rows).astype(np.float64)  # -1, missing, is a value
        part = np.minimum(np.abs(queries[:, None] - rows) / self.ranges[c], 1.0)
        unknown = np.isnan(part)
        if unknown.any():
            part = np.where(unknown, np.isnan(queries)[:, None] != np.isnan(rows), part)
        return np.round(part * UNIT) / UNIT

    def nearest(
        self, queries: Columns, rows: Columns, k: int
    ) -> tuple[Float[ndarray, "queries k"], Int[ndarray, "queries k"]]:
        """Distances to the k nearest rows, nearest first, and their indices."""
        count = len(queries[0])
        distance, index = np.empty((count, k)), np.empty((count, k), dtype=np.int64)
        for chunk, parts in self.by_column(queries, rows):
            sums = parts.sum(0)
            least = np.argpartition(sums, k - 1, axis=1)[:, :k]
            of_least = np.take_along_axis(sums, least, axis=1)
            order = np.argsort(of_least, axis=1, kind="stable")
            index[chunk] = np.take_along_axis(least, order, axis=1)
            distance[chunk] = np.take_along_axis(of_least, order, axis=1) / len(queries)
        return distance, index


def column_distances(train: Columns, heldout: Columns, categorical: Bool[ndarray, " columns"]) -> ColumnDistances:
    """Distances with the ranges of `train` and `heldout` together; a constant or missing column has range 1.

    Columns are 1-D: numbers with NaN for a missing value, or integer codes with -1 for one.

    >>> import numpy as np
    >>> of = column_distances([np.array([0.0, 4.0])], [np.array([2.0])], np.array([False]))
    >>> of.nearest([np.array([1.0])], [np.array([0.0, 2.0, np.nan])], 3)[0].tolist()
    [[0.25, 0.25, 1.0]]
    """
    if not len(train) == len(heldout) == len(categorical):
        raise InputError(
            f"columns: expected {len(categorical)} of training and of held-out rows, as many as are described, got "
            f"{len(train)} and {len(heldout)}"
        )
    ranges = np.ones(len(categorical))
    for c in np.flatnonzero(~categorical).tolist():
        values = np.concatenate([train[c], heldout[c]])
        values = values[np.isfinite(values)]
        if len(values) and np.ptp(values) > 0:
            ranges[c] = np.ptp(values)
    return ColumnDistances(categorical, ranges)


def taken(columns: Columns, index: Int[ndarray, " n"]) -> list[Shaped[ndarray, " n"]]:
    """The rows with these indices."""
    return [column[index] for column in columns]

r"""How one column of a table becomes coordinates, such that every column counts alike in Euclidean distance.

A column is scaled such that two random rows (with replacement) are on average at squared distance 1 in it,

.. math::  E\,\lVert z(V) - z(V') \rVert^2 = 1 .

*Numbers and dates* become their mid-rank F (see `ranks`), z = s F. Missing values, a share m, take the mean of the
ranks that are there, and a second coordinate t, which is 0 for all others. With V the variance of the ranks that are
there, :math:`t^2 = s^2 V` puts missing values as far from the others, on average, as these are from each other, and

.. math::  E\,\lVert z - z' \rVert^2 = s^2\,[(1-m)^2\, 2V + 2m(1-m)\,(V + V)] = 2 s^2 V (1 - m^2) .

*Categories*, missing being one of them, with shares :math:`p_k`, become c times the unit vectors:
:math:`E = 2c^2 (1 - \sum_k p_k^2)`.

A nearly constant column would be blown up: one row of n that differs would be at squared distance n/2. So no two values
of a column are put farther apart than squared distance `FARTHEST`; a column of two values, the rarer one in fewer than
5.3% of the rows, then counts less than 1.

What the fitted rows do not have is a point of its own, at no cost in coordinates: another category is
:math:`-a (1, \dots, 1)` with :math:`a = c\,(\sqrt{1+K} - 1)/K`, which is as far from all K categories as they are from
each other; a missing number, where none was missing, has rank -1.
"""

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from jaxtyping import Float
from torch import Tensor

from .ranks import Ranks, ranks_of
from .raw_column import RawColumn
from .value_range import Range

FARTHEST = 10.0
_UNSEEN_MISSING = -1.0  # below every rank, which are at least -1/2


@dataclass(frozen=True, eq=False, kw_only=True)
class Column:
    """One column: its coordinates are `start` to `stop` of an encoded row.

    `kind` is numeric, date or categorical. `scale` is s, or c for categories; `missing` is t, 0 where no fitted value
    was missing (for categories 1 where one was). A row's coordinate is low + gain z, which is z until rows are mapped
    to another range.

    >>> from diffuscope.data import fit_table
    >>> table = fit_table({"size": [1.0, 2.0, 3.0, 9.0], "color": ["red", "blue", "red", "red"]})
    >>> size, color = table.columns
    >>> color.categories, round(color.scale**2, 6)  # 1 / (2 (1 - (3/4)^2 - (1/4)^2))
    (('blue', 'red'), 1.333333)
    """

    name: str
    kind: str
    start: int
    stop: int
    scale: float
    missing: float
    categories: tuple[str, ...] = ()
    ranks: Ranks | None = None
    center: float = 0.0
    whole: bool = False
    low: float = 0.0
    gain: float = 1.0

    @property
    def width(self) -> int:
        """The number of coordinates."""
        return self.stop - self.start

    def in_units(self, old: Range, new: Range) -> "Column":
        """The column of rows that were mapped from the range `old` to `new`."""
        gain = (new[1] - new[0]) / (old[1] - old[0])
        return replace(self, low=new[0] + (self.low - old[0]) * gain, gain=self.gain * gain)

    def encode(self, column: RawColumn) -> tuple[np.ndarray, tuple[str, ...]]:
        """z (n, width) in float32, in units of its own, and notes on values that the fitted rows do not have."""
        return self._categories(column) if self.ranks is None else self._ranked(column, self.ranks)

    def values(self, rows: Float[Tensor, "n d"] | Float[np.ndarray, "n d"]) -> np.ndarray:
        """One number for each row.

        Numbers and dates: the coordinate in float64, NaN where missing. Categories: the place among `categories` as an
        int64, -1 where missing and the number of categories for another one. Rows of a generator that are near no
        value have that of the nearest.

        >>> from diffuscope.data import fit_table
        >>> table = fit_table({"size": [1.0, 2.0, 3.0, None], "color": ["red", "blue", "red", "red"]})
        >>> rows = table.encode({"size": [2.0, None], "color": ["red", "green"]})
        >>> table.columns[1].values(rows).tolist()
        [1, 2]
        """
        z = self._own(rows)
        if self.ranks is None:
            return self._codes(z)
        # back and forth would round: the coordinate is given as it is
        own = np.asarray(rows.detach().cpu() if isinstance(rows, Tensor) else rows)[:, self.start].astype(np.float64)
        return np.where(self._is_missing(z), np.nan, own)

    def decode(self, rows: Float[Tensor, "n d"] | Float[np.ndarray, "n d"]) -> np.ndarray:
        """The values that these rows stand for, up to float32's rounding of their rank.

        Numbers are float64 and NaN where missing, whole where all fitted ones were. Dates are texts in ISO 8601, empty
        where missing. Categories are texts, empty where missing and "(other)" where it is none of the fitted ones.
        """
        z = self._own(rows)
        if self.ranks is None:
            words = np.array([*self.categories, "(other)", ""], dtype=object)
            return words[self._codes(z)]
        values = self.ranks.inverse(z[:, 0] / self.scale)
        values = np.where(self._is_missing(z), np.nan, np.round(values) if self.whole else values)
        return _iso(values) if self.kind == "date" else values

    def _own(self, rows: Tensor | np.ndarray) -> np.ndarray:
        array = np.asarray(rows.detach().cpu() if isinstance(rows, Tensor) else rows)
        return (array[:, self.start : self.stop].astype(np.float64) - self.low) / self.gain

    def _is_missing(self, z: np.ndarray) -> np.ndarray:
        return z[:, 1] > self.missing / 2 if self.missing else z[:, 0] < 0.75 * _UNSEEN_MISSING * self.scale

    def _ranked(self, column: RawColumn, ranks: Ranks) -> tuple[np.ndarray, tuple[str, ...]]:
        missing = column.missing
        z = np.zeros((len(column), self.width), dtype=np.float32)
        z[~missing, 0] = self.scale * ranks(column.values[~missing].astype(np.float64))
        z[missing, 0] = self.scale * (self.center if self.missing else _UNSEEN_MISSING)
        if self.missing:
            z[missing, 1] = self.missing
            return z, ()
        return z, self._missing_note(int(missing.sum()))

    def _categories(self, column: RawColumn) -> tuple[np.ndarray, tuple[str, ...]]:
        place = {category: k for k, category in enumerate(self.categories)}
        n_known, other = len(self.categories), self.width
        texts, index = _different(column)
        codes = np.array(
            [(n_known if self.missing else other + 1) if text is None else place.get(text, other) for text in texts],
            dtype=np.int64,
        )[index]
        known = codes < self.width
        z = np.zeros((len(column), self.width), dtype=np.float32)
        z[~known] = -self._other
        z[np.nonzero(known)[0], codes[known]] = self.scale
        new = sorted(text for text in texts if text is not None and text not in place)
        count = int((codes == other).sum())
        notes: tuple[str, ...] = ()
        if new:
            notes = (
                f"column {self.name!r}: {count} of {len(column)} values are of categories that the data do not have, "
                f"such as {new[0]!r}",
            )
        return z, notes + (() if self.missing else self._missing_note(int((codes == other + 1).sum())))

    @property
    def _other(self) -> float:
        """The a of another category."""
        return self.scale * (sqrt(1 + self.width) - 1) / self.width

    def _codes(self, z: np.ndarray) -> np.ndarray:
        # |z - v|^2 - |z|^2 for the vertices v = c e_k and v = -a (1, ..., 1)
        to_known = self.scale**2 - 2 * self.scale * z
        to_other = self.width * self._other**2 + 2 * self._other * z.sum(1)
        codes = np.where(to_other < to_known.min(1), self.width, to_known.argmin(1))
        if not self.missing:
            return codes
        n_known = len(self.categories)
        return np.select([codes == n_known, codes == self.width], [-1, n_known], codes)

    def _missing_note(self, count: int) -> tuple[str, ...]:
        return (f"column {self.name!r}: {count} values are missing, of which the data have none",) if count else ()


def numeric_column(name: str, kind: str, start: int, column: RawColumn) -> Column:
    """The column of numbers or dates, at least one of which is not missing."""
    missing = column.missing
    m, present = float(missing.mean()), column.values[~missing].astype(np.float64)
    ranks = ranks_of(present)
    f = ranks(present)
    variance = float(f.var())
    center = float(f.mean())
    if variance > 0:
        # the farthest pair: a missing value, at (f - center)^2 + variance, is nearer (Bhatia & Davis 2000)
        scale = sqrt(min(1 / (2 * variance * (1 - m**2)), FARTHEST / float(np.ptp(f)) ** 2))
        flag = scale * sqrt(variance)
    else:
        scale, flag = sqrt(FARTHEST), sqrt(min(1 / (2 * m * (1 - m)), FARTHEST)) if m else 0.0
    return Column(
        name=name, kind=kind, start=start, stop=start + (2 if m else 1), scale=scale, missing=flag if m else 0.0,
        ranks=ranks, center=center, whole=kind == "numeric" and bool((present == np.round(present)).all()),
    )  # fmt: skip


def categorical_column(name: str, start: int, column: RawColumn) -> Column:
    """The column of texts, in the order of the alphabet, and of those that are missing."""
    texts, index = _different(column)
    shares = np.bincount(index) / len(column)
    spread = 1 - float((shares**2).sum())
    square = min(0.5 / spread if spread > 0 else np.inf, FARTHEST / 2)
    categories = tuple(text for text in texts if text is not None)
    return Column(
        name=name, kind="categorical", start=start, stop=start + len(texts), scale=sqrt(square),
        missing=float(len(texts) > len(categories)), categories=categories,
    )  # fmt: skip


def _different(column: RawColumn) -> tuple[list[str | None], np.ndarray]:
    """The different texts in order, None last, and the place of each row's among them."""
    values = column.values.tolist()
    different = set(values)
    texts: list[str | None] = sorted(text for text in different if text is not None)
    if len(texts) < len(different):
        texts.append(None)
    place = {text: k for k, text in enumerate(texts)}
    return texts, np.fromiter(map(place.__getitem__, values), np.int64, len(values))


def _iso(seconds: np.ndarray) -> np.ndarray:
    missing = np.isnan(seconds)
    stamps = np.round(np.where(missing, 0, seconds) * 1e6).astype(np.int64).astype("datetime64[us]")
    days = stamps.astype("datetime64[D]")
    whole_days = bool((stamps == days)[~missing].all())
    texts = np.datetime_as_string(days if whole_days else stamps.astype("datetime64[s]")).astype(object)
    texts[missing] = ""
    return texts

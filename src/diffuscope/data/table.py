r"""Tables of mixed columns as rows of numbers, in which every column counts alike.

The squared Euclidean distance of two encoded rows is the sum over columns of that in each, which is 1 on average over
random pairs of the fitted rows (see `table_column` for how, and for the cap of nearly constant columns); so that of two
random rows is the number of columns. Columns that cannot be compared are left out, and a note names each: those
without any value, those that number the rows, and texts that are different in most rows or of more than `MOST`
different kinds. The index that pandas writes beside the columns is none of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.memory import require_memory

from .raw_column import RawColumn, dates_of_texts, raw_column
from .table_column import Column, categorical_column, numeric_column
from .value_range import Range, rescaled

MOST = 1024  # categories of a column: as many coordinates
_FEW = 20  # so many different texts are categories, however few rows there are
_INDEX = re.compile(r"|Unnamed: \d+|__index_level_\d+__")
_KINDS: dict[str, str] = {"numbers": "numeric", "dates": "date", "texts": "categorical"}
_EXPECTED = {"numeric": "numbers", "date": "dates (such as 2024-05-31)", "categorical": "texts"}


@dataclass(frozen=True, eq=False)
class Frame:
    """The columns of a table as read, by name and of one length, and for error messages where they come from."""

    argument: str
    origin: str
    columns: dict[str, RawColumn]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def without(self, name: str) -> "Frame":
        """The same but for one column."""
        return replace(self, columns={key: column for key, column in self.columns.items() if key != name})


@dataclass(frozen=True, eq=False)
class Table:
    """What is needed to encode rows of a table, fitted by `fit_table`, and to read encoded ones.

    `left_out` are the columns that are not encoded. `maps` are the changes of range that encoded rows went through.

    >>> import torch
    >>> from diffuscope.data import fit_table
    >>> columns = {"size": [1.0, 2.0, 3.0, 9.0], "color": ["red", "blue", "red", "red"]}
    >>> table = fit_table(columns)
    >>> rows = table.encode(columns).double()
    >>> round(float(torch.cdist(rows, rows).square().mean()), 5)  # 1 for each column
    2.0
    """

    columns: tuple[Column, ...]
    left_out: tuple[str, ...] = ()
    maps: tuple[tuple[Range, Range], ...] = ()

    @property
    def dimension(self) -> int:
        """The number of coordinates of an encoded row."""
        return self.columns[-1].stop

    def encode(self, table: Any) -> Float32[Tensor, "n d"]:
        """The rows of a table: a pandas DataFrame, or a mapping from names to sequences, in any order of columns.

        Values that the fitted rows do not have are points of their own (see `table_column`). Raises InputError for
        columns that are missing or too many, and for numbers where the fitted column has texts, or the reverse.

        >>> table = fit_table({"size": [1.0, 2.0, 3.0, 4.0], "color": ["red", "blue", "red", "blue"]})
        >>> rows = table.encode({"size": [4.0, 1.0], "color": ["blue", "blue"]})
        >>> [column.tolist() for column in table.decode(rows)]
        [[4.0, 1.0], ['blue', 'blue']]
        """
        return self.encode_frame(as_frame(table, "table", "the table"))[0]

    def encode_frame(self, frame: Frame) -> tuple[Float32[Tensor, "n d"], tuple[str, ...]]:
        """The rows of a frame, and notes on the values that the fitted rows do not have."""
        self._require_columns(frame)
        require_memory(4.0 * len(frame) * self.dimension, frame.argument, f"{frame.origin}, encoded,")
        rows = np.empty((len(frame), self.dimension), dtype=np.float32)
        notes: tuple[str, ...] = ()
        for column in self.columns:
            z, own = column.encode(_of_form(frame, column))
            rows[:, column.start : column.stop] = z
            notes += own
        encoded = torch.from_numpy(rows)
        # the very steps that the data went through, so that equal rows stay equal to the last bit
        for old, new in self.maps:
            encoded = rescaled(encoded, old, new)
        return encoded, notes

    def decode(self, rows: Float[Tensor, "n d"] | Float[np.ndarray, "n d"]) -> list[np.ndarray]:
        """For each column its values in these rows; see `Column.decode`."""
        return [column.decode(rows) for column in self.columns]

    def in_range(self, old: Range, new: Range) -> "Table":
        """The table of rows whose range `old` is mapped to `new`."""
        columns = tuple(column.in_units(old, new) for column in self.columns)
        return replace(self, columns=columns, maps=(*self.maps, (old, new)))

    def _require_columns(self, frame: Frame) -> None:
        names = [column.name for column in self.columns]
        lacking = [name for name in names if name not in frame.columns]
        extra = [name for name in frame.columns if name not in names and name not in self.left_out]
        if lacking or extra:
            faults = [
                f"{verb} {listed(found)}" for verb, found in (("lacks", lacking), ("has in addition", extra)) if found
            ]
            raise InputError(
                f"{frame.argument}: {frame.origin} {' and '.join(faults)}; expected the columns of the data, "
                f"{listed(names)}"
            )


def fit_table(*tables: Any) -> Table:
    """The table of all rows of these tables together, each a DataFrame or a mapping from names to sequences.

    Raises InputError for tables without rows, for columns that differ, and if no column is left to compare.

    >>> from diffuscope.data import fit_table
    >>> table = fit_table({"size": [1.0, 2.0, 3.0], "color": ["red", "blue", "red"], "empty": [None, None, None]})
    >>> table.dimension, table.left_out  # a rank, and one coordinate for each color
    (3, ('empty',))
    """
    return fit_frames([as_frame(table, "table", "the table") for table in tables])[0]


def fit_frames(frames: list[Frame]) -> tuple[Table, tuple[str, ...]]:
    """The table of all rows of these frames together, and a note on each column that is left out."""
    first, *others = frames
    for frame in frames:
        if not frame.columns or len(frame) == 0:
            raise InputError(f"{frame.argument}: {frame.origin} is empty; expected a table with columns and rows")
    for frame in others:
        if set(frame.columns) != set(first.columns):
            only = sorted(set(frame.columns) ^ set(first.columns))
            raise InputError(
                f"{frame.argument}: {frame.origin} and {first.origin} have different columns, {listed(only)} in only "
                "one of them; expected the same columns"
            )
    columns: list[Column] = []
    reasons: dict[str, str] = {}
    start = 0
    for name in first.columns:
        kind, parts = _one_form(name, frames)
        together = RawColumn(parts[0].form, np.concatenate([part.values for part in parts]))
        reason = _reason_to_leave_out(kind, together, parts)
        if reason:
            reasons[name] = reason
            continue
        if kind == "categorical":
            columns.append(categorical_column(name, start, together))
        else:
            columns.append(numeric_column(name, kind, start, together))
        start = columns[-1].stop
    notes = tuple(f"column {name!r} is left out: {reason}" for name, reason in reasons.items())
    if not columns:
        raise InputError(
            f"{first.argument}: {first.origin} has no column to compare ({'; '.join(notes)}); expected one"
        )
    return Table(tuple(columns), tuple(reasons)), notes


def as_frame(table: Any, argument: str, origin: str) -> Frame:
    """The columns of a DataFrame or a mapping; InputError for names that repeat and columns of different lengths."""
    keys: Any = getattr(table, "columns", table)
    if keys is table and not isinstance(table, Mapping):
        raise InputError(
            f"{argument}: got {type(table).__name__}, expected a DataFrame or a mapping from names to columns"
        )
    names = [str(name) for name in keys]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{argument}: {origin} has several columns {listed(repeated)}; expected each name once")
    values = [table[key] for key in keys]
    columns = {
        name: raw_column(column, argument, f"column {name!r} of {origin}")
        for name, column in zip(names, values, strict=True)
        if not is_index(name)
    }
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(
            f"{argument}: {origin} has columns of {listed(sorted(set(lengths.values())))} values; expected one length"
        )
    return Frame(argument, origin, columns)


def is_index(name: str) -> bool:
    """Whether pandas gives this name to the index of a data frame, which is no column of the table."""
    return _INDEX.fullmatch(name) is not None


def listed(names: list[Any], most: int = 6) -> str:
    """Names in quotation marks, the first few of many."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _one_form(name: str, frames: list[Frame]) -> tuple[str, list[RawColumn]]:
    """What a column is in all frames, and its values in that form."""
    parts = [frame.columns[name] for frame in frames]
    forms = {part.form for part in parts} - {"nothing"}
    if forms <= {"texts", "dates"} and forms:
        dates = [part if part.form in ("dates", "nothing") else dates_of_texts(part) for part in parts]
        whole = [part for part in dates if part is not None]
        if len(whole) == len(parts):
            return "date", [_empty(part, "dates") if part.form == "nothing" else part for part in whole]
    if len(forms) > 1:
        which = ", ".join(f"{part.form} in {frame.origin}" for part, frame in zip(parts, frames, strict=True))
        raise InputError(f"{frames[-1].argument}: column {name!r} is {which}; expected the same in both")
    form = next(iter(forms), "numbers")
    return _KINDS[form], [_empty(part, form) if part.form == "nothing" else part for part in parts]


def _empty(part: RawColumn, form: str) -> RawColumn:
    """A column without values, in the form that it has elsewhere."""
    values = np.full(len(part), None, dtype=object) if form == "texts" else np.full(len(part), np.nan)
    return RawColumn(form, values)


def _reason_to_leave_out(kind: str, together: RawColumn, parts: list[RawColumn]) -> str | None:
    missing = together.missing
    if missing.all():
        return "it has no value in any row"
    if kind == "categorical":
        present = int((~missing).sum())
        different = len(set(together.values[~missing]))
        if different > max(_FEW, present / 2):
            return f"{different} of {present} texts are different, an identifier or free text"
        if different > MOST:
            return f"{different} different texts are more than {MOST} categories"
    if kind == "numeric" and all(len(part) > _FEW and (np.diff(part.values) == 1).all() for part in parts):
        return "it numbers the rows"
    return None


def _of_form(frame: Frame, column: Column) -> RawColumn:
    """The values of a frame for a fitted column, in its form."""
    part = frame.columns[column.name]
    form = next(form for form, kind in _KINDS.items() if kind == column.kind)
    if part.form == "nothing":
        return _empty(part, form)
    if column.kind == "date" and part.form == "texts":
        part = dates_of_texts(part) or part
    if part.form != form:
        raise InputError(
            f"{frame.argument}: column {column.name!r} of {frame.origin} has {part.form}; expected "
            f"{_EXPECTED[column.kind]}, as the data have"
        )
    return part

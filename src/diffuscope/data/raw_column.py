"""A column of a table as it was read: numbers, texts or dates, with what is missing.

Numbers are float64 and NaN where missing; dates are float64, in seconds since 1970 UTC, and NaN where missing; texts
are strings and None where missing. Truth values are the texts True and False. Missing are None, NaN, NaT, pandas' NA
and empty texts.
"""

import datetime
import re
import sys
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from diffuscope.errors import InputError

LARGEST = 1e150  # differences and their squares are finite

_ISO = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,6}\d*)?)?( ?(Z|[+-]\d\d:?\d\d))?)?")
_MICROSECONDS = 1e6


@dataclass(frozen=True, eq=False)
class RawColumn:
    """The values of one column; see above. `form` is numbers, texts or dates, or nothing where all are missing."""

    form: str
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    @property
    def missing(self) -> np.ndarray:
        """Where there is no value."""
        return is_none(self.values) if self.values.dtype == object else np.isnan(self.values)

    def texts(self) -> np.ndarray:
        """The values as texts, None where missing: whole numbers without a decimal point, dates in ISO 8601."""
        if self.values.dtype == object:
            return self.values
        different, index = np.unique(self.values, return_inverse=True)
        if self.form == "dates":
            words = [str(np.datetime64(round(v * _MICROSECONDS), "us")) if v == v else None for v in different]
        else:
            words = [None if v != v else str(int(v)) if v == int(v) else repr(float(v)) for v in different]
        return np.array(words, dtype=object)[index]


def raw_column(values: Any, argument: str, origin: str) -> RawColumn:
    """The column of a sequence, an array or a pandas Series.

    Raises InputError for infinite numbers and for what is neither a number, a text nor a date.
    """
    array = _as_array(values)
    if array.ndim != 1:
        raise InputError(f"{argument}: {origin} has shape {array.shape}, expected one value a row")
    form, column = _of_kind(array, argument, origin)
    if column.dtype != object:
        beyond = int((np.abs(column) > LARGEST).sum())
        if beyond:
            raise InputError(
                f"{argument}: {origin} has {beyond} numbers that are infinite or beyond 1e150, expected less"
            )
        if np.isnan(column).all():
            form = "nothing"
    elif is_none(column).all():
        form = "nothing"
    return RawColumn(form, column)


def dates_of_texts(column: RawColumn) -> RawColumn | None:
    """The dates that all texts of a column are (ISO 8601, such as 2024-05-31 or 2024-05-31 12:00:00), or None."""
    texts = [text for text in set(column.values.tolist()) if text is not None]
    if not texts or not all(_ISO.fullmatch(text) for text in texts):
        return None
    try:
        # one conversion for each different text
        seconds: dict[str | None, float] = {text: _seconds(datetime.datetime.fromisoformat(text)) for text in texts}
    except ValueError:  # the 31st of February
        return None
    seconds[None] = np.nan
    return RawColumn("dates", np.fromiter(map(seconds.__getitem__, column.values), np.float64, len(column)))


def is_none(objects: np.ndarray) -> np.ndarray:
    """Where an array of objects holds None."""
    return np.equal(objects, np.array(None, dtype=object))


def _as_array(values: Any) -> np.ndarray:
    if not hasattr(values, "dtype") or not hasattr(values, "to_numpy"):
        return values if isinstance(values, np.ndarray) else _objects(list(values))
    if getattr(values.dtype, "tz", None) is not None:
        return values.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
    if (
        not isinstance(values.dtype, np.dtype) and getattr(values.dtype, "kind", "O") in "iuf"
    ):  # pandas' nullable numbers
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    return values.to_numpy()


def _objects(values: list[Any]) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _of_kind(array: np.ndarray, argument: str, origin: str) -> tuple[str, np.ndarray]:
    kind = array.dtype.kind
    if kind in "iuf":
        return "numbers", array.astype(np.float64)
    if kind == "b":
        return "texts", np.where(array, "True", "False").astype(object)
    if kind in "Mm":
        whole = array.astype(f"{kind}8[us]")
        seconds = np.where(np.isnat(whole), np.nan, whole.astype(np.int64) / _MICROSECONDS)
        return ("dates" if kind == "M" else "numbers"), seconds
    if kind in "UST":
        array = (array.astype(np.str_) if kind == "S" else array).astype(object)
    if array.dtype != object:
        raise InputError(f"{argument}: {origin} has dtype {array.dtype}, expected numbers, texts or dates")
    return _of_objects(array, argument, origin)


def _of_objects(array: np.ndarray, argument: str, origin: str) -> tuple[str, np.ndarray]:
    missing = _missing(array)
    present = array[~missing]
    types = set(map(type, present))
    bad = [t for t in types if not issubclass(t, str | bool | np.bool_ | Real | Decimal | datetime.date)]
    if bad:
        raise InputError(f"{argument}: {origin} holds {bad[0].__name__}, expected numbers, texts or dates")
    numbers = types and all(issubclass(t, Real | Decimal) and not issubclass(t, bool | np.bool_) for t in types)
    if numbers or not types:
        values = np.full(len(array), np.nan)
        values[~missing] = present.astype(np.float64)
        return "numbers", values
    if all(issubclass(t, datetime.date) for t in types):
        values = np.full(len(array), np.nan)
        values[~missing] = [_seconds(value) for value in present]
        return "dates", values
    texts = np.full(len(array), None, dtype=object)
    texts[~missing] = [str(value) for value in present]
    return "texts", texts


def _missing(array: np.ndarray) -> np.ndarray:
    pandas = sys.modules.get("pandas")  # its NA can be here only if it was imported
    empty = np.array([value is None or (isinstance(value, str) and not value) for value in array], dtype=bool)
    if pandas is not None:
        return empty | np.asarray(pandas.isna(array), dtype=bool)
    return empty | np.array([isinstance(value, float) and value != value for value in array], dtype=bool)


def _seconds(value: datetime.date) -> float:
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    return (value - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds()

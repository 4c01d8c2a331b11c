"""Examples as read from their source: checked, in the library's layout, in their own units and dtype.

They are converted to float32 only after the split into training and held-out examples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from diffuscope.errors import InputError
from diffuscope.memory import chunk_size, ranges

from .kinds import in_layout
from .table import Frame
from .value_range import Range

BLOCK = 2**24  # values read at a time


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples of one source. Error messages name the `argument` that gave them and their `origin`.

    `data_range` is the range that the format itself implies (8-bit images: 0..255), or None. `kind` is that of values
    whose layout is known, "auto" for an array of any. `label_names` says what the labels stand for, where that is
    known. `identities` are the ids that the source itself has, by name: one for each example, None where it is missing.
    `files` are the paths of files with one example each, relative to their folder.
    """

    argument: str
    origin: str
    values: np.ndarray
    labels: np.ndarray | None = None
    data_range: Range | None = None
    kind: str = field(default="auto", kw_only=True)
    label_names: tuple[str, ...] = field(default=(), kw_only=True)
    identities: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict, kw_only=True)
    files: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.values.shape[1:]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, eq=False)
class Source:
    """The contents of one data set: examples, and its own held-out examples if it has them."""

    name: str
    train: Examples | Frame
    heldout: Examples | Frame | None = None


def examples_of_array(array: np.ndarray, argument: str, origin: str, labels: np.ndarray | None = None) -> Examples:
    """Examples of an array in any layout, with their labels.

    Raises InputError for dtypes other than real numbers, and for labels that are not one integer per example.
    """
    if array.dtype.kind not in "iuf":
        raise InputError(f"{argument}: {origin} has dtype {array.dtype}, expected integers or floating-point numbers")
    n = len(array) if array.ndim else 0
    return Examples(argument, origin, array, checked_labels(labels, n, argument, origin))


def laid_out(examples: Examples, kind: str) -> Examples:
    """The examples as `kind`, or for "auto" as what they are.

    Raises InputError for a shape that is ambiguous or that the kind does not have, and for NaN and infinity.
    """
    _require_finite(examples.values, examples.argument, examples.origin)
    if kind in ("auto", examples.kind) and examples.kind != "auto":
        return examples
    values, found = in_layout(examples.values, kind, examples.argument, examples.origin)
    return replace(examples, values=values, kind=found)


def checked_labels(labels: np.ndarray | None, n: int, argument: str, origin: str) -> np.ndarray | None:
    """Labels as int64; InputError unless they are n integers."""
    if labels is None:
        return None
    if labels.dtype.kind not in "iu" or labels.shape != (n,):
        raise InputError(
            f"{argument}: the labels of {origin} are {labels.dtype} of shape {labels.shape}, expected integers ({n},)"
        )
    if n and labels.dtype.kind == "u" and int(labels.max()) > np.iinfo(np.int64).max:
        raise InputError(f"{argument}: the labels of {origin} reach {labels.max()}, expected numbers below 2^63")
    return labels.astype(np.int64)


def extremes(array: np.ndarray) -> tuple[float, float]:
    """The least and the greatest value, NaN if there is one; an array on disk is read once, block by block."""
    rows = array.reshape(1) if array.ndim == 0 else array
    parts = [rows[start:stop] for start, stop in ranges(len(rows), chunk_size(BLOCK, each=rows[0].size))]
    ends = np.array([(part.min(), part.max()) for part in parts])
    return float(ends[:, 0].min()), float(ends[:, 1].max())


def _require_finite(array: np.ndarray, argument: str, origin: str) -> None:
    if array.dtype.kind != "f" or array.size == 0:
        return
    with np.errstate(invalid="ignore"):
        low, high = extremes(array)  # NaN propagates into both, so that no mask is needed
    if np.isfinite(low) and np.isfinite(high):
        if max(-float(low), float(high)) > float(np.finfo(np.float32).max):
            raise InputError(f"{argument}: {origin} reaches {low:g} .. {high:g}, expected the range of float32")
        return
    bad = ~np.isfinite(array)
    first = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), array.shape))
    raise InputError(
        f"{argument}: {origin} has {int(bad.sum())} values that are NaN or infinite, "
        f"the first at index {first}; expected finite numbers"
    )

"""Examples as read from their source: checked, in the library's layout, in their own units and dtype.

Values are (n, d) for vectors and (n, C, H, W) for images. They are converted to float32 only after the split into
training and held-out examples.
"""

from dataclasses import dataclass

import numpy as np

from diffuscope.errors import InputError
from diffuscope.memory import require_memory

from .dataset import Range

CHANNELS = (1, 3)


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples of one source. Error messages name the `argument` that gave them and their `origin`.

    `data_range` is the range that the format itself implies (8-bit images: 0..255), or None.
    """

    argument: str
    origin: str
    values: np.ndarray
    labels: np.ndarray | None = None
    data_range: Range | None = None

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.values.shape[1:]


@dataclass(frozen=True, eq=False)
class Source:
    """The contents of one data set: examples, and its own held-out examples if it has them."""

    name: str
    train: Examples
    heldout: Examples | None = None


def examples_of_array(array: np.ndarray, argument: str, origin: str, labels: np.ndarray | None = None) -> Examples:
    """Checked examples of an array in any of the layouts (n, d), (n, H, W), (n, C, H, W), (n, H, W, C).

    Raises InputError for dtypes other than real numbers, for ambiguous or unknown layouts, for NaN and infinity, and
    for labels that are not one integer per example.
    """
    if array.dtype.kind not in "iuf":
        raise InputError(f"{argument}: {origin} has dtype {array.dtype}, expected integers or floating-point numbers")
    require_memory(4.0 * array.size, argument, f"{origin}, of shape {array.shape},")
    _require_finite(array, argument, origin)
    values = _in_layout(array, argument, origin)
    return Examples(argument, origin, values, _checked_labels(labels, len(values), argument, origin))


def _require_finite(array: np.ndarray, argument: str, origin: str) -> None:
    if array.dtype.kind != "f" or array.size == 0:
        return
    with np.errstate(invalid="ignore"):
        low, high = array.min(), array.max()  # NaN propagates into both, so that no mask is needed
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


def _in_layout(array: np.ndarray, argument: str, origin: str) -> np.ndarray:
    shape = array.shape
    if 0 in shape:
        raise InputError(f"{argument}: {origin} has shape {shape}, expected at least one example and one value")
    if array.ndim == 2:
        return array
    if array.ndim == 3:
        # (H, W, 3) is far more often one image than H images of width 3
        if shape[0] == 1 or shape[-1] in CHANNELS:
            raise InputError(
                f"{argument}: {origin} has shape {shape}, which may be one single image; "
                "expected images (n, H, W) or, with their channels, (n, C, H, W)"
            )
        return array[:, None]
    if array.ndim == 4:
        first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
        if first and last:
            raise InputError(
                f"{argument}: {origin} has shape {shape}, which is (n, C, H, W) and (n, H, W, C) alike; "
                "expected 1 or 3 on one of the two channel axes"
            )
        if first:
            return array
        if last:
            return array.transpose(0, 3, 1, 2)
    raise InputError(
        f"{argument}: {origin} has shape {shape}, expected vectors (n, d) or images (n, H, W), (n, C, H, W) "
        "or (n, H, W, C) with 1 or 3 channels"
    )


def _checked_labels(labels: np.ndarray | None, n: int, argument: str, origin: str) -> np.ndarray | None:
    if labels is None:
        return None
    if labels.dtype.kind not in "iu" or labels.shape != (n,):
        raise InputError(
            f"{argument}: the labels of {origin} are {labels.dtype} of shape {labels.shape}, expected integers ({n},)"
        )
    if labels.dtype.kind == "u" and int(labels.max()) > np.iinfo(np.int64).max:
        raise InputError(f"{argument}: the labels of {origin} reach {labels.max()}, expected numbers below 2^63")
    return labels.astype(np.int64)

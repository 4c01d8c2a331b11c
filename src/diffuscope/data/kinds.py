"""What one example is: a vector, a series, an image, a volume, a latent or a row of a table.

| kind | shape of the examples | what is taken for it |
|---|---|---|
| vectors | (n, d) | (n, d) |
| series | (n, C, L) | (n, L) and (n, C, L) |
| images | (n, C, H, W), C = 1 or 3 | (n, H, W), (n, C, H, W) and (n, H, W, C) |
| volumes | (n, C, D, H, W) | (n, D, H, W) and (n, C, D, H, W) |
| latents | (n, C, H, W), any C | (n, C, H, W) |
| table | (n, d), encoded | (n, columns), see `table` |

Where the kind is not stated, the number of axes decides: two are vectors, three and four are images, five are volumes.
An array of images that could be read in two ways is refused then; stated to be images, its channels come first.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from diffuscope.errors import InputError

Kind = Literal["auto", "vectors", "series", "images", "volumes", "latents", "table"]
KINDS: tuple[str, ...] = get_args(Kind)
CHANNELS = (1, 3)

Layout = Callable[[np.ndarray], np.ndarray | None]


def require_kind(kind: str) -> None:
    """Raises InputError for a kind that is not one of KINDS."""
    if kind not in KINDS:
        raise InputError(f"kind: got {kind!r}, expected one of {', '.join(KINDS)}")


def in_layout(array: np.ndarray, kind: str, argument: str, origin: str) -> tuple[np.ndarray, str]:
    """`array` in the library's layout, a view, and the kind that it is.

    Raises InputError for a shape that the kind does not have, and for one that is ambiguous where no kind is stated.
    """
    if 0 in array.shape:
        raise InputError(f"{argument}: {origin} has shape {array.shape}, expected at least one example and one value")
    if kind == "auto":
        return _by_its_axes(array, argument, origin)
    layout, expected = _LAYOUTS[kind]
    values = layout(array)
    if values is None:
        raise InputError(f"{argument}: {origin} has shape {array.shape}; expected {expected}, as --kind {kind} takes")
    return values, kind


def _by_its_axes(array: np.ndarray, argument: str, origin: str) -> tuple[np.ndarray, str]:
    shape = array.shape
    if array.ndim == 2:
        return array, "vectors"
    # (H, W, 3) is far more often one image than H images of width 3
    if array.ndim == 3 and (shape[0] == 1 or shape[-1] in CHANNELS):
        raise InputError(
            f"{argument}: {origin} has shape {shape}, which may be one single image; expected images (n, H, W) or, "
            "with their channels, (n, C, H, W), or --kind images or series where it is not"
        )
    if array.ndim == 4 and shape[1] in CHANNELS and shape[3] in CHANNELS:
        raise InputError(
            f"{argument}: {origin} has shape {shape}, which is (n, C, H, W) and (n, H, W, C) alike; "
            "expected 1 or 3 on one of the two channel axes, or --kind images for (n, C, H, W)"
        )
    values, kind = (array, "volumes") if array.ndim == 5 else (_images(array), "images")
    if values is None:
        others = "; --kind latents takes (n, C, H, W) with any C, --kind volumes (n, D, H, W)"
        raise InputError(
            f"{argument}: {origin} has shape {shape}, expected vectors (n, d) or images (n, H, W), (n, C, H, W) "
            f"or (n, H, W, C) with 1 or 3 channels, or volumes (n, C, D, H, W){others * (array.ndim == 4)}"
        )
    return values, kind


def _images(array: np.ndarray) -> np.ndarray | None:
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[1] in CHANNELS:
        return array
    return array.transpose(0, 3, 1, 2) if array.ndim == 4 and array.shape[3] in CHANNELS else None


def _with_axes(array: np.ndarray, axes: int) -> np.ndarray | None:
    """An array of so many axes, of which the channels may be missing."""
    if array.ndim == axes - 1:
        return array[:, None]
    return array if array.ndim == axes else None


_LAYOUTS: dict[str, tuple[Layout, str]] = {
    "vectors": (lambda array: array if array.ndim == 2 else None, "(n, d)"),
    "series": (lambda array: _with_axes(array, 3), "(n, length) or (n, channels, length)"),
    "images": (_images, "(n, H, W), (n, C, H, W) or (n, H, W, C) with 1 or 3 channels"),
    "volumes": (lambda array: _with_axes(array, 5), "(n, D, H, W) or (n, C, D, H, W)"),
    "latents": (lambda array: array if array.ndim == 4 else None, "(n, C, H, W)"),
    "table": (lambda array: array if array.ndim == 2 else None, "(n, columns)"),
}

"""Images of one size, from files or from bytes, as one array.

Gray images give one channel; a single color image among them makes all of them RGB. Values are 8-bit, 0 to 255, or for
16-bit gray images 0 to 65535. Images are turned as their EXIF orientation says. Nothing is resized or cropped, and
transparency is refused: each would change the data silently.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from diffuscope.errors import InputError
from diffuscope.memory import require_memory

from .as_tensors import stay_bytes
from .picture_cache import cached, decoded
from .value_range import BYTES, Range

GRAY_MODES = frozenset({"1", "L"})
COLOR_MODES = frozenset({"RGB", "P", "CMYK", "YCbCr"})
TRANSPARENT_MODES = frozenset({"RGBA", "LA", "PA"})
DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
ORIENTATION = 0x0112  # the EXIF tag; values from 5 exchange width and height


@dataclass(frozen=True)
class Picture:
    """An image that is not decoded yet: what error messages call it, and call it beside another; its file or bytes."""

    name: str
    short: str
    source: Callable[[], Path | BytesIO]


@dataclass(frozen=True)
class _Header:
    size: tuple[int, int]
    color: bool
    deep: bool


def stacked(pictures: Sequence[Picture], identity: str, argument: str, origin: str) -> tuple[np.ndarray, Range]:
    """The values (n, C, H, W) of at least one image, and their range by format.

    8-bit images that would take more than 1 GB in float32 are decoded once, into a file that is mapped, by the
    `identity` of their content. Raises InputError for images of different sizes or depths, with transparency, or that
    cannot be read.
    """
    known = cached(identity)
    if known is not None and len(known) == len(pictures):
        return known.transpose(0, 3, 1, 2), BYTES
    first, *_ = headers = [_header(picture, argument) for picture in pictures]
    for picture, header in zip(pictures, headers, strict=True):
        if header.size != first.size:
            raise InputError(
                f"{argument}: {picture.name} is {_size(header.size)} and {pictures[0].short} is {_size(first.size)}; "
                "expected images of one size (width x height)"
            )
        if header.deep != first.deep:
            bits = [f"{16 if each.deep else 8}-bit" for each in (header, first)]
            raise InputError(
                f"{argument}: {picture.name} is {bits[0]} and {pictures[0].short} is {bits[1]}; "
                "expected images of one depth"
            )
    mode = "RGB" if any(header.color for header in headers) else "L"
    width, height = first.size
    kind = np.dtype(np.uint16 if first.deep else np.uint8)
    shape = (len(pictures), height, width, 3 if mode == "RGB" else 1)

    def pixels_of(i: int) -> np.ndarray:
        return _pixels(pictures[i], None if first.deep else mode, argument).reshape(shape[1:])

    if not first.deep and stay_bytes(np.prod(shape, dtype=float)):
        return decoded(identity, shape, pixels_of, argument, origin).transpose(0, 3, 1, 2), BYTES
    needed = (4.0 + kind.itemsize) * np.prod(shape, dtype=float)  # as read and in float32
    require_memory(needed, argument, f"{origin}, {len(pictures):,} images of {_size(first.size)},")
    pixels = np.empty(shape, dtype=kind)
    for i in range(len(pictures)):
        pixels[i] = pixels_of(i)
    return pixels.transpose(0, 3, 1, 2), (0.0, float(np.iinfo(kind).max))


@contextmanager
def _opened(picture: Picture, argument: str) -> Iterator[Image.Image]:
    """An open image. Pillow's warnings about metadata are dropped, as they do not concern the pixels."""
    source = picture.source()
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(source) as image:
            yield image
    except MemoryError:
        raise
    except Exception:  # Pillow's decoders raise many kinds on files that are damaged or of another kind
        kind = Path(picture.name).suffix.lower().lstrip(".")
        raise InputError(
            f"{argument}: {picture.name} cannot be read, it is damaged or no {kind}{' ' * bool(kind)}image; "
            "expected a whole image"
        ) from None


def _header(picture: Picture, argument: str) -> _Header:
    with _opened(picture, argument) as image:
        mode, frames = image.mode, getattr(image, "n_frames", 1)
        tiles = " ".join(str(tile[3]) for tile in getattr(image, "tile", ()))
        width, height = image.size
        size = (height, width) if image.getexif().get(ORIENTATION, 1) >= 5 else (width, height)
        transparent = mode in TRANSPARENT_MODES or "transparency" in image.info
        if transparent and image.convert("RGBA").getchannel("A").getextrema() == (255, 255):
            transparent = False
    if transparent:
        raise InputError(f"{argument}: {picture.name} has transparent pixels; expected opaque images")
    if frames > 1:
        raise InputError(f"{argument}: {picture.name} holds {frames} frames; expected one image a file")
    deep = mode in DEEP_MODES
    # Pillow reads 16-bit color as 8-bit without a word
    if (not deep and ";16" in tiles) or mode not in GRAY_MODES | COLOR_MODES | TRANSPARENT_MODES | DEEP_MODES:
        found = "16-bit color" if ";16" in tiles else f"mode {mode}"
        raise InputError(
            f"{argument}: {picture.name} has {found}; expected 8-bit gray or color, or 16-bit gray "
            "(other depths: a .npy array with --data-range)"
        )
    return _Header(size, mode not in GRAY_MODES | DEEP_MODES | {"LA"}, deep)


def _pixels(picture: Picture, mode: str | None, argument: str) -> np.ndarray:
    with _opened(picture, argument) as image:
        upright = ImageOps.exif_transpose(image)
        return np.asarray(upright if mode is None else upright.convert(mode))


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"

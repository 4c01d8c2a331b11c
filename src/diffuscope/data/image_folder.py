"""Examples from a folder of 8-bit images, in the order of their names, subfolders included.

A folder of gray images gives one channel; a single color image among them makes all of them RGB. Nothing is resized,
cropped or rotated, and transparency is refused: each would change the data silently.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from diffuscope.errors import InputError
from diffuscope.memory import require_memory

from .examples import Examples, Source

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"})
GRAY_MODES = frozenset({"1", "L"})
COLOR_MODES = frozenset({"RGB", "P", "CMYK", "YCbCr"})
TRANSPARENT_MODES = frozenset({"RGBA", "LA", "PA"})

# what Pillow's decoders raise on files that are damaged or of another kind
_DECODING = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def read_image_folder(folder: Path, argument: str) -> Source:
    """The images of a folder; InputError for images of different sizes, with transparency, or that cannot be read."""
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    if not paths:
        raise InputError(f"{argument}: {folder} holds no image; expected {', '.join(sorted(SUFFIXES))}")
    first, *_ = headers = [_header(path, argument) for path in paths]
    for path, header in zip(paths, headers, strict=True):
        if header[0] != first[0]:
            raise InputError(
                f"{argument}: {path} is {_size(header[0])} and {paths[0].name} is {_size(first[0])}; "
                "expected images of one size (width x height)"
            )
    mode = "RGB" if any(color for _, color in headers) else "L"
    width, height = first[0]
    size = len(paths) * height * width * (3 if mode == "RGB" else 1)
    require_memory(5.0 * size, argument, f"{folder}, {len(paths):,} images of {_size(first[0])},")  # bytes and float32
    pixels = np.empty((len(paths), height, width, 3 if mode == "RGB" else 1), dtype=np.uint8)
    for i, path in enumerate(paths):
        pixels[i] = _pixels(path, mode, argument).reshape(pixels.shape[1:])
    values = pixels.transpose(0, 3, 1, 2)
    return Source(
        folder.resolve().name, Examples(argument, str(folder), values, data_range=(0.0, 255.0), kind="images")
    )


@contextmanager
def _opened(path: Path, argument: str) -> Iterator[Image.Image]:
    """An open image. Pillow's warnings about metadata are dropped, as they do not concern the pixels."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            yield image
    except _DECODING:
        kind = path.suffix.lower().lstrip(".")
        raise InputError(
            f"{argument}: {path} cannot be read, it is damaged or no {kind} image; expected a whole image"
        ) from None


def _header(path: Path, argument: str) -> tuple[tuple[int, int], bool]:
    """The size of the image, and whether it has color."""
    with _opened(path, argument) as image:
        size, mode, frames = image.size, image.mode, getattr(image, "n_frames", 1)
        transparent = mode in TRANSPARENT_MODES or "transparency" in image.info
        if transparent and image.convert("RGBA").getchannel("A").getextrema() == (255, 255):
            transparent = False
        color = mode not in GRAY_MODES | {"LA"}
    if transparent:
        raise InputError(f"{argument}: {path} has transparent pixels; expected opaque images")
    if frames > 1:
        raise InputError(f"{argument}: {path} holds {frames} frames; expected one image a file")
    if mode not in GRAY_MODES | COLOR_MODES | TRANSPARENT_MODES:
        raise InputError(
            f"{argument}: {path} has mode {mode}; expected 8-bit gray or color "
            "(other depths: a .npy array with --data-range)"
        )
    return size, color


def _pixels(path: Path, mode: str, argument: str) -> np.ndarray:
    with _opened(path, argument) as image:
        return np.asarray(image.convert(mode))


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"

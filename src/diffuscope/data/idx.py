"""The file format of MNIST, idx: two zero bytes, a type (8 = byte), the number of axes, their sizes, the values."""

import gzip
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np

from diffuscope.errors import InputError


def read_idx(path: Path, argument: str) -> np.ndarray:
    """The array of bytes in a gzipped idx file."""
    try:
        with gzip.open(path, "rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error):
        raise InputError(f"{argument}: {path} cannot be read; expected a whole gzipped idx file") from None
    axes = content[3] if content[:3] == b"\x00\x00\x08" and len(content) > 3 else 0
    shape = struct.unpack_from(f">{axes}I", content, 4) if len(content) >= 4 + 4 * axes else ()
    if axes == 0 or len(content) - 4 - 4 * axes != prod(shape):
        raise InputError(f"{argument}: {path} is not what its name says; expected a gzipped idx file of bytes")
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes).reshape(shape)

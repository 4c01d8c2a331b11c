"""The file format of MNIST, idx: two zero bytes, a type (8 = byte), the number of axes, their sizes, the values."""

import gzip
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np

from diffuscope.errors import InputError
from diffuscope.memory import require_memory


def read_idx(path: Path, argument: str) -> np.ndarray:
    """The array of bytes in a gzipped idx file."""
    try:
        with gzip.open(path, "rb") as file:
            start = file.read(4)
            axes = start[3] if start[:3] == b"\x00\x00\x08" and len(start) == 4 else 0
            sizes = file.read(4 * axes)
            shape = struct.unpack(f">{axes}I", sizes) if len(sizes) == 4 * axes else ()
            require_memory(prod(shape), argument, f"{path}, of shape {shape},")
            content = file.read(prod(shape) + 1)  # no more than what it claims to hold
    except (OSError, EOFError, zlib.error):
        raise InputError(f"{argument}: {path} cannot be read; expected a whole gzipped idx file") from None
    if not shape or len(content) != prod(shape):
        raise InputError(f"{argument}: {path} is not what its name says; expected a gzipped idx file of bytes")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)

"""Writing a file whole or not at all."""

import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy import ndarray


def replace_atomically(path: Path, content: bytes) -> None:
    """Make `content` the whole of the file `path`, or leave `path` as it was and raise OSError.

    The new file has one fixed name beside the old one, so a killed process leaves at most that one behind,
    and the next write takes it over.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def save_arrays(path: Path, arrays: Mapping[str, ndarray]) -> None:
    """`arrays` as the .npz file `path`, without pickle, whole or not at all."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    replace_atomically(path, content.getvalue())


def _flush_folder(folder: Path) -> None:
    """Make the move itself survive a power cut, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

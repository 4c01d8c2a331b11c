"""Decoded pictures in one file of bytes, which is mapped: made once, in the user's cache folder.

A file `KEY.npy` holds the pixels of one folder or table of pictures. KEY is a hash of what identifies their files:
folder, names, sizes and times of modification. Rows are written one after another into `KEY.npy.partial`, which gets
its name when it is whole; a run that was interrupted goes on after the last whole picture. Deleting the folder costs
nothing but the decoding.
"""

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import platformdirs
from filelock import FileLock

from diffuscope.errors import InputError
from diffuscope.progress import progress_bar

VERSION = 1  # of what is written for the same files


def picture_folder() -> Path:
    """Where decoded pictures lie; on Linux `~/.cache/diffuscope/pictures`."""
    return platformdirs.user_cache_path("diffuscope") / "pictures"


def identity_of(folder: Path, paths: Iterable[Path], *others: str) -> str:
    """What names the content of these files, in hexadecimal: their folder, names, sizes, times; and `others`."""
    digest = hashlib.sha256(repr((VERSION, str(folder.resolve()), others)).encode())
    for path in paths:
        state = path.stat()
        digest.update(repr((os.path.relpath(path, folder), state.st_size, state.st_mtime_ns)).encode())
    return digest.hexdigest()[:32]


def cached(identity: str) -> np.ndarray | None:
    """The pixels (n, H, W, C) of this identity, mapped; None before they are decoded."""
    try:
        return np.load(picture_folder() / f"{identity}.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None


def decoded(
    identity: str, shape: tuple[int, ...], decode: Callable[[int], np.ndarray], argument: str, origin: str
) -> np.ndarray:
    """The pixels `shape`, mapped, of which `decode` gives one picture; what is there already is not decoded again.

    Raises InputError where there is no room for them or nothing can be written.
    """
    folder = picture_folder()
    path, partial = folder / f"{identity}.npy", folder / f"{identity}.npy.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{identity}.lock"):  # processes that read the same pictures wait for the first
            if not path.exists():
                _require_room(folder, partial, shape, argument, origin)
                _write(partial, shape, decode)
                partial.replace(path)
    except OSError as error:
        raise InputError(
            f"{argument}: the pixels of {origin} cannot be written to {folder} ({error.strerror}); expected a folder "
            "to write to, or XDG_CACHE_HOME to name another one"
        ) from error
    found = cached(identity)
    if found is None or found.shape != shape or found.dtype != np.uint8:
        raise InputError(f"{argument}: {path} is damaged; expected it whole, or deleted, to be made again")
    return found


def _write(partial: Path, shape: tuple[int, ...], decode: Callable[[int], np.ndarray]) -> None:
    """The pictures that `partial` lacks, in order; what follows the last whole one is cut off."""
    header, row = _header(shape), int(np.prod(shape[1:]))
    with partial.open("ab") as file:
        if partial.stat().st_size < len(header):
            file.truncate(0)
            file.write(header)
            file.flush()
        done = (partial.stat().st_size - len(header)) // row
        file.truncate(len(header) + done * row)
        with progress_bar(desc="decoding pictures", unit="picture", total=shape[0], initial=done) as bar:
            for i in range(done, shape[0]):
                file.write(np.ascontiguousarray(decode(i)).data)
                bar.update()
        file.flush()
        os.fsync(file.fileno())


def _header(shape: tuple[int, ...]) -> bytes:
    """The start of a .npy file of bytes of this shape."""
    content = io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, described)
    return content.getvalue()


def _require_room(folder: Path, partial: Path, shape: tuple[int, ...], argument: str, origin: str) -> None:
    there = partial.stat().st_size if partial.exists() else 0
    needed, free = float(np.prod(shape, dtype=float)) - there, shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{argument}: {origin} takes {needed / 1e9:,.3g} GB decoded; expected as much room in {folder}, which has "
            f"{free / 1e9:.3g} GB, or XDG_CACHE_HOME to name another place"
        )

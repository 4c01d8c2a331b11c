"""Examples from an HDF5 file, `.h5` or `.hdf5`, read with h5py (an extra).

`file.h5:name` selects the data set of that name (a path inside the file). Without a name, data sets are chosen as in an
`.npz` archive: `x`, `images` or `data`, `train` with `test`, their labels, or the only data set. Links to other files
are not followed.
"""

from pathlib import Path
from typing import Any

import numpy as np

from diffuscope.errors import InputError

from .array_file import Archive, source_of_archive
from .examples import Source
from .extras import not_installed


def read_hdf5(path: Path, name: str | None, argument: str) -> Source:
    """The examples of a file, or of its data set `name`, which are read whole.

    Raises InputError if h5py is not installed, the file is damaged or no HDF5 file, it has no data set `name`, or the
    choice is ambiguous.
    """
    try:
        import h5py
    except ImportError:
        raise not_installed(argument, path, "h5py", "h5py") from None
    try:
        with h5py.File(path, "r") as file:
            names: list[str] = []
            # visits hard links only, hence no other file and no data set twice
            file.visititems(lambda found, item: names.append(found) if isinstance(item, h5py.Dataset) else None)
            members = _Members(file)
            archive = Archive(members, path, argument, members.size, f", or one of them as {path.name}:NAME")
            return source_of_archive(archive, path.stem, names, name)
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError):
        raise InputError(
            f"{argument}: {path} cannot be read, it is truncated, damaged or no HDF5 file; expected a whole one"
        ) from None


class _Members:
    """An open file's data sets as arrays, by name."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __getitem__(self, name: str) -> np.ndarray:
        return np.asarray(self.file[name][()])

    def size(self, name: str) -> float:
        """The bytes of a data set, which its file may claim without holding them."""
        return float(self.file[name].nbytes)

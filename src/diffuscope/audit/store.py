"""The finished stages of an audit, stored on disk under a key made of its inputs.

Rerun with the same inputs, an interrupted audit reads its finished stages and resumes. Other inputs have another key
and never read the old results.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy import ndarray

from diffuscope.errors import InputError
from diffuscope.files import save_arrays

Arrays = dict[str, ndarray]


class Store:
    """Named dictionaries of arrays in `folder`/state/<key>; without a folder nothing is stored."""

    def __init__(self, folder: Path | None, inputs: dict[str, object]) -> None:
        digest = hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()
        self.folder = None if folder is None else folder / "state" / digest[:16]

    def remember(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """The stored arrays called `name`, or else those of `compute()`, then stored; InputError if that fails."""
        if self.folder is None:
            return compute()
        path = self.folder / f"{name}.npz"
        if path.exists():
            try:
                # NumPy does not close a damaged file, hence the first of the two
                with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                    return {key: stored[key] for key in stored.files}
            except (OSError, ValueError, zipfile.BadZipFile):
                path.unlink()  # half-written by a crash of the machine: compute it again
        arrays = compute()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_arrays(path, arrays)
        except OSError as error:
            raise InputError(f"out: cannot write {path.name} to {self.folder} ({error.strerror})") from error
        return arrays

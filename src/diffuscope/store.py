"""The finished stages of a run, stored on disk under a key made of its inputs.

Rerun with the same inputs, an interrupted run reads its finished stages and resumes. Other inputs have another key
and never read the old results. A file is a NumPy archive followed by the SHA-256 of its bytes, which is verified before
anything is read: a stage whose file is damaged in any way is measured again.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy import ndarray

from diffuscope.errors import InputError
from diffuscope.files import replace_atomically

Arrays = dict[str, ndarray]
DIGEST = 32  # bytes of a SHA-256


class Store:
    """Named dictionaries of arrays in `folder`/state/<key>; without a folder nothing is stored.

    Raises InputError if the folder cannot be made.
    """

    def __init__(self, folder: Path | None, inputs: dict[str, object]) -> None:
        digest = hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()
        self.folder = None if folder is None else folder / "state" / digest[:16]
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)  # before any work is done
            except OSError as error:
                raise InputError(f"out: cannot create the folder {self.folder} ({error.strerror})") from error

    def remember(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """The stored arrays called `name`, or else those of `compute()`, then stored; InputError if that fails."""
        if self.folder is None:
            return compute()
        path = self.folder / f"{name}.npz"
        stored = _read(path)
        if stored is not None:
            return stored
        arrays = compute()
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        whole = content.getvalue()
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            replace_atomically(path, whole + hashlib.sha256(whole).digest())
        except OSError as error:
            raise InputError(f"out: cannot write {path.name} to {self.folder} ({error.strerror})") from error
        return arrays


def _read(path: Path) -> Arrays | None:
    """The arrays of a file, None if it is missing or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    whole, digest = content[:-DIGEST], content[-DIGEST:]
    if hashlib.sha256(whole).digest() != digest:
        return None
    with np.load(io.BytesIO(whole), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}

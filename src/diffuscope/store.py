"""The finished stages of a run, stored on disk under a key made of its inputs.

Rerun with the same inputs, an interrupted run reads its finished stages and resumes. Other inputs have another key
and never read the old results. A file is a NumPy archive followed by the SHA-256 of its bytes, which is verified before
anything is read: a stage whose file is damaged in any way is measured again.

Under `torchrun` all processes ask for the same stages; process 0 reads and writes the files and tells the others what
they hold, so that a run can resume with another number of processes, also on machines that share no disk.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from diffuscope.distributed import sharers
from diffuscope.errors import InputError
from diffuscope.files import replace_atomically
from diffuscope.shared_work import Arrays, shared

DIGEST = 32  # bytes of a SHA-256


class Store:
    """Named dictionaries of arrays in `folder`/state/<key>; without a folder nothing is stored.

    Raises InputError if the folder cannot be made.

    >>> from pathlib import Path
    >>> import numpy as np
    >>> from diffuscope.store import Store
    >>> first, same, other = (Store(Path("kept"), {"seed": seed}) for seed in (0, 0, 1))
    >>> values = [each.remember("mean", lambda k=k: {"x": np.array(k)})["x"].item() for k, each in
    ...           enumerate((first, same, other))]
    >>> values  # the second is read, the third has other inputs
    [0, 0, 2]
    """

    def __init__(self, folder: Path | None, inputs: dict[str, object]) -> None:
        digest = hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()
        self.folder = None if folder is None else folder / "state" / digest[:16]
        shared([self._made])  # before any work is done

    def remember(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """The stored arrays called `name`, or else those of `compute()`, then stored; InputError if that fails.

        Of several processes one computes.
        """
        return next(self.remember_each({name: compute}))

    def remember_each(self, stages: Mapping[str, Callable[[], Arrays]]) -> Iterator[Arrays]:
        """The arrays of every stage, in order; of several processes each computes some."""
        names = list(stages)
        for start in range(0, len(names), sharers()):
            some = names[start : start + sharers()]
            found = {name: self._stored(name) for name in some}
            missing = [name for name in some if not found[name]]
            found |= dict(zip(missing, shared([stages[name] for name in missing]), strict=True))
            for name in missing:
                self._keep(name, found[name])
            yield from (found[name] for name in some)

    def remember_together(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """As `remember`, of a `compute` that all processes call, and that shares its work among them."""
        found = self._stored(name)
        if not found:
            found = compute()
            self._keep(name, found)
        return found

    def _made(self) -> Arrays:
        """The folder, created."""
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"out: cannot create the folder {self.folder} ({error.strerror})") from error
        return {}

    def _stored(self, name: str) -> Arrays:
        """The arrays of a stage; none if it was not stored, or not whole."""
        folder = self.folder
        return {} if folder is None else shared([lambda: _read(folder / f"{name}.npz") or {}])[0]

    def _keep(self, name: str, arrays: Arrays) -> None:
        """Store the arrays."""
        folder = self.folder
        if folder is not None:
            shared([lambda: _written(folder / f"{name}.npz", arrays)])


def _written(path: Path, arrays: Arrays) -> Arrays:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    whole = content.getvalue()
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        replace_atomically(path, whole + hashlib.sha256(whole).digest())
    except OSError as error:
        raise InputError(f"out: cannot write {path.name} to {path.parent} ({error.strerror})") from error
    return {}


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

"""Files written whole or not at all, folders with one writer, JSON, and objects named as `module:object`."""

import importlib
import io
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy import ndarray

from diffuscope.errors import InputError

PRIVATE = 0o600  # permissions of a file for its owner alone


def replace_atomically(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Make `content` the whole of the file `path`, or leave `path` as it was and raise OSError.

    The new file has one fixed name beside the old one, so a killed process leaves at most that one behind,
    and the next write replaces it. It has the permissions `mode`, less the umask, before its first byte is written.

    >>> from pathlib import Path
    >>> from diffuscope.files import replace_atomically
    >>> for content in (b"an old file", b"new"):
    ...     replace_atomically(Path("a.txt"), content)
    >>> Path("a.txt").read_bytes(), [path.name for path in Path().glob("a.txt*")]
    (b'new', ['a.txt'])
    """
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def save_arrays(path: Path, arrays: Mapping[str, ndarray], *, mode: int = 0o666) -> None:
    """`arrays` as the .npz file `path`, without pickle, whole or not at all, with permissions as above."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    replace_atomically(path, content.getvalue(), mode=mode)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold `folder` until the block ends, in this process as often as needed; InputError if another one holds it."""
    lock = FileLock(folder / ".lock", timeout=0, is_singleton=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(
            f"out: another run is writing to {folder}; expected to be the only one: wait for it, or name another folder"
        ) from None
    except OSError as error:
        raise InputError(f"out: cannot write to the folder {folder} ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()


def write_json(result: object, path: Path) -> None:
    """`result` as JSON, whole or not at all; NaN and infinity, which JSON lacks, become null."""
    replace_atomically(path, json.dumps(finite(result), indent=2, allow_nan=False).encode())


def json_line(result: object) -> bytes:
    """`result` as one line of JSON, its end included; NaN and infinity become null."""
    return json.dumps(finite(result), allow_nan=False).encode() + b"\n"


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a file, down to the disk."""
    with path.open("ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that have an end: what a killed process left half written is none.

    >>> from pathlib import Path
    >>> from diffuscope.files import append_line, json_line, whole_lines
    >>> append_line(Path("log.jsonl"), json_line({"step": 10, "loss": float("nan")}))
    >>> append_line(Path("log.jsonl"), b"half")
    >>> whole_lines(Path("log.jsonl"))
    [b'{"step": 10, "loss": null}']
    """
    return path.read_bytes().split(b"\n")[:-1]


def finite(value: object) -> object:
    """`value` with every number that JSON cannot hold replaced by None.

    >>> from diffuscope.files import finite
    >>> finite({"loss": (0.5, float("nan")), "bound": -float("inf")})
    {'loss': [0.5, None], 'bound': None}
    """
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_there(path: str | Path) -> bool:
    """Whether there is a file or a folder of this name; False for a name that the system refuses to look up.

    >>> from diffuscope.files import is_there
    >>> is_there("."), is_there(300 * "long")
    (True, False)
    """
    with suppress(OSError):  # a name that is too long, a folder that may not be entered
        return Path(path).exists()
    return False


def require_file(path: Path, argument: str) -> None:
    """Raises InputError, naming `argument`, unless there is a file of this name.

    >>> from diffuscope.files import require_file
    >>> require_file(Path("absent.pt"), "weights")
    Traceback (most recent call last):
        ...
    diffuscope.errors.InputError: weights: no file absent.pt
    """
    try:
        found = path.is_file()
    except OSError as error:
        raise InputError(f"{argument}: cannot read {path} ({error.strerror or error})") from error
    if not found:
        raise InputError(f"{argument}: no file {path}")


def load_object(spec: str, argument: str) -> object:
    """The object that `module:object` names; dots after the colon reach inside it.

    The current folder becomes importable. Raises InputError, naming `argument`, for another form, a module that
    is not found or fails while it is imported, and a name that it lacks.

    >>> from diffuscope.files import load_object
    >>> load_object("math:hypot", "model")(3, 4)
    5.0
    >>> load_object("math:hipot", "model")
    Traceback (most recent call last):
        ...
    diffuscope.errors.InputError: model: module 'math' has no 'hipot'; did you mean hypot?
    """
    module_name, _, path = spec.partition(":")
    if not all(part.isidentifier() for name in (module_name, path) for part in name.split(".")):
        raise InputError(f"{argument}: expected module:object, got {spec!r}")
    with suppress(OSError):  # the current folder is gone
        folder = str(Path.cwd())
        if folder not in sys.path:
            sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        found: object = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a module that exits is no reason to exit, least of all with 0
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            meant = f"; did you mean {module_name[:-3]}:{path}?" if module_name.endswith(".py") else ""
            raise InputError(f"{argument}: no module named {error.name!r} here or in the environment{meant}") from error
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{argument}: importing {module_name!r} failed with {reason}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise InputError(f"{argument}: module {module_name!r} has no {path!r}{_meant(part, dir(found))}")
        found = getattr(found, part)
    return found


def _meant(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _flush_folder(folder: Path) -> None:
    """Make the move itself survive a power cut, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

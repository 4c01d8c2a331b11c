"""Examples from NumPy's own files, `.npy` and `.npz`. Pickles inside them are never loaded.

An archive holds its examples as `x`, `images` or `data`, or as its only array; or training examples as `train` or
`x_train` and optionally held-out ones as `heldout`, `test` or `x_test`. Labels are `labels`, `label` or `y`, and for
separate parts `train_labels` or `y_train`, and `heldout_labels`, `test_labels` or `y_test`.
"""

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from diffuscope.errors import InputError
from diffuscope.memory import require_memory

from .examples import Examples, Source, examples_of_array

EXAMPLES = ("x", "images", "data")
TRAIN = ("train", "x_train")
HELDOUT = ("heldout", "test", "x_test")
LABELS = ("labels", "label", "y")
TRAIN_LABELS = ("train_labels", "y_train")
HELDOUT_LABELS = ("heldout_labels", "test_labels", "y_test")


def read_npy(path: Path, argument: str) -> Source:
    """The examples of a `.npy` file, memory-mapped rather than read whole."""
    _require_magic(path, argument, b"\x93NUMPY", "a .npy file as numpy.save writes it")
    try:
        with np.errstate(over="ignore"):  # a damaged header may claim more than an integer can count
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy's parser of a damaged header raises many kinds
        raise _unreadable(argument, str(path), error) from None
    return Source(path.stem, examples_of_array(array, argument, str(path)))


def read_npz(path: Path, name: str | None, argument: str) -> Source:
    """The examples of a `.npz` archive, with its own held-out part and labels if it has them, or its array `name`."""
    _require_magic(path, argument, b"PK", "a .npz file as numpy.savez writes it")
    try:
        # opened here, since NumPy does not close a file that turns out to be damaged
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            otherwise = f", or one of them as {path.name}:NAME"
            members = Archive(archive, path, argument, partial(unpacked_size, archive.zip), otherwise)
            return source_of_archive(members, path.stem, list(archive.files), name)
    except InputError:
        raise
    except Exception as error:
        raise _unreadable(argument, str(path), error) from None


def unpacked_size(archive: zipfile.ZipFile, name: str) -> float:
    """The bytes that the member of this name claims to unpack to; the unpacking stops there."""
    sizes = {member.filename: member.file_size for member in archive.infolist()}
    return float(sizes.get(f"{name}.npy", sizes.get(name, 0)))


class Archive:
    """An open archive of arrays; InputError for those that cannot be read or are larger than the memory.

    `size` gives the bytes that an array claims to have. `otherwise` is a hint for error messages.
    """

    def __init__(
        self, archive: Any, path: Path, argument: str, size: Callable[[str], float], otherwise: str = ""
    ) -> None:
        self.archive, self.path, self.argument, self.size, self.otherwise = archive, path, argument, size, otherwise

    def origin(self, name: str) -> str:
        return f"{self.path}[{name}]"

    def array(self, name: str) -> np.ndarray:
        require_memory(self.size(name), self.argument, f"{self.origin(name)}, unpacked,")
        try:
            array = self.archive[name]
        except Exception as error:  # as above, and those of an archive's compression
            raise _unreadable(self.argument, self.origin(name), error) from None
        # a member that is no .npy file is returned as bytes
        if not isinstance(array, np.ndarray):
            raise _unreadable(self.argument, self.origin(name), None)
        return array

    def optional(self, name: str | None) -> np.ndarray | None:
        return None if name is None else self.array(name)


def source_of_archive(archive: Archive, stem: str, names: list[str], name: str | None = None) -> Source:
    """The examples among an archive's arrays `names`, or the one called `name`.

    Raises InputError if the choice is ambiguous, and for a name that is not there.
    """
    if name is not None:
        inside = name.strip("/")
        if inside not in names:
            raise InputError(
                f"{archive.argument}: {archive.path} has no array {name!r}; expected one of {_listed(names)}"
            )
        only = examples_of_array(archive.array(inside), archive.argument, archive.origin(inside))
        return Source(f"{stem}-{inside.replace('/', '-')}", only)

    def one_of(known: tuple[str, ...]) -> str | None:
        present = [name for name in known if name in names]
        if len(present) > 1:
            raise InputError(
                f"{archive.argument}: {archive.path} holds {' and '.join(present)}, expected only one of them"
            )
        return present[0] if present else None

    def examples(name: str, labels: str | None) -> Examples:
        origin = archive.origin(name)
        return examples_of_array(archive.array(name), archive.argument, origin, archive.optional(labels))

    train = one_of(TRAIN)
    if train is not None:
        training, heldout = examples(train, one_of(TRAIN_LABELS)), one_of(HELDOUT)
        return Source(stem, training, None if heldout is None else examples(heldout, one_of(HELDOUT_LABELS)))
    labels = one_of(LABELS)
    rest = [name for name in names if name != labels]
    only = one_of(EXAMPLES) or (rest[0] if len(rest) == 1 else None)
    if only is None:
        raise InputError(
            f"{archive.argument}: {archive.path} holds {_listed(names)}, "
            f"expected one of {', '.join(EXAMPLES + TRAIN)}, or a single array{archive.otherwise}"
        )
    return Source(stem, examples(only, labels))


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:6]) or "no array"
    return shown if len(names) <= 6 else f"{shown} and {len(names) - 6} more"


def _require_magic(path: Path, argument: str, magic: bytes, expected: str) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise _unreadable(argument, str(path), error) from None
    if head.startswith(b"\x80"):
        raise InputError(f"{argument}: {path} is a pickle, which is never loaded; expected {expected}")
    if not head.startswith(magic):
        raise InputError(f"{argument}: {path} is not what its name says; expected {expected}")


def _unreadable(argument: str, origin: str, error: Exception | None) -> InputError:
    if error is not None and "object" in str(error).lower():
        return InputError(
            f"{argument}: {origin} holds Python objects (a pickle), which are never loaded; expected numbers"
        )
    if isinstance(error, PermissionError):
        return InputError(f"{argument}: {origin} may not be read; expected a file with permission to read")
    return InputError(f"{argument}: {origin} cannot be read, it is truncated or damaged; expected a whole file")

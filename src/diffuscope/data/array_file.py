"""Examples from NumPy's own files, `.npy` and `.npz`. Pickles inside them are never loaded.

An archive holds its examples as `x`, `images` or `data`, or as its only array; or training examples as
`train` or `x_train` and perhaps held-out ones as `heldout`, `test` or `x_test`. Labels go by `labels`,
`label` or `y`, with `train_labels` or `y_train` and so on where the two parts are apart.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from diffuscope.errors import InputError

from .examples import Source, examples_of_array

EXAMPLES = ("x", "images", "data")
TRAIN = ("train", "x_train")
HELDOUT = ("heldout", "test", "x_test")
LABELS = ("labels", "label", "y")
TRAIN_LABELS = ("train_labels", "y_train")
HELDOUT_LABELS = ("heldout_labels", "test_labels", "y_test")


def read_npy(path: Path, argument: str) -> Source:
    """The examples of a `.npy` file, mapped from disk rather than read whole."""
    _require_magic(path, argument, b"\x93NUMPY", "a .npy file as numpy.save writes it")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise _unreadable(argument, str(path), error) from None
    return Source(path.stem, examples_of_array(array, argument, str(path)))


def read_npz(path: Path, argument: str) -> Source:
    """The examples of a `.npz` archive, with its own held-out part and labels where it has them."""
    _require_magic(path, argument, b"PK", "a .npz file as numpy.savez writes it")
    try:
        # NumPy leaves a file open that turns out to be damaged, hence the first of the two
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = list(archive.files)
            return source_of_archive(Archive(archive, path, argument), path.stem, names)
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise _unreadable(argument, str(path), error) from None


class Archive:
    """An open archive that answers with arrays or with one clear line; `otherwise` tells how else to ask for one."""

    def __init__(self, archive: Any, path: Path, argument: str, otherwise: str = "") -> None:
        self.archive, self.path, self.argument, self.otherwise = archive, path, argument, otherwise

    def origin(self, name: str) -> str:
        return f"{self.path}[{name}]"

    def array(self, name: str) -> np.ndarray:
        try:
            array = self.archive[name]
        except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise _unreadable(self.argument, self.origin(name), error) from None
        # a member that is no .npy file comes back as bare bytes
        if not isinstance(array, np.ndarray):
            raise _unreadable(self.argument, self.origin(name), None)
        return array

    def optional(self, name: str | None) -> np.ndarray | None:
        return None if name is None else self.array(name)


def source_of_archive(archive: Archive, stem: str, names: list[str]) -> Source:
    """The examples among an archive's arrays `names`; raises InputError where several could be meant."""

    def one_of(known: tuple[str, ...]) -> str | None:
        found = [name for name in known if name in names]
        if len(found) > 1:
            raise InputError(
                f"{archive.argument}: {archive.path} holds {' and '.join(found)}, expected only one of them"
            )
        return found[0] if found else None

    train = one_of(TRAIN)
    if train is not None:
        train_labels = archive.optional(one_of(TRAIN_LABELS))
        examples = examples_of_array(archive.array(train), archive.argument, archive.origin(train), train_labels)
        heldout = one_of(HELDOUT)
        if heldout is None:
            return Source(stem, examples)
        heldout_labels = archive.optional(one_of(HELDOUT_LABELS))
        return Source(
            stem,
            examples,
            examples_of_array(archive.array(heldout), archive.argument, archive.origin(heldout), heldout_labels),
        )
    labels = one_of(LABELS)
    rest = [name for name in names if name != labels]
    only = one_of(EXAMPLES) or (rest[0] if len(rest) == 1 else None)
    if only is None:
        raise InputError(
            f"{archive.argument}: {archive.path} holds {_listed(names)}, "
            f"expected one of {', '.join(EXAMPLES + TRAIN)}, or a single array{archive.otherwise}"
        )
    return Source(
        stem,
        examples_of_array(archive.array(only), archive.argument, archive.origin(only), archive.optional(labels)),
    )


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
    return InputError(f"{argument}: {origin} cannot be read, it is cut short or damaged; expected a whole file")

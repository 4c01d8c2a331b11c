"""The unit behind several examples (a patient, an author), by a column, by the source itself, or by a file of ids.

A file has one id for each example, in the order of the data: a `.npy` array (or `file.npz:name`), a `.txt` file with an
id a line, or a `.csv` file of one column, whose header may be missing. For folders of files it may be a CSV with the
columns `file` (the path in the folder) and `group`, in any order. Ids are compared as texts, so that they mean the
same in training and held-out examples. Where the data bring held-out examples of their own, a file has the ids of the
training examples first and those of the held-out ones after them.
"""

import csv
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from diffuscope.errors import InputError

from .examples import Examples
from .table import Frame, listed

Part = Examples | Frame


def ids_of(
    train: Part, heldout: Part | None, group: str | None, heldout_group: str | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The ids of training and of held-out examples, None where there are none.

    Raises InputError for a group that is neither a column, nor known to the source, nor a file of one id for each
    example; for an example without an id; and for an id on both sides.
    """
    if group is None:
        if heldout_group is not None:
            raise InputError("heldout_group: got ids of held-out examples only, expected --group for the training ones")
        return None, None
    if group in names_of(train):
        first = _named(train, group, "group")
        second = None if heldout is None else _named(heldout, heldout_group or group, "heldout_group")
    elif heldout is None or heldout_group is not None:
        if heldout is None and heldout_group is not None:
            raise InputError("heldout_group: got ids of held-out examples, expected --heldout with the examples")
        first, second = _from_file(train, group, "group"), None
        if heldout is not None and heldout_group is not None:
            second = _from_file(heldout, heldout_group, "heldout_group")
    elif heldout.argument != train.argument:
        _existing(train, group, "group")
        raise InputError("heldout_group: --heldout is given and no ids for it; expected a second file like --group")
    else:
        both = _read_ids(_existing(train, group, "group"), group, "group", len(train) + len(heldout))
        first, second = both[: len(train)], both[len(train) :]
    _require_ids(first, train, "group")
    if heldout is not None and second is not None:
        _require_ids(second, heldout, "heldout_group")
        shared = sorted(set(first.tolist()) & set(second.tolist()))
        if shared:
            raise InputError(
                f"{heldout.argument}: {len(shared)} of the groups are in the training and in the held-out examples, "
                f"one of them {shared[0]!r}; expected each group on one side"
            )
    return first, second


def codes_of(ids: np.ndarray, names: tuple[str, ...]) -> Int64[Tensor, " n"]:
    """The place of each id among the sorted `names`."""
    return torch.from_numpy(np.searchsorted(np.array(names, dtype=object), ids))


def names_of(part: Part) -> list[str]:
    """The names of the ids that the source itself has."""
    return list(part.columns if isinstance(part, Frame) else part.identities)


def _named(part: Part, name: str, argument: str) -> np.ndarray:
    if name not in names_of(part):
        raise InputError(f"{argument}: {part.origin} has no {name!r}; expected one of {listed(names_of(part))}")
    if isinstance(part, Examples):
        return part.identities[name]()
    return part.columns[name].texts()


def _from_file(part: Part, group: str, argument: str) -> np.ndarray:
    path = _existing(part, group, argument)
    files = part.files if isinstance(part, Examples) else ()
    if files and path.suffix.lower() == ".csv":
        rows = _csv_rows(path, argument)
        if rows and [name.strip().lower() for name in rows[0]] == ["file", "group"]:
            return _by_file(rows[1:], files, path, argument)
    return _read_ids(path, group, argument, len(part))


def _existing(part: Part, group: str, argument: str) -> Path:
    path = Path(group.partition(".npz:")[0] + ".npz" if ".npz:" in group else group)
    try:
        found = path.is_file()
    except (OSError, ValueError):
        found = False
    if not found:
        names = names_of(part)
        own = f"{listed(names)}, or " if names else ""
        raise InputError(
            f"{argument}: got {group!r}; expected {own}a file (.npy, .npz:NAME, .csv, .txt) of one id for each example"
        )
    return path


def _read_ids(path: Path, group: str, argument: str, n: int) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        ids = _array(path, group.partition(".npz:")[2], argument)
    elif suffix == ".txt":
        ids = _objects([line.strip() for line in _text(path, argument).splitlines()])
    elif suffix == ".csv":
        rows = _csv_rows(path, argument)
        if any(len(row) != 1 for row in rows):
            raise InputError(f"{argument}: {path} has several columns; expected one, or file and group for a folder")
        # so many lines and one more: the first is a header
        ids = _objects([row[0].strip() for row in (rows[1:] if len(rows) == n + 1 else rows)])
    else:
        raise InputError(f"{argument}: {path} is of unknown kind; expected .npy, .npz:NAME, .csv or .txt")
    if len(ids) != n:
        raise InputError(f"{argument}: {path} has {len(ids)} ids; expected {n}, one for each example")
    return ids


def _array(path: Path, name: str, argument: str) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        array = np.asarray(loaded[name] if path.suffix.lower() == ".npz" else loaded)
    except Exception:  # NumPy's parser of a damaged header raises many kinds
        raise InputError(f"{argument}: {path} cannot be read; expected an array of numbers or texts") from None
    if array.ndim != 1 or array.dtype.kind not in "iuUS":
        raise InputError(
            f"{argument}: {path} has dtype {array.dtype} and shape {array.shape}; expected whole numbers or texts, (n,)"
        )
    return (array.astype(np.str_)).astype(object)


def _by_file(rows: list[list[str]], files: tuple[str, ...], path: Path, argument: str) -> np.ndarray:
    if any(len(row) != 2 for row in rows):
        raise InputError(f"{argument}: {path} has a line that is not a file and its group; expected two columns")
    known = {name.strip().replace("\\", "/").removeprefix("./"): unit.strip() for name, unit in rows}
    lacking = [name for name in files if name not in known]
    if lacking:
        raise InputError(
            f"{argument}: {path} has no line for {len(lacking)} of the files, the first {lacking[0]!r}; "
            "expected one each"
        )
    return _objects([known[name] for name in files])


def _csv_rows(path: Path, argument: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(_text(path, argument).splitlines()) if row]
    except csv.Error:
        raise InputError(f"{argument}: {path} cannot be read; expected a CSV file") from None


def _text(path: Path, argument: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{argument}: {path} cannot be read; expected a text file of ids in UTF-8") from None


def _objects(ids: list[str]) -> np.ndarray:
    array = np.empty(len(ids), dtype=object)
    array[:] = ids
    return array


def _require_ids(ids: np.ndarray, part: Part, argument: str) -> None:
    if len(ids) != len(part):
        raise InputError(
            f"{argument}: there are {len(ids)} ids for {len(part)} examples of {part.origin}; expected one each"
        )
    missing = np.array([value is None or value == "" for value in ids], dtype=bool)
    if missing.any():
        raise InputError(
            f"{argument}: {int(missing.sum())} examples of {part.origin} have no id, the first at position "
            f"{int(missing.argmax())}; expected one for each"
        )

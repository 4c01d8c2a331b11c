"""A Hugging Face data set on disk, as `save_to_disk` writes it: read with pyarrow alone.

A folder of one data set holds `.arrow` files, which `state.json` lists, and its features in `dataset_info.json`. A
folder of several splits holds `dataset_dict.json` and one such folder for each: `train` has the training examples, and
`test` (or `heldout`, `validation`, `valid`, `val`) the held-out ones. Files are mapped, not read whole. For what the
columns are see `arrow_table`.
"""

import json
from pathlib import Path
from typing import Any

from diffuscope.errors import InputError

from .arrow_table import features_of, part_of_arrow
from .examples import Examples, Source
from .extras import not_installed
from .image_folder import HELDOUT
from .table import Frame, listed

DICTIONARY = "dataset_dict.json"
INFO = "dataset_info.json"
STATE = "state.json"


def is_arrow_folder(folder: Path) -> bool:
    """Whether a folder holds a Hugging Face data set, or several splits of one."""
    return (folder / DICTIONARY).is_file() or (folder / STATE).is_file() or (folder / INFO).is_file()


def read_arrow_folder(folder: Path, argument: str) -> Source:
    """The examples of a data set, and its held-out examples if it has them.

    Raises InputError if pyarrow is not installed, for files that are damaged or missing, for splits without training
    examples, and for columns of which it is not clear which are the examples.
    """
    name = folder.resolve().name
    if not (folder / DICTIONARY).is_file():
        return Source(name, _part(folder, argument))
    splits = [str(split) for split in _json(folder / DICTIONARY, argument).get("splits", ())]
    if len(splits) == 1:
        return Source(name, _part(folder / splits[0], argument))
    heldout = next((split for split in HELDOUT if split in splits), None)
    if "train" not in splits:
        raise InputError(
            f"{argument}: {folder} has the splits {listed(splits)} and none called train; expected one of them, as "
            f"{folder}/SPLIT"
        )
    held = None if heldout is None else _part(folder / heldout, argument)
    return Source(name, _part(folder / "train", argument), held)


def read_arrow_file(path: Path, argument: str) -> Source:
    """The examples of a single `.arrow` file."""
    table = _table(path, argument)
    return Source(path.stem, _checked_part(table, features_of(table), argument, path, [path]))


def _part(folder: Path, argument: str) -> Examples | Frame:
    state = _json(folder / STATE, argument) if (folder / STATE).is_file() else {}
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise InputError(
            f"{argument}: {folder} holds a selection of rows that was not written out; expected one saved after "
            "flatten_indices()"
        )
    files = [str(entry.get("filename", "")) for entry in state.get("_data_files") or () if isinstance(entry, dict)]
    if any(Path(file).name != file for file in files):
        raise InputError(f"{argument}: {folder}/{STATE} names files of other folders; expected files beside it")
    paths = [folder / file for file in files] or sorted(folder.glob("*.arrow"))
    if not paths:
        raise InputError(f"{argument}: {folder} holds no .arrow file; expected those that save_to_disk writes")
    tables = [_table(path, argument) for path in paths]
    if any(table.schema != tables[0].schema for table in tables):
        raise InputError(
            f"{argument}: the .arrow files of {folder} have different columns; expected those of one data set"
        )
    import pyarrow

    table = pyarrow.concat_tables(tables)
    info = _json(folder / INFO, argument) if (folder / INFO).is_file() else {}
    return _checked_part(table, info.get("features") or features_of(table), argument, folder, paths)


def _checked_part(table: Any, features: Any, argument: str, path: Path, files: list[Path]) -> Examples | Frame:
    import pyarrow

    try:
        return part_of_arrow(table, features if isinstance(features, dict) else {}, argument, str(path), files)
    except pyarrow.ArrowException:
        raise InputError(
            f"{argument}: {path} cannot be read, its columns are damaged; expected a whole data set"
        ) from None


def _table(path: Path, argument: str) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise not_installed(argument, path, "pyarrow", "tables") from None
    try:
        content = pyarrow.memory_map(str(path))
        try:
            return pyarrow.ipc.open_stream(content).read_all()
        except pyarrow.ArrowInvalid:
            content.seek(0)
            return pyarrow.ipc.open_file(content).read_all()
    except (pyarrow.ArrowException, OSError, ValueError):
        raise InputError(
            f"{argument}: {path} cannot be read, it is missing, truncated or no Arrow file; expected a whole one"
        ) from None


def _json(path: Path, argument: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{argument}: {path} cannot be read; expected the JSON that save_to_disk writes")
    return content

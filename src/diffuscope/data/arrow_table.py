"""Examples from an Arrow table, of a Parquet file or of a Hugging Face data set, read with pyarrow (an extra).

A column of images (their bytes, or a struct of `bytes` and `path`) are images; a column of lists of one length, nested
or not, is an array; a table of numbers, texts, truth values and dates is a table. Beside images and arrays, an integer
column `label` or `labels`, or one that the features of a Hugging Face data set call a ClassLabel, has the labels, and
every other column can be the group. Nothing but the columns is read: no metadata is evaluated.
"""

import json
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from diffuscope.errors import InputError
from diffuscope.memory import require_memory

from .examples import Examples, checked_labels
from .picture_cache import identity_of
from .pictures import Picture, stacked
from .raw_column import RawColumn, raw_column
from .table import Frame, is_index, listed

LABELS = ("label", "labels")


def features_of(table: Any) -> dict[str, Any]:
    """The features of a Hugging Face data set that a table carries as JSON in its metadata; empty without them."""
    try:
        return json.loads((table.schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}


def part_of_arrow(
    table: Any, features: dict[str, Any], argument: str, origin: str, files: list[Path], column: str | None = None
) -> Examples | Frame:
    """What the table of these files holds, or its column `column`; InputError where the choice is ambiguous."""
    import pyarrow.types as types

    table.validate(full=True)  # lengths and offsets of a damaged file would end the process
    names = list(table.column_names)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{argument}: {origin} has several columns {listed(repeated)}; expected each name once")
    if table.num_rows == 0 or not names:
        raise InputError(f"{argument}: {origin} is empty; expected a table with columns and rows")
    if column is not None and column not in names:
        raise InputError(f"{argument}: {origin} has no column {column!r}; expected one of {listed(names)}")
    kinds = {name: _kind(table.schema.field(name).type, types) for name in names}
    chosen = [name for name in names if kinds[name] != "scalar"] if column is None else [column]
    if len(chosen) > 1:
        raise InputError(
            f"{argument}: {origin} has the columns {listed(chosen)} of images or lists; expected only one of them, "
            "or one named as FILE:COLUMN"
        )
    if not chosen:
        columns = {n: _raw(table, n, features, argument, origin) for n in names if not is_index(n)}
        return Frame(argument, origin, columns)
    name = chosen[0]
    known, labels = _labels(table, names, features, argument, origin, name)
    others = {
        other: partial(_ids, table, other, features, argument, origin)
        for other in names
        if other != name and kinds[other] == "scalar"
    }
    origin = f"{origin}[{name}]"
    if kinds[name] == "image":
        pictures, identity = _pictures(table.column(name), origin, argument), identity_of(files[0].parent, files, name)
        values, data_range = stacked(pictures, identity, argument, origin)
        return Examples(
            argument, origin, values, labels, data_range, kind="images", label_names=known, identities=others
        )
    if kinds[name] != "list":
        raise InputError(
            f"{argument}: {origin} is {table.schema.field(name).type}; "
            "expected a column of images or of lists of numbers"
        )
    values = _nested(table.column(name), argument, origin)
    if values.dtype.kind not in "iuf":
        raise InputError(f"{argument}: {origin} holds {values.dtype}, expected integers or floating-point numbers")
    return Examples(argument, origin, values, labels, label_names=known, identities=others)


def _kind(kind: Any, types: Any) -> str:
    kind = getattr(kind, "storage_type", kind)
    if _is_bytes(kind, types) or (types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
        return "image"
    if _is_list(kind, types):
        return "list"
    return "other" if types.is_nested(kind) else "scalar"


def _is_bytes(kind: Any, types: Any) -> bool:
    return types.is_binary(kind) or types.is_large_binary(kind)


def _is_list(kind: Any, types: Any) -> bool:
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _pictures(column: Any, origin: str, argument: str) -> list[Picture]:
    """The images of a column, whose bytes are taken out one by one."""

    def content(i: int) -> BytesIO:
        value = column[i].as_py()
        found = value.get("bytes") if isinstance(value, dict) else value
        if not found:
            raise InputError(f"{argument}: image {i} of {origin} has no bytes; expected images inside the file")
        return BytesIO(found)

    return [Picture(f"image {i} of {origin}", f"image {i}", partial(content, i)) for i in range(len(column))]


def _nested(column: Any, argument: str, origin: str) -> np.ndarray:
    """The array (n, *lengths) of a column of lists."""
    require_memory(2.0 * column.nbytes, argument, f"{origin}, as an array,")
    blocks = [_block(chunk, argument, origin) for chunk in column.chunks if len(chunk)]
    shapes = {block.shape[1:] for block in blocks}
    if len(shapes) > 1:
        raise _ragged(argument, origin)
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _block(chunk: Any, argument: str, origin: str) -> np.ndarray:
    import pyarrow.types as types

    shape = [len(chunk)]
    while _is_list(chunk.type, types) or hasattr(chunk.type, "storage_type"):
        if hasattr(chunk.type, "storage_type"):
            chunk = chunk.storage
            continue
        n = len(chunk)
        if chunk.null_count:
            raise InputError(f"{argument}: {origin} has {chunk.null_count} empty entries; expected a list in each row")
        if not types.is_fixed_size_list(chunk.type):
            lengths = np.unique(chunk.value_lengths().to_numpy(zero_copy_only=False))
            if len(lengths) > 1:
                raise _ragged(argument, origin)
        chunk = chunk.flatten()
        shape.append(len(chunk) // n if n else 0)
    return chunk.to_numpy(zero_copy_only=False).reshape(shape)


def _ragged(argument: str, origin: str) -> InputError:
    return InputError(f"{argument}: {origin} has lists of different lengths; expected lists of one length")


def _labels(
    table: Any, names: list[str], features: dict[str, Any], argument: str, origin: str, examples: str
) -> tuple[tuple[str, ...], np.ndarray | None]:
    """The names of the classes, where they are known, and the labels; none where some are missing."""
    import pyarrow.types as types

    classes = [name for name in names if _class_names(features, name)]
    others = [name for name in LABELS if name in names and types.is_integer(table.schema.field(name).type)]
    found = [name for name in [*classes, *others] if name != examples]
    if not found:
        return (), None
    known, column = _class_names(features, found[0]), table.column(found[0])
    if column.null_count:
        return (), None
    labels = checked_labels(column.to_numpy(), table.num_rows, argument, origin)
    if labels is None or labels.min() < 0 or (known and labels.max() >= len(known)):  # -1 is what unlabeled rows have
        return (), None
    return known, labels


def _class_names(features: dict[str, Any], name: str) -> tuple[str, ...]:
    feature = features.get(name)
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return ()
    return tuple(str(word) for word in feature.get("names") or ())


def _raw(table: Any, name: str, features: dict[str, Any], argument: str, origin: str) -> RawColumn:
    """A column of a table; the numbers of a ClassLabel become its names."""
    values, words = _values(table.column(name)), _class_names(features, name)
    if words and values.dtype.kind in "iuf":
        codes = np.where(np.isnan(values.astype(np.float64)), -1, values).astype(np.int64)
        inside = (codes >= 0) & (codes < len(words))
        values = np.array([*words, None], dtype=object)[np.where(inside, codes, len(words))]
    return raw_column(values, argument, f"column {name!r} of {origin}")


def _ids(table: Any, name: str, features: dict[str, Any], argument: str, origin: str) -> np.ndarray:
    """A column beside the examples, as texts."""
    return _raw(table, name, features, argument, origin).texts()


def _values(column: Any) -> np.ndarray:
    """The values of a column of scalars: float64 with NaN, datetime64 with NaT, or objects with None."""
    import pyarrow as pa
    import pyarrow.types as types

    kind = column.type
    if hasattr(kind, "storage_type"):
        column, kind = column.cast(kind.storage_type), kind.storage_type
    if types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return column.cast(pa.float64(), safe=False).to_numpy()
    if types.is_timestamp(kind) or types.is_date(kind):
        return column.cast(pa.timestamp("us"), safe=False).to_numpy()
    if types.is_time(kind):
        return column.cast(pa.int64() if kind.bit_width == 64 else pa.int32()).cast(pa.float64()).to_numpy()
    return column.to_numpy()

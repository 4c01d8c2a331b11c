"""Examples from a Zarr store, a folder `.zarr`, read with zarr (an extra).

`file.zarr:name` selects the array of that name. Without a name, arrays are chosen as in an `.npz` archive. Arrays of
Python objects, whose codecs would load pickles, are never decoded.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from diffuscope.errors import InputError

from .array_file import Archive, source_of_archive
from .examples import Source
from .extras import not_installed


def read_zarr(path: Path, name: str | None, argument: str) -> Source:
    """The examples of a store, or of its array `name`, which are read whole.

    Raises InputError if zarr is not installed, for a store that is damaged, for arrays of objects, if there is no array
    `name`, or if the choice is ambiguous.
    """
    try:
        import zarr
    except ImportError:
        raise not_installed(argument, path, "zarr", "zarr") from None
    try:
        with warnings.catch_warnings(action="ignore"):
            node: Any = zarr.open(str(path), mode="r")
            arrays = {"x": node} if isinstance(node, zarr.Array) else _arrays(node, zarr)
            members = _Members(arrays, argument, path)
            archive = Archive(members, path, argument, members.size, f", or one of them as {path.name}:NAME")
            return source_of_archive(archive, path.stem, sorted(arrays), name)
    except InputError:
        raise
    except Exception:  # zarr's readers of metadata and its codecs raise many kinds
        raise InputError(
            f"{argument}: {path} cannot be read, it is damaged or no Zarr store; expected a whole one"
        ) from None


def _arrays(group: Any, zarr: Any) -> dict[str, Any]:
    return {name: node for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}


class _Members:
    """An open store's arrays, by name."""

    def __init__(self, arrays: dict[str, Any], argument: str, path: Path) -> None:
        self.arrays, self.argument, self.path = arrays, argument, path

    def __getitem__(self, name: str) -> np.ndarray:
        return np.asarray(self.arrays[name][...])

    def size(self, name: str) -> float:
        """The bytes of an array, which its store may claim without holding them; InputError for one of objects."""
        array = self.arrays[name]
        codecs = {key: value for key, value in array.metadata.to_dict().items() if key != "attributes"}
        if array.dtype.kind not in "iufbc" or "pickle" in str(codecs).lower():
            raise InputError(
                f"{self.argument}: {self.path}[{name}] holds {array.dtype}, and objects are never loaded; "
                "expected numbers"
            )
        return float(array.nbytes)

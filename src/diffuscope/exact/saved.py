"""A Gaussian as a safetensors file, which may hold more: other tensors by name, and other facts in its metadata.

The metadata is one JSON object under `diffuscope`, with `kind` "Gaussian". Readers take what they know and ignore the
rest, so that a file of class statistics is also the file of the Gaussian of all examples.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.files import replace_atomically

if TYPE_CHECKING:
    from .gaussian import Gaussian

TENSORS = ("mean", "eigenvectors", "eigenvalues")
FACTS = ("tail_variance", "count", "data_range")


def write_gaussian(
    path: Path,
    gaussian: "Gaussian",
    facts: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the file, with more `facts` and `tensors`, whole or not at all.

    Raises InputError where the file cannot be written.

    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from diffuscope.exact import Gaussian, write_gaussian
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_gaussian(Path(folder) / "wide.safetensors", Gaussian.isotropic(torch.ones(2), 4.0))
    ...     again = Gaussian.load(Path(folder) / "wide.safetensors")
    >>> again.mean.tolist(), again.tail_variance
    ([1.0, 1.0], 4.0)
    """
    every = {"kind": "Gaussian", **{name: getattr(gaussian, name) for name in FACTS}, **(facts or {})}
    arrays = {**{name: getattr(gaussian, name) for name in TENSORS}, **(tensors or {})}
    content = save(
        {name: array.contiguous().cpu() for name, array in arrays.items()},
        metadata={"diffuscope": json.dumps(every)},
    )
    try:
        replace_atomically(path, content)
    except OSError as error:
        raise InputError(f"path: cannot write {path} ({error.strerror})") from error


def read_gaussian(path: Path, kind: "type[Gaussian]") -> "tuple[Gaussian, dict[str, Any], dict[str, Tensor]]":
    """The Gaussian of a file, all facts of its metadata, and its other tensors.

    Raises InputError for a missing, truncated or different file.

    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from diffuscope.exact import Gaussian, read_gaussian, write_gaussian
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "wide.safetensors"
    ...     write_gaussian(path, Gaussian.isotropic(torch.ones(2), 4.0), {"of": "a toy"}, {"more": torch.arange(2.0)})
    ...     gaussian, facts, tensors = read_gaussian(path, Gaussian)
    >>> gaussian.tail_variance, facts["of"], tensors["more"].tolist()
    (4.0, 'a toy', [0.0, 1.0])
    """
    if not Path(path).is_file():
        raise InputError(f"path: no file {path}; expected a saved Gaussian (.safetensors)")
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("diffuscope", "{}"))
            if facts.get("kind") != "Gaussian":
                raise InputError(f"path: expected a saved Gaussian, got {path.name}, which is not one")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        ends = facts.get("data_range")
        gaussian = kind(
            *(tensors.pop(name) for name in TENSORS),
            tail_variance=facts["tail_variance"],
            count=facts["count"],
            data_range=None if ends is None else (float(ends[0]), float(ends[1])),
        )
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"path: cannot read {path.name} as a saved Gaussian ({error})") from error
    return gaussian, facts, tensors

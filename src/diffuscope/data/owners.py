"""Who owns each example: a .npz file of integers, one per example of the source, matched to the examples by place."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from diffuscope.errors import InputError

from .dataset import DataSet

EXPECTED = (
    "a .npz file with integer arrays: train, one per example of --data, and heldout, one per example of --heldout"
)


def load_owners(path: str | Path, *, like: DataSet) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " m"]]:
    """The owners of the training and of the held-out examples of `like`.

    Without the array `heldout`, the held-out examples are looked up in `train`, as where they were split off from
    --data. Raises InputError for another file, and for arrays that are not one integer per example.

    >>> import numpy as np
    >>> from diffuscope.data import data_from_arrays, load_owners
    >>> data, owners = data_from_arrays(np.arange(12.0).reshape(6, 2)), np.array([5, 5, 6, 6, 7, 8])
    >>> np.savez("owners.npz", train=owners)
    >>> train, heldout = load_owners("owners.npz", like=data)
    >>> train.tolist() == owners[data.train_index].tolist(), sorted([*train.tolist(), *heldout.tolist()])
    (True, [5, 5, 6, 6, 7, 8])
    """
    source = Path(path)
    try:
        if not source.is_file():  # not a pipe, whose reader would wait
            raise FileNotFoundError
        with source.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("train", "heldout") if name in archive.files}
    except FileNotFoundError:
        raise InputError(f"owners: {source} does not exist; expected {EXPECTED}") from None
    except Exception:  # NumPy's parser of a damaged file raises many kinds
        raise InputError(f"owners: {source} cannot be read; expected {EXPECTED}") from None
    found = []
    for index, names in ((like.train_index, ("train",)), (like.heldout_index, ("heldout", "train"))):
        name = next((name for name in names if name in arrays), None)
        if name is None or arrays[name].dtype.kind not in "iu" or arrays[name].ndim != 1:
            raise InputError(f"owners: {source} holds other arrays; expected {EXPECTED}")
        needed = int(index.max()) + 1
        if len(arrays[name]) < needed:
            raise InputError(f"owners: {source}[{name}] has {len(arrays[name])} owners; expected at least {needed}")
        found.append(torch.from_numpy(arrays[name].astype(np.int64))[index])
    return found[0], found[1]

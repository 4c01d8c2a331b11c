r"""Canaries: examples that occur nowhere else, each of which is in the training set or not by a fair coin.

Every coordinate of a canary is that of a training example of its own,

.. math::  c_{ij} = x_{U_{ij}, j}, \qquad U_{ij} \text{ uniform on } 1 .. n \text{ and independent} ,

so that each coordinate has the values and the frequencies of the data, in their range, and no two belong together: a
model can know a canary only from having been trained on it. A pattern of pixels, a vector and a row of a table are made
alike. The coins are independent of everything else; that, and their secrecy, is what an audit of privacy stands on.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32
from numpy import ndarray
from torch import Tensor

from diffuscope.byte_examples import ByteExamples
from diffuscope.errors import InputError
from diffuscope.files import PRIVATE, save_arrays
from diffuscope.streams import torch_stream

from .array_file import Archive, unpacked_size
from .dataset import DataSet, Range, checked_range, rescaled

FEWEST = 20
ARRAYS = ("canaries", "included", "data_range")
EXPECTED = "canaries.npz as `diffuscope canaries` writes it"


@dataclass(frozen=True, eq=False)
class Canaries:
    """Examples of one shape in `data_range`, and the coins: which of them are in the training set.

    Raises InputError for fewer than 20 canaries, and unless there is one coin per canary.

    >>> import torch
    >>> from diffuscope.data import Canaries
    >>> coins = torch.arange(20) % 4 == 0
    >>> canaries = Canaries(torch.arange(20.0)[:, None] % 18, coins, (0.0, 20.0))
    >>> len(canaries), int(canaries.included.sum()), canaries.repeated, float(canaries.in_range(-1, 1).examples[5])
    (20, 5, 2, -0.5)
    """

    examples: Float32[Tensor, "m *event"] = field(repr=False)
    included: Bool[Tensor, " coins"] = field(repr=False)
    data_range: Range

    def __post_init__(self) -> None:
        if len(self.examples) != len(self.included):
            raise InputError(f"included: expected one per canary ({len(self.examples)}), got {len(self.included)}")
        if len(self.examples) < FEWEST:
            raise InputError(f"canaries: expected at least {FEWEST}, got {len(self.examples)}")

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def repeated(self) -> int:
        """The number of canaries that repeat an earlier one: of two alike, one in and one out tell nothing."""
        return len(self.examples) - len(self.examples.flatten(1).unique(dim=0))

    def in_range(self, low: float | int, high: float | int) -> "Canaries":
        """The same canaries with `data_range` mapped affinely to [low, high], as `DataSet.in_range`."""
        new = checked_range((low, high), "data_range")
        if new == self.data_range:
            return self
        return Canaries(rescaled(self.examples, self.data_range, new), self.included, new)

    def save(self, path: Path) -> None:
        """Write the .npz file `path`, without pickle, whole or not at all, for its owner's eyes alone."""
        values = self.examples.numpy(), self.included.numpy(), np.array(self.data_range, dtype=np.float64)
        save_arrays(path, dict(zip(ARRAYS, values, strict=True)), mode=PRIVATE)


def make_canaries(data: DataSet, number: int, *, seed: int) -> Canaries:
    """`number` canaries of the form of `data`, and their coins; the same for the same data and seed.

    Raises InputError for fewer than 20, and if half of them repeat others: the data have too few values.

    >>> import numpy as np
    >>> import torch
    >>> from diffuscope.data import data_from_arrays, make_canaries
    >>> data = data_from_arrays(np.arange(600.0).reshape(200, 3), data_range=(0, 1024))
    >>> canaries = make_canaries(data, 40, seed=1)
    >>> all(bool(torch.isin(own, known).all()) for own, known in zip(canaries.examples.T, data.train.T))
    True
    """
    if number < FEWEST:
        raise InputError(f"number: expected at least {FEWEST}, got {number}")
    rows = data.train.flatten(1)
    stream = torch_stream(seed, "canaries", "examples")
    chosen = torch.randint(len(rows), (number, rows.shape[1]), generator=stream)
    included = torch.rand(number, generator=torch_stream(seed, "canaries", "coins")) < 0.5
    canaries = Canaries(rows.gather(0, chosen).reshape(number, *data.event_shape), included, data.data_range)
    if 2 * canaries.repeated > number:
        raise InputError(
            f"data: expected more different values: {canaries.repeated} of {number} canaries would repeat others"
        )
    return canaries


def training_arrays(data: DataSet, canaries: Canaries, *, seed: int) -> dict[str, ndarray]:
    """The arrays of a training file: training examples and included canaries in random order, held-out examples.

    Data that are held as bytes stay bytes. Labels, where there are any, are those of random training examples for the
    canaries.

    >>> import numpy as np
    >>> from diffuscope.data import data_from_arrays, make_canaries, training_arrays
    >>> data = data_from_arrays(np.arange(600.0).reshape(200, 3), data_range=(0, 1024))
    >>> canaries = make_canaries(data, 40, seed=1)
    >>> arrays, included = training_arrays(data, canaries, seed=1), canaries.examples[canaries.included]
    >>> len(arrays["train"]) - len(data.train) == len(included)
    True
    >>> float(arrays["train"].sum()) == float(data.train.sum() + included.sum())  # of whole numbers
    True
    """
    extra, stream = canaries.examples[canaries.included], torch_stream(seed, "canaries", "order")
    order = torch.randperm(len(data.train) + len(extra), generator=stream)
    train, heldout = _as_bytes(data.train), _as_bytes(data.heldout)
    if train is None or heldout is None:
        train, heldout, added = data.train, data.heldout, extra
    else:
        added = extra.to(torch.uint8)  # of entries of the data, which are bytes
    arrays = {"train": torch.cat([train, added])[order], "heldout": heldout}
    if data.train_labels is not None:
        drawn = data.train_labels[torch.randint(len(data.train), (len(extra),), generator=stream)]
        arrays["train_labels"] = torch.cat([data.train_labels, drawn])[order]
    if data.heldout_labels is not None and data.train_labels is not None:
        arrays["heldout_labels"] = data.heldout_labels
    return {name: array.numpy() for name, array in arrays.items()}


def _as_bytes(x: Float32[Tensor, "n *event"]) -> Tensor | None:
    """The bytes of examples that are held as bytes and are their own values; None for others."""
    if not isinstance(x, ByteExamples) or not torch.equal(x.values, torch.arange(256.0)):
        return None
    return torch.cat([*x.byte_parts()])


def load_canaries(path: str | Path, *, like: DataSet) -> Canaries:
    """The canaries of a file, in the range and of the shape of `like`; InputError for another file or shape.

    A pickle is never loaded.

    >>> from pathlib import Path
    >>> import numpy as np
    >>> import torch
    >>> from diffuscope.data import data_from_arrays, load_canaries, make_canaries
    >>> data = data_from_arrays(np.arange(600.0).reshape(200, 3), data_range=(0, 1024))
    >>> canaries = make_canaries(data, 40, seed=1)
    >>> canaries.save(Path("canaries.npz"))
    >>> loaded = load_canaries("canaries.npz", like=data.in_range(-1, 1))
    >>> torch.equal(loaded.examples, canaries.examples / 512 - 1), torch.equal(loaded.included, canaries.included)
    (True, True)
    """
    source = Path(path)
    try:
        if not source.is_file():  # not a pipe, whose reader would wait
            raise FileNotFoundError
        with source.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if not set(ARRAYS) <= set(getattr(archive, "files", ())):
                raise InputError(f"canaries: {source} does not hold {', '.join(ARRAYS)}; expected {EXPECTED}")
            members = Archive(archive, source, "canaries", partial(unpacked_size, archive.zip))
            examples, included, data_range = (members.array(name) for name in ARRAYS)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"canaries: {source} does not exist; expected {EXPECTED}") from None
    except Exception:  # NumPy's parser of a damaged file raises many kinds
        raise InputError(f"canaries: {source} cannot be read; expected {EXPECTED}") from None
    if examples.dtype.kind != "f" or included.dtype != np.bool_ or data_range.shape != (2,):
        raise InputError(f"canaries: {source} holds arrays of other types; expected {EXPECTED}")
    if examples.shape[1:] != like.event_shape or included.shape != examples.shape[:1]:
        raise InputError(
            f"canaries: {source} has {len(included)} canaries of shape {examples.shape[1:]}; expected "
            f"{like.event_shape} as in {like.name}"
        )
    if not np.isfinite(examples).all():
        raise InputError(f"canaries: {source} has values that are NaN or infinite; expected finite numbers")
    known = checked_range((float(data_range[0]), float(data_range[1])), "canaries")
    made = Canaries(torch.from_numpy(examples.astype(np.float32)), torch.from_numpy(included), known)
    return made.in_range(*like.data_range)

"""All training examples of a data set as a stream of batches, for what needs no copy in memory.

A `.npy` file stays on disk: it is memory-mapped, and the pages of a batch are given back once it is used. Other sources
are in memory as their readers leave them, in their own dtype.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from diffuscope.byte_examples import ByteExamples
from diffuscope.errors import InputError
from diffuscope.memory import chunk_size, ranges

from .assembly import Choices, in_library_layout
from .dataset import FEWEST, DataSet
from .examples import Source, examples_of_array
from .kinds import require_kind
from .range_of import range_of
from .reading import read_source
from .value_range import Range

VALUES = 2**24  # of a batch: 134 MB in float64


@dataclass(frozen=True, eq=False)
class ExampleStream:
    """Examples that are converted batch by batch. All values lie in `data_range`, up to rounding.

    >>> import numpy as np
    >>> from diffuscope.data import open_stream
    >>> stream = open_stream(np.arange(12.0).reshape(6, 2))
    >>> len(stream), stream.dimension, stream.data_range, sum(float(batch.sum()) for batch in stream.batches())
    (6, 2, (0.0, 11.0), 66.0)
    """

    name: str
    values: np.ndarray | ByteExamples
    data_range: Range
    kind: str
    labels: Int64[Tensor, " n"] | None = None
    label_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.values.shape[1:])

    @property
    def dimension(self) -> int:
        """The number of values of one example."""
        return int(np.prod(self.event_shape, dtype=int))

    @property
    def batch_size(self) -> int:
        """Examples per batch, of VALUES values."""
        return chunk_size(VALUES, each=self.dimension)

    def __len__(self) -> int:
        return len(self.values)

    def batches(self, index: Int64[Tensor, " m"] | None = None) -> Iterator[Float64[Tensor, "_ *event"]]:
        """The examples, or those at the increasing positions `index`, in batches of `batch_size`, in float64."""
        n = len(self) if index is None else len(index)
        for ends in ranges(n, self.batch_size):
            rows = slice(*ends)
            chosen = rows if index is None else index[rows].numpy()
            part = self.values[chosen]
            yield torch.from_numpy(np.array(part, dtype=np.float64))
            if isinstance(self.values, np.ndarray):
                _give_back(self.values)


def open_stream(
    data: str | DataSet | np.ndarray | Tensor,
    *,
    data_range: Range | None = None,
    kind: str = "auto",
    labels: np.ndarray | Tensor | None = None,
    seed: int = 0,
) -> ExampleStream:
    """The training examples of `data`, all of them where it has no held-out part: a spec as of `load_data`, or arrays.

    Values are read once for their range, and floating-point ones once more for NaN, by the same functions and with the
    same errors as by `load_data`.

    >>> import numpy as np
    >>> import torch
    >>> from diffuscope.data import open_stream
    >>> stream = open_stream(np.arange(12.0).reshape(6, 2))
    >>> torch.cat(list(stream.batches(torch.tensor([1, 4])))).tolist()
    [[2.0, 3.0], [8.0, 9.0]]
    """
    require_kind(kind)
    if isinstance(data, DataSet):
        values = data.train if isinstance(data.train, ByteExamples) else data.train.numpy()
        return ExampleStream(data.name, values, data.data_range, data.kind, data.train_labels)
    if isinstance(data, str):
        source = read_source(data, "data", seed)
    else:
        array = data.detach().cpu().numpy() if isinstance(data, Tensor) else data
        known = labels.cpu().numpy() if isinstance(labels, Tensor) else labels
        source = Source("array", examples_of_array(array, "data", "the array", known))
    parts, _, notes = in_library_layout([source.train], Choices(kind=kind, data_range=data_range))
    (examples,) = parts
    if len(examples) < FEWEST:
        raise InputError(f"data: {examples.origin} has one single example; expected at least {FEWEST}")
    stated, _ = range_of([examples], data_range)
    if stated[0] == stated[1]:
        raise InputError(f"data: all values of {examples.origin} are {stated[0]:g}; expected examples that vary")
    _give_back(examples.values)
    known = None if examples.labels is None else torch.from_numpy(examples.labels)
    return ExampleStream(source.name, examples.values, stated, examples.kind, known, examples.label_names, notes)


def _give_back(values: np.ndarray) -> None:
    """Let the system drop the pages of a read-only mapped file that were read: they do not count as our memory."""
    mapped = getattr(values, "_mmap", None)
    if isinstance(mapped, mmap.mmap) and getattr(values, "mode", None) == "r" and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)

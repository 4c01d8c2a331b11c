"""Examples as tensors, after the split: float32, or bytes where there are many of 8 bits.

Float32 is the one copy there is. Values of one byte that would take more than ABOVE as float32, all parts of a data set
together, stay what they are, in the memory of their reader or in a mapped file; a random part of them is a list of
rows. See `diffuscope.byte_examples`.
"""

import warnings

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from diffuscope.byte_examples import ByteExamples
from diffuscope.memory import chunk_size, ranges

from .examples import Examples

ABOVE = 10**9  # bytes as float32
BLOCK = 2**22  # values converted at a time

Indices = list[tuple[Examples, Int64[Tensor, "_"]]]


def as_tensors(parts: Indices) -> list[Tensor]:
    """The examples of every part at its index, in float32, or held as bytes: all of one data set in one way."""
    held = all_stay_bytes(parts)
    return [(in_bytes if held else in_float32)(examples, index) for examples, index in parts]


def all_stay_bytes(parts: Indices) -> bool:
    """Whether these examples are not converted."""
    values = sum(len(index) * np.prod(examples.event_shape, dtype=float) for examples, index in parts)
    return stay_bytes(values) and all(examples.values.dtype == np.uint8 for examples, _ in parts)


def stay_bytes(values: float | int) -> bool:
    """Whether so many values of one byte are too many for float32."""
    return bool(4 * values > ABOVE)


def in_float32(examples: Examples, index: Int64[Tensor, " m"]) -> Float32[Tensor, "m *event"]:
    """The examples at `index`, converted block by block."""
    result = np.empty((len(index), *examples.event_shape), dtype=np.float32)
    rows = index.numpy()
    for start, stop in ranges(len(rows), chunk_size(BLOCK, each=result[:1].size)):
        result[start:stop] = examples.values[rows[start:stop]]
    return torch.from_numpy(result)


def in_bytes(examples: Examples, index: Int64[Tensor, " m"]) -> ByteExamples:
    """The examples at `index`, where they are; each byte stands for itself."""
    with warnings.catch_warnings(action="ignore"):  # a file mapped for reading cannot be written, and is not
        stored = torch.from_numpy(examples.values)
    everything = len(index) == len(examples) and bool((index == torch.arange(len(index))).all())
    return ByteExamples(stored, torch.arange(256, dtype=torch.float32), None if everything else index)

"""A data set: training examples, held-out examples, and the range of their values.

Two examples are *the same* if all values agree exactly; they are found by a 128-bit digest of each example.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from diffuscope.byte_examples import ByteExamples, float_parts
from diffuscope.errors import InputError

from .table import Table
from .value_range import Range, checked_range, in_words, rescaled

FEWEST = 2  # a single example has no standard deviation


@dataclass(frozen=True, eq=False)
class DataSet:
    """Training and held-out examples of one shape, in float32; many pictures of 8 bits are held as bytes.

    `train` is (n, *event) and `heldout` (m, *event). `kind`, one of vectors, series, images, volumes, latents and
    table, says what event means: (d,) for vectors, (C, L) for series, (C, H, W) for latents and for images, with C = 1
    for gray and 3 for RGB, (C, D, H, W) for volumes, (d,) for the encoded rows of a `table`. All values lie in
    `data_range`, up to rounding.
    `train_index` and `heldout_index` are the positions of the examples in their source: the place among a folder's
    sorted names, the row of an array. `provenance` describes in one line where the data come from, and `notes` what was
    left out of them.
    `split_at_random` says that the held-out examples are a random part of the data, which are not honest for a model
    that was trained on all of it.
    `units_known` is False where `data_range` is no more than the lowest and highest value found.
    `train_groups` and `heldout_groups` say to which unit (a patient, an author) each example belongs, as places in
    `group_names`; no unit is on both sides.

    >>> import numpy as np
    >>> from diffuscope.data import data_from_arrays
    >>> x = np.array([[0.0, 4.0], [1.0, 4.0], [1.0, 4.0]])
    >>> data = data_from_arrays(x, np.array([[4.0, 0.0], [0.0, 4.0]]))
    >>> data.duplicates, data.shared, data.in_range(-1, 1).train[1].tolist()
    (1, 1, [-0.5, 1.0])
    """

    name: str
    train: Float32[Tensor, "n *event"] = field(repr=False)
    heldout: Float32[Tensor, "m *event"] = field(repr=False)
    data_range: Range
    provenance: str
    train_index: Int64[Tensor, " n"] = field(repr=False)
    heldout_index: Int64[Tensor, " m"] = field(repr=False)
    train_labels: Int64[Tensor, " n"] | None = field(default=None, repr=False)
    heldout_labels: Int64[Tensor, " m"] | None = field(default=None, repr=False)
    kind: str = field(kw_only=True)
    table: Table | None = field(default=None, repr=False, kw_only=True)
    train_groups: Int64[Tensor, " n"] | None = field(default=None, repr=False, kw_only=True)
    heldout_groups: Int64[Tensor, " m"] | None = field(default=None, repr=False, kw_only=True)
    group_names: tuple[str, ...] = field(default=(), repr=False, kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    split_at_random: bool = field(default=False, kw_only=True)
    units_known: bool = field(default=True, kw_only=True)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.train.shape[1:])

    @cached_property
    def duplicates(self) -> int:
        """The number of training examples that repeat an earlier training example exactly."""
        return len(self.train) - len(self._train_digests)

    @cached_property
    def shared(self) -> int:
        """The number of held-out examples that also occur, exactly, among the training examples."""
        return sum(digest in self._train_digests for digest in _digests(self.heldout, self._comparable_as_bytes))

    @cached_property
    def _train_digests(self) -> frozenset[bytes]:
        return frozenset(_digests(self.train, self._comparable_as_bytes))

    @property
    def _comparable_as_bytes(self) -> bool:
        """Whether examples are the same if and only if their bytes are."""
        one, other = self.train, self.heldout
        if not (isinstance(one, ByteExamples) and isinstance(other, ByteExamples)):
            return False
        return torch.equal(one.values, other.values) and len(one.values.unique()) == len(one.values)

    def in_range(self, low: float | int, high: float | int) -> "DataSet":
        """The same data with `data_range` mapped affinely to [low, high], exactly at both ends.

        Raises InputError unless low < high are finite.
        """
        checked_range((low, high), "data_range")
        if (low, high) == self.data_range:
            return self
        return replace(
            self,
            train=rescaled(self.train, self.data_range, (low, high)),
            heldout=rescaled(self.heldout, self.data_range, (low, high)),
            data_range=(float(low), float(high)),
            table=None if self.table is None else self.table.in_range(self.data_range, (low, high)),
            provenance=f"{self.provenance}; values mapped from {in_words(self.data_range)} to {in_words((low, high))}",
        )

    def subset(self, n_train: int, n_heldout: int, *, seed: int = 0) -> "DataSet":
        """`n_train` training and `n_heldout` held-out examples, drawn without replacement.

        For one seed a larger subset contains the smaller ones. Raises InputError for more examples than available and
        for fewer than 2.
        """
        train = drawn(len(self.train), n_train, "n_train", seed)
        heldout = drawn(len(self.heldout), n_heldout, "n_heldout", seed)
        return replace(
            self,
            train=self.train[train],
            heldout=self.heldout[heldout],
            train_index=self.train_index[train],
            heldout_index=self.heldout_index[heldout],
            train_labels=None if self.train_labels is None else self.train_labels[train],
            heldout_labels=None if self.heldout_labels is None else self.heldout_labels[heldout],
            train_groups=None if self.train_groups is None else self.train_groups[train],
            heldout_groups=None if self.heldout_groups is None else self.heldout_groups[heldout],
            provenance=f"{self.provenance}; of these {n_train} + {n_heldout} drawn at random (seed {seed})",
        )

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of values, labels, groups, kind, shapes and range.

        It is independent of name and provenance. Bytes, which are not converted for it, have one of their own.
        """
        digest = hashlib.sha256(repr((self.kind, self.data_range)).encode())
        labels, groups = (self.train_labels, self.heldout_labels), (self.train_groups, self.heldout_groups)
        for tensor in (self.train, self.heldout, *labels, *groups):
            digest.update(b"none" if tensor is None else repr((tensor.dtype, tuple(tensor.shape))).encode())
            if isinstance(tensor, ByteExamples):
                digest.update(b"bytes" + tensor.values.numpy().tobytes())
                for part in _byte_parts(tensor):
                    digest.update(part.data)
            elif tensor is not None:
                digest.update(tensor.detach().cpu().contiguous().numpy().data.cast("B"))
        return digest.hexdigest()


def _digests(x: Float32[Tensor, "n *event"], as_bytes: bool) -> Iterator[bytes]:
    if as_bytes and isinstance(x, ByteExamples):
        return (hashlib.blake2b(row.data, digest_size=16).digest() for part in _byte_parts(x) for row in part)
    parts = (part.detach().cpu().numpy().reshape(len(part), -1) for part in float_parts(x))
    # adding zero turns -0.0 into 0.0, so that equal values have equal bytes
    return (hashlib.blake2b((row + np.float32(0)).data, digest_size=16).digest() for part in parts for row in part)


def _byte_parts(x: ByteExamples) -> Iterator[np.ndarray]:
    """The bytes of the examples as contiguous rows, part by part."""
    for part in x.byte_parts():
        yield np.ascontiguousarray(part.cpu().numpy().reshape(len(part), -1))


def drawn(available: int, n: int, argument: str, seed: int) -> Int64[Tensor, " drawn"]:
    """`n` different positions among the first `available`; InputError for more than these and for fewer than 2."""
    if not FEWEST <= n <= available:
        raise InputError(f"{argument}: got {n}, expected {FEWEST} to {available}, the number of examples there are")
    return torch.randperm(available, generator=torch.Generator().manual_seed(seed))[:n]

r"""Which training examples are repeated, exactly or nearly?

Example i repeats an earlier example j if |y_i - y_j| <= r; it is counted with the first such j, without chaining. Pairs
within r are also within r after a projection, so a tree of the leading principal components finds candidates, and
their full distances decide.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float, Int, UInt64
from numpy import ndarray
from torch import Tensor

from diffuscope.memory import chunk_size, ranges
from diffuscope.report import Table

from .rows_of import RowsOf, few_enough, part_of

COMPONENTS = 12
SAMPLED = 5000  # examples that determine the components
MOST_PAIRS = 5_000_000
CHUNK = 2**24  # numbers at once
SHOWN_GROUPS, SHOWN_MEMBERS = 20, 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Repeats:
    """`first[i]` is the first example that example i repeats, itself if none.

    `complete` is False where near repeats are too many to count, so that only exact ones are.
    """

    first: Int[ndarray, " n"]
    complete: bool = True

    @property
    def count(self) -> int:
        """How many examples repeat an earlier one."""
        return int((self.first != np.arange(len(self.first))).sum())

    @property
    def groups(self) -> list[Int[ndarray, " members"]]:
        """The largest groups of repeats, as indices."""
        heads, sizes = np.unique(self.first, return_counts=True)
        repeated = heads[sizes > 1]
        largest = repeated[np.argsort(-sizes[sizes > 1], kind="stable")][:SHOWN_GROUPS]
        return [np.flatnonzero(self.first == head) for head in largest]


def distinct(
    rows: Float[ndarray, "n d"] | Float[Tensor, "n d"] | RowsOf,
) -> tuple[Int[ndarray, " distinct"], Int[ndarray, " n"]]:
    """The first index of every distinct row, increasing, and for each row which of them it is.

    Rows are compared by two sums of their 32-bit words with random 64-bit factors, so that no copy of them is sorted;
    two that differ have equal sums with probability below 2^-64.
    """
    _, first, inverse = np.unique(row_keys(rows), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse.reshape(-1)]


def row_keys(rows: Float[ndarray, "n d"] | Float[Tensor, "n d"] | RowsOf) -> UInt64[ndarray, "n 2"]:
    """Two sums of the 32-bit words of every row, with random factors that are always the same."""
    random, keys = np.random.default_rng(0), [np.empty((0, 2), dtype=np.uint64)]
    factors = keys[0]
    for part in _parts(rows):
        words = np.ascontiguousarray(part.numpy() + np.zeros((), part.numpy().dtype)).view(np.uint32)  # -0 becomes 0
        if not len(factors):
            factors = random.integers(2**64, size=(words.shape[1], 2), dtype=np.uint64)
        keys.append(words.astype(np.uint64) @ factors)
    return np.concatenate(keys)


def _parts(rows: Float[ndarray, "n d"] | Float[Tensor, "n d"] | RowsOf) -> Iterator[Float[Tensor, "_ d"]]:
    rows = torch.from_numpy(rows) if isinstance(rows, ndarray) else rows
    yield from rows.split(chunk_size(CHUNK, each=rows.shape[1]))


def repeats(rows: Float[ndarray, "n d"] | Float[Tensor, "n d"] | RowsOf, radius: float) -> Repeats:
    """The repeats among `rows` within `radius`."""
    rows = torch.from_numpy(rows) if isinstance(rows, ndarray) else rows
    kept, group = distinct(rows)
    reduced = rows if len(kept) == len(rows) else part_of(rows, torch.from_numpy(kept))
    first = np.arange(len(kept))
    near, complete = _pairs_within(reduced, radius)
    np.minimum.at(first, near[:, 1], near[:, 0])
    return Repeats(first=kept[first][group], complete=complete)


def _pairs_within(rows: Float[Tensor, "n d"] | RowsOf, radius: float) -> tuple[Int[ndarray, "pairs two"], bool]:
    """Pairs i < j of rows at a distance of at most `radius`; none, and False, if their candidates are too many."""
    none = np.zeros((0, 2), dtype=np.int64)
    if radius <= 0 or len(rows) < 2:
        return none, True
    mean, directions = _directions(rows)
    tree = scipy.spatial.KDTree(torch.cat([(part.double() - mean) @ directions for part in _parts(rows)]).numpy())
    reach = radius * (1 + 1e-5)  # rounding of the projection
    if tree.count_neighbors(tree, reach) > 2 * MOST_PAIRS:
        return none, False
    pairs = tree.query_pairs(reach, output_type="ndarray")
    blocks = ranges(len(pairs), chunk_size(CHUNK, each=rows.shape[1]))
    near = [_distances(rows, *pairs[start:stop].T) <= radius for start, stop in blocks]
    return (pairs[np.concatenate(near)] if near else none), True


def _directions(rows: Float[Tensor, "n d"] | RowsOf) -> tuple[Float[Tensor, " d"], Float[Tensor, "d few"]]:
    """The mean and the leading principal components of some rows, by subspace iteration: no d x d matrix."""
    n, width = rows.shape
    some = rows[torch.arange(0, n, -(-n // few_enough(SAMPLED, width)))].double()
    mean = some.mean(0)
    some -= mean
    found = torch.randn(width, 2 * COMPONENTS, dtype=some.dtype, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        found = torch.linalg.qr(some.T @ (some @ found)).Q
    return mean, found @ torch.linalg.svd(some @ found, full_matrices=False).Vh[:COMPONENTS].T


def _distances(rows: Float[Tensor, "n d"] | RowsOf, a: ndarray, b: ndarray) -> Float[ndarray, " pairs"]:
    return (rows[torch.from_numpy(a)] - rows[torch.from_numpy(b)]).norm(dim=1).numpy()


def repeats_table(found: Repeats, space: str) -> list[Table]:
    """The largest groups with their first members; nothing where no example is repeated."""
    if not found.count:
        return []
    groups = found.groups
    rows = [
        [len(g), ", ".join(map(str, g[:SHOWN_MEMBERS])) + (", ..." if len(g) > SHOWN_MEMBERS else "")] for g in groups
    ]
    note = (
        f"{found.count:,} of {len(found.first):,} training examples repeat an earlier one, exactly or within the "
        "distance below which the search for copies takes two training examples as one. Copies of them are found too."
    )
    if not found.complete:
        note += " Near repeats are too many to list; only exact ones are counted."
    return [Table(f"Repeated training examples ({space})", ["examples", "their indices"], rows, note, folded=True)]

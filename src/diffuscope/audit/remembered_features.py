"""Features of the user's that are computed once for every example of an audit, and kept for a rerun.

An example is known by its values, two sums of their words with random 64-bit factors (`repeats.row_keys`), so that
subsets and repetitions of examples that were seen before are no work. What is new is computed in parts, each of which
is a stage of the store under the code of the function, its tensors and the examples.
"""

from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int, UInt64
from numpy import ndarray
from torch import Tensor

from diffuscope.byte_examples import float_parts
from diffuscope.store import Arrays, Store

from .features import Features
from .fingerprint import digest
from .repeats import row_keys

PART = 8192  # examples in one file of the store
FEWEST = 8  # rows that stay a block of their own
Keys = UInt64[ndarray, "n 2"]


class RememberedFeatures:
    """x -> the rows of `features`, of which `code` names the function; every distinct example is computed once."""

    def __init__(self, features: Features, code: str, store: Store) -> None:
        self.features, self.code, self.store = features, code, store
        self.blocks: list[Float[Tensor, "_ features"]] = []
        self.starts = np.zeros(1, dtype=np.int64)  # of the blocks, and the number of all rows
        self.keys = np.zeros((0, 2), dtype=np.uint64)  # in order of the first
        self.places = np.zeros(0, dtype=np.int64)  # of the keys' rows

    def __call__(self, x: Float[Tensor, "n *event"]) -> Float[Tensor, "n features"]:
        """One row per example, float32."""
        keys = np.concatenate([row_keys(part.flatten(1).numpy()) for part in float_parts(x)])
        places = self._known(keys)
        new = np.flatnonzero(places < 0)
        if len(new) or not self.blocks:
            first = new[np.sort(np.unique(keys[new], axis=0, return_index=True)[1])]
            self._add(keys[first], x if len(first) == len(x) else x[torch.from_numpy(first)])
            places = self._known(keys)
        for start, block in zip(self.starts[:-1].tolist(), self.blocks, strict=True):
            if len(block) == len(places) and np.array_equal(places, np.arange(start, start + len(block))):
                return block  # no copy of a whole set
        rows = torch.empty(len(x), self.blocks[0].shape[1])
        of_block = np.searchsorted(self.starts, places, side="right") - 1
        for number in np.unique(of_block):
            chosen = np.flatnonzero(of_block == number)
            rows[torch.from_numpy(chosen)] = self.blocks[number][torch.from_numpy(places[chosen] - self.starts[number])]
        return rows

    def _known(self, keys: Keys) -> Int[ndarray, " n"]:
        """The places of the rows of these examples; -1 for examples that were not seen before."""
        if not len(self.keys):
            return np.full(len(keys), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self.keys[:, 0], keys[:, 0]), len(self.keys) - 1)
        return np.where((self.keys[at] == keys).all(1), self.places[at], -1)

    def _add(self, keys: Keys, x: Float[Tensor, "n *event"]) -> None:
        stages = {
            f"features-{self.code[:16]}-{digest(part)[:16]}": partial(_rows_of, self.features, part)
            for part in x.split(PART)
        }
        parts = [torch.from_numpy(stored["rows"]) for stored in self.store.remember_each(stages)]
        if self.blocks and len(self.blocks[-1]) < FEWEST:  # the few on which a function was tried, and all that follow
            parts.insert(0, self.blocks.pop())
            start, self.starts = self.starts[-1], self.starts[:-1]
        else:
            start = self.starts[-1]
        self.blocks.append(parts[0] if len(parts) == 1 else torch.cat(parts))
        together = np.concatenate([self.keys, keys])
        places = np.concatenate([self.places, start + np.arange(len(keys))])
        order = np.argsort(together[:, 0], kind="stable")
        self.keys, self.places = together[order], places[order]
        self.starts = np.append(self.starts, start + len(keys))


def _rows_of(features: Features, x: Float[Tensor, "n *event"]) -> Arrays:
    return {"rows": features(x).numpy()}

r"""Move each query image onto the training image that it resembles most, modulo a set of transformations.

Candidates come first, then an exact comparison. The candidates of a query x are its nearest training images, both as
they are and in an invariant representation: the magnitudes of the low-frequency Fourier coefficients of s(x),

.. math::  |F_{kl}| + |F_{-k,l}|, \quad \bigl||F_{kl}| - |F_{-k,l}|\bigr|, \qquad 0 \le k, l \le 8,

which neither a (cyclic) shift nor a mirror image changes. Among the candidates y and all transformations T the least
|s(T x) - s(y)| is found by matrix products; T x is the *aligned* query. Queries are compared with nothing but the
training set, one by one, so that held-out examples and samples are treated alike.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.memory import chunk_size

from .rows_of import at_once, nearest_rows, rows_of
from .shared_neighbors import nearest_neighbors
from .transformations import BRIGHTNESS, Transformation, Versions, averaged, labels, standardized, versions

CANDIDATES = 16  # of each probe
REFINED, STARTS = 4, 4  # candidates that finer transformations decide between, and transformations before these
HIGHEST_FREQUENCY = 8
BLOCK = 4096  # images at a time, at most
MEMORY = 64 * 2**20
Images = Float[Tensor, "n channels height width"]


class Alignment:
    """Aligns queries to the images `train`, of which the representations are made once; large ones as they are read."""

    def __init__(
        self, train: Images, chosen: Sequence[Transformation], among: Int[Tensor, " places"] | None = None
    ) -> None:
        self.chosen = chosen
        self.finer = [t.finer for t in chosen if t.finer is not None]
        self.labels, self.finer_labels = labels(chosen), labels(self.finer)
        self.rows = rows_of(train, self.compared, among)
        places = torch.arange(len(train)) if among is None else among
        self.invariant = torch.cat([low_frequencies(averaged(train[part])) for part in places.split(_block(train))])

    def compared(self, images: Images) -> Float[Tensor, "n d"]:
        """The rows between which distances are taken, of averaged images; standardized if brightness does not count."""
        rows = averaged(images).flatten(1)
        return standardized(rows) if any(t.name == BRIGHTNESS for t in self.chosen) else rows

    def __call__(
        self, queries: Images
    ) -> tuple[Float[Tensor, "n channels rows columns"], list[str], Float[Tensor, " n"]]:
        """The averaged queries, each under the transformation that brings it nearest to a candidate, and its label.

        The last is the distance to the nearest training image before any transformation.
        """
        queries = averaged(queries)
        blocks = [self._candidates(part) for part in queries.split(_block(queries))]
        candidates, distances = torch.cat([found for found, _ in blocks]), torch.cat([plain for _, plain in blocks])
        size = chunk_size(MEMORY, each=4 * self.rows.shape[1] * (4 * len(self.labels) + candidates.shape[1]))
        images, names = torch.empty_like(queries), []  # one block: small ones between large temporaries fragment memory
        parts = zip(images.split(size), queries.split(size), candidates.split(size), strict=True)
        for aligned, part, found in parts:
            image, whole, fine = self._best(part, found)
            aligned.copy_(image)
            names += [
                ", ".join(filter(None, (self.labels[i], self.finer_labels[j])))
                for i, j in zip(whole.tolist(), fine.tolist(), strict=True)
            ]
        return images, names, distances

    def _candidates(self, queries: Images) -> tuple[Int[Tensor, "n candidates"], Float[Tensor, " n"]]:
        k = min(CANDIDATES, len(self.rows))
        probes = queries[:, None]
        for t in self.chosen:
            if len(t.probes) > 1:
                tried = t.versions(probes.flatten(0, 1))[:, list(t.probes)]
                probes = tried.flatten(0, 1).unflatten(0, (len(queries), -1))
        found = nearest_neighbors(low_frequencies(probes.flatten(0, 1)), self.invariant, k)[1]
        distances, plain = nearest_rows(self.compared(queries), self.rows, k)
        return torch.cat([plain, found.reshape(len(queries), -1)], 1), distances[:, 0]

    def _best(
        self, queries: Images, candidates: Int[Tensor, "n k"]
    ) -> tuple[Images, Int[Tensor, " n"], Int[Tensor, " n"]]:
        """The aligned queries, and the index of the transformation of each and of the finer one after it."""
        n, kept = len(queries), min(REFINED, candidates.shape[1])
        tried = versions(queries, self.chosen)
        squares = self._squares(tried, self.rows[candidates])
        # half a pixel may decide between the best few candidates, each after its own best few transformations
        near = squares.amin(1).topk(kept, largest=False).indices
        of_near = squares.gather(2, near[:, None].expand(-1, squares.shape[1], -1))
        whole = of_near.topk(min(STARTS, squares.shape[1]), dim=1, largest=False).indices.mT
        starts = whole.shape[2]
        tried = versions(tried[torch.arange(n)[:, None, None], whole].flatten(0, 2), self.finer)
        tried = tried.unflatten(0, (n * kept, starts)).flatten(1, 2)
        found = self.rows[candidates.gather(1, near)].flatten(0, 1)[:, None]
        best = self._squares(tried, found).reshape(n, -1).argmin(1)
        images = tried.unflatten(0, (n, kept)).flatten(1, 2)[torch.arange(n), best]
        start, fine = best // len(self.finer_labels), best % len(self.finer_labels)
        return images, whole.flatten(1)[torch.arange(n), start], fine

    def _squares(self, tried: Versions, found: Float[Tensor, "n k d"]) -> Float[Tensor, "n versions k"]:
        """Squared distances between every version and every candidate of a query."""
        rows = self.compared(tried.flatten(0, 1)).unflatten(0, tried.shape[:2])
        return rows.square().sum(2)[:, :, None] + found.square().sum(2)[:, None] - 2 * (rows @ found.mT)


def low_frequencies(images: Images) -> Float[Tensor, "n features"]:
    """Magnitudes of the Fourier coefficients of low frequency, unchanged by cyclic shifts and mirror images."""
    m = min(HIGHEST_FREQUENCY, images.shape[2] // 2, images.shape[3] // 2)
    parts = []
    for part in images.split(_block(images)):
        standard = standardized(part.flatten(1)).reshape(part.shape)
        magnitude = torch.fft.rfft2(standard, norm="ortho").abs()[..., : m + 1]
        up, down = magnitude[:, :, : m + 1], magnitude[:, :, -torch.arange(m + 1)]
        parts.append(torch.stack([up + down, (up - down).abs()], 1).flatten(1) / math.sqrt(2))
    return torch.cat(parts)


def _block(images: Images) -> int:
    """How many images are transformed at a time: a few times this memory is used."""
    return min(BLOCK, at_once(images[0].numel())) if len(images) else BLOCK

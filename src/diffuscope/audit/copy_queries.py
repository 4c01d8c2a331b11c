"""Examples whose nearest training examples were searched, in one feature space, once for any statistic of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from numpy import ndarray
from torch import Tensor

from .alignment import Alignment
from .closeness import Neighborhood, closeness, neighborhood
from .features import Features
from .repeats import distinct
from .rows_of import AnyRows, at_once, flat, part_of, rows_of
from .transformations import Transformation, averaged

Events = Float[Tensor, "_ *event"]


class Search:
    """Training examples, prepared once: neighborhoods of any queries, in one feature space.

    Only those at the places `among` take part, if given; no copy of large data is made for them.
    """

    def __init__(
        self,
        train: Events,
        features: Features,
        chosen: Sequence[Transformation],
        among: Int64[Tensor, " places"] | None = None,
    ) -> None:
        as_they_are = rows_of(train, flat if chosen else features, among)
        kept, group = distinct(as_they_are)
        places = None if len(kept) == len(group) else torch.from_numpy(kept)
        self.alignment: Alignment | None = None
        self.features = features
        if chosen:
            index = places if among is None or places is None else among[places]
            self.alignment = Alignment(train, chosen, among if index is None else index)
            self.rows, self.features = self.alignment.rows, self.alignment.compared
        else:
            self.rows = as_they_are if places is None else part_of(as_they_are, places)
        self.original, self.times = kept, np.bincount(group)

    def __call__(self, queries: Events, among: Int64[Tensor, " places"] | None = None) -> "Queries":
        """The queries (those at the places `among`, if given), aligned, with their neighborhoods."""
        if self.alignment is None:
            # their features are not asked for their width: of the user's, that would be another call
            parts = [] if self.features is flat else [self.features(part) for part in _parts(queries, among)]
            rows = torch.cat(parts) if parts else rows_of(queries, flat, among)
            near = neighborhood(rows, self.rows, times=self.times)
            return Queries(rows, self.rows, self.times, near, [""] * len(rows), near.distance[:, 0])
        parts, names, untransformed = [], [], []
        for part in _parts(queries, among):
            aligned, called, distance = self.alignment(part)
            names += called
            untransformed.append(distance.numpy())
            parts.append(self.features(aligned))
        rows = parts[0] if len(parts) == 1 else torch.cat(parts)
        near = neighborhood(rows, self.rows, times=self.times)
        return Queries(rows, self.rows, self.times, near, names, np.concatenate(untransformed))

    def reduced(self, queries: Events) -> Float[Tensor, "_ *smaller"]:
        """The queries as they are aligned: large images averaged. They have the same neighborhoods."""
        return queries if self.alignment is None else averaged(queries)


def _parts(queries: Events, among: Int64[Tensor, " places"] | None) -> Iterator[Events]:
    size = at_once(queries[0].numel()) if len(queries) else 1
    if among is None:
        yield from queries.split(size)
        return
    for places in among.split(size):
        yield queries[places]


@dataclass(frozen=True, eq=False)
class Queries:
    """Rows with their neighborhoods among the rows of the training examples, and how each was transformed."""

    rows: AnyRows
    train: AnyRows
    times: Int[ndarray, " train"]  # how often each row of `train` occurs
    near: Neighborhood
    transformation: list[str]
    untransformed: Float[ndarray, " n"]  # distance to the nearest training example, before the transformation

    def statistic(self, radius: float) -> Float[ndarray, " n"]:
        """s, with training examples within `radius` as one."""
        return closeness(self.rows, self.train, self.near, radius, self.times)

    def part(self, chosen: Int[ndarray, " part"]) -> "Queries":
        """Some of the queries."""
        return Queries(
            part_of(self.rows, torch.from_numpy(chosen)),
            self.train,
            self.times,
            self.near.part(chosen),
            [self.transformation[i] for i in chosen],
            self.untransformed[chosen],
        )

    @property
    def distance(self) -> Float[ndarray, " n"]:
        """To the nearest training example."""
        return self.near.distance[:, 0]

    def next_distance(self, radius: float) -> Float[ndarray, " n"]:
        """To the next different one; to the farthest searched where all of these are repeats."""
        different = np.where(self.near.between > radius, self.near.distance, np.inf).min(1)
        return np.where(np.isfinite(different), different, self.near.distance[:, -1])

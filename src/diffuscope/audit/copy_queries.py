"""Examples whose nearest training examples were searched, in one feature space, once for any statistic of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from .alignment import Alignment
from .closeness import Neighborhood, closeness, neighborhood
from .features import Features
from .repeats import distinct
from .transformations import Transformation

Events = Float[Tensor, "_ *event"]
Rows = Float[Tensor, "_ features"]


class Search:
    """Training examples, prepared once: neighborhoods of any queries, in one feature space."""

    def __init__(self, train: Events, features: Features, chosen: Sequence[Transformation]) -> None:
        if chosen:
            kept, group = distinct(train.flatten(1).numpy())
            # no copy of the data where none is needed
            self.alignment = Alignment(train if len(kept) == len(train) else train[torch.from_numpy(kept)], chosen)
            self.rows, self.features = self.alignment.rows, self.alignment.compared
        else:
            rows = features(train)
            kept, group = distinct(rows.numpy())
            self.alignment, self.features = None, features
            self.rows = rows if len(kept) == len(rows) else rows[torch.from_numpy(kept)]
        self.original, self.times = kept, np.bincount(group)

    def __call__(self, queries: Events) -> "Queries":
        """The queries, aligned, with their neighborhoods."""
        if self.alignment is None:
            rows = self.features(queries)
            near = neighborhood(rows, self.rows, times=self.times)
            return Queries(rows, self.rows, self.times, near, [""] * len(queries), near.distance[:, 0])
        aligned, names, untransformed = self.alignment(queries)
        rows = self.features(aligned)
        near = neighborhood(rows, self.rows, times=self.times)
        return Queries(rows, self.rows, self.times, near, names, untransformed.numpy())


@dataclass(frozen=True, eq=False)
class Queries:
    """Rows with their neighborhoods among the rows of the training examples, and how each was transformed."""

    rows: Rows
    train: Rows
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
            self.rows[torch.from_numpy(chosen)],
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

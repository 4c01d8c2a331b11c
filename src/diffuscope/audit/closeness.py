r"""How closely does a query resemble one training example, compared with other training examples?

Let y_1 be the training example nearest to the query x, and y_2, ..., y_J the nearest ones that differ from y_1, which
are all at |y_j - y_1| > r: repeats of an example are one example. The position of x on the way from y_1 to y_j is

.. math::  c_j = \frac{\langle x - y_1,\, y_j - y_1\rangle}{|y_j - y_1|^2}
               = \frac12 + \frac{|x - y_1|^2 - |x - y_j|^2}{2\,|y_j - y_1|^2} ,

0 at y_1, 1/2 halfway and negative beyond y_1. It is near 0 for a copy even under noise, which is orthogonal to
y_j - y_1 in many dimensions, and near 1/2 for what is no nearer to one example than to others: fresh examples, and
smooth samples, which are near everything. Half the squared ratio of the distances has the same values in these two
cases; it is raised by noise, but hardly by blur, which displaces a copy toward all y_j. The statistic forgives either:

.. math::  s = \min(a, b) + \frac b2, \qquad
           a = \max_j |c_j|, \qquad b = \frac12 \operatorname{mean}_j \frac{|x - y_1|^2}{|x - y_j|^2} .

It is free of units and has no fitted constant, so that no example is lost for fitting.

*Exact repeats.* A query that equals a training example has s = 0. Where values are coarse, as in tables of categories,
fresh examples do so too, above all those that are common. Among queries that equal a training example s is therefore
-u, where u is the mean squared distance from y_1 to its nearest training rows, NEIGHBORS of them, each counted as often
as it occurs: a rare row, which hardly another one resembles, is repeated by chance least often, so that equal rows tell
most there. Where no fresh example equals a training example, nothing changes: -u is below every fresh value, as 0 is.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from .rows_of import AnyRows, at_once, nearest_rows

NEIGHBORS = 16  # searched at first
COMPARED = 5  # different neighbors in the statistic
FIELDS = "index", "distance", "between", "times"
Rows = Float[Tensor, "_ features"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighborhood:
    """The nearest training examples of every query, and how far they are from the first of them."""

    index: Int[ndarray, "n k"]
    distance: Float[ndarray, "n k"]
    between: Float[ndarray, "n k"]  # |y_1 - y_j|
    times: Int[ndarray, "n k"]  # how often y_j occurs among the training examples

    def closeness(self, radius: float) -> Float[ndarray, " n"]:
        """s, with training examples within `radius` of each other as one; NaN where no different one is among the k."""
        used = self._used(radius)
        square = self.distance**2
        with np.errstate(all="ignore"):
            position = 0.5 + (square[:, :1] - square) / (2 * self.between**2)
            ratio = square[:, :1] / square
        highest = np.where(used, np.abs(position), 0.0).max(1)
        half = np.where(used, ratio, 0.0).sum(1) / np.maximum(used.sum(1), 1) / 2
        s = np.where(self.distance[:, 0] > 0, np.minimum(highest, half) + half / 2, -self.isolation)
        return np.where(used.any(1), s, np.nan)

    @property
    def isolation(self) -> Float[ndarray, " n"]:
        """u, the mean squared distance from y_1 to the nearest NEIGHBORS other training examples."""
        times = self.times.copy()
        times[:, 0] -= 1  # itself
        before = times.cumsum(1) - times
        counted = np.clip(NEIGHBORS - before, 0, times)
        return (counted * self.between**2).sum(1) / np.maximum(counted.sum(1), 1)

    def part(self, chosen: Int[ndarray, " part"]) -> "Neighborhood":
        """Those of some of the queries."""
        return Neighborhood(**{name: getattr(self, name)[chosen] for name in FIELDS})

    def relative(self, radius: float) -> Float[ndarray, " n"]:
        """d_1 / d_2, the distance relative to the nearest different training example (0 / 0 is 0, as of a copy)."""
        used = self._used(radius)
        second = np.where(used, self.distance, np.inf).min(1)
        return np.divide(self.distance[:, 0], second, out=np.zeros(len(second)), where=second > 0)

    def _used(self, radius: float) -> ndarray:
        different = self.between > radius
        return different & (different.cumsum(1) <= COMPARED)


def neighborhood(
    queries: AnyRows, train: AnyRows, k: int = NEIGHBORS, times: Int[ndarray, " train"] | None = None
) -> Neighborhood:
    """The k nearest rows of `train`, or all of them if they are fewer; `times` each occurs (once by default)."""
    parts = [_neighborhood(part, train, k, times) for part in queries.split(at_once(queries.shape[1]))]
    return Neighborhood(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS})


def _neighborhood(queries: Rows, train: AnyRows, k: int, times: Int[ndarray, " train"] | None) -> Neighborhood:
    distance, index = nearest_rows(queries, train, min(k, len(train)))
    between = torch.empty_like(distance)
    for part in torch.arange(len(queries)).split(at_once(4 * index.shape[1] * train.shape[1])):
        found = train[index[part]].double()
        between[part] = (found - found[:, :1]).norm(dim=2)
    often = np.ones_like(index) if times is None else times[index]
    return Neighborhood(index=index.numpy(), distance=distance.numpy(), between=between.numpy(), times=often)


def closeness(
    queries: AnyRows, train: AnyRows, found: Neighborhood, radius: float, times: Int[ndarray, " train"] | None = None
) -> Float[ndarray, " n"]:
    """s of every query, among as many neighbors as it takes to meet a different one; infinity if there is none."""
    values, k = found.closeness(radius), found.index.shape[1]
    while np.isnan(values).any() and k < len(train):
        k *= 8
        rows = np.flatnonzero(np.isnan(values))
        for part in np.array_split(rows, -(-len(rows) * k // 2**20)):
            values[part] = neighborhood(queries[torch.from_numpy(part)], train, k, times).closeness(radius)
    return np.where(np.isnan(values), np.inf, values)

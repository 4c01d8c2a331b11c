r"""Held-out examples that repeat a training example.

Held-out examples that repeat a training example would make copies look normal. They are left out of the
null distribution if s is so small that 1/10 of a fresh example is expected there. Near 0, where s is of the order of
d_1 / d_2, fresh examples in d dimensions have :math:`P(S < s) \propto s^d`; through the quantiles q(a) < q(b) of m
values such a power law expects 1/10 of them below

.. math::  q(a) \Bigl(\frac{1}{10\, m\, a}\Bigr)^{1/d}, \qquad d = \frac{\log(b / a)}{\log(q(b) / q(a))} .

The larger of these values for (a, b) = (0.1, 0.5) and (0.25, 0.5) is the limit, in rounds until no more are found. The
slope grows toward 0 on every data set tried, so fresh examples stay and the p-values remain valid. Bit-for-bit repeats
are left out too, unless the held-out or the training examples repeat each other as often, up to chance. Where most
held-out examples are near-copies, they are the bulk that the extrapolation takes for fresh, and an empty list means
nothing (`copied_heldout`).

*Natural near repeats.* A data set may hold the same photograph more than once; then fresh samples repeat training
examples, too, and held-out ones that do belong to the null distribution. They are natural if training examples repeat
each other as often. A random half of the training examples is the known one: x of the n held-out examples and y of m
other training examples have an s below the limit among these. If none is leaked, all n + m are exchangeable given the
known half, so that x is hypergeometric given x + y, whatever the sizes of the groups of repeats (`measure.at_least`).
Unless its p-value is below NEAR_CHANCE, all near repeats stay. Otherwise they are left out, but for as many as the
training examples explain, 2 n y / m, which are those of the lowest s: with them, the lowest p-values are not too small.
Held-out examples count in x only if they are below the limit among all training examples, too; this makes x smaller,
if anything. Examples that equal a known one do not count.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy  # its subpackages are loaded when they are first used
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from .copy_queries import Queries
from .measure import at_least
from .repeats import distinct

REPEAT_QUANTILE = 0.01  # of the distances of held-out examples to training ones: nearer training examples are one
LEAKED = 0.1  # expected number of fresh held-out examples that are taken for leaked ones
TAILS = ((0.1, 0.5), (0.25, 0.5))
LEAST_CALIBRATION = 20
CHANCE = 0.01  # exact repeats of so small a probability are leaked
NEAR_CHANCE = 0.05  # near repeats; of these, those stay that training examples explain


@dataclass(frozen=True, kw_only=True, eq=False)
class AmongHalf:
    """Held-out examples and other training examples as queries to half of the training examples.

    The `others` come in parts, made one at a time, since the first may decide.
    """

    heldout: Queries
    others: Iterator[Queries]
    size: int  # of all parts


@dataclass(frozen=True, kw_only=True, eq=False)
class Repeating:
    """Which held-out examples repeat a training example nearly, and which are leaked.

    Training examples within `radius` of each other are one; near repeats have an s below `limit`.
    """

    near: Bool[ndarray, " n"]
    leaked: Bool[ndarray, " n"]
    radius: float
    limit: float

    @property
    def natural(self) -> int:
        """How many near repeats stay, because training examples repeat each other as often."""
        return int((self.near & ~self.leaked).sum())

    @property
    def all_natural(self) -> bool:
        """Whether there are near repeats, and all of them stay."""
        return 0 < self.natural == int(self.near.sum())

    def count_near(self, queries: Queries) -> int:
        """How many queries are near repeats of a training example."""
        return _below(queries, self.radius, self.limit)


def find_leaked(
    fresh: Queries, among_half: Callable[[Int[ndarray, " asked"]], AmongHalf] | None = None
) -> tuple[Bool[ndarray, " n"], float]:
    """Which held-out examples are leaked, and the radius within which training examples are one."""
    found = repeating(fresh, among_half)
    return found.leaked, found.radius


def repeating(fresh: Queries, among_half: Callable[[Int[ndarray, " asked"]], AmongHalf] | None = None) -> Repeating:
    """The held-out examples that repeat a training example.

    `among_half` makes queries of some of them, given by their indices, and of other training examples; without it no
    near repeat is natural.
    """
    exact = _exact_repeats(fresh)
    near, radius, limit = _near_repeats(fresh, exact)
    stay = np.zeros_like(near)
    if among_half is not None and near.any():
        asked = np.flatnonzero(near)
        lowest = asked[np.argsort(fresh.statistic(radius)[asked], kind="stable")]
        stay[lowest[: _by_chance(among_half(asked), radius, limit, int((fresh.distance > 0).sum()))]] = True
    return Repeating(near=near, leaked=exact | near & ~stay, radius=radius, limit=limit)


def _near_repeats(fresh: Queries, exact: Bool[ndarray, " n"]) -> tuple[Bool[ndarray, " n"], float, float]:
    """Which held-out examples are below the limit but at no distance 0, the radius, and the limit."""
    near, limit = np.zeros_like(exact), 0.0
    while True:
        kept = ~(exact | near)
        if kept.sum() < LEAST_CALIBRATION:
            return near, 0.0, limit
        radius = float(np.quantile(fresh.untransformed[kept], REPEAT_QUANTILE))
        statistic = np.maximum(fresh.statistic(radius), 0.0)  # exact repeats that remain are by chance
        if np.isinf(statistic[kept]).any():  # all training examples are one
            return near, radius, limit
        limit = _least_fresh(statistic[kept])
        more = kept & (fresh.distance > 0) & (statistic < limit)
        if not more.any():
            return near, radius, limit
        near |= more


def _least_fresh(statistic: Float[ndarray, " n"]) -> float:
    """Below this LEAKED of n fresh values are expected, by extrapolation of the lower tail as a power law."""
    limits = [0.0]
    for a, b in TAILS:
        low, high = np.quantile(statistic, (a, b))
        if 0 < low < high:
            limits.append(low * (LEAKED / (a * len(statistic))) ** (np.log(high / low) / np.log(b / a)))
    return float(max(limits))


def _by_chance(again: AmongHalf, radius: float, limit: float, n: int) -> int:
    """How many near repeats of n held-out examples the training examples explain; n if these are as many, up to chance.

    What is still to come of the other training examples can only raise the p-value.
    """
    x, y, m = _below(again.heldout, radius, limit), 0, again.size
    if at_least(x, y, n, m) >= NEAR_CHANCE:
        return n
    for part in again.others:
        y, m = y + _below(part, radius, limit), m - int((part.distance == 0).sum())
        if at_least(x, y, n, m) >= NEAR_CHANCE:
            return n
    return math.ceil(2 * n * y / m)


def _below(queries: Queries, radius: float, limit: float) -> int:
    return int(((queries.distance > 0) & (queries.statistic(radius) < limit)).sum())


def _exact_repeats(fresh: Queries) -> Bool[ndarray, " n"]:
    """Held-out examples at distance 0 from a training example; none if fresh ones may coincide as often.

    Coinciding pairs among the held-out examples, and those among the training examples, bound the number by chance.
    Where there is none in either, values are not coarse, and equal examples are one and the same.
    """
    exact, n, total = fresh.distance == 0, len(fresh.rows), int(fresh.times.sum())
    sizes = np.bincount(distinct(fresh.rows)[1])
    if sizes.max() == fresh.times.max() == 1:
        return exact
    by_chance = min(_most_pairs(sizes) * 2 * total / (n - 1), _most_pairs(fresh.times) * 2 * n / (total - 1))
    by_chance_so_many = scipy.stats.poisson.sf(exact.sum() - 1, by_chance) >= CHANCE
    return np.zeros(n, dtype=bool) if by_chance_so_many else exact


def _most_pairs(sizes: Int[ndarray, " distinct"]) -> float:
    """The upper confidence limit of the expected number of coinciding pairs, from the sizes of equal groups."""
    return float(scipy.stats.chi2.isf(CHANCE, (sizes * (sizes - 1)).sum() + 2) / 2)

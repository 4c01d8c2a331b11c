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
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy import stats

from .copy_queries import Queries
from .repeats import distinct

REPEAT_QUANTILE = 0.01  # of the distances of held-out examples to training ones: nearer training examples are one
LEAKED = 0.1  # expected number of fresh held-out examples that are taken for leaked ones
TAILS = ((0.1, 0.5), (0.25, 0.5))
LEAST_CALIBRATION = 20
CHANCE = 0.01  # exact repeats of so small a probability are leaked


def find_leaked(fresh: Queries) -> tuple[Bool[ndarray, " n"], float]:
    """Which held-out examples repeat a training example, and the radius within which training examples are one."""
    leaked = _exact_repeats(fresh)
    while True:
        kept = ~leaked
        if kept.sum() < LEAST_CALIBRATION:
            return leaked, 0.0
        radius = float(np.quantile(fresh.untransformed[kept], REPEAT_QUANTILE))
        statistic = np.maximum(fresh.statistic(radius), 0.0)  # exact repeats that remain are by chance
        if np.isinf(statistic[kept]).any():  # all training examples are one
            return leaked, radius
        more = kept & (fresh.distance > 0) & (statistic < _least_fresh(statistic[kept]))
        if not more.any():
            return leaked, radius
        leaked |= more


def _least_fresh(statistic: Float[ndarray, " n"]) -> float:
    """Below this LEAKED of n fresh values are expected, by extrapolation of the lower tail as a power law."""
    limits = [0.0]
    for a, b in TAILS:
        low, high = np.quantile(statistic, (a, b))
        if 0 < low < high:
            limits.append(low * (LEAKED / (a * len(statistic))) ** (np.log(high / low) / np.log(b / a)))
    return float(max(limits))


def _exact_repeats(fresh: Queries) -> Bool[ndarray, " n"]:
    """Held-out examples at distance 0 from a training example; none if fresh ones may coincide as often.

    Coinciding pairs among the held-out examples, and those among the training examples, bound the number by chance.
    Where there is none in either, values are not coarse, and equal examples are one and the same.
    """
    exact, n, total = fresh.distance == 0, len(fresh.rows), int(fresh.times.sum())
    sizes = np.bincount(distinct(fresh.rows.numpy())[1])
    if sizes.max() == fresh.times.max() == 1:
        return exact
    by_chance = min(_most_pairs(sizes) * 2 * total / (n - 1), _most_pairs(fresh.times) * 2 * n / (total - 1))
    by_chance_so_many = stats.poisson.sf(exact.sum() - 1, by_chance) >= CHANCE
    return np.zeros(n, dtype=bool) if by_chance_so_many else exact


def _most_pairs(sizes: Int[ndarray, " distinct"]) -> float:
    """The upper confidence limit of the expected number of coinciding pairs, from the sizes of equal groups."""
    return float(stats.chi2.isf(CHANCE, (sizes * (sizes - 1)).sum() + 2) / 2)

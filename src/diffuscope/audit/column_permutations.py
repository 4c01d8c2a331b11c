r"""Tests of many columns at once, by exchanging the names "sample" and "held-out" of whole rows of a table.

Rows are exchanged whole, so that columns that depend on each other keep doing so. The statistics of all tests,
studentized by their permutations, are compared with the maximum over the tests (Westfall & Young 1993, step-down): the
p-values are corrected for their number as Holm's are, but need no more permutations for more tests, and gain where
tests depend on each other.

*The training rows.* Even a perfect generator knows the data only from N training rows, and follows their chance
deviations. A difference between means over n samples and m held-out rows then has the variance
:math:`s^2 (\frac1n + \frac1m + \frac1N)`, while permutations have :math:`s^2 (\frac1n + \frac1m)`. A statistic that
is a norm of such differences is therefore shrunk by the root of the ratio before it is compared.

*Groups.* Of rows in groups, such as the visits of patients, m and N are the effective numbers
:math:`(\sum_g m_g)^2 / \sum_g m_g^2`, as if the rows of a group were all alike, which errs on the safe side.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from numpy import ndarray
from torch import Tensor

from diffuscope.memory import ranges

from .some_rows import some_rows

PERMUTATIONS = 999  # the least p-value is 0.001, for any number of tests
MOST_PERMUTATIONS = 9_999
ROUNDING = 1e-6  # statistics nearer than this are tied


@dataclass(frozen=True, kw_only=True, eq=False)
class Permuted:
    """The tests: `p_value` of each by itself, `corrected` for all, and what a perfect generator does.

    `center`, `spread` (mean and standard deviation) and `chance` (95% quantile) are in units of the statistic.
    `maxima` are the largest studentized statistics of the permutations, in decreasing order.
    """

    p_value: Float[ndarray, " tests"]
    corrected: Float[ndarray, " tests"]
    center: Float[ndarray, " tests"] = field(repr=False)
    spread: Float[ndarray, " tests"] = field(repr=False)
    chance: Float[ndarray, " tests"] = field(repr=False)
    maxima: Float[ndarray, " permutations"] = field(repr=False)

    def farthest_first(self, statistic: Float[ndarray, " tests"]) -> Int[ndarray, " tests"]:
        """The tests in order of how far their statistics are beyond chance."""
        return np.argsort((self.center - statistic) / self.spread, kind="stable")

    def critical(self, significance: float) -> Float[ndarray, " tests"]:
        """The value beyond which each test is significant after the correction; infinity with too few permutations."""
        last = ceil(significance * (1 + len(self.maxima))) - 2
        largest = self.maxima[last] if last >= 0 else np.inf
        return self.center + largest * self.spread


def permuted_tests(
    observed: Float[ndarray, " tests"], permuted: Float[ndarray, "permutations tests"], shrunk: float
) -> Permuted:
    """Compare `observed` statistics, `shrunk` by that factor, with those of permutations."""
    center, spread = permuted.mean(0), permuted.std(0)
    spread[spread == 0] = 1
    t, t_permuted = (observed * shrunk - center) / spread, (permuted - center) / spread
    # the k-th largest statistic is compared with the maximum over itself and all smaller ones
    order = np.argsort(-t, kind="stable")
    maxima = np.maximum.accumulate(t_permuted[:, order[::-1]], axis=1)[:, ::-1]
    in_order = (1 + (maxima >= t[order] - ROUNDING).sum(0)) / (1 + len(permuted))
    corrected = np.empty_like(in_order)
    corrected[order] = np.maximum.accumulate(in_order)
    return Permuted(
        p_value=(1 + (t_permuted >= t - ROUNDING).sum(0)) / (1 + len(permuted)),
        corrected=corrected,
        center=center / shrunk,
        spread=spread / shrunk,
        chance=np.quantile(permuted, 0.95, axis=0) / shrunk,
        maxima=np.sort(maxima[:, 0])[::-1].copy(),
    )


def permutations_for(significance: float) -> int:
    """So many permutations that p-values below `significance` exist, if it is not below 0.0002."""
    return min(MOST_PERMUTATIONS, max(PERMUTATIONS, ceil(2 / significance)))


def permuted_names(
    n: int, m: int, permutations: int, rng: np.random.Generator, at_once: int
) -> Iterator[Bool[ndarray, "b rows"]]:
    """Random arrangements of the names of n samples (true) and m held-out rows, a chunk at a time."""
    names = np.arange(n + m) < n
    for start, stop in ranges(permutations, at_once):
        yield rng.permuted(np.tile(names, (stop - start, 1)), axis=1)


def effective_number(count: int, groups: Shaped[Tensor, " n"] | None) -> float:
    r"""The number of independent rows among `count` rows in groups: the square of the sum of sizes by that of squares.

    >>> import torch
    >>> effective_number(4, torch.tensor([7, 7, 1, 1])), effective_number(4, None)
    (2.0, 4.0)
    """
    if groups is None:
        return float(count)
    sizes = groups.unique(return_counts=True)[1].double()
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def shrinking(n: int, m: int, others: float | int, known: float | int) -> float:
    r"""The root of (1/n + 1/m) / (1/n + 1/others + 1/known): see the top of the file.

    >>> shrinking(100, 100, 100, 50)
    0.7071067811865476
    """
    return ((1 / n + 1 / m) / (1 / n + 1 / others + 1 / known)) ** 0.5


def drawn_sets(
    samples: Float[Tensor, "n d"],
    heldout: Float[Tensor, "m d"],
    others: float | int | None,
    most: int,
    rng: np.random.Generator,
) -> tuple[Float[Tensor, "n2 d"], Float[Tensor, "m2 d"], float]:
    """At most so many rows of each set, at random, and the effective number of the held-out ones among them.

    `others` is that number before the draw, by default all.
    """
    known = (float(len(heldout)) if others is None else others) * min(1.0, most / len(heldout))
    return some_rows(samples, most, rng), some_rows(heldout, most, rng), known

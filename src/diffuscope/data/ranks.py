r"""The mid-rank of a value among the values of a column: its empirical distribution function, linear between values.

For fitted values :math:`v_1, \dots, v_n`

.. math::  F(v) = \frac{\#\{v_i < v\} + \tfrac12 \#\{v_i = v\}}{n}

at each of them, and linear in between. Beyond the smallest and the largest value it goes on at the mean slope, 1 over
the width of the values, for half a width, and is constant from there on, so that a value that no example has is another
point than the extreme one. Of more than `KNOTS` different values those next to evenly spaced ranks, 2/KNOTS apart, are
kept, on both sides; F is then exact at these, and off by at most 2/KNOTS between them, and stays strictly increasing.

Among ranks a heavy tail does not dominate, and every strictly increasing change of units (a logarithm) leaves the
distances as they are. What is lost: the width of a gap between two clusters of values.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

KNOTS = 4096
BEYOND = 0.5
EXACT = 2.0**-21  # a rank that went through float32 is that of a knot within this


@dataclass(frozen=True, eq=False)
class Ranks:
    """The function F: `knots` in increasing order and their `ranks`."""

    knots: Float64[np.ndarray, " k"]
    ranks: Float64[np.ndarray, " k"]

    def __call__(self, values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """F of finite values, in [-1/2, 3/2]."""
        low, high = self.knots[0], self.knots[-1]
        inside = np.interp(values, self.knots, self.ranks)
        with np.errstate(over="ignore"):  # in units of a width near zero; cut off below
            beyond = (np.minimum(values - low, 0) + np.maximum(values - high, 0)) / self._width
        return inside + np.clip(beyond, -BEYOND, BEYOND)

    def inverse(self, ranks: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """The values of these ranks; a rank within float32's rounding of a knot's gives the knot itself."""
        inside = np.interp(ranks, self.ranks, self.knots)
        beyond = np.minimum(ranks - self.ranks[0], 0) + np.maximum(ranks - self.ranks[-1], 0)
        nearest = np.searchsorted((self.ranks[1:] + self.ranks[:-1]) / 2, ranks)
        known = np.abs(self.ranks[nearest] - ranks) <= EXACT
        return np.where(known, self.knots[nearest], inside + beyond * self._width)

    @property
    def _width(self) -> float:
        # of a constant every other value is beyond
        return float(self.knots[-1] - self.knots[0]) or float(np.finfo(np.float32).tiny)


def ranks_of(values: Float64[np.ndarray, " n"]) -> Ranks:
    """The mid-ranks of finite values, at least one."""
    knots, counts = np.unique(values, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / len(values)
    if len(knots) > KNOTS:
        at = np.searchsorted(ranks, np.linspace(ranks[0], ranks[-1], KNOTS // 2))
        # both sides, since a value that many rows have makes F jump; the first has one side
        kept = np.unique(np.maximum([at - 1, at], 0))
        knots, ranks = knots[kept], ranks[kept]
    return Ranks(knots, ranks)

r"""One measure of memorization under its usual name: its value, its null hypothesis, its interval and its p-value.

Samples and held-out examples are compared with the same training set. If the samples are fresh examples, their n
values and the m values of the held-out examples are exchangeable, whatever their distribution is. Two closed forms
follow, with X hypergeometric: n draws from n + m values of which c are marked.

*A share.* x of the n samples and y of the m held-out examples have a property. Given c = x + y, the number of samples
that have it is X, so that the one-sided p-value is P(X >= x) (Fisher 1935). The 95% range of the null is the set of x
that neither one-sided test rejects at 2.5% (Thatcher 1964).

*A quantile.* Let V be the k-th smallest of the n values and W_1 <= ... <= W_m those of the held-out examples. Then

.. math::  P(V \le W_j) = P(X \ge k), \qquad c = k + j - 1 ,

for continuous values, and the probability is at most that with ties (the precedence test, Nelson 1963). With j - 1
held-out values at or below V this is the p-value, and the same formula gives the 95% range as two of the W_j.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy  # its subpackages are loaded when they are first used
from jaxtyping import Bool, Float
from numpy import ndarray

from diffuscope.findings import NORMAL_95, exact_share_interval

Reader = Literal["tables and images", "tables", "images"]
Side = Literal["low", "high"]
TAIL = 0.025


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measure under its usual name. NaN or None stands for what could not be computed.

    `null` is its value if samples are fresh examples, [`low`, `high`] the 95% range of the null, `interval` the 95%
    interval of the value itself, and `p_value` one-sided, against the side on which copies lie (`copies`). A measure
    without `copies` is a control. `meaning` is one sentence for readers of the page.
    """

    name: str
    value: float
    null: float
    low: float
    high: float
    p_value: float | None = None
    interval: tuple[float, float] | None = None
    reader: Reader = "tables and images"
    copies: Side | None = None
    meaning: str = ""


def share_measure(
    name: str,
    samples: Bool[ndarray, " n"],
    fresh: Bool[ndarray, " m"],
    *,
    copies: Side | None,
    meaning: str,
    reader: Reader = "tables and images",
) -> Measure:
    """The share of samples with a property, in percent, against that of held-out examples (Fisher's exact test).

    >>> import numpy as np
    >>> found = share_measure("IMS, %", np.ones(3, bool), np.zeros(3, bool), copies="high", meaning="")
    >>> found.value, found.null, round(found.p_value, 3)
    (100.0, 0.0, 0.05)
    """
    n, m, x, y = len(samples), len(fresh), int(samples.sum()), int(fresh.sum())
    least = bisect_right(range(n + 1), TAIL, key=lambda count: _at_most(count, y, n, m))
    most = bisect_left(range(n + 1), True, key=lambda count: at_least(count, y, n, m) <= TAIL) - 1
    low, high = exact_share_interval(x, n)
    p_values: dict[Side, Callable[[int, int, int, int], float]] = {"low": _at_most, "high": at_least}
    return Measure(
        name=name,
        value=100 * x / n,
        null=100 * y / m,
        low=100 * least / n,
        high=100 * most / n,
        p_value=p_values[copies](x, y, n, m) if copies else None,
        interval=(100 * low, 100 * high),
        reader=reader,
        copies=copies,
        meaning=meaning,
    )


def quantile_measure(
    name: str,
    samples: Float[ndarray, " n"],
    fresh: Float[ndarray, " m"],
    level: float,
    bounds: tuple[float, float],
    *,
    copies: Literal["low"] | None,
    meaning: str,
    reader: Reader = "tables and images",
) -> Measure:
    """A quantile of values of samples, against that of held-out examples (precedence test). Copies have small values.

    The value interpolates between two order statistics, as `numpy.quantile` does; the lower of the two is tested.
    `bounds` are the ends of a range that the data do not determine, because there are too few of them.

    >>> import numpy as np
    >>> found = quantile_measure(
    ...     "DCR", np.arange(3.0), np.arange(3.0) + 9, 0.5, (0.0, np.inf), copies="low", meaning=""
    ... )
    >>> found.value, found.null, round(found.p_value, 3)
    (1.0, 10.0, 0.2)
    """
    n, m = len(samples), len(fresh)
    ordered, reference = np.sort(samples), np.sort(fresh)
    k = int((n - 1) * level + 1e-9) + 1

    def below(j: int) -> float:
        """P(V <= W_j)."""
        return float(scipy.stats.hypergeom.sf(k - 1, n + m, k + j - 1, n))

    first = bisect_right(range(1, m + 1), TAIL, key=below)  # how many j have P(V <= W_j) <= TAIL
    last = bisect_left(range(1, m + 1), 1 - TAIL, key=below)
    j = int(np.searchsorted(reference, ordered[k - 1], side="right"))
    ranks = scipy.stats.binom.ppf([TAIL, 1 - TAIL], n, level).astype(int)
    return Measure(
        name=name,
        value=float(np.quantile(ordered, level)),
        null=float(np.quantile(reference, level)),
        low=float(reference[first - 1]) if first else bounds[0],
        high=float(reference[last]) if last < m else bounds[1],
        p_value=below(j + 1) if copies else None,
        interval=(
            float(ordered[ranks[0] - 1]) if ranks[0] else bounds[0],
            float(ordered[ranks[1]]) if ranks[1] < n else bounds[1],
        ),
        reader=reader,
        copies=copies,
        meaning=meaning,
    )


def permuted_measure(
    name: str,
    value: float,
    permuted: Float[ndarray, " permutations"],
    null: float | None = None,
    *,
    copies: Side,
    meaning: str,
    reader: Reader = "tables",
    bounds: tuple[float, float] = (-np.inf, np.inf),
    half: float | None = None,
    tied: float = 1e-6,
) -> Measure:
    """A statistic against its values under permutations, whose mean is the `null` unless that is known exactly.

    The interval reaches `half` to either side, by default 1.96 standard deviations under permutations, within `bounds`.
    Values within `tied` of each other are equal: float32 sums of counts by default.

    >>> import numpy as np
    >>> found = permuted_measure("share", 0.9, np.linspace(0.3, 0.7, 99), 0.5, copies="high", meaning="")
    >>> found.value, found.null, found.p_value
    (0.9, 0.5, 0.01)
    """
    signed = permuted - value if copies == "high" else value - permuted
    low, high = permuted_range(permuted)
    reach = NORMAL_95 * float(permuted.std()) if half is None else half
    return Measure(
        name=name,
        value=float(value),
        null=float(permuted.mean()) if null is None else null,
        low=low,
        high=high,
        p_value=float((1 + (signed >= -tied).sum()) / (1 + len(permuted))),
        interval=(max(bounds[0], float(value) - reach), min(bounds[1], float(value) + reach)),
        reader=reader,
        copies=copies,
        meaning=meaning,
    )


def permuted_range(permuted: Float[ndarray, " permutations"]) -> tuple[float, float]:
    """The range that an exchangeable value is in with probability at least 0.95, for 39 permutations or more.

    >>> import numpy as np
    >>> permuted_range(np.arange(1.0, 40))
    (1.0, 39.0)
    """
    ordered = np.sort(permuted)
    k = max(1, int(TAIL * (len(ordered) + 1)))
    return float(ordered[k - 1]), float(ordered[-k])


def at_least(x: int, y: int, n: int, m: int) -> float:
    """P(X >= x): the p-value of x of n samples with a property that y of m held-out examples have."""
    return float(scipy.stats.hypergeom.sf(x - 1, n + m, x + y, n))


def _at_most(x: int, y: int, n: int, m: int) -> float:
    return float(scipy.stats.hypergeom.cdf(x, n + m, x + y, n))

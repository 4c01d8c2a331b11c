r"""What a score says about membership: area under the ROC curve, true positives at few false ones, advantage.

With scores S of n members and S' of m non-members, higher for members,

.. math::  \mathrm{AUC} = P(S > S') + P(S = S')/2 .

Its interval is that of DeLong et al. (1988) on the scale log(A / (1 - A)): with the placements :math:`V_i`, the share
of non-members below member i, and :math:`W_j`, the share of members above non-member j,

.. math::  \operatorname{Var}(\hat A) \approx \operatorname{Var}(V)/n + \operatorname{Var}(W)/m .

An area of exactly 0 or 1, or of scores that are all the same, has no such variance; its interval is that of min(n, m)
disjoint pairs, all on one side.

*True positives at a false-positive rate a.* The threshold is the k-th largest of the non-members' scores, with
:math:`k = \lfloor a (m + 1) \rfloor`. Its own false-positive rate is Beta(k, m + 1 - k), whatever the distribution of
the scores, with mean at most a. The interval takes this into account: its lower end is the Clopper-Pearson limit at the
threshold whose rate is *below* a with probability 1 - (1 - c)/4, its upper end that at the threshold whose rate is
*above* a with this probability, and each of these limits fails with probability (1 - c)/4: in total at least c. If
members and non-members are exchangeable, the number of members above the threshold is negative hypergeometric,

.. math::  P(X \ge x) = P(\operatorname{Hypergeometric}(n + m, m, x + k - 1) \le k - 1) .

*Advantage* (Yeom et al. 2018) is the largest difference of the two rates over all thresholds. Its plain estimate is
positive even without any leak, so that the threshold is chosen on one half of the scores and used on the other.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy  # its subpackages are loaded when they are first used
from jaxtyping import Float
from numpy import ndarray

from diffuscope.findings import exact_share_interval

FALSE_POSITIVES = 0.01, 0.001  # the rates at which true positives are reported (Carlini et al. 2022)


@dataclass(frozen=True)
class Rate:
    """An estimate with its interval, and its p-value; NaN where there are too few examples for any."""

    value: float
    low: float
    high: float
    p_value: float = float("nan")


def auc(members: Float[ndarray, " n"], others: Float[ndarray, " m"]) -> float:
    """P(member > other), ties counted half.

    >>> auc(np.array([2.0, 1.0]), np.array([0.0, 1.0]))
    0.875
    """
    ranks = scipy.stats.rankdata(np.concatenate([members, others]))[: len(members)]
    return float((ranks.mean() - (len(members) + 1) / 2) / len(others))


def auc_with_interval(
    members: Float[ndarray, " n"], others: Float[ndarray, " m"], confidence: float = 0.95, widening: float = 1.0
) -> tuple[float, float, float]:
    """The area with both ends of DeLong's interval (see the top of this file); at least two scores of each kind.

    `widening` multiplies DeLong's standard deviation, for scores that were fitted to the same examples.

    >>> value, low, high = auc_with_interval(np.arange(20.0) + 30, np.arange(20.0))
    >>> value, round(low, 3), high
    (1.0, 0.832, 1.0)
    """
    n, m, tail = len(members), len(others), (1 - confidence) / 2
    ranks = scipy.stats.rankdata(np.concatenate([members, others]))
    below = (ranks[:n] - scipy.stats.rankdata(members)) / m
    above = 1 - (ranks[n:] - scipy.stats.rankdata(others)) / n
    area = float(below.mean())
    deviation = widening * math.sqrt(below.var(ddof=1) / n + above.var(ddof=1) / m)
    if deviation == 0:
        reach = 1 - tail ** (1 / min(n, m))
        return area, max(0.0, area - reach), min(1.0, area + reach)
    center, width = math.log(area / (1 - area)), float(scipy.stats.norm.isf(tail)) * deviation / (area * (1 - area))
    return area, 1 / (1 + math.exp(width - center)), 1 / (1 + math.exp(-width - center))


def null_deviation(n: int, m: int) -> float:
    """The standard deviation of the area where all scores are exchangeable: sqrt((n + m + 1) / (12 n m)).

    >>> round(null_deviation(500, 500), 4)
    0.0183
    """
    return math.sqrt((n + m + 1) / (12 * n * m))


def fewest_for(rate: float) -> int:
    """The number of non-members from which a false-positive rate has an estimated threshold.

    >>> fewest_for(0.001)
    999
    """
    return math.ceil(1 / rate - 1 - 1e-9)


def true_positives(
    members: Float[ndarray, " n"], others: Float[ndarray, " m"], rate: float, confidence: float = 0.95
) -> Rate:
    """The share of members above the threshold whose false-positive rate is `rate`, with an exact interval.

    NaN, with the interval from 0 to 1, for fewer than `fewest_for(rate)` non-members. Source: Carlini et al. 2022,
    "Membership inference attacks from first principles".

    >>> found = true_positives(np.arange(200.0), np.arange(200.0) - 100, 0.01)
    >>> round(found.value, 3)
    0.505
    """
    n, m = len(members), len(others)
    if m < fewest_for(rate):
        return Rate(float("nan"), 0.0, 1.0)
    thresholds, ascending = np.concatenate([[np.inf], np.sort(others)[::-1], [-np.inf]]), np.sort(members)

    def above(k: int) -> int:
        """Members above the k-th largest other; above infinity for k = 0, all for k = m + 1."""
        return n - int(np.searchsorted(ascending, thresholds[k], side="right"))

    k = math.floor(rate * (m + 1) + 1e-9)
    # P(Beta(k, m + 1 - k) <= a) = P(Binomial(m, a) >= k)
    tail = (1 - confidence) / 4
    lower, upper = int(scipy.stats.binom.ppf(tail, m, rate)), int(scipy.stats.binom.isf(tail, m, rate)) + 1
    limits = 1 - 2 * tail  # each limit of a two-sided interval at this level fails with probability `tail`
    low = exact_share_interval(above(lower), n, limits)[0]
    high = exact_share_interval(above(upper), n, limits)[1]
    x = above(k)
    p_value = max(float(scipy.stats.hypergeom.cdf(k - 1, n + m, m, x + k - 1)), np.finfo(np.float64).tiny)
    return Rate(x / n, low, high, p_value)


def advantage(
    members: Float[ndarray, " n"],
    others: Float[ndarray, " m"],
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> Rate:
    """True-positive minus false-positive rate at a threshold that is chosen on the other half of the scores.

    The interval is Newcombe's (1998, method 10) for a difference of proportions. At least two scores of each kind.

    >>> round(advantage(np.arange(99.0) + 200, np.arange(99.0), np.random.default_rng(0)).value, 2)
    0.98
    """
    halves = [np.array_split(rng.permutation(scores), 2) for scores in (members, others)]
    hits, alarms = 0, 0
    for chosen in (0, 1):
        threshold = best_threshold(halves[0][chosen], halves[1][chosen])
        hits += int((halves[0][1 - chosen] >= threshold).sum())
        alarms += int((halves[1][1 - chosen] >= threshold).sum())
    n, m = len(members), len(others)
    first, second = hits / n, alarms / m
    (low_1, high_1), (low_2, high_2) = _wilson(hits, n, confidence), _wilson(alarms, m, confidence)
    return Rate(
        first - second,
        first - second - math.hypot(first - low_1, high_2 - second),
        first - second + math.hypot(high_1 - first, second - low_2),
    )


def best_threshold(members: Float[ndarray, " n"], others: Float[ndarray, " m"]) -> float:
    """The score at and above which the difference of the two rates is largest."""
    both = np.sort(np.concatenate([members, others]))
    above = [1 - np.searchsorted(np.sort(scores), both, side="left") / len(scores) for scores in (members, others)]
    return float(both[np.argmax(above[0] - above[1])])


def roc_curve(
    members: Float[ndarray, " n"], others: Float[ndarray, " m"], places: int = 200
) -> tuple[Float[ndarray, " places"], Float[ndarray, " places"]]:
    """False- and true-positive rates at thresholds spaced geometrically in the false-positive rate, from 1/m to 1."""
    m = len(others)
    counts = np.unique(np.geomspace(1, m, places).round().astype(int))
    thresholds = np.sort(others)[::-1][counts - 1]
    return counts / m, 1 - np.searchsorted(np.sort(members), thresholds, side="left") / len(members)


def _wilson(count: int, total: int, confidence: float) -> tuple[float, float]:
    interval = scipy.stats.binomtest(count, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)

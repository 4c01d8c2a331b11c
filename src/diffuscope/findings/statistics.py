r"""The statistics of an audit: resampling, exact permutation tests, conformal p-values, false discovery.

Permutation p-values are valid at any sample size: they count how often permuting exchangeable labels gives a value at
least as extreme, with the observed arrangement among the permutations,

.. math::  p = \frac{1 + \#\{\text{permuted} \ge \text{observed}\}}{1 + \#\text{permutations}},

so p is never 0 and :math:`P(p \le u) \le u` under the null. Working memory is a few million numbers.
"""

import numpy as np
import scipy  # its subpackages are loaded when they are first used
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from diffuscope.errors import InputError
from diffuscope.memory import chunk_size, ranges

PERMUTATIONS = 9_999
NORMAL_95 = 1.96  # standard errors on either side of a 95% interval
POWER = 0.95  # probability of finding an effect of the stated detectable size
RESAMPLES = 1_000
CHUNK = 4_000_000  # numbers held at once by a resampling loop


def percentile_interval(
    resampled: Float[ndarray, "resamples *shape"], confidence: float = 0.95
) -> tuple[Float[ndarray, "*shape"], Float[ndarray, "*shape"]]:
    """Lower and upper ends of the percentile interval over the first axis.

    >>> import numpy as np
    >>> from diffuscope.findings import percentile_interval
    >>> low, high = percentile_interval(np.arange(101.0), confidence=0.9)
    >>> round(float(low), 6), round(float(high), 6)
    (5.0, 95.0)
    """
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def bootstrap_sums(
    values: Float[ndarray, "n columns"], rng: np.random.Generator, resamples: int = RESAMPLES
) -> Float[ndarray, "resamples columns"]:
    """Column means of rows resampled with replacement.

    All columns share the resampled rows, so that ratios and differences of columns include their correlation.

    >>> import numpy as np
    >>> from diffuscope.findings import bootstrap_sums
    >>> sums = bootstrap_sums(np.array([[1.0, 10.0], [3.0, 30.0]]), np.random.default_rng(0))
    >>> np.unique(sums, axis=0).tolist()  # (1 + 1) / 2, (1 + 3) / 2, (3 + 3) / 2, and the other column with it
    [[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]
    """
    n = len(values)
    parts = []
    for start, stop in ranges(resamples, chunk_size(CHUNK, each=n)):
        counts = rng.multinomial(n, np.full(n, 1 / n), size=stop - start)
        parts.append(counts @ values / n)
    return np.concatenate(parts)


def paired_permutation(
    differences: Float[ndarray, "n levels"], rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> tuple[Float[ndarray, " levels"], float]:
    """One-sided p-values for a positive mean difference of exchangeable pairs: per level, and over all levels.

    Swapping the members of pair i changes the sign of row i in every level at once. The overall p-value compares the
    largest studentized mean with its permutation distribution (Westfall & Young 1993), so levels need no further
    correction.

    >>> import numpy as np
    >>> from diffuscope.findings import paired_permutation
    >>> differences = np.tile([0.3, -0.3], (40, 1))  # one level where all are positive, one where all are negative
    >>> each, overall = paired_permutation(differences, np.random.default_rng(0), permutations=999)
    >>> each.tolist(), overall  # 1 / 1000: no other signs have such a mean
    ([0.001, 1.0], 0.001)
    """
    n = len(differences)
    scale = np.sqrt((differences**2).mean(0))
    scale[scale == 0] = 1
    studentized = differences / scale
    observed = studentized.mean(0)
    exceed, exceed_any = np.zeros(differences.shape[1]), 0
    threshold = observed - 1e-12  # ties count, also after rounding in another order of summation
    for start, stop in ranges(permutations, chunk_size(CHUNK, each=n)):
        signs = rng.choice(np.array([-1.0, 1.0]), size=(stop - start, n))
        permuted = signs @ studentized / n
        exceed += (permuted >= threshold).sum(0)
        exceed_any += int((permuted.max(1) >= observed.max() - 1e-12).sum())
    return (1 + exceed) / (1 + permutations), (1 + exceed_any) / (1 + permutations)


def label_permutation(
    hits: Int[ndarray, " references"],
    is_training: Bool[ndarray, " references"],
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
    cells: Int[ndarray, " references"] | None = None,
) -> tuple[float, float]:
    """P-value of the training references' share of hits, and the standard deviation of that share under the null.

    `hits[j]` counts the samples whose nearest reference is j. Samples that share a neighbor are not independent, so the
    labels of the references are permuted, which is valid for any distribution of the hits; within each of the `cells`
    if there are any.

    >>> import numpy as np
    >>> from diffuscope.findings import label_permutation
    >>> hits, is_training = np.repeat([1, 0], 20), np.repeat([True, False], 20)  # hits of training references only
    >>> p_value, deviation = label_permutation(hits, is_training, np.random.default_rng(0), permutations=999)
    >>> p_value, round(deviation, 2)  # hypergeometric: (20/4 * 20/39)^(1/2) / 20 = 0.080
    (0.001, 0.08)
    """
    observed = hits[is_training].sum()
    permuted = np.zeros(permutations, dtype=np.int64)
    groups = np.zeros_like(hits) if cells is None else cells
    for group in np.unique(groups):
        members = groups == group
        counts, references = np.unique(hits[members], return_counts=True)
        # of the references with c hits each, how many are training references: a multivariate hypergeometric draw
        permuted += rng.multivariate_hypergeometric(references, int(is_training[members].sum()), permutations) @ counts
    p_value = (1 + int((permuted >= observed).sum())) / (1 + permutations)
    return p_value, float((permuted / hits.sum()).std())


def chi_squared_permutation(
    counts: Int[ndarray, "2 classes"],
    share: float,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> float:
    r"""Permutation p-value of `share` times Pearson's chi-squared of two rows of counts.

    With n and m members, a_k of class k in the first row and t_k in both, the statistic is

    .. math::  \chi^2 = \frac{(n + m)^2}{n m} \sum_k \frac{(a_k - n t_k / (n + m))^2}{t_k} .

    Under permutations the first row has a multivariate hypergeometric distribution, so that counts may be small. A
    `share` below 1 allows for variance beyond that of permutations.

    >>> import numpy as np
    >>> from diffuscope.findings import chi_squared_permutation
    >>> counts = np.array([[20, 0], [1, 19]])
    >>> chi_squared_permutation(counts, 1.0, np.random.default_rng(0), permutations=999)  # 4e-11 without permutations
    0.001
    >>> chi_squared_permutation(counts, 0.0, np.random.default_rng(0), permutations=999)
    1.0
    """
    counts = counts[:, counts.sum(0) > 0]
    both = counts.sum(0)
    first, total = int(counts[0].sum()), int(counts.sum())

    def chi_squared(rows: ndarray) -> ndarray:
        unscaled = ((rows - first * both / total) ** 2 / both).sum(1)
        return unscaled * total**2 / (first * (total - first))

    threshold = share * float(chi_squared(counts[:1])[0]) - 1e-9  # ties count, also after rounding
    exceed = 0
    for start, stop in ranges(permutations, chunk_size(CHUNK, each=len(both))):
        drawn = rng.multivariate_hypergeometric(both, first, size=stop - start)
        exceed += int((chi_squared(drawn) >= threshold).sum())
    return (1 + exceed) / (1 + permutations)


def bonferroni(p_value: float, tests: int) -> float:
    """The corrected p-value of the smallest of so many `tests`, which may depend on each other: min(1, tests * p).

    >>> from diffuscope.findings.statistics import bonferroni
    >>> bonferroni(0.25, 3), bonferroni(0.25, 5)
    (0.75, 1.0)
    """
    return min(1.0, tests * p_value)


def conformal_p_values(
    observed: Float[ndarray, " samples"], null: Float[ndarray, " calibration"]
) -> Float[ndarray, " samples"]:
    """P-values of values as small as observed, from n draws under the null: (1 + #{null <= observed}) / (1 + n).

    >>> import numpy as np
    >>> from diffuscope.findings import conformal_p_values
    >>> conformal_p_values(np.array([0.5, 2.5]), np.array([3.0, 1.0, 2.0])).tolist()  # (1 + 0) / 4, (1 + 2) / 4
    [0.25, 0.75]
    """
    return (1 + np.searchsorted(np.sort(null), observed, side="right")) / (1 + len(null))


def false_discovery(p_values: Float[ndarray, " samples"], rate: float) -> Bool[ndarray, " samples"]:
    """Benjamini & Hochberg 1995: the discoveries, with an expected share of false ones of at most `rate`.

    The bound holds for conformal p-values of one calibration set, which are positively dependent (Bates et al. 2023).

    >>> import numpy as np
    >>> from diffuscope.findings import false_discovery
    >>> false_discovery(np.array([0.2, 0.03, 0.01]), 0.05).tolist()  # up to 0.05 * 2 / 3, for two
    [False, True, True]
    """
    return scipy.stats.false_discovery_control(p_values) <= rate


def exact_share_interval(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper & Pearson 1934: the interval of a share whose coverage is at least `confidence`.

    Raises InputError unless 0 <= count <= total and total > 0.

    >>> from diffuscope.findings import exact_share_interval
    >>> low, high = exact_share_interval(10, 10, confidence=0.9)
    >>> round(low, 6), round(0.05 ** (1 / 10), 6), high  # P(10 of 10) = low^10 = 0.05
    (0.741134, 0.741134, 1.0)
    """
    if not 0 <= count <= total or total == 0:
        raise InputError(f"count: expected a number out of a positive total, got {count} of {total}")
    interval = scipy.stats.binomtest(count, total).proportion_ci(confidence)
    return float(interval.low), float(interval.high)


def binomial_p_value(count: int, total: int) -> float:
    """P(at least `count` of `total` fair coins show heads).

    >>> from diffuscope.findings import binomial_p_value
    >>> binomial_p_value(3, 4)  # (4 + 1) / 2^4
    0.3125
    """
    return float(scipy.stats.binom.sf(count - 1, total, 0.5))


def detectable_shift(null_deviation: float, level: float, power: float = POWER) -> float:
    """The shift of a mean that a one-sided test at `level` finds with probability `power` (normal approximation).

    `null_deviation` is the standard deviation of the mean under the null hypothesis.

    >>> from diffuscope.findings import detectable_shift
    >>> round(detectable_shift(2.0, level=0.025, power=0.95), 4)  # (1.959964 + 1.644854) * 2
    7.2096
    """
    return float((scipy.stats.norm.isf(level) + scipy.stats.norm.isf(1 - power)) * null_deviation)


def rank_correlation(x: Float[ndarray, "*draws k"], y: Float[ndarray, "*others k"]) -> Float[ndarray, "..."]:
    """Spearman's, over the last axis, the others broadcast; NaN where a value is, and where all of one are equal.

    >>> import numpy as np
    >>> from diffuscope.findings import rank_correlation
    >>> x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 27.0, 8.0, 64.0])
    >>> round(float(rank_correlation(x, y)), 6)  # 1 - 6 (1 + 1) / (4 (16 - 1)): ranks differ by 1 in two places
    0.8
    """
    a, b = (scipy.stats.rankdata(values, axis=-1) for values in (x, y))
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    lengths = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    with np.errstate(invalid="ignore"):  # one rank for all: NaN
        correlation = (a * b).sum(-1) / lengths
    return np.where(np.isnan(x).any(-1) | np.isnan(y).any(-1), np.nan, correlation)

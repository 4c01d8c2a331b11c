r"""The statistics an audit stands on: resampling, exact permutation tests, conformal p-values, false discovery.

Every p-value here is valid at any sample size because it counts how often an equally extreme value arises when two
exchangeable groups swap names; the observed arrangement is counted among them,

.. math::  p = \frac{1 + \#\{\text{permuted} \ge \text{observed}\}}{1 + \#\text{permutations}},

so p is never 0 and :math:`P(p \le u) \le u` under the null. Working memory is a few million numbers.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy import stats

PERMUTATIONS = 9_999
POWER = 0.95  # with which what is stated as detectable is found
RESAMPLES = 1_000
CHUNK = 4_000_000  # numbers held at once by a resampling loop


def percentile_interval(
    resampled: Float[ndarray, "resamples *shape"], confidence: float = 0.95
) -> tuple[Float[ndarray, "*shape"], Float[ndarray, "*shape"]]:
    """Lower and upper percentile bounds over the first axis."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def bootstrap_sums(
    values: Float[ndarray, "n columns"], rng: np.random.Generator, resamples: int = RESAMPLES
) -> Float[ndarray, "resamples columns"]:
    """Column means of rows resampled with replacement.

    All columns share the resampled rows, so ratios and differences of the columns keep their correlation.
    """
    n = len(values)
    chunk = max(1, CHUNK // n)
    parts = []
    for start in range(0, resamples, chunk):
        counts = rng.multinomial(n, np.full(n, 1 / n), size=min(chunk, resamples - start))
        parts.append(counts @ values / n)
    return np.concatenate(parts)


def paired_permutation(
    differences: Float[ndarray, "n levels"], rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> tuple[Float[ndarray, " levels"], float]:
    """One-sided p-values that the mean difference of exchangeable pairs exceeds 0: per level, and over all levels.

    Swapping the members of pair i changes the sign of row i in every level at once. The overall p-value compares the
    largest studentized mean with its permutation distribution (Westfall & Young 1993), so levels need no further
    correction.
    """
    n = len(differences)
    scale = np.sqrt((differences**2).mean(0))
    scale[scale == 0] = 1
    studentized = differences / scale
    observed = studentized.mean(0)
    exceed, exceed_any, chunk = np.zeros(differences.shape[1]), 0, max(1, CHUNK // n)
    # ties with the observed value must count, also after rounding in another order of summation
    threshold = observed - 1e-12
    for start in range(0, permutations, chunk):
        signs = rng.choice(np.array([-1.0, 1.0]), size=(min(chunk, permutations - start), n))
        permuted = signs @ studentized / n
        exceed += (permuted >= threshold).sum(0)
        exceed_any += int((permuted.max(1) >= observed.max() - 1e-12).sum())
    return (1 + exceed) / (1 + permutations), (1 + exceed_any) / (1 + permutations)


def label_permutation(
    hits: Int[ndarray, " references"],
    is_training: Bool[ndarray, " references"],
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> tuple[float, float]:
    """P-value that the training references collect more hits than chance, and the null deviation of their share.

    `hits[j]` counts the samples whose nearest reference is j. Samples that share a neighbor are not independent, so the
    labels of the references are permuted, not those of the samples: valid however the hits are spread.
    """
    total, kept = hits.sum(), hits > 0
    counts, size, members = hits[kept].astype(float), len(hits), int(is_training.sum())
    observed = hits[is_training].sum()
    exceed, shares, chunk = 0, [], max(1, CHUNK // size)
    for start in range(0, permutations, chunk):
        keys = rng.random((min(chunk, permutations - start), size))
        # a random subset of `members` references: those whose key is among the smallest
        cut = np.partition(keys, members - 1, axis=1)[:, members - 1 : members]
        permuted = (keys <= cut)[:, kept] @ counts
        exceed += int((permuted >= observed).sum())
        shares.append(permuted / total)
    return (1 + exceed) / (1 + permutations), float(np.concatenate(shares).std())


def chi_squared_permutation(
    counts: Int[ndarray, "2 classes"],
    share: float,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> float:
    r"""P-value of `share` of Pearson's chi-squared for two rows of counts, the members of both rows permuted.

    With n and m members, a_k of class k in the first row and t_k in both, the statistic is

    .. math::  \chi^2 = \frac{(n + m)^2}{n m} \sum_k \frac{(a_k - n t_k / (n + m))^2}{t_k} .

    Permuted, the first row is a draw of n from the t_k (multivariate hypergeometric), so that counts may be small. A
    `share` below 1 makes room for a variance that permutations do not have.
    """
    counts = counts[:, counts.sum(0) > 0]
    together = counts.sum(0)
    first, total = int(counts[0].sum()), int(counts.sum())

    def chi_squared(rows: ndarray) -> ndarray:
        unscaled = ((rows - first * together / total) ** 2 / together).sum(1)
        return unscaled * total**2 / (first * (total - first))

    threshold = share * float(chi_squared(counts[:1])[0]) - 1e-9  # ties count, also after rounding
    exceed, chunk = 0, max(1, CHUNK // len(together))
    for start in range(0, permutations, chunk):
        drawn = rng.multivariate_hypergeometric(together, first, size=min(chunk, permutations - start))
        exceed += int((chi_squared(drawn) >= threshold).sum())
    return (1 + exceed) / (1 + permutations)


def conformal_p_values(
    observed: Float[ndarray, " samples"], null: Float[ndarray, " calibration"]
) -> Float[ndarray, " samples"]:
    """P-value of being as small as observed among `null` draws: (1 + #{null <= observed}) / (1 + n)."""
    return (1 + np.searchsorted(np.sort(null), observed, side="right")) / (1 + len(null))


def false_discovery(p_values: Float[ndarray, " samples"], rate: float) -> Bool[ndarray, " samples"]:
    """Benjamini & Hochberg 1995: the largest set with expected share of false members at most `rate`.

    Conformal p-values of one calibration set are positively dependent, for which the bound holds (Bates et al. 2023).
    """
    return stats.false_discovery_control(p_values) <= rate


def exact_share_interval(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper & Pearson 1934: the interval of a share whose coverage is at least `confidence`."""
    found = stats.binomtest(count, total).proportion_ci(confidence)
    return float(found.low), float(found.high)


def binomial_p_value(count: int, total: int) -> float:
    """P(at least `count` of `total` fair coins fall heads)."""
    return float(stats.binom.sf(count - 1, total, 0.5))


def smallest_detectable_copies(samples: int, calibration: int, rate: float, power: float = POWER) -> float:
    """The smallest share of exact copies that false-discovery control finds with probability `power`.

    An exact copy has the smallest possible conformal p-value 1/(calibration + 1); k of them are discovered as soon as
    1/(calibration + 1) <= rate k / samples. If every sample is a copy with probability pi, k is binomial. Returns
    infinity where even all samples together would not be found.
    """
    needed = int(np.ceil(samples / (rate * (calibration + 1)) - 1e-9))
    if needed > samples:
        return float("inf")
    # P(Binomial(samples, pi) >= needed) = power  <=>  pi is a beta quantile
    return float(stats.beta.ppf(power, needed, samples - needed + 1))


def detectable_shift(null_deviation: float, level: float, power: float = POWER) -> float:
    """The shift of a mean that a one-sided test at `level` finds with probability `power` (normal approximation)."""
    return float((stats.norm.isf(level) + stats.norm.isf(1 - power)) * null_deviation)

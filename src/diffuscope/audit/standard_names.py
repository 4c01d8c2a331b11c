r"""The same under other names: the measures of memorization that other tools report, each with its null.

With d_1 <= d_2 the distances from a sample to its two nearest training examples, both of these distinct:

- DCR, distance to the closest record: the median and the 5% quantile of d_1;
- NNDR, nearest-neighbor distance ratio: the median of d_1 / d_2; and the share of samples with d_1 / d_2 < 1/3;
- AuthPct (Alaa et al. 2022): the share of samples that are farther from their nearest training example than that one is
  from its own nearest neighbor;
- C_T (Meehan et al. 2020): in every cell (k-means of the training set) the Mann-Whitney statistic of d_1 of samples
  against held-out examples, as a z-score, averaged with the cells' shares of held-out examples. Copying is negative.

The null value of each is that of as many random held-out examples, with the 2.5% and 97.5% quantiles over random draws.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy import stats
from torch import Tensor

from diffuscope.exact import nearest_neighbors
from diffuscope.report import Table

from .nearness import kmeans

CELLS, LEAST_IN_CELL = 10, 20
DRAWS = 400
Rows = Float[Tensor, "_ features"]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measure by its standard name, its value under the null with an interval, and a p-value where there is one."""

    name: str
    value: float
    null: float
    low: float
    high: float
    p_value: float | None = None


@dataclass(frozen=True, eq=False)
class _Distances:
    first: Float[ndarray, " n"]
    ratio: Float[ndarray, " n"]
    authentic: Float[ndarray, " n"]


def standard_measures(samples: Rows, train: Rows, heldout: Rows, rng: np.random.Generator) -> list[Measure]:
    """All measures; `train` has at least two different rows, without duplicates."""
    limit = max(len(samples), 1000)
    chosen = torch.from_numpy(np.sort(rng.permutation(len(heldout))[:limit]))
    of_samples, null = _distances(samples, train), _distances(heldout[chosen], train)
    measures: list[tuple[str, Callable[[_Distances], ndarray], Callable[[ndarray], float]]] = [
        ("DCR, median", lambda d: d.first, lambda v: float(np.median(v))),
        ("DCR, 5% quantile", lambda d: d.first, lambda v: float(np.quantile(v, 0.05))),
        ("NNDR, median", lambda d: d.ratio, lambda v: float(np.median(v))),
        ("share with d1/d2 < 1/3, %", lambda d: 100.0 * (d.ratio < 1 / 3), lambda v: float(v.mean())),
        ("AuthPct, %", lambda d: 100.0 * d.authentic, lambda v: float(v.mean())),
    ]
    found = []
    for name, of, reduce in measures:
        values = of(null)
        drawn = [reduce(rng.choice(values, len(samples))) for _ in range(DRAWS)]
        low, high = np.quantile(drawn, (0.025, 0.975))
        found.append(
            Measure(name=name, value=reduce(of(of_samples)), null=reduce(values), low=float(low), high=float(high))
        )
    return [*found, copying_test(of_samples.first, null.first, _cells(samples, heldout[chosen], train, rng))]


def copying_test(
    samples: Float[ndarray, " n"], heldout: Float[ndarray, " m"], cells: tuple[ndarray, ndarray]
) -> Measure:
    """C_T from the distances of samples and held-out examples to the training set, and their cells."""
    z, weights = [], []
    for cell in np.intersect1d(*cells):
        ours, theirs = samples[cells[0] == cell], heldout[cells[1] == cell]
        n, m = len(ours), len(theirs)
        if min(n, m) < LEAST_IN_CELL:
            continue
        statistic = stats.mannwhitneyu(ours, theirs).statistic
        z.append((statistic - n * m / 2) / (n * m * (n + m + 1) / 12) ** 0.5)
        weights.append(m)
    if not z:
        return Measure(name="C_T", value=np.nan, null=0.0, low=np.nan, high=np.nan)
    shares = np.array(weights) / sum(weights)
    value, deviation = float(shares @ np.array(z)), float(np.sqrt((shares**2).sum()))
    p_value = float(stats.norm.cdf(value / deviation))
    return Measure(name="C_T", value=value, null=0.0, low=-1.96 * deviation, high=1.96 * deviation, p_value=p_value)


def _distances(queries: Rows, train: Rows) -> _Distances:
    distance, index = (t.numpy() for t in nearest_neighbors(queries, train, 2))
    nearest = train[torch.from_numpy(index[:, 0])]
    own = nearest_neighbors(nearest, train, 2)[0][:, 1].numpy()
    ratio = np.divide(distance[:, 0], distance[:, 1], out=np.zeros(len(queries)), where=distance[:, 1] > 0)
    return _Distances(distance[:, 0], ratio, (distance[:, 0] > own).astype(float))


def _cells(samples: Rows, heldout: Rows, train: Rows, rng: np.random.Generator) -> tuple[ndarray, ndarray]:
    count = max(1, min(CELLS, min(len(samples), len(heldout)) // (2 * LEAST_IN_CELL)))
    part = train[torch.from_numpy(rng.permutation(len(train))[:10_000])]
    cell = kmeans(part, count, int(rng.integers(2**32)))
    return cell(samples), cell(heldout)


def measures_table(measures: list[Measure], space: str) -> Table:
    """One row per measure."""
    rows = [
        [m.name, *(float(v) if np.isfinite(v) else None for v in (m.value, m.null, m.low, m.high)), m.p_value]
        for m in measures
    ]
    note = (
        "Null: the value for as many held-out examples, and its 95% range. Plain distances, without transformations, "
        "to distinct training examples. Copies lower every measure but the share with d1/d2 < 1/3."
    )
    header = ["measure", "samples", "null", "low", "high", "p-value"]
    return Table(f"The same under other names ({space})", header, rows, note, folded=True)

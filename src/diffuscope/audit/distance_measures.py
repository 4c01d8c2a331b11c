r"""Measures of the distances from samples to training examples: IMS, DCR, NNDR, AuthPct, C_T.

With d_1 <= d_2 the distances from a sample to its two nearest training examples, both of these distinct:

- IMS, identical match share: the share of samples with d_1 = 0;
- DCR, distance to the closest record: the median and the 5% quantile of d_1;
- NNDR, nearest-neighbor distance ratio: the median and the 5% quantile of d_1 / d_2; and the share of samples with
  d_1 / d_2 < 1/3;
- AuthPct (Alaa et al. 2022): the share of samples that are farther from their nearest training example than that one is
  from its own nearest neighbor;
- C_T (Meehan et al. 2020): in every cell (k-means of the training set) the Mann-Whitney statistic of d_1 of samples
  against held-out examples, as a z-score, averaged with the cells' shares of held-out examples. Copying is negative.

Held-out examples, treated as samples, are the null of each (`measure`). The same distances from samples to held-out
examples, with training examples as their null, are controls: typical samples without detail are near to both sets.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from diffuscope.findings import NORMAL_95

from .measure import Measure, quantile_measure, share_measure
from .nearness import kmeans
from .repeats import distinct
from .rows_of import AnyRows, at_once, few_enough, nearest_rows, part_of

CELLS, LEAST_IN_CELL = 10, 20
NEIGHBORS = 16  # of a query
Rows = Float[Tensor, "_ features"]
_RATIO = (0.0, 1.0)
_DISTANCE = (0.0, float("inf"))


@dataclass(frozen=True, eq=False)
class _Distances:
    first: Float[ndarray, " n"]
    ratio: Float[ndarray, " n"]
    index: Int[Tensor, "n k"]


def distance_measures(samples: Rows, train: AnyRows, heldout: Rows, rng: np.random.Generator) -> list[Measure]:
    """The measures with `train` as the set that may be copied.

    `train` has at least two rows, all different, and the rows of `heldout` are independent. Raises InputError for rows
    of another width.
    """
    ours, fresh = _distances(samples, train), _distances(heldout, train)
    third = "share with d1/d2 < 1/3, %"
    return [
        share_measure(
            "IMS, %",
            ours.first == 0,
            fresh.first == 0,
            copies="high",
            meaning="Samples that equal a training row in every value.",
        ),
        *_quantiles("DCR", ours.first, fresh.first, _DISTANCE, "the nearest training row", copies="low"),
        *_quantiles(
            "NNDR",
            ours.ratio,
            fresh.ratio,
            _RATIO,
            "the nearest training row, divided by that to the second nearest",
            copies="low",
        ),
        share_measure(
            third,
            ours.ratio < 1 / 3,
            fresh.ratio < 1 / 3,
            copies="high",
            reader="images",
            meaning="Samples three times nearer to one training example than to any other.",
        ),
        share_measure(
            "AuthPct, %",
            _authentic(ours, train),
            _authentic(fresh, train),
            copies="low",
            reader="images",
            meaning="Samples farther from their training example than that one is from its own nearest neighbor.",
        ),
        copying_test(ours.first, fresh.first, _cells(samples, heldout, train, rng)),
    ]


def heldout_controls(samples: Rows, train: Rows, heldout: AnyRows) -> list[Measure]:
    """IMS, DCR and NNDR from samples to held-out examples, with independent training rows as the null.

    They are controls without a p-value. `heldout` has at least two rows, all different.
    """
    ours, fresh = _distances(samples, heldout), _distances(train, heldout)
    return [
        share_measure(
            "IMS to held-out, %",
            ours.first == 0,
            fresh.first == 0,
            copies=None,
            reader="tables",
            meaning="Control: samples that equal a held-out row.",
        ),
        *_quantiles("DCR to held-out", ours.first, fresh.first, _DISTANCE, "the nearest held-out row", copies=None),
        *_quantiles(
            "NNDR to held-out",
            ours.ratio,
            fresh.ratio,
            _RATIO,
            "the nearest held-out row, divided by that to the second nearest",
            copies=None,
        ),
    ]


def _quantiles(
    name: str, ours: ndarray, fresh: ndarray, bounds: tuple[float, float], what: str, *, copies: str | None
) -> list[Measure]:
    control = "" if copies else "Control: the"
    return [
        quantile_measure(
            f"{name}, {label}",
            ours,
            fresh,
            level,
            bounds,
            copies="low" if copies else None,
            reader="tables",
            meaning=f"{control or 'The'} {words} of the distance to {what}.",
        )
        for label, words, level in (("5% quantile", "5% quantile", 0.05), ("median", "median", 0.5))
    ]


def copying_test(
    samples: Float[ndarray, " n"], heldout: Float[ndarray, " m"], cells: tuple[ndarray, ndarray]
) -> Measure:
    """C_T from the distances of samples and held-out examples to the training set, and their cells.

    The variance of the Mann-Whitney statistic includes ties; a cell of equal distances has z = 0. NaN if no cell has
    enough of both.
    """
    z, weights, spread = [], [], []
    for cell in np.intersect1d(*cells):
        ours, theirs = samples[cells[0] == cell], heldout[cells[1] == cell]
        n, m = len(ours), len(theirs)
        if min(n, m) < LEAST_IN_CELL:
            continue
        tied = np.unique(np.concatenate([ours, theirs]), return_counts=True)[1]
        total = n + m
        variance = n * m / 12 * (total + 1 - float((tied.astype(float) ** 3 - tied).sum()) / (total * (total - 1)))
        centered = float(scipy.stats.mannwhitneyu(ours, theirs).statistic) - n * m / 2
        z.append(centered / math.sqrt(variance) if variance > 0 else 0.0)
        spread.append(variance > 0)
        weights.append(m)
    what = "Distances to training data against those of held-out examples, as a z-score within clusters."
    if not any(spread):
        return Measure(name="C_T", value=np.nan, null=0.0, low=np.nan, high=np.nan, reader="images", meaning=what)
    shares = np.array(weights) / sum(weights)
    value, deviation = float(shares @ np.array(z)), float(np.sqrt((shares**2 * np.array(spread)).sum()))
    half = NORMAL_95 * deviation
    return Measure(
        name="C_T",
        value=value,
        null=0.0,
        low=-half,
        high=half,
        p_value=float(scipy.stats.norm.cdf(value / deviation)),
        interval=(value - half, value + half),
        reader="images",
        copies="low",
        meaning=what,
    )


def distinct_rows(rows: AnyRows) -> AnyRows:
    """The rows without repetitions, in their order; no copy where nothing is repeated."""
    kept = distinct(rows)[0]
    return rows if len(kept) == len(rows) else part_of(rows, torch.from_numpy(kept))


def _distances(queries: Rows, train: AnyRows) -> _Distances:
    found, index = nearest_rows(queries, train, min(NEIGHBORS, len(train)))
    distance = found.numpy()
    ratio = np.divide(distance[:, 0], distance[:, 1], out=np.zeros(len(queries)), where=distance[:, 1] > 0)
    return _Distances(distance[:, 0], ratio, index)


def _authentic(found: _Distances, train: AnyRows) -> Bool[ndarray, " n"]:
    """Whether the nearest training row has another one within the distance of the query.

    Most have one among the query's other neighbors; only the rest are searched for in all of `train`.
    """
    first, authentic = torch.from_numpy(found.first), torch.zeros(len(found.index), dtype=torch.bool)
    for part in torch.arange(len(found.index)).split(at_once(4 * found.index.shape[1] * train.shape[1])):
        near = train[found.index[part]].double()
        authentic[part] = (near[:, 1:] - near[:, :1]).norm(dim=2).amin(1) < first[part]
    rest = torch.nonzero(~authentic)[:, 0]
    if len(rest):
        nearest, which = torch.unique(found.index[rest, 0], return_inverse=True)
        authentic[rest] = nearest_rows(train[nearest], train, 2)[0][:, 1][which] < first[rest]
    return authentic.numpy()


def _cells(samples: Rows, heldout: Rows, train: AnyRows, rng: np.random.Generator) -> tuple[ndarray, ndarray]:
    count = max(1, min(CELLS, min(len(samples), len(heldout)) // (2 * LEAST_IN_CELL)))
    part = train[torch.from_numpy(rng.permutation(len(train))[: few_enough(10_000, train.shape[1])])]
    cell = kmeans(part, count, int(rng.integers(2**32)))
    return cell(samples), cell(heldout)

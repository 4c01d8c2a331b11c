r"""Do pairs of columns belong together as in the data? Every column may be right and the rows be nonsense.

Each column is one or more features z: for numbers and dates the rank of the value among samples and held-out rows
together (0 for a missing one), and an indicator of missing values; for categories their indicators, of the
`MOST_KINDS` most frequent ones and of all others. With the moments of one of the two sets, the pair (i, j) has the
matrix

.. math::  R_{ij} = s_i^{-1} \operatorname{Cov}(z_i, z_j)\, s_j^{-1}, \qquad
           s = \text{standard deviation (numbers)},\ \sqrt{p_k}\ \text{(indicators of categories)}.

With :math:`r` the smaller number of degrees of freedom of the two columns, :math:`\lVert R \rVert / \sqrt r` is the
absolute rank correlation of two columns of numbers, the correlation ratio of numbers and categories, and Cramer's V
of two columns of categories. The pair's distance is

.. math::  \Delta = \lVert R^{\text{samples}} - R^{\text{held-out}} \rVert / \sqrt r ,

at least the difference of the two associations, and more where these are equally strong and mean the opposite.

*Test.* Permutations of the rows' names, corrected for the number of pairs and for the sampling error of the training
rows (`column_permutations`).

*Power.* As for single columns (`column_shares`): a pair is found with probability 0.95 if its distance exceeds the
critical one by :math:`z_{0.95} \sqrt{1/n + 1/m + 1/N}`, the standard error of a difference of correlations near 0.
"""

from dataclasses import dataclass

import numpy as np
import scipy  # its subpackages are loaded when they are first used
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from diffuscope.data import Column, Table
from diffuscope.findings import POWER, Finding, Tone
from diffuscope.findings.numbers import number
from diffuscope.report import Block, Cell
from diffuscope.report import Table as Shown

from .column_permutations import PERMUTATIONS, Permuted, drawn_sets, permuted_names, permuted_tests, shrinking

MOST_ROWS = 5_000  # of each set
MOST_KINDS = 6  # categories of a column, and one for all others
MOST_COLUMNS = 50
WORK = 1.5e10  # multiplications of all permutations together
CONSTANT = 1e-6  # of variance, or of the share of rows of a kind: a feature of less counts as uncorrelated
CHUNK = 100  # permutations at once
SHOWN = 30  # pairs in the table
SIGNED = "rank correlation"


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnPairs:
    """Every pair of columns: the association among samples and among held-out rows, their distance and its test.

    Rank correlations have their sign; other associations have none. `left_out` columns are beyond the first
    `MOST_COLUMNS`.
    """

    names: tuple[tuple[str, str], ...]
    measures: tuple[str, ...]
    of_samples: Float[ndarray, " pairs"]
    of_heldout: Float[ndarray, " pairs"]
    distance: Float[ndarray, " pairs"]
    tests: Permuted
    samples: int
    others: float
    known: float
    left_out: int = 0

    @property
    def order(self) -> Int[ndarray, " pairs"]:
        """The pairs, those first that are farthest beyond chance."""
        return self.tests.farthest_first(self.distance)

    def detectable(self, significance: float) -> float:
        """The true distance at which any pair is found with probability 0.95; infinity if it is above 2."""
        error = (1 / self.samples + 1 / self.others + 1 / self.known) ** 0.5
        least = float(self.tests.critical(significance).max()) + scipy.stats.norm.ppf(POWER) * error
        return least if least <= 2 else np.inf


@dataclass(frozen=True, eq=False)
class _Features:
    """The features z of all rows, column after column: where each begins, its degrees of freedom, its kind."""

    z: Float[ndarray, "rows p"]
    starts: Int[ndarray, " columns"]
    freedom: Int[ndarray, " columns"]
    indicator: Float[ndarray, " p"]  # 1 for those of categories, whose s is the root of a mean

    def correlations(self, products: ndarray, sums: ndarray, count: int) -> Float[ndarray, "p p"]:
        """All R of a set with these sums of products and of features."""
        mean = sums / count
        covariance = products / count - mean[:, None] * mean
        square = np.where(self.indicator, mean, np.diagonal(covariance))
        scale = np.where(square > CONSTANT, 1 / np.sqrt(np.maximum(square, CONSTANT)), 0.0)
        return covariance * (scale[:, None] * scale)

    def norms(self, matrix: Float[ndarray, "p p"]) -> Float[ndarray, "columns columns"]:
        """The norm of each block by the root of r."""
        squares = np.add.reduceat(np.add.reduceat(matrix**2, self.starts, axis=0), self.starts, axis=1)
        return np.sqrt(squares / np.minimum.outer(self.freedom, self.freedom))


def column_pairs(
    table: Table,
    samples: Float[Tensor, "n d"],
    heldout: Float[Tensor, "m d"],
    known: float | int,
    rng: np.random.Generator,
    *,
    others: float | int | None = None,
    permutations: int = PERMUTATIONS,
) -> ColumnPairs | None:
    """Compare the pairs of the first 50 columns of encoded rows; None with fewer than two columns.

    `known` and `others` are the effective numbers of training and of held-out rows. At most 5,000 rows of each set are
    drawn and compared, fewer of many columns. Source of the associations: Cramer 1946, Spearman 1904.

    >>> from diffuscope.data import fit_table
    >>> up, down = [1.0, 2.0, 4.0, 8.0] * 10, [8.0, 4.0, 2.0, 1.0] * 10
    >>> table = fit_table({"a": up, "b": up})
    >>> samples, heldout = table.encode({"a": up, "b": down}), table.encode({"a": up, "b": up})
    >>> found = column_pairs(table, samples, heldout, 1000, np.random.default_rng(0))
    >>> found.of_samples.round(3).tolist(), found.of_heldout.round(3).tolist()
    ([-1.0], [1.0])
    """
    columns = table.columns[:MOST_COLUMNS]
    if len(columns) < 2:
        return None
    samples, heldout, others = drawn_sets(samples, heldout, others, rows_within(WORK, columns, permutations), rng)
    n, m = len(samples), len(heldout)
    values = [np.concatenate([column.values(samples), column.values(heldout)]) for column in columns]
    features = _features(values, columns)
    z, first = features.z.astype(np.float32), np.arange(n + m) < n
    upper = np.triu_indices(len(columns), 1)
    products, sums = z.T @ z, z.sum(0)

    def matrices(is_sample: ndarray, z: ndarray, products: ndarray, sums: ndarray) -> tuple[ndarray, ndarray]:
        fewer = z[is_sample] if n <= m else z[~is_sample]
        of_fewer, sums_of_fewer = fewer.T @ fewer, fewer.sum(0)
        sets = (of_fewer, sums_of_fewer, min(n, m)), (products - of_fewer, sums - sums_of_fewer, max(n, m))
        one, other = (features.correlations(*of_set) for of_set in (sets if n <= m else sets[::-1]))
        return one, other

    def distances(is_sample: ndarray) -> ndarray:
        one, other = matrices(is_sample, z, products, sums)
        return features.norms(one - other)[upper]

    permuted = [distances(names) for chunk in permuted_names(n, m, permutations, rng, CHUNK) for names in chunk]
    tests = permuted_tests(distances(first), np.stack(permuted), shrinking(n, m, others, known))
    exact = features.z
    one, other = matrices(first, exact, exact.T @ exact, exact.sum(0))
    of_pairs = [(columns[i], columns[j]) for i, j in np.stack(upper, 1).tolist()]
    measures = tuple(_measure(*pair) for pair in of_pairs)
    signed = np.array(measures) == SIGNED
    of_samples, of_heldout = (
        np.where(signed, r[np.ix_(features.starts, features.starts)][upper], features.norms(r)[upper])
        for r in (one, other)
    )
    return ColumnPairs(
        names=tuple((a.name, b.name) for a, b in of_pairs),
        measures=measures,
        of_samples=of_samples,
        of_heldout=of_heldout,
        distance=features.norms(one - other)[upper],
        tests=tests,
        samples=n,
        others=others,
        known=float(known),
        left_out=len(table.columns) - len(columns),
    )


def rows_within(work: float, columns: tuple[Column, ...], permutations: int) -> int:
    """How many rows of each set keep all permutations within `work` multiplications: 200 to MOST_ROWS."""
    features = sum(1 + min(column.width, MOST_KINDS) if column.kind == "categorical" else 2 for column in columns)
    return int(np.clip(work / (2 * permutations * features**2), 200, MOST_ROWS))


def _features(values: list[ndarray], columns: tuple[Column, ...]) -> _Features:
    parts, freedom, indicator = list[ndarray](), list[int](), list[float]()
    for column, of_rows in zip(columns, values, strict=True):
        if column.kind == "categorical":
            codes, counts = np.unique(of_rows, return_inverse=True, return_counts=True)[1:]
            place = np.argsort(np.argsort(-counts, kind="stable"))  # 0 for the most frequent
            kinds = min(len(counts), MOST_KINDS + 1)
            z = np.minimum(place, kinds - 1)[codes][:, None] == np.arange(kinds)
            free = max(1, kinds - 1)
        else:
            missing = np.isnan(of_rows)
            ranks = np.zeros(len(of_rows))
            ranks[~missing] = scipy.stats.rankdata(of_rows[~missing])
            ranks[~missing] -= ranks[~missing].mean()
            ranks /= max(1.0, float(np.abs(ranks).max(initial=0)))
            z = np.stack([ranks, missing], axis=1) if missing.any() else ranks[:, None]
            free = z.shape[1]
        parts.append(z.astype(np.float64))
        freedom.append(free)
        indicator += [float(column.kind == "categorical")] * z.shape[1]
    starts = np.cumsum([0, *(z.shape[1] for z in parts[:-1])])
    return _Features(np.concatenate(parts, axis=1), starts, np.array(freedom), np.array(indicator))


def _measure(one: Column, other: Column) -> str:
    of_categories = (one.kind == "categorical") + (other.kind == "categorical")
    return (SIGNED, "correlation ratio", "Cramer's V")[of_categories]


def pairs_finding(result: ColumnPairs, significance: float) -> Finding:
    """The distance of the pair that is farthest beyond chance, and its corrected test."""
    worst, least = int(result.order[0]), result.detectable(significance)
    found = int((result.tests.corrected < significance).sum())
    (one, other), p = result.names[worst], float(result.tests.corrected.min())
    where = (
        f"{result.measures[worst]} of {one!r} and {other!r}: {number(float(result.of_samples[worst]))} among samples, "
        f"{number(float(result.of_heldout[worst]))} in held-out rows"
    )
    tone: Tone = "good"
    if found:
        tone, do = "attention", "does" if found == 1 else "do"
        text = (
            f"{found} of {len(result.names)} pairs of columns {do} not belong together as in the data. Farthest beyond "
        )
        text += f"chance: {where}."
    elif np.isinf(least):
        tone, text = "unknown", f"Cannot tell: with so few rows no pair of columns would be found. {where}."
    else:
        text = f"No pair of columns differs from the data beyond chance. Farthest: {where}."
    power = (
        "No difference would be found with probability 0.95."
        if np.isinf(least)
        else f"A pair whose association differs by about {number(least)} would have been found with probability 0.95. "
        "Three columns that belong together only as three are not seen here."
    )
    return Finding(
        name="fidelity.pairs",
        title="Do pairs of columns belong together as in the data?",
        value=float(result.distance[worst]),
        unit="",
        verdict=text,
        tone=tone,
        null="Every pair has the joint distribution of the data, up to the sampling error of "
        f"{round(result.known):,} independent training rows.",
        p_value=p,
        power=power,
    )


def pairs_table(result: ColumnPairs) -> Block:
    """The pairs that are farthest beyond chance, folded."""
    rows: list[list[Cell]] = [
        [
            " and ".join(result.names[k]),
            result.measures[k],
            float(result.of_samples[k]),
            float(result.of_heldout[k]),
            float(result.distance[k]),
            float(result.tests.chance[k]),
            float(result.tests.p_value[k]),
            float(result.tests.corrected[k]),
        ]
        for k in result.order[:SHOWN]
    ]
    left_out = f" The last {result.left_out} columns are left out." if result.left_out else ""
    return Shown(
        "Pairs of columns" if len(rows) == len(result.names) else f"The {SHOWN} pairs farthest beyond chance",
        ["pair", "measure", "samples", "held-out", "distance", "chance, 95%", "p", "p, corrected"],
        rows,
        "The distance is that of all correlations between two columns, so that it is large where the two associations "
        f"are equally strong and mean the opposite.{left_out}",
        folded=True,
    )


METHOD = (
    "Pairs of columns: rank correlation, correlation ratio or Cramer's V, tested in the same way by the largest "
    "difference."
)

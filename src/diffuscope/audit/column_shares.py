r"""Does every column of a table have the data's distribution? Distances over whole rows hardly respond to one column.

For each column, n samples with distribution function F and m held-out rows with G:

- numbers and dates: the Kolmogorov-Smirnov distance :math:`\sup_v |F(v) - G(v)|`, where a missing value counts as
  larger than every other, so that it is at least the difference of the missing shares;
- categories, missing being one of them: the total variation distance :math:`\tfrac12 \sum_k |p_k - q_k|`.

Both are the largest difference of a probability, over intervals :math:`(-\infty, v]` or over sets of categories.

*Test.* Permutations of the rows' names, corrected for the number of columns and for the sampling error of the training
rows (`column_permutations`).

*Power.* With a critical distance :math:`d^*`, a column at true distance :math:`\Delta` is found with probability 0.95
or more if

.. math::  \Delta \ge d^* + z_{0.95}\, \tfrac12 \sqrt{\tfrac1n + \tfrac1m + \tfrac1N},

because the measured distance is at least the measured difference of the one probability that differs by
:math:`\Delta`, whose standard error is at most that root (normal approximation).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy  # its subpackages are loaded when they are first used
from jaxtyping import Float, Int, Shaped
from numpy import ndarray
from torch import Tensor

from diffuscope.data import Table
from diffuscope.findings import POWER, Chart, Finding, Panel, Tone, groups
from diffuscope.findings.numbers import number
from diffuscope.report import Block, Cell
from diffuscope.report import Table as Shown

from .column_permutations import (
    PERMUTATIONS,
    ROUNDING,
    Permuted,
    drawn_sets,
    permuted_names,
    permuted_tests,
    shrinking,
)

MOST_ROWS = 5_000  # of each set
MOST_VALUES = 2_000_000  # rows x columns
CHUNK = 200  # permutations at once
MOST_DRAWN, LONGEST = 12, 14  # columns of a readable bar chart, letters of their names
MOST_NAMED = 4
MOST_CELLS = 1024  # intervals of a column of numbers, and categories, among which the names are permuted


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnShares:
    """The distance of every column, in the order of the table, with its test against permuted names.

    `known` and `others` are the effective numbers of training and held-out rows, `missing` the shares of missing values
    among samples and among held-out rows.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    distance: Float[ndarray, " columns"]
    tests: Permuted
    missing: Float[ndarray, "2 columns"] = field(repr=False)
    samples: int
    others: float
    known: float

    @property
    def order(self) -> Int[ndarray, " columns"]:
        """The columns, those first that are farthest beyond chance."""
        return self.tests.farthest_first(self.distance)

    def detectable(self, significance: float) -> Float[ndarray, " columns"]:
        """The true distance at which each column is found with probability 0.95; infinity where there is none."""
        error = 0.5 * (1 / self.samples + 1 / self.others + 1 / self.known) ** 0.5
        least = self.tests.critical(significance) + scipy.stats.norm.ppf(POWER) * error
        return np.where(least <= 1, least, np.inf)


def column_shares(
    table: Table,
    samples: Float[Tensor, "n d"],
    heldout: Float[Tensor, "m d"],
    known: float | int,
    rng: np.random.Generator,
    *,
    others: float | int | None = None,
    permutations: int = PERMUTATIONS,
) -> ColumnShares:
    """Compare each column of encoded rows, of a generator that knows the data from `known` independent rows.

    `others` is the effective number of held-out rows (by default all). At most 5,000 rows of each set, fewer of more
    than 200 columns, are drawn and compared. Source of the correction: Westfall & Young 1993.

    >>> from diffuscope.data import fit_table
    >>> ages = [20, 30, 40, 50] * 10
    >>> table = fit_table({"age": ages, "city": ["Rome", "Oslo"] * 20})
    >>> samples = table.encode({"age": ages, "city": ["Rome"] * 40})
    >>> heldout = table.encode({"age": ages, "city": ["Rome", "Oslo"] * 20})
    >>> found = column_shares(table, samples, heldout, 1000, np.random.default_rng(0))
    >>> found.names[found.order[0]], found.distance.tolist()
    ('city', [0.0, 0.5])
    """
    columns = table.columns
    samples, heldout, others = drawn_sets(samples, heldout, others, rows_of_columns(len(columns)), rng)
    n, m = len(samples), len(heldout)
    pairs = [(column.values(samples), column.values(heldout)) for column in columns]
    numbers = [column.kind != "categorical" for column in columns]
    of_rows = [_cells(np.concatenate(pair), is_number) for pair, is_number in zip(pairs, numbers, strict=True)]
    names = (np.arange(n + m) < n).astype(np.float64)[:, None]
    exact = _distances(of_rows, numbers, names)[0]
    # so many intervals are enough for a test: the maximum over more of them is hardly larger
    of_rows = [_coarse(cells) for cells in of_rows]
    permuted = np.concatenate(
        [
            # rows x arrangements, so that sums over rows are sums of contiguous vectors
            _distances(of_rows, numbers, np.ascontiguousarray(chunk.T, dtype=np.float32))
            for chunk in permuted_names(n, m, permutations, rng, CHUNK)
        ]
    )
    observed = _distances(of_rows, numbers, names)[0]
    tests = permuted_tests(observed, permuted, shrinking(n, m, others, known))
    missing = [
        [float((np.isnan(part) if is_number else part == -1).mean()) for part in pair]
        for pair, is_number in zip(pairs, numbers, strict=True)
    ]
    return ColumnShares(
        names=tuple(column.name for column in columns),
        kinds=tuple(column.kind for column in columns),
        distance=exact,
        tests=tests,
        missing=np.array(missing).T,
        samples=n,
        others=others,
        known=float(known),
    )


def rows_of_columns(columns: int) -> int:
    """How many rows of each set of a table with this many columns are compared."""
    return max(20, min(MOST_ROWS, MOST_VALUES // (2 * columns)))


def _cells(values: Shaped[ndarray, " rows"], is_number: bool) -> Int[ndarray, " rows"]:
    """The place of each row's value among the different ones, missing numbers last."""
    return np.unique(np.where(np.isnan(values), np.inf, values) if is_number else values, return_inverse=True)[1]


def _coarse(cells: Int[ndarray, " rows"]) -> Int[ndarray, " rows"]:
    """At most MOST_CELLS intervals of neighboring cells."""
    return cells * MOST_CELLS // max(MOST_CELLS, int(cells.max()) + 1)


def _distances(
    of_rows: Sequence[Int[ndarray, " rows"]], numbers: Sequence[bool], names: Float[ndarray, "rows b"]
) -> Float[ndarray, "b columns"]:
    """The distance of every column between the rows called samples (1) and the others (0), in b arrangements."""
    rows, n = len(names), float(names[:, 0].sum())
    distances = np.empty((names.shape[1], len(of_rows)))
    for c, (cells, is_number) in enumerate(zip(of_rows, numbers, strict=True)):
        members = scipy.sparse.csr_array((np.ones(rows, dtype=names.dtype), (cells, np.arange(rows))))
        both = np.bincount(cells)[:, None] / (rows - n)
        differences = members @ names
        differences *= 1 / n + 1 / (rows - n)
        differences -= both.astype(names.dtype)
        if is_number:
            distances[:, c] = np.abs(np.cumsum(differences, axis=0)).max(0)
        else:
            distances[:, c] = np.abs(differences).sum(0) / 2
    return np.where(distances < ROUNDING, 0.0, distances)


def columns_finding(result: ColumnShares, significance: float) -> Finding:
    """The distance of the column that is farthest beyond chance, and its corrected test."""
    worst, corrected = int(result.order[0]), result.tests.corrected
    found = np.flatnonzero(corrected < significance)
    least = result.detectable(significance)
    hardest = int(least.argmax())
    total = len(result.names)
    where = f"column {result.names[worst]!r} is at distance {number(float(result.distance[worst]))} from held-out rows"
    where += f" (chance: up to {number(float(result.tests.chance[worst]))})"
    tone: Tone = "good"
    if len(found):
        tone, do = "attention", "does" if len(found) == 1 else "do"
        text = f"{len(found)} of {total} columns {do} not have the distribution of the data: {where}."
        others = [repr(result.names[c]) for c in result.order if c in found and c != worst]
        if others:
            more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
            text += f" Also: {', '.join(others[:MOST_NAMED])}{more}."
    elif np.isinf(least[hardest]):
        tone = "unknown"
        text = f"Cannot tell: with so few rows not every wrong column would be found; {where}."
    else:
        text = f"No column differs from the data beyond chance; {where}."
    of_samples, of_heldout = result.missing[:, worst]
    if tone == "attention" and max(of_samples, of_heldout) > 0:
        text += f" Missing in it: {of_samples:.1%} of the samples, {of_heldout:.1%} of held-out rows."
    return Finding(
        name="fidelity.columns",
        title="Do the columns have the data's distributions?",
        value=float(result.distance[worst]),
        unit="",
        verdict=text,
        tone=tone,
        null=f"Each column has the distribution of the data, up to the sampling error of {round(result.known):,} "
        "independent training rows.",
        p_value=float(result.tests.corrected.min()),
        power=_power(result, least, hardest),
    )


def _power(result: ColumnShares, least: Float[ndarray, " columns"], hardest: int) -> str:
    if np.isinf(least[hardest]):
        return f"In {result.names[hardest]!r} not even the largest distance, 1, would be found with probability 0.95."
    text = f"A column at distance {number(float(least[hardest]))} or more would have been found with probability 0.95"
    easiest = int(least.argmin())
    if len(least) > 1 and least[easiest] < least[hardest]:
        text += f"; {result.names[easiest]!r} at {number(float(least[easiest]))}"
    return f"{text}. Each column is tested by itself: how columns go together is another question."


def column_blocks(result: ColumnShares, significance: float) -> list[Block]:
    """Bars of the distances beside what chance does, and all numbers, folded."""
    order = result.order
    shown = order[:MOST_DRAWN]
    bars = groups(
        [_short(result.names[c]) for c in shown],
        {
            "samples": result.distance[shown].tolist(),
            "95% of perfect generators are below": result.tests.chance[shown].tolist(),
        },
    )
    top = 1.3 * max(float(result.distance.max()), float(result.tests.chance.max()), 0.01)
    drawn = f"{MOST_DRAWN} of {len(order)} columns" if len(order) > MOST_DRAWN else "All columns"
    chart = Chart(
        "Distance of each column to held-out rows",
        (Panel("", "column", "distance", (bars,), y_range=(0.0, top)),),
        f"{drawn}, those farthest beyond chance first. Kolmogorov-Smirnov distance of numbers and dates, total "
        "variation of categories: 0.1 is a tenth of the samples in the wrong place. The second bar is what a perfect "
        "generator that knows the training rows stays below in 95% of cases, each column by itself.",
    )
    least = result.detectable(significance)
    rows: list[list[Cell]] = [
        [
            result.names[c],
            result.kinds[c],
            float(result.distance[c]),
            float(result.tests.chance[c]),
            float(result.tests.p_value[c]),
            float(result.tests.corrected[c]),
            100 * float(result.missing[0, c]),
            100 * float(result.missing[1, c]),
            float(least[c]) if np.isfinite(least[c]) else None,
        ]
        for c in order
    ]
    table = Shown(
        "Every column",
        ["column", "kind", "distance", "chance, 95%", "p", "p, corrected", "missing, %", "held-out, %", "detectable"],
        rows,
        "Detectable: the distance that would have been found with probability 0.95.",
        folded=True,
    )
    return [chart, table]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


METHOD = (
    "Columns: Kolmogorov-Smirnov distance (numbers, dates; missing values count as the largest) or total variation "
    f"distance (categories), shrunk for the sampling error of the training rows, with {PERMUTATIONS} permutations of "
    "rows and the step-down correction of Westfall and Young."
)

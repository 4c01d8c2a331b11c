r"""The measures of memorization that other tools report, under their names, each with its null hypothesis.

Conventions of other tools have no null, or a wrong one: a reader expects 0 or 1/2 where a perfect generator gives
something else. Here every measure of n samples is printed with the value that as many fresh examples would have
(`measure`; `distance_measures`,
`name_permutations`, `feature_likelihood`, `table_attacks`), and with one-sided p-values. None of them
decides the verdict: they search for no modified copies, and each is one of many tests.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy import ndarray
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.findings import numbers
from diffuscope.report import Table

from .column_distances import Columns, column_distances, taken
from .distance_measures import distance_measures, distinct_rows, heldout_controls
from .exchanged_names import named_rows
from .feature_likelihood import generalization_gap
from .group_units import one_of_each
from .measure import Measure
from .name_permutations import NEIGHBORS, adversarial_accuracy, nearer_share, privacy_losses, share_nearer_training
from .rows_of import AnyRows, at_once
from .table_attacks import inference, linkability, singling_out

MOST_ATTACKED, MOST_SAMPLES = 2_000, 10_000  # rows of a table: of each name, and of the attacker
LEAST_FRESH = 1_000  # held-out examples treated as samples, or as many as there are samples
Rows = Float[Tensor, "_ features"]
Groups = Shaped[ndarray, " _"] | Sequence[object]


def standard_measures(
    samples: Rows,
    train: AnyRows,
    heldout: AnyRows,
    rng: np.random.Generator,
    *,
    train_groups: Groups | None = None,
    heldout_groups: Groups | None = None,
) -> list[Measure]:
    """All measures of rows that can be computed; none where a set has fewer than two rows.

    Rows are compared as they are given, in Euclidean distance, with their repetitions. Groups, such as the patient of
    each row, make the groups the independent units of every test: one random row of each stands for it where rows must
    be independent, and its rows keep one name where names are exchanged.

    Raises InputError for values that are not finite, and for groups of another length, of one side only, or that have
    rows on both sides.

    >>> generator = torch.Generator().manual_seed(0)
    >>> train, heldout = torch.randn(2, 100, 3, generator=generator)
    >>> found = standard_measures(train[:50], train, heldout, np.random.default_rng(0))
    >>> found[0].name, found[0].value, found[0].null
    ('IMS, %', 100.0, 0.0)
    """
    for name, of in (("samples", samples), ("train", train), ("heldout", heldout)):
        if not all(bool(part.isfinite().all()) for part in of.split(at_once(of.shape[1]))):
            raise InputError(f"{name}: expected finite values, got NaN or infinity")
    of_train, of_heldout = _checked_groups(len(train), len(heldout), train_groups, heldout_groups)
    if min(len(samples), len(train), len(heldout)) < 2:
        return []
    found: list[Measure] = []
    fresh, members = (
        _independent(rows, groups, max(len(samples), LEAST_FRESH), rng)
        for rows, groups in ((heldout, of_heldout), (train, of_train))
    )
    rows, others = distinct_rows(train), distinct_rows(heldout)
    if len(rows) > 1:
        found += distance_measures(samples, rows, fresh, rng)
    if len(others) > 1:
        found += heldout_controls(samples, members, others)
    found.append(share_nearer_training(samples, train, heldout, rng, of_train, of_heldout))
    if len(members) > 1:
        found += adversarial_accuracy(samples, members, rng)
        found += privacy_losses(samples, train, heldout, rng, of_train, of_heldout)
        found.append(generalization_gap(samples, train, heldout, rng, of_train, of_heldout))
    return found


def table_measures(
    samples: Columns,
    train: Columns,
    heldout: Columns,
    categorical: Bool[ndarray, " columns"],
    rng: np.random.Generator,
    *,
    names: Sequence[str] | None = None,
    train_groups: Groups | None = None,
    heldout_groups: Groups | None = None,
) -> list[Measure]:
    """The measures that need to know the columns: attacks as in Anonymeter, and the DCR share with Gower's distance.

    A column is a 1-D array, of numbers with NaN where one is missing, or, where `categorical`, of integer codes with
    -1. All sets have the same columns, which `names` names. At most 2,000 random rows of training and held-out data
    are attacked, with at most 10,000 samples. Empty where a set has fewer than two rows or there is no column.

    Raises InputError for other numbers of columns, columns of different lengths, and groups as `standard_measures`.

    >>> rng = np.random.default_rng(0)
    >>> table = [rng.normal(size=200), rng.integers(40, size=200)]
    >>> train, heldout = ([column[part] for column in table] for part in (slice(100), slice(100, None)))
    >>> found = table_measures(train, train, heldout, np.array([False, True]), rng)
    >>> found[0].name, found[0].value
    ('DCR share (Gower)', 1.0)
    """
    distances = column_distances(train, heldout, categorical)
    if len(samples) != len(categorical):
        raise InputError(f"samples: expected {len(categorical)} columns, as many as are described, got {len(samples)}")
    heights = [_height(name, table) for name, table in (("samples", samples), ("train", train), ("heldout", heldout))]
    of_train, of_heldout = _checked_groups(heights[1], heights[2], train_groups, heldout_groups)
    if min(heights) < 2:
        return []
    samples = taken(samples, rng.permutation(heights[0])[:MOST_SAMPLES])
    named = named_rows(
        heights[1] if of_train is None else of_train,
        heights[2] if of_heldout is None else of_heldout,
        rng,
        most=MOST_ATTACKED,
    )
    both = [np.concatenate([a, b])[named.index] for a, b in zip(train, heldout, strict=True)]
    nearest = distances.nearest(samples, both, min(NEIGHBORS, len(named.index)))
    labels = [f"column {c}" for c in range(len(categorical))] if names is None else names
    return [
        nearer_share("DCR share (Gower)", named, *nearest, rng),
        *singling_out(samples, both, categorical, named, rng),
        *linkability(samples, both, distances, named, rng),
        *inference(samples, both, distances, named, rng, labels),
    ]


def _height(name: str, columns: Columns) -> int:
    """The number of rows."""
    heights = {len(column) for column in columns}
    if len(heights) > 1:
        raise InputError(f"{name}: expected columns of one length, got {min(heights):,} and {max(heights):,} rows")
    return heights.pop() if heights else 0


def _checked_groups(
    train: int, heldout: int, train_groups: Groups | None, heldout_groups: Groups | None
) -> tuple[ndarray | None, ndarray | None]:
    if (train_groups is None) != (heldout_groups is None):
        raise InputError("groups: expected groups of both training and held-out rows, got those of one")
    if train_groups is None or heldout_groups is None:
        return None, None
    of_both = np.asarray(train_groups), np.asarray(heldout_groups)
    for name, groups, rows in zip(("train_groups", "heldout_groups"), of_both, (train, heldout), strict=True):
        if groups.shape != (rows,):
            raise InputError(f"{name}: expected one group for each of the {rows:,} rows, got {groups.size:,}")
    return of_both


def _independent(rows: AnyRows, groups: ndarray | None, most: int, rng: np.random.Generator) -> Rows:
    """Random rows, at most one of a group."""
    kept = np.arange(len(rows)) if groups is None else one_of_each(groups, rng)
    return rows[torch.from_numpy(np.sort(rng.permutation(kept)[:most]))]


def measures_table(measures: Sequence[Measure], space: str) -> Table:
    """One row per measure, those of one reader together; `space` says between what distances are taken."""
    readers = {"tables and images": "both", "tables": "tables", "images": "images"}
    rows = [_row(word, m) for reader, word in readers.items() for m in measures if m.reader == reader]
    note = (
        "The verdict rests on the tests of this section, not on these: there are many of them, they use plain "
        "distances without transformations, and a modified copy passes. Samples: the value and its interval. Null: "
        "the value that as many fresh examples would have, and its 95% range. The p-value is one-sided, against the "
        "side of copies. A value within the range of its null is no proof that nothing was memorized: membership can "
        "leak while every distance looks right."
    )
    header = ["known for", "measure", "samples", "null", "p-value", "what it is"]
    return Table(f"The same under other names ({space})", header, rows, note, folded=True)


def _row(reader: str, m: Measure) -> list[str | None]:
    if not np.isfinite(m.value):
        return [reader, m.name, None, None, None, m.meaning]
    value, interval = numbers.measurement(m.value, m.interval, "")
    null, around = numbers.measurement(m.null, (m.low, m.high), "")
    p_value = None if m.p_value is None else numbers.p_value(m.p_value)
    return [reader, m.name, f"{value} ({interval})" if interval else value, f"{null} ({around})", p_value, m.meaning]

r"""Attacks on tables: singling out, linkability and inference, in the manner of Anonymeter (Giomi et al. 2023).

An attacker has the samples and aims at rows of the training set. The same attack on as many held-out rows, the control,
shows how often it succeeds without any leak. Of n attacks a success rate is the center of Wilson's interval, and the
risk is the excess over the control, as a share of what was left to gain:

.. math::  r = \frac{k + z^2/2}{n + z^2}, \qquad R = \frac{r_T - r_H}{1 - r_H}, \qquad z = 1.96 .

- *Singling out.* Predicates on up to three random columns of a random sample (its category; its number or one farther
  from the median; missing) that match exactly one sample; success if exactly one target row matches.
- *Linkability.* The columns are divided in two, alternately; success if both parts of a target row have the same
  nearest sample.
- *Inference.* One column of a target row is guessed from the sample that is nearest in the others; success if the guess
  is right: the same category, or a number within 5% of the guess, or both missing. The rate is averaged over columns,
  and the column whose risk is most standard deviations above its null is named.

Under the null the names of training and held-out rows are exchangeable given the samples (`exchanged_names`), so R is
0 but for the finite n, and permutations give its distribution; for the most exposed of several columns, that of the
largest of all (Westfall & Young 1993). Intervals propagate Wilson's errors, and are at least 1.96 standard deviations
under permutations.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from diffuscope.findings import NORMAL_95

from .column_distances import ColumnDistances, Columns, taken
from .exchanged_names import NamedRows
from .measure import TAIL, Measure, permuted_measure

QUERIES = 500
QUERIED_COLUMNS = 3
ATTEMPTS = 20  # predicates tried for each that is wanted
TOLERANCE = 0.05
Z = NormalDist().inv_cdf(1 - TAIL)
_Part = ndarray | float | int
_Counts = tuple[_Part, _Part, _Part, _Part]
_Numbers = tuple[float, float, float, float]  # successes on training rows, attacks on these, and both on held-out rows


def singling_out(
    samples: Columns,
    targets: Columns,
    categorical: Bool[ndarray, " columns"],
    named: NamedRows,
    rng: np.random.Generator,
) -> list[Measure]:
    """The singling-out risk; none if no predicate singles out a sample. `targets` are the rows of `named`."""
    predicates = _Predicates(samples, categorical, rng)
    matches = predicates.singling
    if not len(matches):
        return []
    found = predicates.matching(targets, matches)
    others = found.sum(1)[:, None]

    def successes(names: ndarray) -> _Counts:
        of_train = found @ names
        return (of_train == 1).sum(0), len(matches), (others - of_train == 1).sum(0), len(matches)

    return [
        _risk(
            "singling-out risk",
            named,
            successes,
            rng,
            f"Of {len(matches):,} descriptions that fit one sample, {{train}} fit one training row and {{heldout}} one "
            "held-out row.",
        )
    ]


class _Predicates:
    """Random conjunctions of conditions, each taken from one sample."""

    def __init__(self, samples: Columns, categorical: Bool[ndarray, " columns"], rng: np.random.Generator) -> None:
        self.samples, self.categorical = samples, categorical
        self.row = rng.integers(len(samples[0]), size=QUERIES * ATTEMPTS)
        order = np.argsort(rng.random((len(self.row), len(samples))), axis=1)[:, :QUERIED_COLUMNS]
        self.columns = np.zeros((len(self.row), len(samples)), dtype=bool)
        np.put_along_axis(self.columns, order, True, axis=1)
        self.median = [np.nan if of else _median(column) for column, of in zip(samples, categorical, strict=True)]
        self.singling = np.fromiter(islice(self._singling_out(), QUERIES), dtype=np.int64)

    def _singling_out(self) -> Iterator[int]:
        """The different predicates that match one sample alone, however often that occurs."""
        seen: set[bytes] = set()
        distinct = taken(self.samples, _distinct(self.samples))
        for tried in np.split(np.arange(len(self.row)), ATTEMPTS):
            for query in tried[self.matching(distinct, tried).sum(1) == 1].tolist():
                key = self._key(query)
                if key not in seen:
                    seen.add(key)
                    yield query

    def matching(self, rows: Columns, queries: Int[ndarray, " q"]) -> Float[ndarray, "q rows"]:
        """1 where a row satisfies all conditions of a predicate."""
        fits = np.ones((len(queries), len(rows[0])), dtype=bool)
        for c, (column, of_samples) in enumerate(zip(rows, self.samples, strict=True)):
            value = of_samples[self.row[queries], None]
            if self.categorical[c]:
                met = column == value
            else:
                met = np.where(value > self.median[c], column >= value, column <= value)
                met = np.where(np.isnan(value), np.isnan(column), met)
            fits &= met | ~self.columns[queries, c, None]
        return fits.astype(np.float32)

    def _key(self, query: int) -> bytes:
        used = self.columns[query]
        return (
            used.tobytes()
            + np.array([self.samples[c][self.row[query]] for c in np.flatnonzero(used).tolist()]).tobytes()
        )


def linkability(
    samples: Columns, targets: Columns, of: ColumnDistances, named: NamedRows, rng: np.random.Generator
) -> list[Measure]:
    """The linkability risk; none for a single column."""
    if len(targets) < 2:
        return []
    linked = np.zeros(len(targets[0]))
    for chunk, parts in of.by_column(targets, samples):
        linked[chunk] = parts[::2].sum(0).argmin(1) == parts[1::2].sum(0).argmin(1)
    return [
        _risk(
            "linkability risk",
            named,
            lambda names: _sums(linked, names),
            rng,
            "Two halves of the columns lead to the same sample for {train} of the training rows and {heldout} of the "
            "held-out rows.",
        )
    ]


def inference(
    samples: Columns,
    targets: Columns,
    of: ColumnDistances,
    named: NamedRows,
    rng: np.random.Generator,
    column_names: Sequence[str],
) -> list[Measure]:
    """The inference risk averaged over columns, and the largest; none for a single column."""
    if len(targets) < 2:
        return []
    right = np.zeros((len(targets[0]), len(targets)))
    for chunk, parts in of.by_column(targets, samples):
        total = parts.sum(0)
        for c, column in enumerate(samples):
            guess = column[(total - parts[c]).argmin(1)]
            right[chunk, c] = _is_right(guess, targets[c][chunk], bool(of.categorical[c]))
    mean = right.mean(1)
    _, permuted = named.permuted(lambda names: _excess(*_sums(mean, names))[None], rng)
    names = named.first[:, None].astype(np.float64)
    average = _measured(
        "inference risk, mean of columns",
        _numbers(_sums(mean, names)),
        permuted[0],
        NORMAL_95 * float(permuted.std()),  # a mean of columns is no Bernoulli trial
        "The nearest sample gives a missing value right for {train} of the training rows and {heldout} of the held-out "
        "rows.",
    )
    risks, permuted = named.permuted(lambda names: _excess(*_sums(right.T, names)), rng)
    center, scale = permuted.mean(1), permuted.std(1)
    scale[scale == 0] = np.inf  # always right, or never
    worst = int(((risks - center) / scale).argmax())
    largest = ((permuted - center[:, None]) / scale[:, None]).max(0)
    of_worst = _numbers(_sums(right[:, worst], names))
    return [
        average,
        _measured(
            "inference risk, most exposed column",
            of_worst,
            center[worst] + largest * (scale[worst] if np.isfinite(scale[worst]) else 0.0),
            max(_error(*of_worst), NORMAL_95 * float(permuted[worst].std())),
            f"The same for the most exposed column, {_escaped(column_names[worst])}: {{train}} and {{heldout}}; "
            "the null is that of the largest of all columns.",
        ),
    ]


def _sums(successes: ndarray, names: ndarray) -> _Counts:
    """Successes on training rows and their number, and both for held-out rows, for each column of `names`."""
    on_train, of_train = successes @ names, names.sum(0, dtype=np.float64)
    return on_train, of_train, successes.sum(-1)[..., None] - on_train, len(names) - of_train


def _rate(successes: _Part, attacks: _Part) -> ndarray:
    """The center of Wilson's interval."""
    return np.asarray((successes + Z**2 / 2) / (attacks + Z**2))


def _excess(on_train: _Part, of_train: _Part, on_heldout: _Part, of_heldout: _Part) -> ndarray:
    """The risk R."""
    control = _rate(on_heldout, of_heldout)
    return np.asarray((_rate(on_train, of_train) - control) / (1 - control))


def _error(on_train: float, of_train: float, on_heldout: float, of_heldout: float) -> float:
    """The half-widths of both Wilson intervals, propagated to R."""
    train, heldout = (
        Z / (n + Z**2) * (k * (n - k) / n + Z**2 / 4) ** 0.5
        for k, n in ((on_train, of_train), (on_heldout, of_heldout))
    )
    rate, control = float(_rate(on_train, of_train)), float(_rate(on_heldout, of_heldout))
    return ((train / (1 - control)) ** 2 + (heldout * (1 - rate) / (1 - control) ** 2) ** 2) ** 0.5


def _risk(
    name: str,
    named: NamedRows,
    successes: Callable[[ndarray], _Counts],
    rng: np.random.Generator,
    meaning: str,
) -> Measure:
    _, permuted = named.permuted(lambda names: _excess(*successes(names))[None], rng)
    counts = _numbers(successes(named.first[:, None].astype(np.float32)))
    return _measured(name, counts, permuted[0], max(_error(*counts), NORMAL_95 * float(permuted.std())), meaning)


def _measured(name: str, counts: _Numbers, permuted: ndarray, half: float, meaning: str) -> Measure:
    on_train, of_train, on_heldout, of_heldout = counts
    return permuted_measure(
        name,
        float(_excess(*counts)),
        permuted,
        copies="high",
        meaning=meaning.format(train=f"{on_train / of_train:.1%}", heldout=f"{on_heldout / of_heldout:.1%}"),
        bounds=(-np.inf, 1.0),
        half=half,
    )


def _numbers(counts: _Counts) -> _Numbers:
    """The first of each, as a number."""
    first = [float(np.ravel(part)[0]) for part in counts]
    return first[0], first[1], first[2], first[3]


def _escaped(text: str) -> str:
    """Braces in a column's name are no place for a number."""
    return text.replace("{", "{{").replace("}", "}}")


def _is_right(guess: ndarray, secret: ndarray, categorical: bool) -> Bool[ndarray, " n"]:
    if categorical:
        return guess == secret
    near = np.abs(guess - secret) <= TOLERANCE * np.abs(guess)
    return near | (np.isnan(guess) & np.isnan(secret))


def _distinct(columns: Columns) -> Int[ndarray, " distinct"]:
    table = np.stack([np.nan_to_num(column.astype(float), nan=np.inf) for column in columns], axis=1)
    return np.unique(table, axis=0, return_index=True)[1]


def _median(column: ndarray) -> float:
    known = column[~np.isnan(column)]
    return float(np.median(known)) if len(known) else np.nan

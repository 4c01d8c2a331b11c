r"""Did it memorize? (b) Are samples nearer to training than to held-out data?

Equally many training and held-out examples are the references, and every sample has a nearest one. Under the null
hypothesis the names "training" and "held-out" of the references are exchangeable *within a cell*: a label of the data,
or else a cluster (k-means), of which each keeps as many references of either kind. So another mix of classes in the
training set, which the samples inherit, is no evidence (as in the C_T of Meehan et al. 2020). Samples that share a
nearest reference are not independent; the test permutes the names (`label_permutation`). The binomial p-value, which
treats samples as independent and is too small when they share neighbors, is reported beside it.

*Power.* Random training examples are planted as samples. Of these a share 1/2 + a is nearer to training references: a
is 1/2 only if every training example is a reference, and small if there are far fewer held-out examples. A share
:math:`\pi` of copies then shifts the share of samples by a pi, and the smallest that is found has

.. math::  \pi = \frac{(z_{1-\alpha} + z_{0.95})\, \sigma_0}{a} .
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from diffuscope.byte_examples import all_floats, as_floats
from diffuscope.findings import Finding, binomial_p_value, detectable_shift, label_permutation, percentile_interval
from diffuscope.findings.numbers import p_relation

from .rows_of import AnyRows, at_once, few_enough, nearest_rows, part_of
from .wide_rows import Span, are_wide

CELLS, LEAST_IN_CELL = 20, 25  # clusters, and references of either kind in one on average
PLANTED = 500  # at most
Rows = Float[Tensor, "_ features"]
Cells = tuple[Int[ndarray, " train"], Int[ndarray, " heldout"]]


@dataclass(frozen=True, kw_only=True)
class Nearness:
    """(b): how many samples are nearer to training than to held-out references."""

    nearer: int
    decided: int  # samples without a tie
    references: int  # of each kind
    interval: tuple[float, float]
    p_value: float
    binomial_p_value: float
    planted: float  # share of planted training examples nearer to training references
    detectable: float  # smallest share of copies found with probability 0.95; infinity if there is none

    @property
    def share(self) -> float:
        """The share of `nearer` in `decided`; 1/2, as expected by chance, where every sample is tied."""
        return _share(self.nearer, self.decided)


def clusters(train: AnyRows, heldout: AnyRows, seed: int) -> Cells:
    """The k-means cluster of every training and held-out example, of both kinds pooled in equal numbers."""
    size = min(len(train), len(heldout))
    count = max(1, min(CELLS, size // LEAST_IN_CELL))
    size = few_enough(size, 2 * train.shape[1])
    parts = [
        rows[torch.from_numpy(np.random.default_rng(seed).permutation(len(rows))[:size])] for rows in (train, heldout)
    ]
    both = torch.cat(parts)
    parts.clear()
    cluster = kmeans(both, count, seed)
    return cluster(train), cluster(heldout)


def kmeans(rows: Rows, count: int, seed: int) -> Callable[[AnyRows], Int[ndarray, " n"]]:
    """The map from rows to the nearest of `count` centers fitted to `rows`; few wide rows are fitted in their span."""
    from sklearn.cluster import MiniBatchKMeans  # a second that other questions need not wait

    rows = all_floats(rows)
    model = MiniBatchKMeans(min(count, len(rows)), n_init="auto", random_state=seed % 2**32)
    span = Span.of(rows) if are_wide(rows) else None
    model.fit((rows if span is None else span.coordinates).numpy())
    fitted = torch.from_numpy(model.cluster_centers_)
    centers = fitted if span is None else span.points(fitted) - span.mean
    offset = None if span is None else centers @ span.mean + centers.square().sum(1) / 2

    def nearest(queries: AnyRows) -> Int[ndarray, " n"]:
        parts = (as_floats(part) for part in queries.split(at_once(queries.shape[1])))
        if offset is None:
            return np.concatenate([model.predict(part.numpy()) for part in parts]).astype(np.int64)
        return torch.cat([(part @ centers.T - offset).argmax(1) for part in parts]).numpy()

    return nearest


def nearness(
    samples: Rows,
    train: AnyRows,
    heldout: AnyRows,
    significance: float,
    seed: int,
    cells: Cells | None = None,
    *,
    copied: AnyRows | None = None,
) -> Nearness:
    """(b) for samples, with as many training as held-out references in every cell (one for all by default).

    Rows of `train`, and of `heldout`, are independent: one of each group, if there are groups. The training examples
    that planted copies repeat are among `copied`, all of them, by default `train`.
    """
    rng = np.random.default_rng(seed)
    of_train, of_heldout = cells or (np.zeros(len(train), dtype=np.int64), np.zeros(len(heldout), dtype=np.int64))
    sources = train if copied is None else copied
    planted = sources[torch.from_numpy(rng.integers(len(sources), size=few_enough(PLANTED, sources.shape[1])))]
    kept_train, kept_heldout = balanced(of_train, of_heldout, rng)
    size = len(kept_train)
    if size == 0:
        return _undecided(0)
    references = part_of(train, torch.from_numpy(kept_train)), part_of(heldout, torch.from_numpy(kept_heldout))
    hits, is_training = _hits(samples, *references), np.arange(2 * size) < size
    decided, nearer = int(hits.sum()), int(hits[:size].sum())
    if decided == 0:
        return _undecided(size)
    groups = np.concatenate([of_train[kept_train], of_heldout[kept_heldout]])
    p_value, null_std = label_permutation(hits, is_training, rng, cells=groups)
    # references, not samples, are the independent units of the interval
    kept = np.flatnonzero(hits)
    draws = rng.multinomial(len(kept), np.full(len(kept), 1 / len(kept)), size=1000)
    shares = (draws @ (hits * is_training)[kept]) / (draws @ hits[kept])
    low, high = percentile_interval(shares)
    of_planted = _hits(planted, *references)
    attraction = _share(int(of_planted[:size].sum()), int(of_planted.sum()))
    shift, most = detectable_shift(null_std, significance), attraction - 0.5  # most: where every sample is a copy
    return Nearness(
        nearer=nearer,
        decided=decided,
        references=size,
        interval=(float(low), float(high)),
        p_value=p_value,
        binomial_p_value=binomial_p_value(nearer, decided),
        planted=attraction,
        detectable=shift / most if shift < most else float("inf"),
    )


def _share(nearer: int, decided: int) -> float:
    return nearer / decided if decided else 0.5


def _undecided(size: int) -> Nearness:
    return Nearness(
        nearer=0,
        decided=0,
        references=size,
        interval=(0.0, 1.0),
        p_value=1.0,
        binomial_p_value=1.0,
        planted=0.5,
        detectable=float("inf"),
    )


def balanced(
    of_train: Int[ndarray, " train"], of_heldout: Int[ndarray, " heldout"], rng: np.random.Generator
) -> tuple[Int[ndarray, " size"], Int[ndarray, " size"]]:
    """Random indices of equally many of either kind in every cell, cell by cell."""
    kept: tuple[list[ndarray], list[ndarray]] = ([], [])
    for cell in np.intersect1d(of_train, of_heldout):
        members = [np.flatnonzero(of == cell) for of in (of_train, of_heldout)]
        size = min(map(len, members))
        for part, own in zip(kept, members, strict=True):
            part.append(rng.permutation(own)[:size])
    none = np.zeros(0, dtype=np.int64)
    of_both = [np.concatenate([none, *part]) for part in kept]
    return of_both[0], of_both[1]


def _hits(samples: Rows, train: AnyRows, heldout: AnyRows) -> Int[ndarray, " references"]:
    """How many samples are nearest to each reference, the training ones first; ties are left out."""
    (d_train, of_train), (d_heldout, of_heldout) = (nearest_rows(samples, rows, 1) for rows in (train, heldout))
    near, far = d_train[:, 0] < d_heldout[:, 0], d_heldout[:, 0] < d_train[:, 0]
    counts = [
        torch.bincount(of[chosen, 0], minlength=len(rows))
        for of, chosen, rows in ((of_train, near, train), (of_heldout, far, heldout))
    ]
    return torch.cat(counts).numpy()


def nearness_finding(near: Nearness, space: str, suffix: str, significance: float) -> Finding:
    """(b) in one space of distances."""
    verdict = (
        f"{near.share:.1%} of the samples are nearer to training than to held-out examples; 50% are expected by chance."
    )
    power = (
        f"A share of {near.detectable:.1%} exact copies would have been found with probability 0.95; of planted ones, "
        f"{near.planted:.1%} are nearer to training references."
    )
    if np.isinf(near.detectable):
        power = (
            f"None: of planted training examples {near.planted:.1%} are nearer to training references, too few for any "
            "share of copies to be found."
        )
    if not near.decided:
        verdict = "Every sample is as far from training as from held-out examples."
        power = "None: there are no samples to count."
    tone = "attention" if near.p_value < significance else "unknown" if np.isinf(near.detectable) else "good"
    return Finding(
        name=f"memorized.nearness{suffix}",
        title=f"Samples nearer to training than to held-out data ({space})",
        value=100 * near.share,
        unit="%",
        verdict=verdict,
        tone=tone,
        interval=(100 * near.interval[0], 100 * near.interval[1]),
        null=f"50%: {near.references} references of each kind, their labels permuted within cells of similar examples "
        f"(the binomial test, which ignores shared neighbors, gives p {p_relation(near.binomial_p_value)}).",
        p_value=near.p_value,
        power=power,
    )

r"""Measures whose null hypothesis exchanges the names of rows: DCR share, NNAA, epsilon-identifiability.

All compare sets of n rows each. With d(x, A) the distance from x to the nearest row of A other than x, and S, T, H the
samples, training and held-out rows:

- DCR share: the share of samples with d(s, T) < d(s, H), where a tie counts half;
- NNAA, nearest-neighbor adversarial accuracy (Yale et al. 2020):

  .. math::  AA(T, S) = \tfrac12 \left( \operatorname{mean}_{t \in T} 1[d(t, S) > d(t, T)]
                        + \operatorname{mean}_{s \in S} 1[d(s, T) > d(s, S)] \right) ,

  and its privacy loss AA(H, S) - AA(T, S);
- epsilon-identifiability (Yoon et al. 2020): the share of training rows with d(t, S) < d(t, T), here with all columns
  weighted alike; and the same with H in place of T, subtracted.

*Names of samples and training rows.* If samples are fresh examples, these names are exchangeable. AA is the share of
rows of the pool whose nearest other rows all have the same name, so its null is (n - 1) / (2 n - 1) without ties; that
of epsilon-identifiability is n / (2 n - 1). A row whose c nearest others are tied counts with the chance that all c of
them have its name, (n - 1) (n - 2) ... (n - c) / ((2 n - 1) ... (2 n - c)). Samples of any visible fault are told apart
from training rows as well, which raises NNAA: only its low values speak for copies.

*Names of training and held-out rows.* If the generator knows no more of T than of H, these names are exchangeable given
the samples, however bad the samples are. This is the null of the DCR share (1/2) and of both differences (0).

Each statistic is a function of how many training rows are in a fixed set of neighbors of each row, so that a
permutation costs a sparse product and no search. Ties are in these sets, so the tests are exact; sets are cut at 32
neighbors, in random order. Rows of one group (the images of one patient) keep one name. Intervals are the value +- 1.96
standard deviations under permutations.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numpy import ndarray
from scipy.sparse import csr_array
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import nearest_neighbors, nearest_other_neighbors

from .measure import TAIL, Measure, Side

PERMUTATIONS = 999
NEIGHBORS = 32
MOST = 5_000  # rows of each name in measures that search a pool for each of its own rows
CHUNK = 4_000_000
Rows = Float[Tensor, "_ features"]
Groups = Shaped[ndarray, " n"]


@dataclass(frozen=True, eq=False)
class _Pool:
    """Rows of two names in random order; all rows of a unit have one name, and both have as many units."""

    rows: Rows
    unit: Int[ndarray, " n"]
    first: Bool[ndarray, " units"]  # which units have the first name

    def names(self, rng: np.random.Generator) -> Iterator[Float[ndarray, "n permutations"]]:
        """1 for rows of the first name: as they are, then under permutations."""
        yield self.first[self.unit, None].astype(np.float32)
        at_once = max(1, CHUNK // max(1, len(self.unit)))
        for start in range(0, PERMUTATIONS, at_once):
            copies = np.tile(self.first, (min(at_once, PERMUTATIONS - start), 1))
            yield rng.permuted(copies, axis=1).T[self.unit].astype(np.float32)


def share_nearer_training(
    samples: Rows,
    train: Rows,
    heldout: Rows,
    rng: np.random.Generator,
    train_groups: Groups | None = None,
    heldout_groups: Groups | None = None,
) -> Measure:
    """DCR share: the share of samples nearer to training than to as many held-out rows; 1/2 under the null.

    Raises InputError for a group on both sides.
    """
    pool = _pool(train, heldout, rng, train_groups, heldout_groups)
    distance, index = _nearest(samples, pool.rows)
    tied = distance == distance[:, :1]
    sets = _sets(index, tied, len(pool.rows))
    size = tied.sum(1)[:, None]

    def statistic(names: ndarray) -> ndarray:
        training = sets @ names
        return ((training > 0).mean(0) + (training == size).mean(0))[None] / 2

    observed, permuted = _permuted(pool, statistic, rng)
    if tied.all(1).any() and distance.shape[1] < len(pool.rows):  # more ties than neighbors: the value from both sets
        of = torch.from_numpy(pool.first[pool.unit])
        near, far = (nearest_neighbors(samples, pool.rows[part], 1)[0][:, 0] for part in (of, ~of))
        observed = np.array([float((near < far).double().mean() + (near == far).double().mean() / 2)])
    return _measure(
        "DCR share",
        observed[0],
        permuted[0],
        0.5,
        "high",
        "Samples nearer to training than to as many held-out rows. Half of them can be while membership still leaks.",
        (0.0, 1.0),
    )


def adversarial_accuracy(samples: Rows, train: Rows, rng: np.random.Generator) -> list[Measure]:
    """NNAA and epsilon-identifiability of samples and independent training rows, equally many of either.

    Each set needs two rows.
    """
    pool = _pool(train, samples, rng)
    distance, index = _nearest_others(pool.rows)
    tied = distance == distance[:, :1]
    sets, size = _sets(index, tied, len(pool.rows)), tied.sum(1)[:, None]
    n = len(pool.rows) // 2

    def statistic(names: ndarray) -> ndarray:
        training = sets @ names
        all_training, none = training == size, training == 0
        same = np.where(names > 0, all_training, none)
        return np.stack([same.mean(0), ((names > 0) & none).sum(0) / n])

    (accuracy, identified), (of_accuracy, of_identified) = _permuted(pool, statistic, rng)
    # of the 2 n - 1 other rows n - 1 have the name of a row, n the other; all `size` neighbors must be among these
    drawn = np.arange(int(size.max()))
    others = 2 * n - 1 - drawn
    all_same, all_other = (
        float(np.concatenate([[1.0], np.cumprod(np.clip((count - drawn) / others, 0, 1))])[size].mean())
        for count in (n - 1, n)
    )
    return [
        _measure(
            "NNAA",
            accuracy,
            of_accuracy,
            all_same,
            "low",
            "How well nearest neighbors tell samples from training rows. Below the null, samples sit on training rows; "
            "above it, they look different.",
            (0.0, 1.0),
        ),
        _measure(
            "eps-identifiability",
            identified,
            of_identified,
            all_other,
            "high",
            "Training rows that are nearer to a sample than to any other training row.",
            (0.0, 1.0),
        ),
    ]


def privacy_losses(
    samples: Rows,
    train: Rows,
    heldout: Rows,
    rng: np.random.Generator,
    train_groups: Groups | None = None,
    heldout_groups: Groups | None = None,
) -> list[Measure]:
    """The privacy loss of NNAA, and epsilon-identifiability of training minus held-out rows; 0 under the null.

    Each set needs two rows. Raises InputError for a group on both sides.
    """
    pool = _pool(train, heldout, rng, train_groups, heldout_groups, most=len(samples))
    n = min(len(samples), len(pool.rows) // 2, MOST)
    samples = samples[torch.from_numpy(np.sort(rng.permutation(len(samples))[:n]))]
    distance, index = _nearest_others(pool.rows)
    to_sample = nearest_neighbors(pool.rows, samples, 1)[0].numpy()
    nearer = _sets(index, distance < to_sample, len(pool.rows))
    as_near = _sets(index, distance <= to_sample, len(pool.rows))
    own = nearest_other_neighbors(samples, 1)[0].numpy()
    distance, index = _nearest(samples, pool.rows)
    around = _sets(index, distance <= own, len(pool.rows))
    nearer_size, as_near_size, around_size = (sets.sum(1)[:, None] for sets in (nearer, as_near, around))

    def statistic(names: ndarray) -> ndarray:
        is_training = names > 0
        training = nearer @ names
        adversary = np.where(is_training, training > 0, training < nearer_size)  # d(x, S) > d(x, its own set)
        training = as_near @ names
        identified = np.where(is_training, training == 0, training == as_near_size)  # d(x, S) < d(x, its own set)
        training = around @ names
        # d(s, H) > d(s, S), minus the same for T
        apart = np.mean(training == around_size, axis=0) - np.mean(training == 0, axis=0)

        def gap(hits: ndarray) -> ndarray:
            """Its mean over training rows minus that over held-out rows."""
            of_training = is_training.sum(0)
            on_training = (hits & is_training).sum(0)
            return on_training / of_training - (hits.sum(0) - on_training) / (len(hits) - of_training)

        return np.stack([(apart - gap(adversary)) / 2, gap(identified)])

    (loss, identified), (of_loss, of_identified) = _permuted(pool, statistic, rng)
    return [
        _measure(
            "NNAA privacy loss",
            loss,
            of_loss,
            0.0,
            "high",
            "NNAA with held-out rows minus NNAA with training rows: positive where samples follow the training rows.",
            (-1.0, 1.0),
        ),
        _measure(
            "eps-identifiability, training - held-out",
            identified,
            of_identified,
            0.0,
            "high",
            "The same share for training rows minus that for held-out rows.",
            (-1.0, 1.0),
        ),
    ]


def _measure(
    name: str, value: float, permuted: ndarray, null: float, copies: Side, meaning: str, bounds: tuple[float, float]
) -> Measure:
    signed = permuted - value if copies == "high" else value - permuted
    low, high = np.quantile(permuted, [TAIL, 1 - TAIL])
    half = 1.96 * float(permuted.std())
    return Measure(
        name=name,
        value=float(value),
        null=null,
        low=float(low),
        high=float(high),
        p_value=float((1 + (signed >= -1e-6).sum()) / (1 + len(permuted))),  # float32 sums of counts
        interval=(max(bounds[0], float(value) - half), min(bounds[1], float(value) + half)),
        reader="tables and images" if name == "DCR share" else "tables",
        copies=copies,
        meaning=meaning,
    )


def _pool(
    first: Rows,
    second: Rows,
    rng: np.random.Generator,
    first_groups: Groups | None = None,
    second_groups: Groups | None = None,
    *,
    most: int | None = None,
) -> _Pool:
    """As many units of either, chosen at random: groups, or rows where there are none."""
    units = [
        np.arange(len(rows)) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
        for rows, groups in ((first, first_groups), (second, second_groups))
    ]
    if first_groups is not None and second_groups is not None:
        both = np.intersect1d(first_groups, second_groups)
        if len(both):
            raise InputError(
                f"groups: expected no group in both training and held-out data, got {both[0]} in both "
                f"({len(both):,} in all)"
            )
    counts = [int(of.max()) + 1 for of in units]
    size = min(*counts, *([] if most is None else [most, MOST]))
    parts, numbers = [], []
    for rows, of, count, start in zip((first, second), units, counts, (0, size), strict=True):
        number = np.full(count, -1)
        number[rng.permutation(count)[:size]] = np.arange(size) + start
        kept = np.flatnonzero(number[of] >= 0)
        parts.append(rows[torch.from_numpy(kept)])
        numbers.append(number[of[kept]])
    order = rng.permutation(sum(map(len, numbers)))
    return _Pool(torch.cat(parts)[torch.from_numpy(order)], np.concatenate(numbers)[order], np.arange(2 * size) < size)


def _permuted(
    pool: _Pool, statistic: Callable[[ndarray], ndarray], rng: np.random.Generator
) -> tuple[Float[ndarray, " statistics"], Float[ndarray, "statistics permutations"]]:
    parts: Sequence[ndarray] = [statistic(names) for names in pool.names(rng)]
    return parts[0][:, 0], np.concatenate(parts[1:], axis=1)


def _nearest(queries: Rows, rows: Rows) -> tuple[Float[ndarray, "n k"], Int[ndarray, "n k"]]:
    distance, index = nearest_neighbors(queries, rows, min(NEIGHBORS, len(rows)))
    return distance.numpy(), index.numpy()


def _nearest_others(rows: Rows) -> tuple[Float[ndarray, "n k"], Int[ndarray, "n k"]]:
    distance, index = nearest_other_neighbors(rows, min(NEIGHBORS, len(rows) - 1))
    return distance.numpy(), index.numpy()


def _sets(index: Int[ndarray, "n k"], chosen: Bool[ndarray, "n k"], columns: int) -> csr_array:
    """The chosen neighbors of each row as a matrix of 0 and 1."""
    ends = np.concatenate([[0], chosen.sum(1).cumsum()])
    members = index[chosen]
    return csr_array((np.ones(len(members), dtype=np.float32), members, ends), shape=(len(index), columns))

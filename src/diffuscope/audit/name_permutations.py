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

import numpy as np
import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.sparse import csr_array
from torch import Tensor

from .exchanged_names import Groups, NamedRows, named_pool
from .measure import Measure, Reader, permuted_measure
from .rows_of import AnyRows
from .shared_neighbors import nearest_neighbors, nearest_other_neighbors

NEIGHBORS = 32
MOST = 5_000  # rows of each name in measures that search a pool for each of its own rows
Rows = Float[Tensor, "_ features"]


def share_nearer_training(
    samples: Rows,
    train: AnyRows,
    heldout: AnyRows,
    rng: np.random.Generator,
    train_groups: Groups | None = None,
    heldout_groups: Groups | None = None,
) -> Measure:
    """DCR share: the share of samples nearer to training than to as many held-out rows; 1/2 under the null.

    Raises InputError for a group on both sides.
    """
    named, pool = named_pool(train, heldout, rng, train_groups, heldout_groups)
    return nearer_share("DCR share", named, *_nearest(samples, pool), rng, "tables and images")


def nearer_share(
    name: str,
    named: NamedRows,
    distance: Float[ndarray, "samples k"],
    index: Int[ndarray, "samples k"],
    rng: np.random.Generator,
    reader: Reader = "tables",
) -> Measure:
    """The share of samples whose nearest rows are training rows, from the nearest of both sets in increasing order.

    A tie counts half, and k or more tied rows count as if there were no others.
    """
    tied = distance == distance[:, :1]
    sets, size = _sets(index, tied, len(named.index)), tied.sum(1)[:, None]

    def statistic(names: ndarray) -> ndarray:
        training = sets @ names
        return ((training > 0).mean(0) + (training == size).mean(0))[None] / 2

    observed, permuted = named.permuted(statistic, rng)
    return permuted_measure(
        name,
        observed[0],
        permuted[0],
        0.5,
        copies="high",
        reader=reader,
        meaning="Samples nearer to training than to as many held-out rows. Half of them can be while membership still "
        "leaks.",
        bounds=(0.0, 1.0),
    )


def adversarial_accuracy(samples: Rows, train: Rows, rng: np.random.Generator) -> list[Measure]:
    """NNAA and epsilon-identifiability of samples and independent training rows, equally many of either.

    Each set needs two rows.
    """
    named, pool = named_pool(train, samples, rng, most=MOST)
    distance, index = _nearest_others(pool)
    tied = distance == distance[:, :1]
    sets, size = _sets(index, tied, len(pool)), tied.sum(1)[:, None]
    n = len(pool) // 2

    def statistic(names: ndarray) -> ndarray:
        training = sets @ names
        all_training, none = training == size, training == 0
        same = np.where(names > 0, all_training, none)
        return np.stack([same.mean(0), ((names > 0) & none).sum(0) / n])

    (accuracy, identified), (of_accuracy, of_identified) = named.permuted(statistic, rng)
    # of the 2 n - 1 other rows n - 1 have the name of a row, n the other; all `size` neighbors must be among these
    sets_in_all = scipy.special.comb(2 * n - 1, size)
    all_same, all_other = (float(np.mean(scipy.special.comb(count, size) / sets_in_all)) for count in (n - 1, n))
    return [
        permuted_measure(
            "NNAA",
            accuracy,
            of_accuracy,
            all_same,
            copies="low",
            meaning="How often the nearest neighbor tells samples from training rows: rarely where samples sit on "
            "training rows, often where they look different.",
            bounds=(0.0, 1.0),
        ),
        permuted_measure(
            "eps-identifiability",
            identified,
            of_identified,
            all_other,
            copies="high",
            meaning="Training rows that are nearer to a sample than to any other training row.",
            bounds=(0.0, 1.0),
        ),
    ]


def privacy_losses(
    samples: Rows,
    train: AnyRows,
    heldout: AnyRows,
    rng: np.random.Generator,
    train_groups: Groups | None = None,
    heldout_groups: Groups | None = None,
) -> list[Measure]:
    """The privacy loss of NNAA, and epsilon-identifiability of training minus held-out rows; 0 under the null.

    Each set needs two rows. Raises InputError for a group on both sides.
    """
    named, pool = named_pool(train, heldout, rng, train_groups, heldout_groups, most=min(len(samples), MOST))
    n = min(len(samples), len(pool) // 2, MOST)
    samples = samples[torch.from_numpy(np.sort(rng.permutation(len(samples))[:n]))]
    distance, index = _nearest_others(pool)
    to_sample = nearest_neighbors(pool, samples, 1)[0].numpy()
    nearer, as_near = (_sets(index, kept, len(pool)) for kept in (distance < to_sample, distance <= to_sample))
    own = nearest_other_neighbors(samples, 1)[0].numpy()
    distance, index = _nearest(samples, pool)
    around = _sets(index, distance <= own, len(pool))
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

    (loss, identified), (of_loss, of_identified) = named.permuted(statistic, rng)
    return [
        permuted_measure(
            "NNAA privacy loss",
            loss,
            of_loss,
            0.0,
            copies="high",
            meaning="NNAA with held-out rows minus NNAA with training rows: positive where samples follow the training "
            "rows.",
            bounds=(-1.0, 1.0),
        ),
        permuted_measure(
            "eps-identifiability, training - held-out",
            identified,
            of_identified,
            0.0,
            copies="high",
            meaning="That share minus the same share of held-out rows.",
            bounds=(-1.0, 1.0),
        ),
    ]


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

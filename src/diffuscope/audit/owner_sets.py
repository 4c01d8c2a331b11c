r"""One p-value per owner: does the model treat the owner's published examples like training data? (CDI)

An owner has published some examples and kept others, of the same kind. If the model was trained on neither, the two are
exchangeable, and every statistic of their losses has the distribution that exchanging labels gives it (Dubinski et al.
2024, "CDI: copyrighted data identification in diffusion models", arXiv 2411.12858). From the log losses
:math:`\ell \in R^L` of n published and m unpublished examples, the regression on their difficulty taken out
(`attack_scores.residuals`, without labels), and multiplied by :math:`S^{-1/2}` of their common covariance, the
statistic is

.. math::
    s = \frac{1}{K} \sum_{k} \left\langle \bar u^{(k)} - \bar p^{(k)}, \; \frac{w_{-k}}{|w_{-k}|} \right\rangle , \qquad
    w_{-k} = \bar u^{(-k)} - \bar p^{(-k)} + \frac{S^{-1/2} \mathbf 1}{|S^{-1/2} \mathbf 1|} ,

the difference of the means in fold k along the direction that the other folds suggest, with a prior that losses of
training data are lower at all levels. The p-value

.. math::  p = \frac{1 + \#\{\text{permuted} \ge s\}}{1 + \#\text{permutations}}

satisfies P(p <= u) <= u for any numbers n, m and any losses. CDI uses a classifier and a t-test on the other half of
the examples; folds use every example on both sides, and permutations need no normal approximation.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy  # its subpackages are loaded when they are first used
from jaxtyping import Float, Int
from numpy import ndarray

from diffuscope.errors import InputError
from diffuscope.memory import chunk_size, ranges

from .attack_scores import residuals, whitening

FEWEST = 10  # examples of either kind
FOLDS = 5
PERMUTATIONS = 1_999
CHUNK = 4_000_000  # numbers held at once


@dataclass(frozen=True, kw_only=True)
class OwnerTest:
    """The test of one owner: its p-value, by itself and corrected for all owners; NaN with too few examples.

    Owner 7 has 12 published examples, which are denoised better, and owner 4 has only 3:

    >>> import numpy as np
    >>> from diffuscope.audit import owner_tests
    >>> rng = np.random.default_rng(0)
    >>> losses = rng.normal(-3, 1, (15, 2)), rng.normal(0, 1, (24, 2))
    >>> owners = np.array([7] * 12 + [4] * 3), np.array([7] * 14 + [4] * 10)
    >>> four, seven = owner_tests(losses, owners, rng, permutations=99)
    >>> seven.owner, seven.published, seven.unpublished, seven.p_value
    (7, 12, 14, 0.01)
    >>> four.published, four.p_value, seven.corrected  # of one test
    (3, nan, 0.01)
    """

    owner: int
    published: int
    unpublished: int
    p_value: float
    corrected: float  # Holm: P(any false one among all owners) <= its level


def owner_p_value(
    published: Float[ndarray, "n levels"],
    unpublished: Float[ndarray, "m _"],
    rng: np.random.Generator,
    *,
    difficulty: tuple[Float[ndarray, "_ _ references"], Float[ndarray, "_ _ references"]] | None = None,
    permutations: int = PERMUTATIONS,
) -> float:
    """The p-value of one owner, small if the published examples are denoised better than the unpublished ones.

    Rows are log losses at the noise levels; `difficulty` are those of references that know both sets alike. Raises
    InputError for fewer than 10 examples of either kind, for losses that are not finite or of other levels or examples
    than the rest, and for fewer than one permutation.

    >>> import numpy as np
    >>> from diffuscope.audit import owner_p_value
    >>> rng = np.random.default_rng(0)
    >>> owner_p_value(rng.normal(-1, 1, (50, 4)), rng.normal(0, 1, (50, 4)), rng)
    0.0005
    """
    n, m = len(published), len(unpublished)
    for name, count in (("published", n), ("unpublished", m)):
        if count < FEWEST:
            raise InputError(f"{name}: expected at least {FEWEST} examples, got {count}")
    _require_losses((published, unpublished), ("published", "unpublished"), difficulty)
    if permutations < 1:
        raise InputError(f"permutations: expected at least 1, got {permutations}")
    rows = np.concatenate([published, unpublished])
    if difficulty is not None:
        rows = residuals(rows, np.concatenate(difficulty))
    matrix = whitening(rows)
    rows, prior = (rows - rows.mean(0)) @ matrix, matrix.sum(1) / np.linalg.norm(matrix.sum(1))
    folds = rng.permutation(np.arange(n + m) % FOLDS)
    labels = np.zeros((1 + permutations, n + m), dtype=bool)  # published
    labels[0, :n] = True
    for draw in labels[1:]:
        draw[rng.permutation(n + m)[:n]] = True
    parts = (labels[start:stop] for start, stop in ranges(len(labels), chunk_size(CHUNK, each=n + m)))
    values = np.concatenate([_statistic(rows, prior, part, folds) for part in parts])
    return float((values >= values[0] - 1e-12).mean())


def owner_tests(
    losses: tuple[Float[ndarray, "n levels"], Float[ndarray, "m _"]],
    owners: tuple[Int[ndarray, " _"], Int[ndarray, " _"]],
    rng: np.random.Generator,
    *,
    difficulty: tuple[Float[ndarray, "_ _ references"], Float[ndarray, "_ _ references"]] | None = None,
    permutations: int = PERMUTATIONS,
) -> list[OwnerTest]:
    """One test for every owner in the training examples' `owners`, in increasing order, corrected after Holm (1979).

    `losses` and `owners` are those of the training and of the held-out examples: the latter are the unpublished ones.
    An owner with fewer than 10 examples of either kind cannot be tested and has NaN: another owner's examples would
    differ for other reasons. Raises InputError as `owner_p_value` does, and unless there is one owner for each example.

    >>> import numpy as np
    >>> from diffuscope.audit import owner_tests
    >>> rng = np.random.default_rng(0)
    >>> losses = rng.normal(-3, 1, (40, 2)), rng.normal(0, 1, (60, 2))
    >>> owners = np.arange(40) % 2, np.arange(60) % 3  # the third kept all of theirs
    >>> [(test.owner, test.published, test.unpublished) for test in owner_tests(losses, owners, rng, permutations=99)]
    [(0, 20, 20), (1, 20, 20)]
    >>> [(test.p_value, test.corrected) for test in owner_tests(losses, owners, rng, permutations=99)]
    [(0.01, 0.02), (0.01, 0.02)]
    """
    _require_losses(losses, ("losses", "losses"), difficulty)
    for rows, of in zip(losses, owners, strict=True):
        if len(rows) != len(of):
            raise InputError(f"owners: expected one for each example ({len(rows)}), got {len(of)}")
    found: list[tuple[int, int, int, float]] = []
    for owner in np.unique(owners[0]):
        own = [np.flatnonzero(of == owner) for of in owners]
        counts = len(own[0]), len(own[1])
        p_value = float("nan")
        if min(counts) >= FEWEST:
            easy = None if difficulty is None else (difficulty[0][own[0]], difficulty[1][own[1]])
            p_value = owner_p_value(
                losses[0][own[0]], losses[1][own[1]], rng, difficulty=easy, permutations=permutations
            )
        found.append((int(owner), *counts, p_value))
    corrected = holm({owner: p for owner, *_, p in found if not np.isnan(p)})
    return [
        OwnerTest(owner=owner, published=n, unpublished=m, p_value=p, corrected=corrected.get(owner, float("nan")))
        for owner, n, m, p in found
    ]


def _require_losses(
    losses: tuple[ndarray, ndarray], names: tuple[str, str], difficulty: tuple[ndarray, ndarray] | None
) -> None:
    """Raises InputError unless all are finite, and of equal levels and examples."""
    for rows, name in zip(losses, names, strict=True):
        if not np.isfinite(rows).all():
            raise InputError(f"{name}: expected finite log losses, got NaN or infinity")
    levels, others = (rows.shape[1] for rows in losses)
    if levels != others:
        raise InputError(f"{names[1]}: expected losses at equally many levels, got {levels} and {others}")
    for rows, easy in zip(losses, difficulty or (), strict=False):
        if easy.shape[:2] != rows.shape or not np.isfinite(easy).all():
            of = f"{len(rows)} examples at {rows.shape[1]} levels"
            raise InputError(f"difficulty: expected finite losses of {of}, got an array of shape {easy.shape}")


def holm(p_values: Mapping[int, float]) -> dict[int, float]:
    """Holm's corrected p-values, by owner: the k-th smallest of K times K - k + 1, made monotone.

    >>> holm({1: 0.01, 2: 0.04, 3: 0.03})
    {1: 0.03, 3: 0.06, 2: 0.06}
    """
    order = sorted(p_values, key=lambda owner: p_values[owner])
    factors = range(len(order), 0, -1)
    corrected = np.maximum.accumulate([min(1.0, k * p_values[o]) for k, o in zip(factors, order, strict=True)])
    return dict(zip(order, np.asarray(corrected, dtype=float).tolist(), strict=True))


def detectable_difference(n: int, m: int, level: float, power: float = 0.95) -> float:
    """The difference of mean log losses, in standard deviations of an example, that a test of means would find.

    >>> round(detectable_difference(100, 100, 0.05), 2)
    0.47
    """
    return float((scipy.stats.norm.isf(level) + scipy.stats.norm.isf(1 - power)) * (1 / n + 1 / m) ** 0.5)


def _statistic(
    rows: Float[ndarray, "examples levels"],
    prior: Float[ndarray, " levels"],
    published: ndarray,
    folds: Int[ndarray, " examples"],
) -> Float[ndarray, " draws"]:
    """s for every row of `published` labels; a fold without examples of one kind adds nothing."""
    ones = published.astype(float)

    def difference(own: ndarray) -> Float[ndarray, "draws levels"]:
        """Mean of the unpublished minus mean of the published examples among `own`."""
        count = ones[:, own].sum(1, keepdims=True)
        sums, rest = ones[:, own] @ rows[own], own.sum() - count
        whole = rows[own].sum(0)
        valid = (count > 0) & (rest > 0)
        return np.where(valid, (whole - sums) / np.maximum(rest, 1) - sums / np.maximum(count, 1), 0.0)

    values = np.zeros(len(published))
    for fold in range(FOLDS):
        own = folds == fold
        direction = difference(~own) + prior
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-300)
        values += (difference(own) * direction).sum(1) / FOLDS
    return values

r"""Three membership scores from denoising losses, none of which needs shadow models.

Pair i is one training and one held-out example (or one group of each). Their losses at noise level l are
:math:`\ell_{il} = \log |D(x_t) - x_0|^2`, and :math:`r_{il}` are those of references that know all examples alike
(`difficulty`). Higher scores say "member".

- *loss*: :math:`-\operatorname{mean}_l \ell_{il}`, the loss threshold of Yeom et al. (2018) and, for diffusion models,
  Carlini et al. (2023).
- *relative loss*: :math:`-\operatorname{mean}_l e_{il}`, where :math:`e` is what is left of :math:`\ell` after a linear
  regression on :math:`r` at each level: easy examples have a low loss whether or not they were seen. This is the
  likelihood ratio of Carlini et al. (2022) with a global variance, the model that has not seen the example being
  predicted from its difficulty.
- *likelihood ratio*: that of two Gaussians with a common covariance S for the whole vector of levels,
  :math:`e_i^\top S^{-1} (\bar e_{heldout} - \bar e_{train})` with the sign that members are high (Fisher's
  discriminant). The means come from the other folds: no example is scored with its own label.

The regression and S are fitted to training and held-out examples together, without their labels. So if the model treats
both alike, the scores of a pair are exchangeable, and exchanging the labels within pairs gives exact p-values.
"""

from dataclasses import dataclass

import numpy as np
import scipy  # its subpackages are loaded when they are first used
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from diffuscope.memory import chunk_size, ranges

from .roc import null_deviation

CHUNK = 4_000_000  # numbers held at once
FOLDS = 5
PERMUTATIONS = 1_999
RIDGE = 1e-3  # of the mean eigenvalue of S
FLOOR = 1e-6  # of the data's variance: an exact memorizer's loss is zero
ATTACKS = ("loss", "relative loss", "likelihood ratio")

Pairs = Float[ndarray, "2 pairs levels"]


@dataclass(frozen=True, eq=False)
class PairedLosses:
    """Log losses of training examples (row 0) and held-out ones (row 1): the model's and the references'."""

    model: Float[ndarray, "2 pairs levels"]
    references: Float[ndarray, "2 pairs levels references"]

    @property
    def pairs(self) -> int:
        """The number of pairs."""
        return self.model.shape[1]


@dataclass(frozen=True, eq=False)
class Attack:
    """The scores of one attack, and its area under the curve where labels are exchanged within pairs."""

    members: Float[ndarray, " pairs"]
    others: Float[ndarray, " pairs"]
    area: float
    permuted: Float[ndarray, " permutations"]

    @property
    def p_value(self) -> float:
        """One-sided permutation p-value of the area."""
        return float(1 + (self.permuted >= self.area - 1e-12).sum()) / (1 + len(self.permuted))

    @property
    def widening(self) -> float:
        """The deviation of the permuted areas over that of exchangeable scores, at least 1.

        It exceeds 1 for the likelihood ratio, whose weights vary too: every pair of folds is used twice.
        """
        pairs = len(self.members)
        return max(1.0, float(self.permuted.std()) / null_deviation(pairs, pairs))


def log_losses(squares: Float[ndarray, "*shape"], variance: float, floor: float = FLOOR) -> Float[ndarray, "*shape"]:
    """log(|D - x_0|^2 + floor times variance), where `variance` is that of the data, tr Sigma.

    >>> float(log_losses(np.array([0.0]), 1.0)[0]) == float(np.log(1e-6))
    True
    """
    return np.log(squares + floor * variance)


def residuals(
    losses: Float[ndarray, "n levels"], references: Float[ndarray, "n levels references"]
) -> Float[ndarray, "n levels"]:
    """What is left of the log losses after a linear regression on the references' log losses, level by level."""
    left = np.empty_like(losses)
    for level in range(losses.shape[1]):
        design = np.column_stack([np.ones(len(losses)), references[:, level]])
        left[:, level] = losses[:, level] - design @ np.linalg.lstsq(design, losses[:, level], rcond=None)[0]
    return left


def group_means(
    parts: tuple[Float[ndarray, "n *columns"], Float[ndarray, "m *columns"]],
    groups: tuple[Int[ndarray, " n"], Int[ndarray, " m"]],
    rng: np.random.Generator,
) -> Float[ndarray, "2 pairs *columns"]:
    """Mean rows of groups of training and of held-out examples, in pairs of as many examples.

    Groups that are in both sets are left out. Large groups are paired with large ones, and of the larger one of a pair
    only as many examples are used as the smaller one has: means of more examples spread less, and the labels of a pair
    could not be exchanged.

    >>> group_means((np.array([1.0, 2.0, 4.0]), np.array([5.0])), (np.array([7, 3, 3]), np.array([1])),
    ...             np.random.default_rng(0))
    array([[2.],
           [5.]])
    """
    sets = []
    for own, other in (groups, groups[::-1]):
        _, place, counts = np.unique(own, return_inverse=True, return_counts=True)
        names = np.unique(own)
        order = rng.permutation(np.flatnonzero(~np.isin(names, other)))
        sets.append((place, counts, order[np.argsort(-counts[order], kind="stable")]))
    pairs = min(len(order) for *_, order in sets)
    sizes = np.minimum(*(counts[order[:pairs]] for _, counts, order in sets))
    means = np.zeros((2, pairs, *parts[0].shape[1:]))
    for mean, rows, (place, counts, order) in zip(means, parts, sets, strict=True):
        pair_of_group = np.full(len(counts), -1)
        pair_of_group[order[:pairs]] = np.arange(pairs)
        by_group = np.argsort(place, kind="stable")
        rank = np.empty(len(place), dtype=np.int64)  # of an example within its group
        rank[by_group] = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
        pair = pair_of_group[place]
        used = (pair >= 0) & (rank < np.append(sizes, 0)[pair])
        np.add.at(mean, pair[used], rows[used])
    return means / sizes.reshape(1, -1, *[1] * (parts[0].ndim - 1))


def attacks(
    losses: PairedLosses, rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> tuple[dict[str, Attack], float]:
    """Every attack by name, and one p-value for all: that of the largest studentized area (Westfall & Young 1993).

    At least two pairs. Memory: CHUNK numbers at once.
    """
    pairs, levels = losses.pairs, losses.model.shape[2]
    flat = residuals(losses.model.reshape(-1, levels), losses.references.reshape(2 * pairs, levels, -1))
    left = flat.reshape(2, pairs, levels)
    whitened, folds = (left - flat.mean(0)) @ whitening(flat), rng.permutation(np.arange(pairs) % FOLDS)
    exchanged = rng.random((1 + permutations, pairs)) < 0.5
    exchanged[0] = False  # the observed labels
    fixed = {"loss": -losses.model.mean(2), "relative loss": -left.mean(2)}
    scores = fixed | {"likelihood ratio": discriminant(whitened, folds, exchanged[:1])[0]}
    areas = {name: areas_of(both, exchanged) for name, both in fixed.items()}
    parts = (exchanged[start:stop] for start, stop in ranges(len(exchanged), chunk_size(CHUNK, each=len(flat))))
    areas["likelihood ratio"] = np.concatenate(
        [areas_of_each(discriminant(whitened, folds, part), part) for part in parts]
    )
    found = {name: Attack(scores[name][0], scores[name][1], float(areas[name][0]), areas[name][1:]) for name in ATTACKS}
    table = np.stack([areas[name] for name in ATTACKS]) - 0.5
    spread = np.sqrt((table**2).mean(1, keepdims=True))
    largest = (table / np.where(spread > 0, spread, 1.0)).max(0)
    return found, float((largest >= largest[0] - 1e-12).mean())


def whitening(rows: Float[ndarray, "n levels"]) -> Float[ndarray, "levels levels"]:
    """S^(-1/2) for the covariance S of the rows, labels ignored, with a small ridge."""
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(rows, rowvar=False)))
    values = values + RIDGE * max(float(values.mean()), 1e-300)
    return (vectors / np.sqrt(values)) @ vectors.T


def discriminant(
    whitened: Pairs, folds: Int[ndarray, " pairs"], exchanged: Bool[ndarray, "draws pairs"]
) -> Float[ndarray, "draws 2 pairs"]:
    """Fisher's discriminant of every row, in its own place, with the mean difference of the other folds' pairs.

    The labels of the pairs that are `exchanged` are: the difference changes its sign.
    """
    signs = np.where(exchanged, -1.0, 1.0)
    difference = whitened[0] - whitened[1]
    total = signs @ difference
    scores = np.empty((len(exchanged), *whitened.shape[:2]))
    for fold in np.unique(folds):
        own = folds == fold
        weights = total - signs[:, own] @ difference[own]
        scores[:, :, own] = np.einsum("spl,dl->dsp", whitened[:, own], weights, optimize=True)
    return scores


def areas_of(scores: Float[ndarray, "2 pairs"], exchanged: Bool[ndarray, "draws pairs"]) -> Float[ndarray, " draws"]:
    """The area under the curve for every exchange of labels, for scores that do not depend on labels."""
    pairs = scores.shape[1]
    ranks = scipy.stats.rankdata(scores).reshape(2, pairs)
    sums = ranks[0].sum() - exchanged @ (ranks[0] - ranks[1])
    return (sums / pairs - (pairs + 1) / 2) / pairs


def areas_of_each(
    scores: Float[ndarray, "draws 2 pairs"], exchanged: Bool[ndarray, "draws pairs"]
) -> Float[ndarray, " draws"]:
    """The same for scores of their own in every draw."""
    pairs = scores.shape[2]
    ranks = scipy.stats.rankdata(scores.reshape(len(scores), -1), axis=1).reshape(scores.shape)
    sums = np.where(exchanged, ranks[:, 1], ranks[:, 0]).sum(1)
    return (sums / pairs - (pairs + 1) / 2) / pairs

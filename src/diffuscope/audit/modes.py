"""Are modes missing? Clusters of the training data as labels, and do samples repeat each other?

*Modes.* The training examples are divided into clusters (k-means); samples and held-out examples are counted in each,
and their shares are compared as those of labels are (`label_shares`), with the same test and power. There are as many
clusters, of the numbers CLUSTERS, as allow an average one to be found missing.

*Repeats.* r is the 5% quantile of the distances of n held-out examples to their nearest others. Points nearer than r to
another one come in pairs, nearly independent of each other: with a pairs among n samples and b among n training
examples, a of a + b is binomial with 1/2 if samples repeat each other no more often than training examples do.
"""

from dataclasses import dataclass, field

import numpy as np
import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from diffuscope.findings import Finding, Tone, exact_share_interval

from .label_shares import LabelBalance, label_balance
from .nearness import kmeans
from .rows_of import AnyRows, few_enough
from .shared_neighbors import nearest_neighbors
from .some_rows import some_rows

CLUSTERS = (20, 10, 5, 3)
FITTED = 10_000  # training examples that determine the clusters
NEAREST = 0.05
MOST = 5000  # samples that are compared with each other
TOO_MANY = 0.01  # of the samples beyond those of training examples: fewer repeats are no fault
Rows = Float[Tensor, "_ features"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Modes:
    """The shares of the clusters, and the held-out examples of each."""

    balance: LabelBalance
    of_heldout: Int[ndarray, " m"] = field(repr=False)

    @property
    def shortest(self) -> list[int]:
        """The clusters in order of how many samples they lack, those alone that lack any."""
        short = (self.balance.of_heldout - self.balance.of_samples).numpy()
        return [int(k) for k in np.argsort(-short) if short[k] > 0]


@dataclass(frozen=True, kw_only=True)
class SelfRepeats:
    """How many of `size` samples, and of as many training examples, are within `radius` of another one."""

    samples: int
    training: int
    size: int
    radius: float

    @property
    def p_value(self) -> float:
        """One-sided, over pairs."""
        pairs = -(-self.samples // 2), -(-self.training // 2)
        return float(scipy.stats.binomtest(pairs[0], sum(pairs), alternative="greater").pvalue) if sum(pairs) else 1.0

    @property
    def least_found(self) -> int:
        """The least number of repeating samples that would have p < .01, given the training examples' number."""
        b = -(-self.training // 2)
        pairs = np.arange(1, self.size // 2 + 1)
        small = scipy.stats.binom.sf(pairs - 1, pairs + b, 0.5) < 0.01
        return 2 * int(pairs[np.argmax(small)]) if small.any() else self.size + 1


def modes(samples: Rows, train: AnyRows, heldout: AnyRows, significance: float, rng: np.random.Generator) -> Modes:
    """Compare the clusters of samples with those of held-out examples."""
    fitted, found = some_rows(train, few_enough(FITTED, train.shape[1]), rng), None
    for count in CLUSTERS:
        cluster = kmeans(fitted, count, int(rng.integers(2**32)))
        of_samples, of_heldout = cluster(samples), cluster(heldout)
        labels = torch.from_numpy(of_samples), torch.from_numpy(of_heldout)
        found = Modes(balance=label_balance(torch.arange(count), *labels, len(train), rng), of_heldout=of_heldout)
        if np.isfinite(found.balance.detectable(significance)):
            break
    assert found is not None
    return found


def self_repeats(samples: Rows, train: AnyRows, heldout: AnyRows, rng: np.random.Generator) -> SelfRepeats:
    """Compare equally many of each, at random."""
    size = min(len(samples), len(train), len(heldout), few_enough(MOST, train.shape[1]))
    nearest = [
        nearest_neighbors(rows, rows, 2)[0][:, 1].numpy()
        for rows in (some_rows(x, size, rng) for x in (samples, train, heldout))
    ]
    radius = float(np.quantile(nearest[2], NEAREST))
    near = [int((distance <= radius).sum()) for distance in nearest[:2]]
    return SelfRepeats(samples=near[0], training=near[1], size=size, radius=radius)


def modes_finding(result: Modes, significance: float) -> Finding:
    """The total variation of the shares, and the clusters without samples."""
    balance = result.balance
    least, count = balance.detectable(significance), len(balance.classes)
    short = balance.p_value < significance or balance.surely_missing(significance)
    tone: Tone = "attention" if short else "unknown" if np.isinf(least) else "good"
    verdict = f"Samples have the data's shares of {count} clusters, up to chance."
    if short and balance.missing:
        verdict = f"{len(balance.missing)} of {count} clusters of the data have no sample at all."
    elif short:
        k = balance.farthest
        ours, theirs = float(balance.of_samples[k]), float(balance.of_heldout[k])
        verdict = f"Samples have other shares of the data's clusters: in one {ours:.1%} instead of {theirs:.1%}."
    elif tone == "unknown":
        verdict = "Cannot tell: with so few examples not even a missing cluster would be found."
    power = f"An average cluster {100 * least:.1f} percentage points short would have been found with probability 0.95."
    return Finding(
        name="diversity.modes",
        title="Are modes of the data missing?",
        value=100 * balance.variation,
        unit="%",
        verdict=verdict,
        tone=tone,
        null=f"Samples have the shares of the data, up to the sampling error of {balance.known:,} training examples. "
        "The value is the total variation distance.",
        p_value=balance.p_value,
        power="None: not even a cluster without samples would be found." if np.isinf(least) else power,
    )


def repeats_finding(result: SelfRepeats, significance: float) -> Finding:
    """Samples that repeat each other."""
    low, high = exact_share_interval(result.samples, result.size)
    share, normal = result.samples / result.size, result.training / result.size
    often = result.p_value < significance and share > normal + TOO_MANY
    verdict = f"{share:.1%} of the samples nearly repeat another one; of equally many training examples {normal:.1%} do"
    return Finding(
        name="diversity.repeats",
        title="Do samples repeat each other?",
        value=100 * share,
        unit="%",
        verdict=f"{verdict}." if often else f"{verdict}: no more than the data.",
        tone="attention" if often else "good",
        interval=(100 * low, 100 * high),
        null=f"{100 * normal:.2g}%: among {result.size:,} training examples. Binomial test of pairs.",
        p_value=result.p_value,
        power=f"{result.least_found:,} repeating samples would be significant at 0.01; from {100 * TOO_MANY:g} "
        "percentage points beyond the data it is a fault.",
    )

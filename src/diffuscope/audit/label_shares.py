r"""Does every label occur as often among samples as in the data? The Frechet distance hardly responds to one label.

A classifier labels n samples and m held-out examples, with the same errors on both. The shares p and q are compared by
their total variation :math:`\tfrac12 \sum_k |p_k - q_k|`, the share of samples that would have to change their label.

*Test.* Even a perfect model knows the distribution of labels only from N training examples, whose shares vary by
chance, and its samples follow them. So under the null hypothesis

.. math::  \operatorname{Var}(p_k - q_k) = \pi_k (1 - \pi_k) \left(\frac1n + \frac1m + \frac1N\right),

with :math:`\pi` the shares in the data's distribution; two samples of one distribution have 1/n + 1/m there. Pearson's
:math:`\chi^2` of the two rows of counts is shrunk by the ratio of these two variances and compared with its permutation
distribution, because the chi-squared limit is inaccurate for small counts. Without the shrinking, a model that replays
its training data would be rejected, and the more surely the more samples it generates.

A label that no sample has is also tested by itself, by the chance :math:`(1 - \pi_k)^n` of that.

*Power.* If a label of share :math:`\pi` is short by :math:`\delta` and the others are larger in proportion, the shrunk
statistic has the noncentrality :math:`\delta^2 / \bar p (1 - \bar p) (\frac1n + \frac1m + \frac1N)`, where
:math:`\bar p = \pi - \frac{n}{n + m}\delta` is the label's share of both together, and one degree of freedom fewer
than labels that occur.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.findings import (
    POWER,
    Chart,
    Finding,
    Panel,
    Tone,
    chi_squared_permutation,
    exact_share_interval,
    groups,
)
from diffuscope.report import Block

MOST_NAMED = 5
MOST_CLASSES = 20  # of a readable bar chart


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelBalance:
    """Shares of the labels, in the order of `classes`, among `samples` samples and `others` held-out examples.

    `known` is the number of training examples from which the model knows the shares.
    """

    classes: Int[Tensor, " classes"] = field(repr=False)
    of_samples: Float[Tensor, " classes"] = field(repr=False)
    of_heldout: Float[Tensor, " classes"] = field(repr=False)
    samples: int
    others: int
    known: int
    p_value: float

    @property
    def scale(self) -> float:
        """1/n + 1/m + 1/N: the variance of a difference of shares, in units of pi (1 - pi)."""
        return 1 / self.samples + 1 / self.others + 1 / self.known

    @property
    def variation(self) -> float:
        """Total variation distance between the two distributions."""
        return float((self.of_samples - self.of_heldout).abs().sum() / 2)

    @property
    def missing(self) -> list[int]:
        """The labels that no sample has and that held-out examples have."""
        return self.classes[(self.of_samples == 0) & (self.of_heldout > 0)].tolist()

    def surely_missing(self, significance: float) -> bool:
        """Whether a label of its share, by the lower end of its interval, would be missing by chance so rarely.

        The chance is (1 - share)^n, or ^N with fewer training examples than samples, and allows for the number of
        labels (Bonferroni).
        """
        counts = (self.of_heldout[self.of_samples == 0] * self.others).round().long().tolist()
        level = significance / len(self.classes) / 2  # half for the interval, half for the samples
        shares = [exact_share_interval(count, self.others, 1 - 2 * level)[0] for count in counts]
        return any((1 - share) ** min(self.samples, self.known) < level for share in shares)

    @property
    def farthest(self) -> int:
        """The index in `classes` of the label whose shares differ most."""
        return int((self.of_samples - self.of_heldout).abs().argmax())

    def detectable(self, significance: float) -> float:
        """The smallest shortage of a label of average share that the test finds with probability 0.95.

        The average is over the labels that occur. Infinity where even a missing label would not be found, or where only
        one label occurs.
        """
        occurring = int(((self.of_samples + self.of_heldout) > 0).sum())
        if occurring < 2:
            return math.inf
        freedom, p = occurring - 1, 1 / occurring
        needed = scipy.special.chndtrinc(scipy.stats.chi2.isf(significance, freedom), freedom, 1 - POWER)
        f, c = self.samples / (self.samples + self.others), float(needed) * self.scale
        # delta^2 = c (p - f delta) (1 - p + f delta)
        square, linear = 1 + c * f**2, c * f * (1 - 2 * p)
        short = (math.sqrt(linear**2 + 4 * square * c * p * (1 - p)) - linear) / (2 * square)
        return short if short <= p else math.inf


def label_balance(
    classes: Int[Tensor, " classes"],
    samples: Int[Tensor, " n"],
    heldout: Int[Tensor, " m"],
    known: int,
    rng: np.random.Generator,
) -> LabelBalance:
    """Compare the labels that the classifier gives, for a model that was trained on `known` examples."""
    counts = torch.stack([(labels[:, None] == classes).sum(0) for labels in (samples, heldout)])
    of_samples, of_heldout = counts.double() / counts.sum(1, keepdim=True)
    of_two_samples = 1 / len(samples) + 1 / len(heldout)
    share = of_two_samples / (of_two_samples + 1 / known)
    p_value = chi_squared_permutation(counts.numpy(), share, rng)
    return LabelBalance(
        classes=classes,
        of_samples=of_samples,
        of_heldout=of_heldout,
        samples=len(samples),
        others=len(heldout),
        known=known,
        p_value=p_value,
    )


def label_finding(result: LabelBalance, significance: float) -> Finding:
    """The total variation and its test."""
    worst, least = result.farthest, result.detectable(significance)
    significant = result.p_value < significance or result.surely_missing(significance)
    shares = (
        f"{float(result.of_samples[worst]):.1%} of the samples have label {int(result.classes[worst])}, against "
        f"{float(result.of_heldout[worst]):.1%} of held-out data"
    )
    power = f"An average label {100 * least:.1f} percentage points short would have been found with probability 0.95."
    tone: Tone = "good"
    if significant:
        tone, verdict = "attention", f"The samples do not have the label shares of the data: {shares}."
    elif math.isinf(least):
        tone = "unknown"
        verdict = f"Cannot tell: with so few examples not even a missing label would be found. {shares}."
    else:
        verdict = f"No difference between the label shares of samples and data is found. Largest difference: {shares}."
    if math.isinf(least):
        power = "Not even a label that is missing altogether would be found with probability 0.95."
    if missing := result.missing:
        names = ", ".join(map(str, missing[:MOST_NAMED])) + (", ..." if len(missing) > MOST_NAMED else "")
        verdict += f" No sample at all has label {names}."
    return Finding(
        name="fidelity.labels",
        title="Do its samples have the label shares of the data?",
        value=100 * result.variation,
        unit="%",
        verdict=verdict,
        tone=tone,
        null="Samples have the label distribution of the data, up to the sampling error of "
        f"{result.known:,} training examples.",
        p_value=result.p_value,
        power=power,
    )


def label_block(result: LabelBalance) -> Block:
    """The shares of all labels as bars; a sentence where there are too many."""
    classes = len(result.classes)
    if classes > MOST_CLASSES:
        return f"The shares of {classes} labels are not drawn: more than {MOST_CLASSES} bars are unreadable."
    chance = ((classes - 1) / result.samples) ** 0.5 / classes  # of equally frequent labels
    shares = {"held-out data": 100 * result.of_heldout, "samples": 100 * result.of_samples}
    top = 1.25 * max(float(share.max()) for share in shares.values())
    bars = groups([str(name) for name in result.classes.tolist()], {**shares})
    return Chart(
        "Label shares of samples and of held-out data",
        (Panel("", "label that the classifier gives", "share, %", (bars,), y_range=(0.0, top)),),
        "A label that is missing or far too frequent shows here at once; the distance above hardly responds to one "
        f"label of many. The bars of {result.samples:,} samples vary by about {100 * chance:.1f} percentage points by "
        "chance.",
    )

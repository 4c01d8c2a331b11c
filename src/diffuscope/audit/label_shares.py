r"""Is every kind of example generated as often as it occurs? What the Frechet distance hardly sees: one label of ten.

A classifier names the labels of n samples and m held-out examples; its errors are the same for both. The shares p and q
are compared by their total variation :math:`\tfrac12 \sum_k |p_k - q_k|`, the share of samples that would have to
change their label.

*Test.* Even a perfect model knows the distribution of labels from N training examples only, whose shares are off by
chance: what it generates follows those. So under the null

.. math::  \operatorname{Var}(p_k - q_k) = \pi_k (1 - \pi_k) \left(\frac1n + \frac1m + \frac1N\right),

with :math:`\pi` the distribution of the data, where two samples of one distribution have 1/n + 1/m. Pearson's
:math:`\chi^2` of the two rows of counts is shrunk by the ratio of these two scales, and then compared with its
distribution under permutations of the two rows, because the limit is far off where counts are small. Without the
shrinking, a model that replays its training data would be blamed, the more surely the more samples it gives.

*Power.* If a label of share :math:`\pi` is short by :math:`\delta`, made up by the others in proportion, the shrunk
statistic is noncentral by :math:`\delta^2 / \bar p (1 - \bar p) (\frac1n + \frac1m + \frac1N)`, where :math:`\bar p =
\pi - \frac{n}{n + m}\delta` is its share of both together; its degrees of freedom are one fewer than the labels that
occur.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import special, stats
from torch import Tensor

from diffuscope.findings import POWER, Chart, Finding, Panel, chi_squared_permutation, groups
from diffuscope.report import Block

MOST_CLASSES = 20  # bars that can be told apart


@dataclass(frozen=True, eq=False)
class LabelBalance:
    """Shares of the labels, in the order of `classes`, among `samples` samples and `others` held-out examples.

    `known` is the number of training examples from which a model can know them.
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
        """Total variation between the two."""
        return float((self.of_samples - self.of_heldout).abs().sum() / 2)

    @property
    def farthest(self) -> int:
        """The label whose share is off by most, as a place in `classes`."""
        return int((self.of_samples - self.of_heldout).abs().argmax())

    def detectable(self, significance: float) -> float:
        """By how much a label of average share must be short to be found with probability 0.95; infinity if by more.

        The average is over the labels that occur; infinity, too, where only one does.
        """
        occurring = int(((self.of_samples + self.of_heldout) > 0).sum())
        if occurring < 2:
            return math.inf
        freedom, p = occurring - 1, 1 / occurring
        needed = special.chndtrinc(stats.chi2.isf(significance, freedom), freedom, 1 - POWER)
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
    """From the labels that the classifier gives, for a model that was trained on `known` many examples."""
    counts = torch.stack([(labels[:, None] == classes).sum(0) for labels in (samples, heldout)])
    of_samples, of_heldout = counts.double() / counts.sum(1, keepdim=True)
    of_two_samples = 1 / len(samples) + 1 / len(heldout)
    share = of_two_samples / (of_two_samples + 1 / known)
    p_value = chi_squared_permutation(counts.numpy(), share, rng)
    return LabelBalance(classes, of_samples, of_heldout, len(samples), len(heldout), known, p_value)


def label_finding(result: LabelBalance, significance: float) -> Finding:
    """The total variation and its test."""
    off, beyond = result.farthest, result.p_value < significance
    shares = (
        f"{float(result.of_samples[off]):.1%} of the samples have label {int(result.classes[off])}, against "
        f"{float(result.of_heldout[off]):.1%} of held-out data"
    )
    verdict = (
        f"Labels are generated as often as they occur, as far as this test can tell. Largest difference: {shares}."
    )
    if beyond:
        verdict = f"Not every label is generated as often as it occurs: {shares}."
    least = result.detectable(significance)
    power = (
        f"An average label short by {100 * least:.1f} percentage points would have been found with probability 0.95."
    )
    if math.isinf(least):
        power = "Not even a label that is missing altogether would be found with probability 0.95."
    return Finding(
        name="fidelity.labels",
        title="Is every label generated as often as it occurs?",
        value=100 * result.variation,
        unit="%",
        verdict=verdict,
        tone="attention" if beyond else "good",
        null=f"Samples have the label distribution of the data, as far as {result.known:,} training examples tell it.",
        p_value=result.p_value,
        power=power,
    )


def label_block(result: LabelBalance) -> Block:
    """The shares of all labels as bars; in words where they are too many."""
    classes = len(result.classes)
    if classes > MOST_CLASSES:
        return f"The shares of {classes} labels are not drawn: more than {MOST_CLASSES} bars cannot be told apart."
    chance = ((classes - 1) / result.samples) ** 0.5 / classes  # of equally frequent labels
    shares = {"held-out data": 100 * result.of_heldout, "samples": 100 * result.of_samples}
    top = 1.25 * max(float(share.max()) for share in shares.values())
    bars = groups([str(name) for name in result.classes.tolist()], {**shares})
    return Chart(
        "Is every label generated as often as it occurs?",
        (Panel("", "label that the classifier gives", "share, %", (bars,), y_range=(0.0, top)),),
        "A label that is missing, or far too frequent, shows here at once; the distance above hardly notices one label "
        f"of many. Chance alone moves the bars of {result.samples:,} samples by about {100 * chance:.1f} percentage "
        "points.",
    )

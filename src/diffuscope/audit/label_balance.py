r"""Is every kind of example generated as often as it occurs? What the Frechet distance hardly sees: one label of ten.

A classifier names the labels of n samples and m unseen examples; its errors are the same for both. The shares p and q
are compared by their total variation :math:`\tfrac12 \sum_k |p_k - q_k|`, the share of samples that would have to
change their label.

*Test.* Even a perfect model knows the law of labels from N training examples only, whose shares are off by chance: what
it generates follows those. So under the null

.. math::  \operatorname{Var}(p_k - q_k) = \pi_k (1 - \pi_k) \left(\frac1n + \frac1m + \frac1N\right),

with :math:`\pi` the law of the data, where two samples of one law have 1/n + 1/m. Pearson's :math:`\chi^2` of the two
rows of counts is shrunk by the ratio of these two scales, and then compared with its law under permutations of the two
rows, because the limit law is far off where counts are small. Without the shrinking, a model that recites its training
data would be blamed, the more surely the more samples it gives.

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

from diffuscope.findings import POWER, Finding, chi_squared_permutation


@dataclass(frozen=True, eq=False)
class LabelBalance:
    """Shares of the labels, in the order of `classes`, among `samples` many samples and `others` many unseen.

    `known` is the number of training examples from which a model can know them.
    """

    classes: Int[Tensor, " classes"] = field(repr=False)
    of_samples: Float[Tensor, " classes"] = field(repr=False)
    of_unseen: Float[Tensor, " classes"] = field(repr=False)
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
        return float((self.of_samples - self.of_unseen).abs().sum() / 2)

    @property
    def farthest(self) -> int:
        """The label whose share is off by most, as a place in `classes`."""
        return int((self.of_samples - self.of_unseen).abs().argmax())

    def detectable(self, significance: float) -> float:
        """By how much a label of average share must be short to be found with probability .95; infinity if by more.

        The average is over the labels that occur; infinity, too, where only one does.
        """
        occurring = int(((self.of_samples + self.of_unseen) > 0).sum())
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
    unseen: Int[Tensor, " m"],
    known: int,
    rng: np.random.Generator,
) -> LabelBalance:
    """From the labels that the classifier gives, for a model that was trained on `known` many examples."""
    counts = torch.stack([(labels[:, None] == classes).sum(0) for labels in (samples, unseen)])
    of_samples, of_unseen = counts.double() / counts.sum(1, keepdim=True)
    of_two_samples = 1 / len(samples) + 1 / len(unseen)
    share = of_two_samples / (of_two_samples + 1 / known)
    p_value = chi_squared_permutation(counts.numpy(), share, rng)
    return LabelBalance(classes, of_samples, of_unseen, len(samples), len(unseen), known, p_value)


def findings(result: LabelBalance, significance: float) -> list[Finding]:
    """One finding: the total variation and its test."""
    off, beyond = result.farthest, result.p_value < significance
    shares = (
        f"{float(result.of_samples[off]):.1%} of the samples are of label {int(result.classes[off])}, and "
        f"{float(result.of_unseen[off]):.1%} of unseen data"
    )
    verdict = (
        f"Not every label is generated as often as it occurs: {shares}."
        if beyond
        else f"Labels are generated as often as they occur, as far as can be told; farthest off: {shares}."
    )
    least = result.detectable(significance)
    power = f"Would have been found with probability .95: a label of average share short by {least:.1%} of samples."
    if math.isinf(least):
        power = "Not even a label that is missing altogether would be found with probability .95."
    return [
        Finding(
            name="fidelity.labels",
            title="Is every label generated as often as it occurs?",
            value=100 * result.variation,
            unit="%",
            verdict=verdict,
            tone="attention" if beyond else "good",
            null=f"Samples have the unseen data's law of labels, known from {result.known:,} training examples.",
            p_value=result.p_value,
            power=power,
        )
    ]

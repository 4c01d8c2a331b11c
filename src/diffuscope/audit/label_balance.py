r"""Is every kind of example generated as often as it occurs? What the Frechet distance hardly sees: one label of ten.

A classifier names the labels of n samples and m unseen examples; its errors are the same for both. The shares p and q
are compared by their total variation :math:`\tfrac12 \sum_k |p_k - q_k|`, the share of samples that would have to
change their label, and tested by Pearson's :math:`\chi^2` with one degree of freedom less than there are labels.

*Power.* If a label of share p is short by :math:`\delta`, made up by the others in proportion, :math:`\chi^2` is
noncentral by :math:`\frac{nm}{n + m} \frac{\delta^2}{\bar p (1 - \bar p)}`, where :math:`\bar p = p - \frac{n}{n +
m}\delta` is its share of both together.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from scipy import special, stats
from torch import Tensor

from diffuscope.audit.finding import Finding

POWER = 0.95


@dataclass(frozen=True, eq=False)
class LabelBalance:
    """Shares of the labels, in the order of `classes`, among `samples` many samples and `others` many unseen."""

    classes: Int[Tensor, " classes"] = field(repr=False)
    of_samples: Float[Tensor, " classes"] = field(repr=False)
    of_unseen: Float[Tensor, " classes"] = field(repr=False)
    samples: int
    others: int
    p_value: float

    @property
    def variation(self) -> float:
        """Total variation between the two."""
        return float((self.of_samples - self.of_unseen).abs().sum() / 2)

    @property
    def farthest(self) -> int:
        """The label whose share is off by most, as a place in `classes`."""
        return int((self.of_samples - self.of_unseen).abs().argmax())

    def detectable(self, significance: float) -> float:
        """By how much a label of average share must be short to be found with probability .95; infinity if by more."""
        freedom, p = len(self.classes) - 1, 1 / len(self.classes)
        needed = special.chndtrinc(stats.chi2.isf(significance, freedom), freedom, 1 - POWER)
        f, c = self.samples / (self.samples + self.others), float(needed) * (1 / self.samples + 1 / self.others)
        # delta^2 = c (p - f delta) (1 - p + f delta)
        square, linear = 1 + c * f**2, c * f * (1 - 2 * p)
        short = (math.sqrt(linear**2 + 4 * square * c * p * (1 - p)) - linear) / (2 * square)
        return short if short <= p else math.inf


def label_balance(
    classes: Int[Tensor, " classes"], samples: Int[Tensor, " n"], unseen: Int[Tensor, " m"]
) -> LabelBalance:
    """From the labels that the classifier gives; those that it gives to none are left out of the test."""
    counts = torch.stack([(labels[:, None] == classes).sum(0) for labels in (samples, unseen)])
    shares = counts.sum(0).double() / counts.sum()
    expected = counts.sum(1, keepdim=True) * shares
    statistic = ((counts - expected).square() / expected)[:, shares > 0].sum()
    freedom = int((shares > 0).sum()) - 1
    p_value = float(stats.chi2.sf(float(statistic), freedom)) if freedom else 1.0
    of_samples, of_unseen = counts.double() / counts.sum(1, keepdim=True)
    return LabelBalance(classes, of_samples, of_unseen, len(samples), len(unseen), p_value)


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
            "fidelity.labels",
            "Is every label generated as often as it occurs?",
            100 * result.variation,
            "%",
            verdict,
            "attention" if beyond else "good",
            null="Samples and unseen data have one law of labels (Pearson's chi-squared test).",
            p_value=result.p_value,
            power=power,
        )
    ]

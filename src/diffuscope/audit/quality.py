"""How good are the samples? Fit a classifier of the labels, measure in its features; or say why that cannot be done."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.findings import Finding, exact_share_interval

from .classifier import ClassifierFeatures, fit_classifier
from .fidelity import Fidelity, fidelity
from .fidelity import findings as fidelity_findings
from .label_balance import LabelBalance, label_balance
from .label_balance import findings as label_findings
from .subject import Settings, Subject


@dataclass(frozen=True, eq=False)
class Measured:
    """The distances, the classifier in whose features they were taken, and how often it gives each label."""

    fidelity: Fidelity
    features: ClassifierFeatures
    balance: LabelBalance
    findings: tuple[Finding, ...] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Quality:
    """What was measured, or in its place the reason why nothing was."""

    measured: Measured | None
    refusal: str = ""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """None where nothing was measured."""
        return () if self.measured is None else self.measured.findings


def judge(samples: Float[Tensor, "n *event"], subject: Subject, settings: Settings) -> Quality:
    """Compare `samples` with the unseen data of `subject`; a second for the classifier, less for the distances."""
    if subject.train_labels is None or subject.heldout_labels is None:
        parts = {"training": subject.train_labels, "unseen": subject.heldout_labels}
        missing = " and ".join(part for part, labels in parts.items() if labels is None)
        return Quality(None, f"the {missing} data have no labels, and the features are those of a classifier of labels")
    try:
        features = fit_classifier(subject.train, subject.train_labels, subject.heldout, subject.heldout_labels)
        _require_knowledge(features, subject.heldout_labels)
        found = fidelity(features(samples), features(subject.train), features(subject.heldout), settings.seed)
    except InputError as error:
        return Quality(None, str(error))
    rng = np.random.default_rng(settings.seed)
    labels = features.label(samples), features.label(subject.heldout)
    balance = label_balance(features.classes, *labels, len(subject.train), rng)
    told = (*fidelity_findings(found, features), *label_findings(balance, settings.significance))
    return Quality(Measured(found, features, balance, told))


def _require_knowledge(features: ClassifierFeatures, unseen_labels: Int[Tensor, " m"]) -> None:
    """Features of a classifier that has learned nothing mean nothing: it must beat naming the commonest label."""
    low, _ = exact_share_interval(round(features.accuracy * features.unseen), features.unseen)
    commonest = int(unseen_labels.unique(return_counts=True)[1].max()) / len(unseen_labels)
    if low <= commonest:
        raise InputError(
            f"labels: expected some that a classifier can tell, but naming {features.accuracy:.1%} of "
            f"{features.unseen:,} unseen ones (95% interval from {low:.1%}) is no better than naming the "
            f"commonest every time ({commonest:.1%})"
        )

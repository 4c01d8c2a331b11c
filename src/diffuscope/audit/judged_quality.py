"""Samples and planted faults judged alike: their Frechet distance to held-out data, where planted faults are far.

A close distance says something only in features in which a faulty model would be far. So the same rule judges faults of
known size (`planted_faults`), and "close" is a verdict only if every one of them is far. Feature spaces are tried in
order until every fault has been seen; one that sees no fault beyond those before it is left out. All that are kept
count: samples that are far in one of them are far.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.findings import exact_share_interval

from .classifier import ClassifierFeatures, fit_classifier
from .column_pairs import ColumnPairs
from .column_shares import ColumnShares
from .feature_spaces import Space, feature_spaces
from .features import Features
from .frechet_ratio import BAR, Fidelity, distance_at_size, fidelity
from .group_units import one_of_each_group
from .label_shares import LabelBalance, label_balance
from .planted_faults import planted_faults
from .rows_of import few_enough
from .subject import FEWEST, Subject

LARGEST_SAMPLE = 5_000  # examples of each set whose distances are taken
FEATURES_PER_EXAMPLE = 4  # at least so many examples for each of the user's features


@dataclass(frozen=True)
class Judged:
    """Samples and planted faults in one feature space."""

    space: str
    samples: Fidelity
    faults: dict[str, Fidelity]

    @property
    def seen(self) -> set[str]:
        """The faults that are judged far."""
        return {name for name, fault in self.faults.items() if fault.interval[0] > BAR}


@dataclass(frozen=True, kw_only=True, eq=False)
class Quality:
    """The spaces that count, the classifier of the labels with the shares it gives, and what could not be measured."""

    judged: tuple[Judged, ...]
    classifier: ClassifierFeatures | None
    balance: LabelBalance | None
    reasons: tuple[str, ...]
    columns: ColumnShares | None = None  # of tables
    pairs: ColumnPairs | None = None

    @property
    def passed(self) -> dict[str, Fidelity]:
        """The faults that no space sees, each where it is farthest."""
        names = {name for one in self.judged for name in one.faults} - {n for one in self.judged for n in one.seen}
        return {
            name: max((one.faults[name] for one in self.judged), key=lambda fault: fault.ratio)
            for name in sorted(names)
        }

    @property
    def deciding(self) -> Judged:
        """The space with the greatest lower end above the bar; if there is none, with the greatest upper end."""
        farthest = max(self.judged, key=lambda one: one.samples.interval[0])
        far = farthest.samples.interval[0] > BAR
        return farthest if far else max(self.judged, key=lambda one: one.samples.interval[1])


def judge(
    samples: Float[Tensor, "n *event"],
    subject: Subject,
    gaussian: Gaussian,
    own: tuple[str, ...],
    seed: int,
    load: Callable[[str], Features] | None = None,
) -> Quality:
    """Compare `samples` and planted faults with the held-out data of `subject`, in seconds.

    `own` are names of the user's features (module:object), used in place of the classifier's; `load` finds them. Of
    every group one example counts.
    """
    generator, reasons = torch.Generator().manual_seed(seed), []
    classifier = balance = None
    try:
        units = one_of_each_group(subject, np.random.default_rng(seed))
    except InputError as error:
        return Quality(judged=(), classifier=None, balance=None, reasons=(str(error),))
    try:
        classifier = _classifier(subject)
        labels = classifier.label(samples), classifier.label(units.heldout)
        balance = label_balance(classifier.classes, *labels, len(units.train), np.random.default_rng(seed))
    except InputError as error:
        reasons.append(str(error))
    sets = [_some(x, generator) for x in (samples, units.train, units.heldout)]
    base, others = _halves(units, generator)
    faults = planted_faults(base, gaussian, min(len(samples), _most(samples)), generator)
    affordable = max(1, min(*(len(x) for x in sets[:2]), len(sets[2]) // 2) // FEATURES_PER_EXAMPLE)
    judged, seen = [], set()
    for fit in feature_spaces(subject.train, gaussian, own, classifier, affordable, seed, load):
        try:
            one = _in_space(fit(), sets, faults, others, seed)
        except InputError as error:
            reasons.append(str(error))
            continue
        if not judged or one.seen - seen:
            judged.append(one)
        seen |= one.seen
        if len(seen) == len(faults):
            break
    return Quality(judged=tuple(judged), classifier=classifier, balance=balance, reasons=tuple(dict.fromkeys(reasons)))


def _halves(subject: Subject, generator: torch.Generator) -> tuple[Subject, Tensor]:
    """Held-out examples on which faults are planted, as a subject's training set, and others to compare them with.

    Features that were fitted to training examples may tell these from fresh ones, faults or not.
    """
    order, half = torch.randperm(len(subject.heldout), generator=generator), len(subject.heldout) // 2
    if half < FEWEST:
        return subject, subject.heldout
    first, labels = order[:half], subject.heldout_labels
    planted_on = replace(
        subject,
        train=subject.heldout[first],
        train_labels=None if labels is None else labels[first],
    )
    return planted_on, _some(subject.heldout[order[half:]], generator)


def _in_space(space: Space, sets: list[Tensor], faults: dict[str, Tensor], others: Tensor, seed: int) -> Judged:
    heldout = space.features(sets[2])
    found = fidelity(space.features(sets[0]), space.features(sets[1]), heldout, seed)
    generator, others = torch.Generator().manual_seed(seed), space.features(others)
    size = min(found.size, len(others))
    planted = {
        name: replace(found, samples=distance_at_size(space.features(x), others, size, generator))
        for name, x in faults.items()
    }
    return Judged(space.name, found, planted)


def _some(x: Float[Tensor, "n *event"], generator: torch.Generator) -> Float[Tensor, "m *event"]:
    return x if len(x) <= _most(x) else x[torch.randperm(len(x), generator=generator)[: _most(x)]]


def _most(x: Float[Tensor, "n *event"]) -> int:
    return few_enough(LARGEST_SAMPLE, x[0].numel())


def _classifier(subject: Subject) -> ClassifierFeatures:
    """InputError for data without labels, and for labels that a classifier cannot learn."""
    if subject.train_labels is None or subject.heldout_labels is None:
        parts = {"training": subject.train_labels, "held-out": subject.heldout_labels}
        missing = " and ".join(part for part, labels in parts.items() if labels is None)
        raise InputError(f"labels: the {missing} data have no labels")
    features = fit_classifier(subject.train, subject.train_labels, subject.heldout, subject.heldout_labels)
    _require_knowledge(features, subject.heldout_labels)
    return features


def _require_knowledge(features: ClassifierFeatures, labels: Int[Tensor, " m"]) -> None:
    """The classifier must beat always predicting the most common label: otherwise its features mean nothing."""
    low, _ = exact_share_interval(round(features.accuracy * features.heldout), features.heldout)
    commonest = int(labels.unique(return_counts=True)[1].max()) / len(labels)
    if low <= commonest:
        raise InputError(
            f"labels: expected labels that a classifier can learn, but its accuracy of {features.accuracy:.1%} on "
            f"{features.heldout:,} held-out examples (95% interval from {low:.1%}) is no better than that of always "
            f"predicting the most common label ({commonest:.1%})"
        )

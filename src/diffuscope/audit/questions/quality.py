"""How good are the samples? Distances in the features of a classifier of the labels, and label shares."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.findings import PERMUTATIONS, exact_share_interval

from ..classifier import ClassifierFeatures, fit_classifier
from ..frechet_ratio import DRAWS, Fidelity, fidelity, frechet_blocks, frechet_finding
from ..label_shares import LabelBalance, label_balance, label_block, label_finding
from ..question import Answer, Question
from ..session import Session
from ..subject import Subject


@dataclass(frozen=True, eq=False)
class Quality:
    """The distances, the classifier whose features they are measured in, and its label shares."""

    fidelity: Fidelity
    features: ClassifierFeatures
    balance: LabelBalance


def judge(samples: Float[Tensor, "n *event"], subject: Subject, seed: int) -> Quality:
    """Compare `samples` with the held-out data of `subject`, in about a second.

    Raises InputError for data without labels, for labels that a classifier cannot learn, and for too few examples.
    """
    if subject.train_labels is None or subject.heldout_labels is None:
        parts = {"training": subject.train_labels, "held-out": subject.heldout_labels}
        missing = " and ".join(part for part, labels in parts.items() if labels is None)
        raise InputError(f"the {missing} data have no labels, from which the features are learned")
    features = fit_classifier(subject.train, subject.train_labels, subject.heldout, subject.heldout_labels)
    _require_knowledge(features, subject.heldout_labels)
    found = fidelity(features(samples), features(subject.train), features(subject.heldout), seed)
    labels = features.label(samples), features.label(subject.heldout)
    balance = label_balance(features.classes, *labels, len(subject.train), np.random.default_rng(seed))
    return Quality(found, features, balance)


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


def answer(result: Quality, significance: float) -> Answer:
    """The two findings, their figures, and the method."""
    found, features, balance = result.fidelity, result.features, result.balance
    return Answer(
        findings=[frechet_finding(found, features), label_finding(balance, significance)],
        blocks=[*frechet_blocks(found), label_block(balance)],
        method=f"Quality of samples: Frechet distance in {len(features.bias)} whitened features, the hidden layer "
        f"of a classifier that is fitted to the labels of the training data and predicts {features.accuracy:.1%} of "
        f"the {features.heldout:,} held-out labels. Every distance is between two sets of {found.size} examples, "
        f"because its bias depends on their number, and is averaged over {DRAWS} random draws. Standard errors are of "
        "first order; between equal distributions they are too large by a factor of 1.4. Intervals of ratios include "
        "the error of the distance between held-out sets. Label shares are tested by Pearson's chi-squared, shrunk for "
        f"the sampling error of {balance.known:,} training examples, with {PERMUTATIONS:,} permutations.",
        facts={"quality_not_measured": None},
        result=result,
    )


def _ask(session: Session) -> Answer:
    session.progress.set_postfix_str("comparing samples with held-out data")
    samples = session.samples
    try:
        result = judge(samples, session.subject, session.seed("quality"))
    except InputError as error:
        method = f"The quality of the samples was not measured: {error}."
        return Answer(method=method, facts={"quality_not_measured": str(error)})
    finally:
        session.advance()
    return answer(result, session.settings.significance)


QUESTION = Question("quality", "How good are its samples?", _ask, stages=lambda _: 1, needs=frozenset({"samples"}))

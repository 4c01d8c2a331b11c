"""Are its samples of the class that was asked for? A small classifier of the labels judges samples and held-out data.

That a of n samples have another label than they should, and b of m held-out examples of the class do, is an exact test
of two shares (Fisher's, one-sided): errors of the classifier are in both.
"""

import math

from diffuscope.findings import Finding, Tone, exact_share_interval
from diffuscope.report import Table

from .measure import at_least
from .question import Answer, Question
from .session import Session

TITLE = "Are its samples of the class that was asked for?"
WRONG = 0.5  # of the samples: if more have another label, the class is not what it is taken for
SHOWN = 12  # labels in the table
UNKNOWN = "Whether samples have the label that was asked for is not known: a small classifier cannot learn the labels."


def smallest_share(errors: int, heldout: int, samples: int, level: float) -> float:
    """The smallest share of strays above the classifier's own errors at which the test is significant; inf if none.

    In the expectation: strays and errors of the same rate as among held-out examples.
    """
    rate = errors / heldout
    for percent in range(1, 101):
        strays = round(samples * min(1.0, rate + percent / 100))
        if at_least(strays, errors, samples, heldout) < level:
            return percent / 100
    return math.inf


def _ask(session: Session) -> Answer:
    subject, settings = session.subject, session.settings
    of_class = subject.of_class
    assert of_class is not None
    classifier, y = of_class.data.classifier, of_class.label
    if classifier is None:
        return Answer(method=UNKNOWN)
    session.progress.set_postfix_str("labeling samples")
    labels, known = classifier.label(session.samples), classifier.label(subject.heldout)
    strays, errors, n, m = int((labels != y).sum()), int((known != y).sum()), len(labels), len(known)
    p_value, level = at_least(strays, errors, n, m), settings.significance * of_class.level
    low, high = exact_share_interval(strays, n)
    found, counts = labels.unique(return_counts=True)
    order = counts.argsort(descending=True, stable=True)
    commonest = int(found[order[0]])
    seen = smallest_share(errors, m, n, level)
    text = f"{n - strays} of {n} samples have label {y}, and {m - errors} of {m} held-out examples of it do."
    tone: Tone = "good"
    if p_value < level:
        wrong = commonest != y and strays > WRONG * n
        tone = "alarm" if wrong else "attention"
        text = f"{strays} of {n} samples do not have label {y}, and {errors} of {m} held-out examples of it do not"
        text += f"; most have label {commonest}." if wrong else "."
    elif math.isinf(seen):
        tone = "unknown"
        text = f"Cannot tell: {m} held-out examples are too few for the classifier's errors among them. {text}"
    power = f"{seen:.0%} of strays would be found" if math.isfinite(seen) else "No share of strays would be found"
    rows = [
        [str(int(label)), int(count), int((known == label).sum())]
        for label, count in zip(found[order].tolist(), counts[order].tolist(), strict=True)
    ][:SHOWN]
    return Answer(
        findings=[
            Finding(
                name="class-samples.verdict",
                title=TITLE,
                value=100 * strays / n,
                unit="%",
                verdict=text,
                tone=tone,
                interval=(100 * low, 100 * high),
                null="Samples have another label as often as held-out examples of the class do.",
                p_value=p_value,
                power=f"{power}; the classifier predicts {classifier.accuracy:.1%} of all held-out labels.",
            )
        ],
        blocks=[
            Table(
                f"Labels that a classifier gives to samples of class {y}",
                ["label", "samples", "held-out examples of the class"],
                rows,
                "" if len(found) <= SHOWN else f"The first {SHOWN} of {len(found)}.",
            )
        ],
        broken=frozenset({"samples"} if tone == "alarm" else ()),
    )


QUESTION = Question("class-samples", TITLE, _ask, needs=frozenset({"model", "samples"}), of="both")

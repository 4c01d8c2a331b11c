"""Does a class copy training examples of other classes? The search of `copy_search` among these alone.

The null distribution is that of held-out examples of the class. Copies of the class's own training examples are the
question of memorization.
"""

import numpy as np

from diffuscope.findings import Finding, exact_share_interval
from diffuscope.report import Block, Table

from .copy_search import Copies, copies_finding, suffix
from .exact_matches import exact_matches
from .question import Answer, Question
from .session import Session

TITLE = "Do its samples copy training examples of other classes?"
FEWEST, SHOWN = 20, 12


def search(session: Session, space: str) -> Copies:
    """The search in one space of distances."""
    of_class = session.subject.of_class
    assert of_class is not None
    return session.copies(space, f"other classes {space}", of_class.data.train[of_class.places])


def sources(session: Session, found: Copies) -> list[dict[str, int]]:
    """The listed samples with the place, among all training examples, and the label of what they copy."""
    of_class = session.subject.of_class
    assert of_class is not None
    rows, places = [], of_class.places
    for sample in found.listed_first:
        place = int(places[int(found.nearest_training[sample])])
        label = int(of_class.data.train_labels[place])
        rows.append({"sample": int(sample), "training_example": place, "label": label})
    return rows


def _finding(session: Session, found: Copies, copied: list[dict[str, int]], space: str) -> Finding:
    """One space, where `copied` are the `sources`; equal examples count where the list has none."""
    plain = copies_finding(found, space)
    level = session.settings.significance / len(session.settings.features)
    exact, n = exact_matches(found), len(found.listed)
    tone, verdict, p_value = plain.tone, plain.verdict, plain.p_value
    share, interval = plain.value, plain.interval
    if tone == "alarm":
        labels, counts = np.unique([row["label"] for row in copied], return_counts=True)
        verdict = (
            f"Copies training examples of other classes: {int(found.listed.sum())} of {n} samples, most of them of "
            f"class {int(labels[counts.argmax()])}."
        )
    elif exact.p_value < level:
        a = exact.samples[0]
        tone, p_value, share = "alarm", exact.p_value, 100 * a / n
        low, high = exact_share_interval(a, n)
        interval = 100 * low, 100 * high
        verdict = f"Copies training examples of other classes: {a} of {n} samples equal one."
    elif tone == "good":
        verdict = f"None of the {n} samples is a copy of a training example of another class."
    return Finding(
        name="other-classes.verdict" + suffix(space),
        title=TITLE,
        value=share,
        unit="%",
        verdict=verdict,
        tone=tone,
        interval=interval,
        null=plain.null,
        p_value=p_value,
        power=plain.power,
    )


def _ask(session: Session) -> Answer:
    of_class, spaces = session.subject.of_class, session.settings.features
    assert of_class is not None
    if len(of_class.places) < FEWEST:
        session.progress.update(len(spaces))
        return Answer(method=f"Copies of training examples of other classes: there are only {len(of_class.places)}.")
    by_space, copied = dict[str, Copies](), dict[str, list[dict[str, int]]]()
    findings, blocks = list[Finding](), list[Block]()
    for space in spaces:
        session.progress.set_postfix_str("looking for copies of other classes")
        by_space[space] = found = search(session, space)
        copied[space] = rows = sources(session, found)
        findings.append(_finding(session, found, rows, space))
        if rows:
            blocks.append(
                Table(
                    f"Samples that copy training examples of other classes ({space})",
                    ["sample", "training example", "its class"],
                    [[row["sample"], row["training_example"], row["label"]] for row in rows[:SHOWN]],
                    "" if len(rows) <= SHOWN else f"The first {SHOWN} of {len(rows)}; all are in audit.json.",
                )
            )
        session.advance()
    findings.sort(key=lambda finding: ("alarm", "unknown", "attention", "good").index(finding.tone))
    return Answer(
        findings=findings,
        blocks=blocks,
        facts={"copies_of_other_classes": copied},
        result=by_space,
    )


QUESTION = Question(
    "other-classes",
    TITLE,
    _ask,
    stages=lambda session: len(session.settings.features),
    needs=frozenset({"model", "samples"}),
    of="both",
)

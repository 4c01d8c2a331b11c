"""A question of an audit and its answer: findings, and the blocks of the page as data.

A new question is one file in `questions/` and one line in its `__init__`: audit, page and JSON loop over them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from diffuscope.findings import Finding
from diffuscope.report import Block

from .session import Session

HELDOUT_BROKEN = frozenset({"heldout", "model", "samples"})  # whatever needs model or samples compares with these
NOT_ANSWERED = "Not answered: {} is not what it is taken for (see the first question)."


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """The findings, of which the first is the verdict; without findings the question could not be answered.

    `text` opens the section (the verdict, if empty). `method` is a paragraph of the page's last section: how the answer
    was computed, or why it could not be. `facts` are further entries of audit.json by name, and `result` holds all
    numbers, for Python. `broken` is what is not what it is taken for: "model", "samples", both or nothing, or
    HELDOUT_BROKEN; an answer that would mean nothing for that reason is not `answered`, and its one finding says so.

    >>> from diffuscope import audit_samples
    >>> from diffuscope.data import toy_data
    >>> moons = toy_data("two-moons", n_train=100, n_heldout=100)
    >>> answer = audit_samples(moons.train[:40], moons)["memorized"]  # samples that are training examples
    >>> copies = {finding.name: finding for finding in answer.findings}["memorized.copies"]
    >>> answer.findings[0].tone, copies.value, copies.unit
    ('alarm', 100.0, '%')
    """

    findings: Sequence[Finding] = ()
    blocks: Sequence[Block] = ()
    text: str = ""
    method: str = ""
    facts: dict[str, object] = field(default_factory=dict)
    result: Any = None
    broken: frozenset[str] = frozenset()
    answered: bool = True


@dataclass(frozen=True)
class Question:
    """One question of an audit. `ask` returns None if the settings leave it out, which `left_out` says beforehand.

    It is asked of a `model`, of `samples` alone, or of "both". `stages` counts its own stages (`Session.stage`,
    `Session.advance`), for the progress bar.

    >>> from diffuscope.audit import QUESTIONS, Answer, Question
    >>> def ask(session):
    ...     return Answer(result=float((session.samples > 0).double().mean()))
    >>> positive = Question(name="positive", title="How many values are positive?", ask=ask, of="both")
    >>> positive.asked(has_model=False)
    True
    >>> [question.name for question in QUESTIONS if question.asked(has_model=False)]
    ['samples', 'memorized', 'quality', 'diversity']
    """

    name: str
    title: str
    ask: Callable[[Session], Answer | None] = field(repr=False)
    stages: Callable[[Session], int] = field(default=lambda _: 0, repr=False)
    needs: frozenset[str] = frozenset({"model"})  # what must not be broken for an answer: "model", "samples"
    of: Literal["model", "samples", "both"] = "model"
    left_out: Callable[[Session], bool] = field(default=lambda _: False, repr=False)

    def asked(self, has_model: bool) -> bool:
        """Whether it is asked where there is a model, or none."""
        return self.of in ("both", "model" if has_model else "samples")


def not_answered(question: Question, broken: frozenset[str]) -> Answer:
    """The answer in place of one that would mean nothing."""
    what = "the model" if "model" in broken & question.needs else "the set of samples"
    what = "the set of held-out examples" if "heldout" in broken else what
    finding = Finding(
        name=f"{question.name}.not_answered",
        title=question.title,
        value=float("nan"),
        unit="",
        verdict=NOT_ANSWERED.format(what),
        tone="unknown",
        power="None until that is mended.",
    )
    return Answer(findings=[finding], answered=False)

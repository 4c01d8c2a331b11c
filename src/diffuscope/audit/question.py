"""A question that an audit asks of a model, and its answer: findings, and what to show for them as data.

A new question is one file in `questions/` and one line in its `__init__`; audit, page and JSON loop over them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from diffuscope.findings import Finding
from diffuscope.report import Block

from .session import Session


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What was found. The first finding is the verdict; no findings: the question could not be answered.

    `text` answers in the section's first lines, the verdict where it is empty; `method` is a paragraph of the page's
    last section (how it was computed, or why it could not be). `facts` are further entries of audit.json by their
    names. `result` holds the numbers behind it all, for Python.
    """

    findings: Sequence[Finding] = ()
    blocks: Sequence[Block] = ()
    text: str = ""
    method: str = ""
    facts: dict[str, object] = field(default_factory=dict)
    result: Any = None


@dataclass(frozen=True)
class Question:
    """One thing that an audit asks. `ask` returns None where the settings do not ask for it.

    `stages` counts the stages of its own (`Session.stage`, `Session.advance`), for the progress bar.
    """

    name: str
    title: str
    ask: Callable[[Session], Answer | None] = field(repr=False)
    stages: Callable[[Session], int] = field(default=lambda _: 0, repr=False)

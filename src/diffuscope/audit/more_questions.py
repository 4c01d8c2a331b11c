"""The questions that only some subjects raise, in their places among those of every audit."""

from collections.abc import Sequence

from . import class_copies, class_fit, class_samples, consistency
from .question import Question
from .subject import Subject
from .verdict import FIRST


def questions_about(subject: Subject, usual: Sequence[Question]) -> list[Question]:
    """The `usual` ones; of one class also those of classes, of a one-step model what it is at low noise."""
    if subject.sampled is not None and not subject.has_model:
        usual = [*usual, consistency.QUESTION]
    if subject.of_class is None:
        return list(usual)
    first = [question for question in usual if question.name in FIRST]
    copied = [question for question in usual if question.name == "memorized"]
    rest = [question for question in usual if question not in first and question not in copied]
    return [*first, class_fit.QUESTION, class_samples.QUESTION, *copied, class_copies.QUESTION, *rest]

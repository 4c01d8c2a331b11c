"""One verdict on top: broken, copies, cannot tell, attention or sound, from the first findings of all questions.

*Broken*: the model is not what it is taken for, or its samples are not the data's. *Copies*: samples copy training
examples. *Cannot tell*: a question without whose answer nothing may be called sound has none. *Attention*: some finding
deserves it. *Sound*: none of these. The first that holds is the verdict, so that no card contradicts it. Of several
findings that decide, the headline is of the question that matters most: whether all is what it is taken for, copies,
quality, diversity, and the others in their order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from diffuscope.findings import Finding, Tone

from .question import Answer, Question

Word = Literal["broken", "copies", "cannot-tell", "attention", "sound"]
WORDS: tuple[Word, ...] = get_args(Word)
FIRST = ("wiring", "samples", "class", "class-samples")  # whether all is what it is taken for
COPIED = ("memorized", "other-classes")  # whether samples are copies
NEEDED = ("wiring", "samples", *COPIED, "quality", "diversity")  # without an answer to these nothing is called sound
WEIGHTY = (*FIRST, *COPIED, "quality", "diversity")
TONES: dict[Word, Tone] = {
    "broken": "alarm",
    "copies": "alarm",
    "cannot-tell": "unknown",
    "attention": "attention",
    "sound": "good",
}


@dataclass(frozen=True)
class Verdict:
    """The word, one sentence that says why, and the names of the findings that decided.

    Of an audit it is `result.verdict`. The words, the worst first:

    >>> from diffuscope.audit import WORDS, Verdict
    >>> WORDS
    ('broken', 'copies', 'cannot-tell', 'attention', 'sound')
    >>> found = Verdict("cannot-tell", "Only 12 examples.", ("memorized.verdict",))
    >>> print(found, found.tone)
    Cannot tell. Only 12 examples. unknown
    """

    word: Word
    sentence: str
    because: tuple[str, ...]

    @property
    def tone(self) -> Tone:
        """The color of the word."""
        return TONES[self.word]

    def __str__(self) -> str:
        word = self.word.replace("-", " ").capitalize()
        return self.sentence if self.sentence.startswith(word) else f"{word}. {self.sentence}"


def verdict(answers: Mapping[Question, Answer]) -> Verdict:
    """The verdict over the answers, in the order of the questions."""
    first = {question.name: answer.findings[0] for question, answer in answers.items() if answer.findings}

    weighty = tuple(sorted(first, key=lambda name: WEIGHTY.index(name) if name in WEIGHTY else len(WEIGHTY)))

    def with_tone(*tones: Tone, names: tuple[str, ...] = weighty) -> list[Finding]:
        return [first[name] for name in names if name in first and first[name].tone in tones]

    memorized = with_tone("alarm", names=COPIED)
    others = [finding for finding in with_tone("alarm") if finding not in memorized]
    others.sort(key=lambda finding: finding.name != "class.verdict")  # its mend may mend the other
    unanswered = [
        name for question, answer in answers.items() if not answer.findings and (name := question.name) in NEEDED
    ]
    unknown = with_tone("unknown", names=NEEDED)
    if any(first.get(name) in others for name in FIRST) or (others and not memorized):
        return _because("broken", others)
    if memorized:
        return _because("copies", memorized + others)
    if unknown or unanswered:
        missing = f"No answer to: {', '.join(unanswered)}. " if unanswered else ""
        besides = [f"Found besides: {finding.verdict}" for finding in with_tone("attention")[:1]]
        return _because("cannot-tell", unknown, missing, *besides)
    if attention := with_tone("attention"):
        return _because("attention", attention)
    return _because("sound", with_tone("good", names=tuple(first)))


def _because(word: Word, findings: list[Finding], opening: str = "", *more: str) -> Verdict:
    shown = findings if word == "sound" else findings[:1]
    sentence = opening + " ".join((*(finding.verdict for finding in shown), *more))
    return Verdict(word, sentence.strip(), tuple(finding.name for finding in findings))

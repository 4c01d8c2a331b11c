"""No card praises a model that another card says copies its training data."""

import dataclasses

import pytest
import torch
from made_by_hand import finding

from audit_subjects import QUICK, digits, exact_subject
from diffuscope.audit import Answer, Question, Session, audit_model
from diffuscope.audit.questions.loss import QUESTION as LOSS
from diffuscope.audit.questions.quality import QUESTION as QUALITY
from diffuscope.audit.verdict import Verdict, Word
from diffuscope.exact import GaussianMixture

SETTINGS = dataclasses.replace(QUICK, levels=6, points=200)


@pytest.fixture(scope="module")
def subject():
    """A sound model: a mixture of the other digits, which generalizes and whose samples are near held-out data."""
    x = digits(3)
    mixture = GaussianMixture.fit_kmeans(x[1200:], 10, rank=20, ridge=1e-3, generator=torch.Generator().manual_seed(0))
    return exact_subject(mixture, x[:300], x[300:1200])


@pytest.mark.parametrize("tone", ["good", "alarm"])
def test_loss_and_quality_follow_the_verdict_on_copies(tone, subject):
    """The same model, data and samples (real digits): good news only where the samples are no copies."""
    session = Session(subject, SETTINGS, given=digits(3)[900:1200].repeat(2, 1, 1, 1))
    session.answers["memorized"] = Answer(findings=[finding(tone=tone)])
    assert session.copies_training == (tone == "alarm")
    for question, praise in ((LOSS, "the model generalizes."), (QUALITY, "")):
        answer = question.ask(session)
        assert answer is not None
        first = answer.findings[0]
        assert (first.tone == "good") == (tone == "good")
        if tone == "alarm":
            assert first.tone == "attention"
            assert "copies" in first.verdict
        assert praise in first.verdict or tone == "alarm"


def test_a_question_sees_the_answers_before_it(subject, monkeypatch):
    seen = []

    def ask(session):
        seen.append(session.copies_training)
        return Answer(findings=[finding(tone="alarm")])

    questions = [Question("memorized", "", ask), Question("later", "", ask)]
    monkeypatch.setattr("diffuscope.audit.questions.QUESTIONS", questions)
    audit_model(subject, SETTINGS, samples=subject.train[:20])
    assert seen == [False, True]


SAID: dict[Word, str] = {
    "cannot-tell": "Cannot tell: no power:",
    "copies": "Copies training examples:",
    "broken": "The data are not in its units:",
}


def test_the_line_on_top_says_its_word_once():
    line = {word: str(Verdict(word, f"{said} 3 samples.", ())) for word, said in SAID.items()}
    assert line["cannot-tell"] == "Cannot tell: no power: 3 samples."
    assert line["copies"] == "Copies training examples: 3 samples."
    assert line["broken"] == "Broken. The data are not in its units: 3 samples."

"""Of several findings that decide, the headline is that of the question which matters most."""

import pytest
from made_by_hand import finding

from diffuscope.audit import QUESTIONS, Answer
from diffuscope.audit.verdict import verdict


def headline(tones, **more):
    """The names behind the verdict, where the first finding of each question named in `tones` has that tone."""
    given = {name: finding(f"{name}.verdict", tone, verdict=f"{name} said so.", **more) for name, tone in tones.items()}
    answers = {q: Answer(findings=[given.get(q.name, finding(f"{q.name}.verdict"))]) for q in QUESTIONS}
    return verdict(answers)


@pytest.mark.parametrize(("tone", "word"), [("attention", "Attention"), ("alarm", "Broken")])
def test_quality_and_diversity_come_before_the_loss(tone, word):
    found = headline({"loss": tone, "quality": tone, "diversity": tone})
    assert str(found) == f"{word}. quality said so."
    assert found.because == ("quality.verdict", "diversity.verdict", "loss.verdict")


def test_what_the_model_is_and_what_it_copies_come_first():
    tones = dict.fromkeys(("learned", "steps", "quality", "memorized", "wiring"), "attention")
    expected = ("wiring.verdict", "memorized.verdict", "quality.verdict", "learned.verdict", "steps.verdict")
    assert headline(tones).because == expected


def test_all_that_is_good_is_in_the_order_of_the_page():
    assert headline({}).because == tuple(f"{q.name}.verdict" for q in QUESTIONS)

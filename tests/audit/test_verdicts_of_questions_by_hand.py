"""The verdict on top and those of questions, from findings made by hand: which one decides, and what it says."""

from dataclasses import replace

import pytest
from made_by_hand import finding

from diffuscope.audit.question import Answer, Question
from diffuscope.audit.questions import diversity, wiring
from diffuscope.audit.questions.memorized import withheld
from diffuscope.audit.verdict import verdict


def found(name, tone, text=""):
    return finding(name, tone, verdict=text or f"{name} is {tone}.")


def told(**tones):
    """The verdict over questions of these names, whose first findings have these tones; None: without an answer."""
    answers = {}
    for name, tone in tones.items():
        name = name.replace("_", "-")
        findings = [] if tone is None else [found(f"{name}.verdict", tone), found(f"{name}.more", "alarm")]
        answers[Question(name, "", lambda _: None)] = Answer(findings=findings)
    return verdict(answers)


GOOD = {"wiring": "good", "memorized": "good", "quality": "good", "diversity": "good"}


@pytest.mark.parametrize(
    ("tones", "word", "because"),
    [
        ({}, "sound", ["wiring", "memorized", "quality", "diversity"]),
        ({"learned": "neutral"}, "sound", ["wiring", "memorized", "quality", "diversity"]),
        ({"quality": "attention", "loss": "attention"}, "attention", ["quality", "loss"]),
        ({"loss": "unknown"}, "sound", ["wiring", "memorized", "quality", "diversity"]),  # it is not needed
        ({"quality": "unknown"}, "cannot-tell", ["quality"]),
        ({"quality": None}, "cannot-tell", []),
        ({"steps": None}, "sound", ["wiring", "memorized", "quality", "diversity"]),
        ({"memorized": "alarm"}, "copies", ["memorized"]),
        ({"memorized": "alarm", "quality": "alarm"}, "copies", ["memorized", "quality"]),
        ({"memorized": "alarm", "quality": "unknown"}, "copies", ["memorized"]),
        ({"memorized": "attention", "other_classes": "alarm"}, "copies", ["other-classes"]),
        ({"memorized": "alarm", "other_classes": "alarm"}, "copies", ["memorized", "other-classes"]),
        ({"quality": "alarm"}, "broken", ["quality"]),
        ({"quality": "alarm", "diversity": "unknown"}, "broken", ["quality"]),
        ({"wiring": "alarm", "memorized": "alarm"}, "broken", ["wiring"]),
        ({"samples": "alarm", "memorized": "alarm"}, "broken", ["samples"]),
        ({"class_samples": "alarm", "memorized": "alarm"}, "broken", ["class-samples"]),
        ({"wiring": "alarm", "class": "alarm", "quality": "alarm"}, "broken", ["class", "wiring", "quality"]),
        ({"wiring": "attention", "quality": "attention"}, "attention", ["wiring", "quality"]),
    ],
)
def test_the_gravest_first_finding_decides(tones, word, because):
    made = told(**GOOD | tones)
    assert (made.word, made.because) == (word, tuple(f"{name}.verdict" for name in because))
    if word not in ("sound", "cannot-tell"):
        assert made.sentence == f"{because[0]}.verdict is {(GOOD | tones)[because[0].replace('-', '_')]}."


def test_what_is_unanswered_is_named_before_what_is_unknown_and_one_doubt_after_it():
    assert told(**GOOD).sentence == " ".join(f"{name}.verdict is good." for name in GOOD)
    many = told(**GOOD | {"memorized": None, "quality": "unknown", "diversity": "unknown", "loss": "attention",
                          "steps": "attention"})  # fmt: skip
    assert many.sentence == (
        "No answer to: memorized. quality.verdict is unknown. Found besides: loss.verdict is attention."
    )
    assert many.because == ("quality.verdict", "diversity.verdict")
    none = told(**GOOD | {"memorized": None, "quality": None, "steps": None})
    assert none.sentence == "No answer to: memorized, quality."
    assert str(none) == "Cannot tell. No answer to: memorized, quality."


# questions whose verdict is one of their findings


@pytest.mark.parametrize(
    ("tones", "deciding", "tone"),
    [
        (("good", "attention", "alarm"), "c", "alarm"),
        (("attention", "attention", "unknown"), "a", "attention"),
        (("unknown", "good", "attention"), "c", "attention"),
        (("good", "unknown", "unknown"), "b", "unknown"),
    ],
)
def test_the_gravest_test_of_diversity_is_its_verdict(tones, deciding, tone):
    findings = [found(name, of) for name, of in zip("abc", tones, strict=True)]
    for copying in (False, True):
        made = diversity.verdict(findings, copying)
        expected = next(f for f in findings if f.name == deciding)
        assert made == replace(expected, name="diversity.verdict", title=diversity.TITLE)
        assert made.tone == tone


def test_diversity_is_praised_by_coverage_and_not_of_copies():
    findings = [found(name, "good") for name in "abc"]
    made = diversity.verdict(findings, False)
    assert (made.tone, made.verdict) == ("good", "Samples are as diverse as the data. a is good.")
    copies = diversity.verdict(findings, True)
    assert (copies.tone, copies.value) == ("neutral", 1.0)
    assert copies.verdict == "Samples cover the data, but some are copies, which do so too. a is good."


def test_the_gravest_check_of_the_wiring_is_its_verdict_or_the_reading_with_the_skill():
    checks = [
        found("wiring.manners", "good"),
        found("wiring.reading", "good"),
        found("wiring.skill", "good", "Skilled."),
    ]
    sound = wiring.verdict(checks)
    assert (sound.name, sound.title, sound.tone) == ("wiring.verdict", wiring.TITLE, "good")
    assert sound.verdict == "It is read as it was trained: units, time and prediction fit. Skilled."
    doubt, alarm = found("wiring.start", "attention"), found("wiring.samples", "alarm")
    unknown = found("wiring.heldout", "unknown")
    assert wiring.verdict([*checks, unknown]).verdict == sound.verdict
    assert wiring.verdict([*checks, doubt]).verdict == "wiring.start is attention."
    assert wiring.verdict([*checks, doubt, alarm]) == replace(alarm, name="wiring.verdict", title=wiring.TITLE)


def test_praise_alone_is_withheld_and_for_a_reason_alone():
    for tone in ("alarm", "attention", "unknown", "neutral"):
        assert withheld(found("a", tone), "a reason") == found("a", tone)
    assert withheld(found("a", "good"), "") == found("a", "good")
    doubted = withheld(found("a", "good"), "a reason")
    assert (doubted.tone, doubted.verdict) == ("unknown", "Cannot tell: a reason. a is good.")

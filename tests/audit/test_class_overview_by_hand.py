"""Corrections for the number of classes, the overview of all of them, and which classes are asked for."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_by_hand import Constant, finding, made
from results_of_samples import copies, equal

from diffuscope.audit.class_audit import _class_data, _few, of_class
from diffuscope.audit.class_correction import chance_findings, copies_p_value, exceedance_p_value
from diffuscope.audit.class_data import ClassData
from diffuscope.audit.class_result import CARDS, ClassAuditResult, _listed, _measured
from diffuscope.audit.question import Answer, Question
from diffuscope.audit.result import AuditResult
from diffuscope.audit.subject import Settings, Subject
from diffuscope.audit.verdict import Verdict
from diffuscope.errors import InputError
from diffuscope.findings import Tone

# corrections and the overview


def audit(**answers):
    """An audit with these answers by the name of their question."""
    return made(AuditResult, answers={Question(name, "", lambda _: None): answer for name, answer in answers.items()})


def test_a_class_has_the_least_of_its_p_values_times_their_number():
    """Of equal examples: 2 of 6 samples and none of 3 held-out ones; the list of one space, and near repeats."""
    found = copies(**equal(2, 3), p_values=np.full(6, 1.0))
    answer = Answer(result=SimpleNamespace(copies={"pixels": found}))
    exact = math.comb(6, 2) / math.comb(9, 2)
    assert copies_p_value(audit(memorized=answer)) == min(1.0, 3 * exact) == 1.0
    sure = copies(**equal(6, 30), p_values=np.full(6, 1.0))
    chance = 1 / math.comb(36, 6)
    one = Answer(result=SimpleNamespace(copies={"pixels": sure}))
    other = Answer(result={"pixels": found, "pca": found})
    assert copies_p_value(audit(memorized=one)) == pytest.approx(3 * chance)
    assert copies_p_value(audit(**{"memorized": one, "other-classes": other})) == pytest.approx(9 * chance)
    assert copies_p_value(audit(memorized=Answer(), quality=one)) is None


def test_attention_by_chance_is_that_of_one_test_which_the_correction_takes_away():
    """Of two classes: 0.004 stays 0.008 and 0.006 becomes 0.008 too; 0.01 at the level 0.01 was no finding."""

    def chance(p, q, level=0.01, tone: Tone = "attention"):
        results = {
            y: audit(order=Answer(findings=[finding("order.verdict", tone, p_value=each)]))
            for y, each in ((3, p), (4, q))
        }
        return chance_findings(results, level)

    assert chance(0.004, 0.006) == {}
    assert chance(0.006, 0.9) == {3: ["order.verdict"]}
    assert chance(0.006, 0.007) == {3: ["order.verdict"], 4: ["order.verdict"]}
    assert chance(0.005, 0.9) == {3: ["order.verdict"]}  # 0.01 is not below the level
    assert chance(0.0049, 0.9) == {}
    assert chance(0.01, 0.9) == {}
    assert chance(0.006, 0.9, tone="alarm") == {}
    assert chance(None, 0.006) == {}  # one class alone is asked


def overview(words, corrected=(), **changes):
    verdicts = {y: Verdict(word, f"Class {y} so.", (f"{y}.verdict",)) for y, word in enumerate(words)}
    parts = {
        "classes": tuple(range(len(words))), "verdicts": verdicts, "results": {}, "unanswered": {}, "of_model": 20,
        "unconditional": None, "corrected": dict(corrected), "settings": Settings(), "guidance": 1.0,
    }  # fmt: skip
    return made(ClassAuditResult, **(parts | changes))


def test_the_overview_has_the_worst_word_and_the_classes_that_have_it():
    one = overview(["sound", "copies", "attention"]).verdict
    assert (one.word, one.sentence, one.because) == (
        "copies", "Class 1 (of 3 audited): Class 1 so.", ("class-1.verdict",)
    )  # fmt: skip
    two = overview(["sound", "copies", "copies"]).verdict
    assert two.sentence == "Classes 1, 2 (of 3 audited). Class 1: Class 1 so."
    both = overview(["copies", "broken", "copies"]).verdict
    assert both.sentence == "Class 1 (of 3 audited): Class 1 so. Copies besides: class 0, 2."
    wrong = finding("guidance.unconditional", "alarm", verdict="Wrong.")
    assert overview(["copies"], unconditional=wrong).verdict == Verdict("broken", "Wrong.", (wrong.name,))
    beside = overview(["copies"], unconditional=finding(tone="attention"))
    assert beside.verdict.word == "copies"
    assert beside.has(["copies"])
    assert not beside.has(["broken", "sound"])
    assert _listed(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"
    assert _listed(range(13)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ..."
    assert _few(range(8)) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert _few(range(9)) == "0, 1, 2, 3, 4, 5, 6, 7, ..."


class Judged(AuditResult):
    """An audit with a verdict."""

    @property
    def verdict(self) -> Verdict:
        return self.__dict__["verdict"]


def of_one(word, because=("order.verdict",), corrected=None, by_chance=()):
    result = made(Judged, verdict=Verdict(word, "So it is.", because))
    whole = overview([], {} if corrected is None else {3: corrected}, results={3: result, 4: result})
    return whole._of_class(3, list(by_chance))


def test_many_classes_excuse_copies_above_the_false_discovery_rate_and_attention_by_chance():
    assert of_one("copies", corrected=0.0499).word == "copies"
    doubted = of_one("copies", corrected=0.05)
    assert (doubted.word, doubted.sentence) == (
        "attention", "So it is. Among 2 classes that is within chance (p = 0.050 corrected)."
    )  # fmt: skip
    assert of_one("copies").word == "attention"  # without a test, p is 1
    assert of_one("attention", by_chance=("order.verdict", "x")).sentence == (
        "Within chance among 2 classes: So it is."
    )
    assert of_one("attention", by_chance=("order.verdict",)).word == "sound"
    assert of_one("attention", ("order.verdict", "steps.verdict"), by_chance=("order.verdict",)).word == "attention"
    whole = overview([], unanswered={3: "12 training examples"})
    assert whole._of_class(3, []) == Verdict("cannot-tell", "12 training examples.", ())


def test_a_row_of_the_overview_has_the_space_with_most_copies():
    found = [
        finding("memorized.verdict", value=90.0), finding("memorized.copies", value=2.0, interval=(1.0, 3.0)),
        finding("memorized.copies.pca", value=4.0, interval=(3.5, 5.0)), finding("memorized.gap", value=math.nan),
    ]  # fmt: skip
    quality = [finding("quality.verdict", value=1.5), finding("quality.x", value=9.0)]
    result = audit(memorized=Answer(findings=found), quality=Answer(findings=quality))
    labels = torch.tensor([0, 0, 1, 0])
    whole = overview(
        ["copies", "cannot-tell"], {0: 0.012}, results={0: result}, unanswered={1: "few"},
        subject=SimpleNamespace(train_labels=labels, heldout_labels=labels[1:]),
    )  # fmt: skip
    first, second = whole.table().rows
    assert first[1:] == ["copies", 3, 2, "4.00% (3.50% to 5.00%)", "0.012", None, "1.50%", None]
    assert second == ["1", "cannot tell", 1, 1] + [None] * 5
    assert whole.table().note == "Not asked for: 18 of the model's 20 classes."
    assert overview(["sound"] * 20, subject=whole.subject, unanswered=dict.fromkeys(range(20), "")).table().note == ""
    cards = whole.findings
    assert [card.name for card in cards] == ["class-0.verdict", "class-1.verdict"]
    assert (cards[0].value, cards[0].interval, cards[0].p_value) == (4.0, (3.5, 5.0), 0.012)
    assert math.isnan(cards[1].value)
    assert [card.tone for card in cards] == ["alarm", "unknown"]
    assert _measured(None) is _measured(finding(value=math.nan)) is None
    many = overview(["sound"] * (CARDS + 1), unanswered=dict.fromkeys(range(CARDS + 1), "few"), subject=SimpleNamespace(
        name="m", data_name="d", train=labels, heldout=labels, train_labels=labels, heldout_labels=labels, notes=(),
    ))  # fmt: skip
    assert len(many.page().verdicts) == len(many.page().sections[0].findings) == 24


# classes that are asked for


def asked(classes=None, guidance=1.0, known=3, labels=(0, 1, 1, 2), **changes):
    parts = {
        "denoiser": Constant([1.0] * known), "train": torch.zeros(4, 2), "heldout": torch.zeros(4, 2),
        "train_labels": torch.tensor(labels), "heldout_labels": torch.tensor(labels), "canaries": None,
    }  # fmt: skip
    return _class_data(made(Subject, **(parts | changes)), classes, guidance)


def test_classes_are_labels_of_the_data_and_of_the_model():
    assert asked().asked == (0, 1, 2)
    assert asked([2, 0, 2]).asked == (2, 0)
    assert asked(known=1, labels=(0, 0, 0, 0)).asked == (0,)
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"known": 2}, r"the model's classes, 0 \.\. 1, as labels of the data, got 2"),
        ({"labels": (-1, 0, 1, 1)}, r"0 \.\. 2, as labels of the data, got -1"),
        ({"classes": [1, 7]}, "labels of the training data, 0, 1, 2, got 7"),
        ({"classes": []}, "at least one, got none"),
        ({"guidance": math.inf}, "guidance: expected a finite number, got inf"),
        ({"guidance": "2"}, "guidance: expected a finite number, got '2'"),
        ({"known": 0}, "a model with classes"),
        ({"heldout_labels": None}, "got held-out data without"),
    )
    for given, told in refused:
        with pytest.raises(InputError, match=told):
            asked(**given)


def test_the_part_of_a_class_has_its_examples_groups_and_owners():
    x, labels = torch.arange(80.0).reshape(40, 2), torch.arange(40) % 2
    groups = torch.arange(40) // 4
    model = Constant([1.0, 2.0])
    whole = Subject(
        model, x, x + 100, "net", "rows", train_labels=labels, heldout_labels=1 - labels, train_groups=groups,
        heldout_groups=groups + 50,
    )  # fmt: skip
    data = ClassData(model, whole.train, whole.heldout, labels, 1 - labels, (0, 1))
    part = of_class(whole, data, 1)
    assert torch.equal(part.train, x[1::2])
    assert torch.equal(part.heldout, x[::2] + 100)
    assert part.train_groups.tolist() == groups[1::2].tolist()  # pyright: ignore[reportOptionalMemberAccess]
    assert part.heldout_groups.tolist() == (groups[::2] + 50).tolist()  # pyright: ignore[reportOptionalMemberAccess]
    assert (part.name, part.data_name, part.sampled, part.train_owners) == ("net, class 1", "rows, label 1", None, None)
    assert part.notes[-1] == "audited as class 1, against the examples with label 1"


def test_copies_behind_twelve_heldout_examples_are_too_late():
    """Of 1,000 held-out examples so many come before all 50 samples."""
    for behind, found in ((11, True), (12, False)):
        p = exceedance_p_value(np.full(50, (behind + 1) / 1001), 1000)
        assert (p < 1e-9) == found
        assert found or p == 1.0

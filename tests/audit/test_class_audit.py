"""A conditional model audited by class: who memorized, whose number is another's, and what cannot be told."""

import inspect
import json
import math
import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from made_by_hand import classifiers_are_quick, other_tools_are_quick  # noqa: F401

from audit_subjects import SMALL, asked
from diffuscope.audit import Subject, audit_classes, class_audit
from diffuscope.audit.class_audit import of_class
from diffuscope.audit.class_correction import exceedance_p_value
from diffuscope.audit.class_data import ClassData
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Empirical, Gaussian, GaussianMixture
from diffuscope.findings import conformal_p_values
from diffuscope.schedules import VE

SETTINGS = replace(SMALL, points=100, generated=150, transformations=("none",), examples=False)
DIMENSION, EACH = 6, 150
CENTERS = 2.0 * torch.eye(DIMENSION)[:3]


class ByClass:
    """The exact conditional denoiser of one distribution for each class; none is refused unless it has one."""

    schedule, event_shape, data_range = VE(0.002, 80.0), (DIMENSION,), (-9.0, 9.0)

    def __init__(self, *parts: Distribution, none: Distribution | None = None):
        self.classes = len(parts)
        self.parts = [ExactDenoiser(part, self.schedule) for part in parts]
        self.none = None if none is None else ExactDenoiser(none, self.schedule)

    def __call__(self, x_t, t, y=None):
        if y is not None and int(y) < self.classes:
            return self.parts[int(y)](x_t, t)
        if self.none is None:
            raise InputError("y: expected a class")
        return self.none(x_t, t)


def drawn(label: int, n: int, seed: int, centers=CENTERS):
    generator = torch.Generator().manual_seed(1000 * seed + label)
    return centers[label] + torch.randn(n, DIMENSION, generator=generator)


def gaussian(label: int, centers=CENTERS) -> Gaussian:
    return Gaussian.isotropic(centers[label].double(), 1.0)


def labelled(model, sizes=(EACH, EACH, EACH), centers=CENTERS, unseen=EACH):
    train, heldout = (torch.cat([drawn(y, n if seed == 1 else min(n, unseen), seed, centers)
                                 for y, n in enumerate(sizes)]) for seed in (1, 2))  # fmt: skip
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    others = torch.arange(len(sizes)).repeat_interleave(torch.tensor([min(n, unseen) for n in sizes]))
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    return Subject(model, train[order], heldout, "by class", "three Gaussians", train_labels=labels[order],
                   heldout_labels=others)  # fmt: skip


def first(result, y, name):
    return result[y].findings[name][0]


@cache
def memorizing():
    model = ByClass(gaussian(0), Empirical(drawn(1, EACH, 1)), gaussian(2))
    with asked("memorized"):
        return audit_classes(labelled(model), settings=SETTINGS)


def test_the_one_class_that_memorized_is_the_one_that_copies():
    result = memorizing()
    words = {y: verdict.word for y, verdict in result.verdicts.items()}
    assert words[1] == "copies"
    assert not {"broken", "copies", "attention"} & {words[0], words[2]}
    assert result.verdict.word == "copies"
    assert result.verdict.sentence.startswith("Class 1 (of 3 audited): Copies training examples")
    assert result.corrected[1] < 1e-6
    assert min(result.corrected[0], result.corrected[2]) > 0.05
    for y in range(3):
        assert first(result, y, "class").tone == "good"
        assert first(result, y, "class-samples").tone == "good"
        assert first(result, y, "other-classes").tone == "good"


@pytest.mark.usefixtures("blank_figures")
def test_a_memorized_class_stands_out_in_the_files(tmp_path):
    result = memorizing()
    report = result.save(tmp_path)
    stored = json.loads((tmp_path / "audit.json").read_text())
    assert stored["verdict"]["word"] == "copies"
    assert [stored["classes"][str(y)]["verdict"]["word"] for y in range(3)].count("copies") == 1
    assert stored["classes"]["1"]["own_verdict"]["word"] == "copies"
    page = report.read_text()
    for y in range(3):
        assert f'href="class-{y}/report.html"' in page
        own = (tmp_path / f"class-{y}" / "report.html").read_text()
        assert f"audited as class {y}, against the examples with label {y}" in own
    card = (tmp_path / "model-card.md").read_text()
    assert "**Verdict: copies.**" in card
    assert [line.split(" | ")[1] for line in card.splitlines() if line.startswith(("| 0", "| 1", "| 2"))].count(
        "copies"
    ) == 1


def test_a_model_whose_classes_are_exchanged_is_broken_and_told_which_fits():
    with asked("wiring"):
        result = audit_classes(labelled(ByClass(gaussian(0), gaussian(2), gaussian(1))), settings=SETTINGS)
    assert {y: verdict.word for y, verdict in result.verdicts.items()} == {0: "sound", 1: "broken", 2: "broken"}
    for y, other in ((1, 2), (2, 1)):
        found = first(result, y, "class")
        assert found.tone == "alarm"
        assert f"class {other} denoises the examples with label {y} better" in result.verdicts[y].sentence
        assert f"class {other} denoises the examples with label {y} better" in found.verdict
        assert "not what it is taken for" in first(result, y, "other-classes").verdict
    assert first(result, 0, "class").tone == "good"


def test_numbers_that_are_off_by_one_are_told_from_those_that_are_right():
    """Class y of the model is label y - 1, and its class 0 is none, as where a row for none comes first."""
    everything = GaussianMixture.isotropic(torch.ones(3) / 3, CENTERS, torch.ones(3))
    with asked():
        result = audit_classes(labelled(ByClass(everything, gaussian(0), gaussian(1))), settings=SETTINGS)
    assert [first(result, y, "class").tone for y in range(3)] == ["alarm"] * 2 + ["alarm"]
    best = [result[y]["class"].facts["best_other_class"] for y in range(3)]
    assert best[:2] == [1, 2]


def test_classes_that_do_not_differ_cannot_be_told_apart_and_are_no_fault():
    centers = CENTERS[[0, 0, 2]]
    model = ByClass(*(gaussian(y, centers) for y in range(3)))
    with asked():
        result = audit_classes(labelled(model, centers=centers), settings=SETTINGS)
    assert first(result, 0, "class").tone == first(result, 1, "class").tone == "unknown"
    assert "class 0 and of class 1 are the same" in first(result, 0, "class").verdict
    assert first(result, 2, "class").tone == "good"
    off = torch.tensor([0.0, 0, 0, 0, 0, 0.02])  # a little, far less than a test can see
    near = ByClass(gaussian(0), Gaussian.isotropic((CENTERS[0] + off).double(), 1.0), gaussian(2))
    with asked():
        result = audit_classes(labelled(near, centers=centers), [0, 1], SETTINGS)
    for y in (0, 1):
        found = first(result, y, "class")
        assert found.tone == "unknown"
        assert "denoise the examples" in found.verdict
        assert found.interval is not None
        assert found.interval[0] < 1 < found.interval[1]


def test_copies_of_another_class_are_found_and_named():
    """A class whose samples are to 40% five training examples of class 1, exactly."""
    copied = drawn(1, EACH, 1)[:5].double()
    weights = torch.tensor([0.6, *[0.08] * 5], dtype=torch.float64)
    means = torch.cat([CENTERS[:1].double(), copied])
    mixed = GaussianMixture.isotropic(weights, means, torch.tensor([1.0, *[1e-8] * 5], dtype=torch.float64))
    subject = labelled(ByClass(mixed, gaussian(1), gaussian(2)))
    with asked():
        result = audit_classes(subject, [0, 2], SETTINGS)
    found = first(result, 0, "other-classes")
    assert found.tone == "alarm"
    assert "most of them of class 1" in found.verdict
    assert found.value == pytest.approx(40, abs=3 * 4)  # standard error of 150 samples: 4%
    assert result.verdicts[0].word == "copies"
    assert first(result, 2, "other-classes").tone == "good"
    answer = result[0]["other-classes"]
    stored = json.loads(json.dumps(answer.facts))["copies_of_other_classes"]["pixels"]
    listed = [row["training_example"] for row in stored]
    right = torch.cdist(subject.train[listed].double(), copied).min(1)
    assert len(right.indices[right.values < 1e-5].unique()) == 5
    assert (right.values < 1e-5).double().mean() > 0.8  # 5% of the list are expected to be false
    # 15% or so of these samples of class 0 have the label of the copies, beyond the errors of the classifier
    assert first(result, 0, "class-samples").tone == "attention"


def test_a_class_of_few_examples_is_said_and_not_dropped():
    model = ByClass(*(gaussian(y) for y in range(3)))
    with asked():
        result = audit_classes(labelled(model, sizes=(EACH, 12, EACH)), settings=SETTINGS)
    assert set(result.results) == {0, 2}
    assert result.unanswered[1] == "12 training and 12 held-out examples; at least 20 of each are needed"
    assert result.verdicts[1].word == "cannot-tell"
    stored = json.loads(json.dumps(result.as_json()))
    assert stored["classes"]["1"]["not_audited"] == result.unanswered[1]
    assert result.has(["cannot-tell"])


def test_what_has_no_classes_is_refused_in_one_line():
    subject = labelled(ByClass(*(gaussian(y) for y in range(3))))
    for changed, message in (
        (replace(subject, denoiser=ExactDenoiser(gaussian(0), VE())), "classes: expected a model with classes"),
        (replace(subject, train_labels=None), "classes: expected data with labels, got training data without"),
        (replace(subject, heldout_labels=None), "classes: expected data with labels, got held-out data without"),
        (
            replace(subject, denoiser=ByClass(gaussian(0))),
            r"classes: expected the model's classes, 0 .. 0, .* got 1, 2",
        ),
    ):
        with pytest.raises(InputError, match=f"^{message}"):
            audit_classes(changed, settings=SETTINGS)
    with pytest.raises(InputError, match=r"^classes: expected labels of the training data, 0, 1, 2, got 5"):
        audit_classes(subject, [5], SETTINGS)
    with pytest.raises(InputError, match=r"^y: expected a class"):  # one reason for all of them
        audit_classes(subject, settings=SETTINGS, guidance=2)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"classes": []}, "classes: expected at least one, got none"),
        ({"classes": 1}, "classes: expected whole numbers, got 1"),
        ({"classes": "1"}, "classes: expected whole numbers, got '1'"),
        ({"classes": [1.0]}, "classes: expected whole numbers, got [1.0]"),
        ({"classes": [None]}, "classes: expected whole numbers, got [None]"),
        ({"guidance": "2"}, "guidance: expected a finite number, got '2'"),
        ({"guidance": None}, "guidance: expected a finite number, got None"),
        ({"guidance": math.nan}, "guidance: expected a finite number, got nan"),
    ],
)
def test_classes_and_scales_of_other_kinds_are_refused_by_name(chosen, message):
    audit: Any = inspect.unwrap(audit_classes)  # what a user without checks of types meets
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        audit(labelled(ByClass(*(gaussian(y) for y in range(3)))), **chosen)


def test_a_mistake_of_one_class_is_said_and_one_of_one_process_ends_all(monkeypatch):
    """Where another process of the run goes on, they would no longer do the same."""
    subject, known = labelled(ByClass(*(gaussian(y) for y in range(3)))), memorizing()

    def audited(part, *_, **__):
        if part.of_class.label == 1:
            raise InputError("out: in use")
        return known[part.of_class.label]

    monkeypatch.setattr(class_audit, "audit_model", audited)
    result = audit_classes(subject, settings=SETTINGS)
    assert result.unanswered == {1: "out: in use"}
    assert set(result.results) == {0, 2}

    def apart(pieces):
        assert not pieces
        raise RuntimeError("the processes of one run no longer do the same")

    monkeypatch.setattr(class_audit, "shared", apart)
    with pytest.raises(InputError, match=r"^out: in use$"):
        audit_classes(subject, [1], SETTINGS)
    with pytest.raises(RuntimeError, match="no longer do the same"):
        audit_classes(subject, [0], SETTINGS)


def test_the_exceedance_p_value_is_exact_where_it_can_be_counted():
    """Three of 4 samples come before the first of 2 held-out examples: C(4, 3) / C(6, 3), and all 4 before the second.

    The second has P = 1 - C(5, 2) / C(6, 2); they count double and fourfold.
    """
    p_values = np.array([1, 1, 1, 2]) / 3
    assert exceedance_p_value(p_values, 2) == pytest.approx(min(2 * 4 / 20, 4 * (1 - 10 / 15)))


def test_the_exceedance_p_value_keeps_its_level_and_needs_no_larger_calibration_for_more_classes():
    rng = np.random.default_rng(0)
    n, m, draws = 60, 25, 2000
    p_values = np.array([exceedance_p_value(conformal_p_values(rng.random(n), rng.random(m)), m)
                         for _ in range(draws)])  # fmt: skip
    for level in (0.01, 0.05, 0.2):
        assert (p_values <= level).mean() <= level + 3 * (level * (1 - level) / draws) ** 0.5
    # a class that copies: all samples come first; ten classes with 25 held-out examples, least p of a sample 1/26
    assert 10 * exceedance_p_value(np.full(n, 1 / 26), m) < 1e-10


def test_copies_and_attention_within_chance_do_not_count_among_many_classes():
    """One class of three as `memorizing`, but with p-values that many classes have by chance."""
    result = memorizing()
    doubtful = replace(result, results=result.results)
    doubtful.__dict__["corrected"] = {0: 1.0, 1: 0.2, 2: 1.0}
    assert doubtful.verdicts[1].word == "attention"
    assert "within chance" in doubtful.verdicts[1].sentence
    assert doubtful.verdict.word == "attention"


def test_groups_and_owners_of_a_class_are_those_of_its_examples():
    model = ByClass(*(gaussian(y) for y in range(3)))
    subject = labelled(model)
    train_groups, heldout_groups = torch.arange(3 * EACH) // 3, 1000 + torch.arange(3 * EACH) // 3
    subject = replace(subject, train_groups=train_groups, heldout_groups=heldout_groups, train_owners=train_groups % 7)
    assert subject.train_labels is not None
    assert subject.heldout_labels is not None
    data = ClassData(model, subject.train, subject.heldout, subject.train_labels, subject.heldout_labels, (1,))
    part = of_class(subject, data, 1)
    assert part.train_groups is not None
    assert part.heldout_groups is not None
    assert part.train_owners is not None
    assert torch.equal(part.train_groups, train_groups[subject.train_labels == 1])
    assert torch.equal(part.heldout_groups, heldout_groups[subject.heldout_labels == 1])
    assert torch.equal(part.train_owners, part.train_groups % 7)
    assert part.of_class is not None
    assert set(subject.train_labels[part.of_class.places].tolist()) == {0, 2}

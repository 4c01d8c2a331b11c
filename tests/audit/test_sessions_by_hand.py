"""What questions take from a session: earlier answers, points, labels, groups and canaries, counted by hand."""

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_by_hand import finding, plane, session_of
from tqdm import tqdm

from diffuscope.audit import QUESTIONS, Answer, SecondModel, Session, Settings, Subject
from diffuscope.audit.copy_search import COPIED
from diffuscope.audit.judged_quality import Quality
from diffuscope.audit.no_model import NoModel
from diffuscope.audit.questions import membership, memorized, quality, samples
from diffuscope.audit.result import versions
from diffuscope.data import Canaries, fit_table
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE


def first(tone, **facts):
    return Answer(findings=[finding(tone=tone)], facts=facts)


# earlier answers


@pytest.mark.parametrize("tone", ["alarm", "attention", "unknown", "good"])
def test_the_first_finding_on_memorization_says_whether_samples_are_copies(tone):
    session = session_of()
    assert (session.copies_training, session.leans_to_training) == (False, False)
    session.answers["memorized"] = Answer()
    assert (session.copies_training, session.leans_to_training) == (False, False)
    session.answers["memorized"] = first(tone)
    assert session.copies_training == (tone == "alarm")
    assert session.leans_to_training == (tone == "attention")


def test_heldout_examples_are_doubted_as_the_question_of_memorization_found_them():
    session = session_of()
    assert session.heldout_doubted == ""
    session.answers["memorized"] = first("alarm")
    assert session.heldout_doubted == "whether held-out examples are near-copies of training examples was not asked"
    session.answers["memorized"] = first("good", heldout_are_copies={"pixels": False, "pca": False})
    assert session.heldout_doubted == ""
    session.answers["memorized"] = first("good", heldout_are_copies={"pixels": False, "pca": True})
    assert session.heldout_doubted == COPIED


def test_what_is_broken_adds_up():
    session = session_of()
    assert session.broken == frozenset()
    for name, broken in (("a", ()), ("b", ("model",)), ("c", ("samples",))):
        session.answers[name] = Answer(broken=frozenset(broken))
    assert session.broken == {"model", "samples"}


def test_shared_stages_are_one_per_level_and_two_or_the_gaussian_alone():
    assert session_of().shared_stages == 1
    model = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), VE())
    assert session_of(model=model, settings=Settings(levels=7)).shared_stages == 9


def test_points_are_as_many_as_the_smaller_set_and_the_settings_allow():
    for points, count in ((20, 20), (30, 30), (31, 30), (512, 30)):
        session = session_of(settings=Settings(points=points))
        train, heldout = session.point_indices
        assert len(train) == len(heldout) == count
        clean, others, noise = session.points
        assert torch.equal(clean, session.subject.train[train])
        assert torch.equal(others, session.subject.heldout[heldout])
        assert len(set(train.tolist())) == len(set(heldout.tolist())) == count
        assert noise.shape == clean.shape
    assert train.max() > 30  # of all 40


def test_the_bar_counts_as_many_stages_as_questions_say():
    model, bar = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), VE()), tqdm(file=io.StringIO())
    settings = Settings(levels=4, points=20, trajectories=8, generated=20, components=1, step_seeds=8, diagnostics=True)
    session = Session(
        Subject(model, plane(40), plane(30, 1)), settings, second=SecondModel(model, plane(40, 2)), progress=bar
    )
    _ = session.measures
    assert bar.n == session.shared_stages == 6
    for question in (each for each in QUESTIONS if each.asked(True)):
        before = bar.n
        assert question.ask(session) is not None
        assert (question.name, bar.n - before) == (question.name, question.stages(session))


# what samples alone are


def told(given, **changes):
    session = session_of(given=given, **changes)
    answer = samples.QUESTION.ask(session)
    assert answer is not None
    return answer


def test_samples_are_judged_by_the_first_fault_or_by_both_findings():
    fine = told(plane(40, 2))
    assert [found.name for found in fine.findings] == [
        "samples.verdict", "samples.samples", "samples.heldout", "samples.heldout_units",
    ]  # fmt: skip
    assert (fine.findings[0].tone, fine.broken, len(fine.blocks)) == ("good", frozenset(), 1)
    assert fine.findings[0].verdict == f"{fine.findings[1].verdict} {fine.findings[2].verdict}"
    wide = told(plane(40, 2, 3.0))
    assert (wide.findings[0].tone, wide.broken) == ("alarm", {"samples"})
    assert wide.findings[0] == replace(wide.findings[1], name="samples.verdict", title=samples.TITLE)
    heldout = told(plane(30, 1))
    assert heldout.findings[0] == replace(heldout.findings[2], name="samples.verdict", title=samples.TITLE)
    assert heldout.findings[0].value == 100.0


def test_tables_have_no_table_of_units():
    columns = {"size": np.random.default_rng(0).normal(size=40).tolist(), "color": ["red", "blue"] * 20}
    table = fit_table(columns)
    rows = table.encode(columns)
    assert told(rows[:30], train=rows, heldout=rows.flip(0).clone(), table=table).blocks == []


# membership


def test_training_points_that_are_canaries_are_left_out():
    train = plane(40)
    canaries = Canaries(torch.cat([train[5:17], plane(12, 3)]), torch.arange(24) < 12, (-9.0, 9.0))
    session = session_of(train, canaries=canaries, settings=Settings(points=30))
    kept = membership.no_canaries(session)
    drawn = session.point_indices[0]
    assert kept.tolist() == [not 5 <= int(i) < 17 for i in drawn]
    assert 0 < kept.sum() < 30
    assert membership.no_canaries(session_of(train)).tolist() == [True] * 30


def test_groups_of_points_are_those_of_both_sets_or_none():
    assert membership.groups_of_points(session_of()) is None
    groups = torch.arange(40) // 2, 100 + torch.arange(30) // 3
    session = session_of(train_groups=groups[0], heldout_groups=groups[1])
    found = membership.groups_of_points(session)
    assert found is not None
    for of, known, places in zip(found, groups, session.point_indices, strict=True):
        assert of.tolist() == known[places].tolist()


def test_canaries_and_owners_are_stages_of_their_own():
    canaries = Canaries(plane(24, 3), torch.arange(24) < 12, (-9.0, 9.0))
    owners = {"train_owners": torch.arange(40) % 2, "heldout_owners": torch.arange(30) % 2}
    stages = membership.QUESTION.stages
    assert [stages(session_of(**each)) for each in ({}, {"canaries": canaries}, owners)] == [0, 1, 1]
    assert stages(session_of(canaries=canaries, **owners)) == 2


def test_without_levels_that_matter_no_attack_is_possible():
    session = session_of()
    session.__dict__["measures"] = SimpleNamespace(matter=np.zeros(3, dtype=bool))
    result, (finding,), blocks = membership.attacked(session)
    assert (result, blocks, finding.tone) == (None, [], "unknown")
    assert "the model covers none of the noise levels that decide samples" in finding.verdict


# memorization


@pytest.mark.parametrize(
    ("shape", "space", "name"),
    [((3,), "pixels", "values"), ((2, 5), "pixels", "values"), ((1, 2, 2), "pixels", "pixels"),
     ((1, 2, 2, 2), "pixels", "pixels"), ((3,), "pca", "pca")],
)  # fmt: skip
def test_distances_of_what_is_no_image_are_those_of_values(shape, space, name):
    x = torch.arange(20.0).reshape(20, *(1 for _ in shape)).expand(20, *shape)
    subject = Subject(NoModel(), x, x + 1)
    assert memorized.name_of_space(space, subject) == name


def test_distances_of_rows_of_a_table_are_those_of_columns():
    columns = {"size": [float(i) for i in range(20)], "color": ["red", "blue"] * 10}
    table = fit_table(columns)
    rows = table.encode(columns)
    assert memorized.name_of_space("pixels", Subject(NoModel(), rows, rows, table=table)) == "columns"


def test_only_images_that_are_averaged_are_said_to_be():
    assert memorized._method((1, 64, 64)) == memorized._method((5000,)) == ""
    assert "images of 96 x 64 pixels were compared as averages of 32 x 32, whose" in memorized._method((3, 96, 64))
    assert "images of 999 x 16 pixels were compared as averages of 32 x 16, whose" in memorized._method((1, 999, 16))


def test_cells_are_the_labels_of_the_points_counted_from_none():
    labels = 10 * (torch.arange(40) % 3), 10 * (torch.arange(30) % 2) + 10
    session = session_of(train_labels=labels[0], heldout_labels=labels[1])
    train, heldout = session.point_indices
    cells = memorized.cells_of_points(session)
    assert cells[0].tolist() == (labels[0][train] // 10).tolist()
    assert cells[1].tolist() == (labels[1][heldout] // 10).tolist()


def test_a_group_is_in_one_pair_at_most():
    groups = torch.arange(40) // 4, 100 + torch.arange(30) // 2
    session = session_of(train_groups=groups[0], heldout_groups=groups[1])
    train, heldout = session.point_indices
    first, second = memorized.pairs_of_points(session, np.random.default_rng(0))
    assert len(first) == len(second) <= 10
    for places, points, of in ((first, train, groups[0]), (second, heldout, groups[1])):
        assert len(set(of[points[torch.from_numpy(places)]].tolist())) == len(places)


# few steps, versions


@pytest.mark.parametrize(("levels", "steps"), [(15, 28), (4, 6)])
def test_samples_of_fewer_steps_than_usual_are_said_to_be(levels, steps):
    text = quality._of_few_steps(session_of(settings=Settings(levels=levels)))
    assert text == (
        f" They were drawn in {steps} steps, as the audit has {levels} levels (by default 16): a part of this distance "
        "may come from the steps."
    )


def test_samples_of_as_many_steps_as_usual_or_of_others_are_not():
    assert quality._of_few_steps(session_of(settings=Settings(levels=16))) == ""
    assert quality._of_few_steps(session_of(settings=Settings(levels=4), given=plane(20, 2))) == ""
    assert quality._of_few_steps(session_of(settings=Settings(levels=4, sampler="a:b"))) == ""


def test_a_page_shows_a_thousand_samples_at_most_and_says_what_was_not_measured(monkeypatch):
    nothing, asked = Quality(judged=(), classifier=None, balance=None, reasons=("so", "and so")), {}
    monkeypatch.setattr(quality, "judge", lambda *_: nothing)
    monkeypatch.setattr(quality, "compare_columns", lambda *_: (None, None))
    session = session_of(given=plane(1005, 2))
    monkeypatch.setattr(session, "shown", lambda part, places: asked.update({part: places}))
    answer = quality.QUESTION.ask(session)
    assert answer is not None
    assert {part: places.tolist() for part, places in asked.items()} == {
        "samples": list(range(1000)), "heldout": list(range(30)),
    }  # fmt: skip
    assert answer.facts == {"quality_not_measured": "so; and so"}
    assert answer.method.endswith(" Not measured: so. Not measured: and so.")
    assert [found.tone for found in answer.findings] == ["unknown"]


def test_versions_are_those_of_the_packages():
    assert list(versions()) == ["python", "diffuscope", "torch", "numpy", "scipy", "scikit-learn", "safetensors"]
    assert versions()["torch"] == torch.__version__

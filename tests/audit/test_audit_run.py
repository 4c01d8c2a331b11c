"""Whole audits of models whose answer is known, and what happens when one is interrupted."""

import dataclasses
import json
from html import unescape

import numpy as np
import pytest
import torch
from made_by_hand import other_tools_are_quick  # noqa: F401

from audit_subjects import QUICK, SMALL, asked, digits, exact_subject
from diffuscope.audit import QUESTIONS, Answer, Question, Subject, audit_model
from diffuscope.audit.fingerprint import fingerprint
from diffuscope.audit.generation import followed_samples
from diffuscope.audit.level_measures import measure_level
from diffuscope.audit.questions.loss import QUESTION as LOSS
from diffuscope.audit.subject import noise_levels
from diffuscope.denoisers import MLP, ExactDenoiser, Preconditioned
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian
from diffuscope.findings import Chart, Finding, Panel, points
from diffuscope.report import render
from diffuscope.schedules import VE, VP, DiscreteVP, RectifiedFlow
from diffuscope.training import TrainingSettings, averaged, train

PLAIN = dataclasses.replace(QUICK, transformations=("none",))  # those of images are asked with the search for copies


@pytest.fixture(scope="module")
def data():
    x = digits(3)
    return {"train": x[:100], "heldout": x[100:700], "other": x[700:]}


@pytest.fixture(scope="module")
def memorizer_result(data):
    subject = exact_subject(Empirical(data["train"]), data["train"], data["heldout"])
    return audit_model(subject, dataclasses.replace(PLAIN, points=100, generated=100))


def found(result, name):
    return next(f for group in result.findings.values() for f in group if f.name == name)


def p_value(result, name):
    p = found(result, name).p_value
    assert p is not None
    return p


def test_the_exact_memorizer_is_called_copying_by_all_three_tests(memorizer_result):
    verdict = found(memorizer_result, "memorized.verdict")
    assert verdict.verdict.startswith("Copies training examples")
    assert verdict.tone == "alarm"
    assert p_value(memorizer_result, "memorized.gap") < 1e-3
    assert p_value(memorizer_result, "memorized.nearness") < 1e-3
    # every sample of the exact memorizer is a training example
    assert found(memorizer_result, "memorized.copies").value > 95
    assert found(memorizer_result, "loss.irreducible_share").value == pytest.approx(100)


@pytest.mark.slow  # 2,000 steps of training; the exact memorizer is called copying by default
def test_a_network_trained_to_convergence_on_few_digits_is_called_copying(data):
    few = data["train"][:20]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MLP((1, 8, 8), width=192, depth=2)
    denoiser = Preconditioned(network, VE(0.01, 20.0), 0.75, event_shape=(1, 8, 8), data_range=(-1.0, 1.0))
    settings = TrainingSettings(steps=2000, batch_size=64, learning_rate=2e-3, average_decay=0.99)
    *_, last = train(denoiser, few, settings, checkpoint=None)
    result = audit_model(Subject(averaged(denoiser, last.average).eval(), few, data["heldout"]), QUICK)
    assert found(result, "memorized.verdict").verdict.startswith("Copies training examples")
    assert p_value(result, "memorized.gap") < 1e-3
    assert p_value(result, "memorized.nearness") < 1e-3
    assert found(result, "memorized.copies").value > 50


def test_a_model_that_saw_neither_set_shows_no_sign_and_states_its_power(data):
    model = Gaussian.fit([data["other"]]).truncate(40)
    with asked("memorized"):
        result = audit_model(exact_subject(model, data["heldout"][:300], data["heldout"][300:]), PLAIN)
    verdict = found(result, "memorized.verdict")
    assert verdict.verdict.startswith("No sign")
    assert verdict.tone == "good"
    assert "probability 0.95" in verdict.power
    assert found(result, "memorized.copies").value == 0


def test_given_samples_are_searched_in_place_of_the_models_own(data):
    model = Gaussian.fit([data["other"]]).truncate(40)
    train, heldout = data["heldout"][:300], data["heldout"][300:]
    planted = torch.cat([train[:30], data["other"][:100]])
    with asked("memorized"):
        result = audit_model(exact_subject(model, train, heldout), PLAIN, samples=planted)
    listed = np.flatnonzero(result["memorized"].result.copies["pixels"].listed)
    assert set(range(30)) <= set(listed.tolist())
    # 5% of the list are expected to be false, 1.7 of 100 fresh digits; 300 calibration examples add to the variance
    assert len(listed) <= 30 + 1.7 + 4 * (1.7 * (1 + 100 / 300)) ** 0.5
    with pytest.raises(InputError, match="samples: expected examples of shape"):
        audit_model(exact_subject(model, train, heldout), QUICK, samples=torch.zeros(40, 1, 4, 4))
    planted[3, 0, 2, 2] = torch.nan
    with pytest.raises(InputError, match="samples: expected finite values, got NaN or infinity"):
        audit_model(exact_subject(model, train, heldout), QUICK, samples=planted)


def test_json_holds_every_finding_and_every_copy(memorizer_result):
    stored = json.loads(json.dumps(memorizer_result.as_json()))
    names = {f["name"] for group in stored["findings"].values() for f in group}
    assert {"memorized.verdict", "learned.gaussian_range", "loss.irreducible_share", "steps.enough"} <= names
    listed = memorizer_result["memorized"].result.copies["pixels"].listed
    assert len(stored["copies"]["pixels"]) == listed.sum()


def test_json_holds_the_numbers_of_every_figure(memorizer_result):
    stored = json.loads(json.dumps(memorizer_result.as_json()))
    for question, answer in memorizer_result.answers.items():
        drawn = [block for block in answer.blocks if isinstance(block, Chart)]
        assert [chart["title"] for chart in stored["charts"][question.name]] == [chart.title for chart in drawn]
    loss = memorizer_result["loss"].result
    irreducible, distance, *_ = stored["charts"]["loss"][0]["panels"][1]["marks"]
    assert irreducible["x"] == loss.ratios.tolist()
    assert irreducible["high"] == loss.value["heldout"]["irreducible"].tolist()
    assert distance["high"] == loss.value["heldout"]["total"].tolist()
    gap, learned = memorizer_result["memorized"].result.gap, memorizer_result["learned"].result
    assert stored["charts"]["memorized"][0]["panels"][0]["marks"][0]["low"] == (100 * gap.low).tolist()
    isotropic = stored["charts"]["learned"][0]["panels"][0]["marks"][0]
    assert isotropic["y"] == learned.unexplained["heldout"].value[:, 0].tolist()


def test_every_finding_of_every_question_shows_on_the_page_and_the_first_is_its_verdict(memorizer_result):
    page = memorizer_result.page()
    assert [finding.name for finding in page.verdicts] == [
        "wiring.verdict", "memorized.verdict", "membership.verdict", "learned.gaussian_range",
        "loss.memorizer_on_heldout", "generalizes.position", "steps.enough", "order.components", "fidelity.frechet",
        "diversity.verdict",
    ]  # fmt: skip
    assert [finding.title for finding in page.verdicts] == [section.title for section in page.sections]
    assert memorizer_result.unanswered == ""
    assert (memorizer_result.verdict.word, page.tone) == ("copies", "alarm")
    assert page.headline == page.verdicts[1].verdict
    assert page.headline.startswith("Copies training examples")
    shown = unescape(memorizer_result._repr_html_())
    for finding in page.verdicts:
        assert finding.title in shown


@pytest.mark.usefixtures("blank_figures")
def test_an_added_question_is_answered_shown_and_stored(data, monkeypatch):
    """One file and one line: nothing else knows the questions."""

    def ask(session):
        finding = Finding(
            name="mean.distance",
            title="How far is the mean of its samples?",
            value=float((session.samples.mean(0) - session.references.mean).norm()),
            unit="",
            verdict="Its samples have the mean of the data.",
            tone="neutral",
            power="Anything.",
        )
        shown = points(session.measures.ratios.tolist(), session.measures.rows("heldout.error").mean(0).tolist())
        return Answer(
            findings=[finding],
            blocks=[
                Chart("Errors of the added question", (Panel("", "noise", "error", (shown,)),), "Lower is better.")
            ],
            method="The added question is asked last.",
            facts={"added": 1},
        )

    monkeypatch.setattr("diffuscope.audit.questions.QUESTIONS", [LOSS, Question("mean", "Is the mean right?", ask)])
    train = data["heldout"][:100]
    result = audit_model(exact_subject(Gaussian.fit([train]), train, data["heldout"][100:200]), SMALL)
    page = result.page()
    assert [section.anchor for section in page.sections] == ["loss", "mean"]
    html = render(page)
    for text in ("Is the mean right?", "Errors of the added question", "The added question is asked last."):
        assert text in html
    stored = json.loads(json.dumps(result.as_json()))
    assert stored["findings"]["mean"][0]["name"] == "mean.distance"
    assert len(stored["charts"]["mean"][0]["panels"][0]["marks"][0]["x"]) == SMALL.levels
    assert stored["added"] == 1
    assert [question.name for question in QUESTIONS][:1] == ["wiring"]  # the list itself is untouched


def test_an_interrupted_audit_resumes_to_the_same_result(data, tmp_path, monkeypatch):
    """Of questions that share stages, each with others of its own; that all are kept is told with the diagnostics."""
    few = [question for question in QUESTIONS if question.name in ("memorized", "learned", "loss", "steps")]
    monkeypatch.setattr("diffuscope.audit.questions.QUESTIONS", few)
    model = Gaussian.fit([data["other"]])
    subject = exact_subject(model, data["heldout"][:300], data["heldout"][300:])
    settings = dataclasses.replace(SMALL, transformations=("none",))  # the search for copies is no stored stage
    whole = audit_model(subject, settings)
    measured = []
    original = measure_level

    def interrupted(subject, references, t, *points):
        measured.append(t)
        if len(measured) == 4:
            raise KeyboardInterrupt
        return original(subject, references, t, *points)

    monkeypatch.setattr("diffuscope.audit.session.measure_level", interrupted)
    with pytest.raises(KeyboardInterrupt):
        audit_model(subject, settings, out=tmp_path)
    # one stage damaged as by a crash of the machine: it is computed again
    (next(tmp_path.glob("state/*")) / "level-00.npz").write_bytes(b"PK\x03\x04 torn")
    resumed = audit_model(subject, settings, out=tmp_path)
    # 3 finished before the interruption, 1 of them damaged: 4th to 8th and the damaged one are computed
    assert len(measured) == 4 + 6
    assert json.dumps(resumed.as_json()) == json.dumps(whole.as_json())  # NaN is itself
    again = audit_model(subject, settings, out=tmp_path)
    assert len(measured) == 10
    assert json.dumps(again.as_json()) == json.dumps(whole.as_json())


def test_stored_stages_are_kept_for_settings_that_change_no_call_of_the_model(data):
    subject = exact_subject(Gaussian.fit([data["other"]]), data["heldout"][:300], data["heldout"][300:])
    key = fingerprint(subject, QUICK, None)
    for same in ({"features": ("pca",)}, {"references": 50}, {"false_discovery": 0.1}, {"significance": 0.05}):
        assert fingerprint(subject, dataclasses.replace(QUICK, **same), None) == key
    for other in ({"levels": 5}, {"components": 3}, {"skip_tolerance": 0.1}, {"generated": 41}, {"seed": 7}):
        assert fingerprint(subject, dataclasses.replace(QUICK, **other), None) != key


def test_other_inputs_never_meet_the_old_results(data, tmp_path, monkeypatch):
    monkeypatch.setattr("diffuscope.audit.questions.QUESTIONS", [LOSS])
    model = Gaussian.fit([data["other"]])
    settings = dataclasses.replace(SMALL, levels=4)
    first = audit_model(exact_subject(model, data["heldout"][:300], data["heldout"][300:]), settings, out=tmp_path)
    second = audit_model(exact_subject(model, data["heldout"][:280], data["heldout"][300:]), settings, out=tmp_path)
    assert len(list(tmp_path.glob("state/*"))) == 2
    assert first.as_json() != second.as_json()


def test_teleport_is_exact_for_a_gaussian_model_and_few_steps_are_measured_against_it(data):
    train = data["heldout"][:300]
    with asked("steps"):
        result = audit_model(exact_subject(Gaussian.fit([train]), train, data["heldout"][300:]), QUICK)
    steps = result["steps"].result
    assert result.levels is not None
    # the model is its own Gaussian: every level may be skipped, and nothing moves but by the fine integration's error
    assert steps.suggested == pytest.approx(float(result.levels.ratios[-1]))
    assert steps.estimated.max() < 1e-5
    assert np.sqrt((steps.measured**2).mean()) < 10 * steps.reference_error + 1e-4
    # errors of order one and two: twice the NFE, at most 0.75 of the error of Euler, less of DPM-Solver++ 2M
    error = np.sqrt((steps.plain**2).mean(0))
    euler, second = steps.samplers.index("Euler"), steps.samplers.index("DPM-Solver++ 2M")
    ten, twenty = steps.budgets.index(10), steps.budgets.index(20)
    assert error[euler, twenty] < 0.75 * error[euler, ten]
    assert error[second, twenty] < 0.5 * error[second, ten]


class Broken:
    """A model that answers wrongly in a way the user must hear about."""

    schedule = VE()

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, x_t, t):
        del t
        return self.answer(x_t)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: x[:, :, :4], "model: expected an output"),
        (lambda x: x * float("nan"), "model: expected finite"),
        (lambda _: None, "model: expected an output that is a tensor like its input, got None"),
        (lambda x: (x, x), "model: expected an output that is a tensor like its input, got tuple"),
        (lambda x: x.numpy(), r"model: expected an output that is a tensor like its input, got numpy\.ndarray"),
        (lambda x: x.double(), r"model: expected an output of its input's dtype torch\.float32, got torch\.float64"),
    ],
)
def test_a_model_with_wrong_outputs_is_refused_in_one_line(data, answer, message):
    subject = Subject(Broken(answer), data["train"], data["heldout"])
    with pytest.raises(InputError, match=message) as raised:
        audit_model(subject, QUICK)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow(), DiscreteVP.linear()], ids=lambda s: type(s).__name__)
def test_trajectories_stop_at_every_level_under_every_schedule(data, schedule):
    """The exact flow of a Gaussian model passes through the states kept, within Heun's error on some thirty steps."""
    train = data["heldout"][:300]
    gaussian = Gaussian.fit([train])
    subject = Subject(ExactDenoiser(gaussian, schedule), train, data["heldout"][300:])
    levels = noise_levels(subject.denoiser, subject.scale, 16)
    arrays = followed_samples(subject, gaussian, levels, 20, 20, torch.Generator().manual_seed(0))
    states = torch.from_numpy(arrays["states"])
    assert len(states) == len(levels)
    for state, t in zip(states, levels.times, strict=True):
        exact = gaussian.flow(states[0], schedule, levels.times[0], t)
        norm = torch.hypot(schedule.alpha(t), schedule.sigma(t))
        assert float(((state - exact) / norm).abs().mean()) < 0.02

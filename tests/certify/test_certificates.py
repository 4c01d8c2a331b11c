"""A certificate as a whole: what passes, what fails, what is said when the target breaks; and likelihoods."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from chart_reading import marks_of
from diffuscope import cli
from diffuscope.certify import (
    Certificate,
    LikelihoodCertificate,
    Target,
    certify_sampler,
    questions,
    sampler_target,
)
from diffuscope.errors import InputError
from diffuscope.files import finite
from diffuscope.findings import Chart, Finding, Line
from diffuscope.report import render
from diffuscope.samplers import DDIM, DDPM, DormandPrince, DPMSolverPP2M, Heun, sample
from diffuscope.schedules import VE, VP

FEWER = (20, 32, 50, 80)


def quick(target: Target) -> Certificate:
    """One schedule and small grids: under the run-time type checks every tensor access of a chosen draw costs."""
    return certify_sampler(replace(target, schedules=(VE(),)), steps=FEWER, samples=2000)


@pytest.mark.parametrize(
    "sampler",
    [pytest.param(s, marks=pytest.mark.slow) for s in (DDIM(), DPMSolverPP2M(), DDPM())],
    ids=lambda sampler: type(sampler).__name__,
)
def test_sound_samplers_are_certified(sampler):
    certificate = quick(sampler_target(sampler))
    assert certificate.passed, [finding.verdict for finding in certificate.failures]
    assert certificate.errors
    json.dumps(finite(certificate.as_json()), allow_nan=False)


def test_a_sampler_runs_on_one_thread_and_those_of_the_caller_come_back():
    threads, before = set(), torch.get_num_threads()

    def counting(denoiser, x, times, generator):  # noqa: ARG001
        threads.add(torch.get_num_threads())
        return sample(Heun(), denoiser, x, times)

    torch.set_num_threads(2)
    try:
        certify_sampler(Target("counting", counting, 2, False, 2), seconds=0.0)
        assert (threads, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)


def test_error_control_has_no_order_in_the_number_of_steps_to_fail():
    target = replace(sampler_target(DormandPrince()), finest=20)
    assert target.order is None
    _, order, *_ = questions(target, FEWER)
    assert order.name == "order.gaussian"
    assert order.answer().tone in ("good", "neutral")


def test_a_wrong_declared_order_fails_by_name():
    honest = sampler_target(DDIM())
    boast = Target("boast", honest.run, 2, False, 1, finest=80)  # no finer grids for a second look
    certificate = quick(boast)
    assert not certificate.passed
    assert "order.gaussian" in {finding.name for finding in certificate.failures}
    assert "not at the declared order 2" in certificate.failures[0].verdict
    page = render(certificate.page())
    assert "FAILS" in page
    assert "boast" in page
    assert certificate.failures[0].title in certificate._repr_html_()


@pytest.mark.slow
def test_a_wrong_variance_fails_the_weak_order_and_the_distribution():
    def run(denoiser, x, times, generator):
        return sample(DDPM(), denoiser, x, times, noise=generator) * 1.2

    names = {finding.name for finding in quick(Target("too wide", run, 1, True, 1)).failures}
    assert {"weak_order.VE", "distribution"} <= names


def test_a_target_that_raises_is_one_line_that_names_its_place():
    def run(denoiser, x, times, generator):  # noqa: ARG001
        raise RuntimeError("no such step <b>bold</b>")

    certificate = quick(Target("broken", run, 1, False, 1))
    (failure,) = certificate.findings
    assert (failure.name, failure.tone) == ("runs", "alarm")
    line = run.__code__.co_firstlineno + 1
    assert failure.verdict == f"tests/certify/test_certificates.py:{line}: RuntimeError: no such step <b>bold</b>"
    assert certificate.errors == {}
    assert "<b>bold</b>" not in render(certificate.page())


def exits(denoiser, x, times, generator):  # noqa: ARG001
    sys.exit(0)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (lambda denoiser, x, times, generator: None, "it returns a NoneType"),  # noqa: ARG005
        (lambda denoiser, x, times, generator: x[:1], "it returns a tensor of shape (1, 2)"),  # noqa: ARG005
        (lambda denoiser, x, times, generator: x.long(), "it returns a tensor of int64"),  # noqa: ARG005
        (lambda denoiser, x, times, generator: x / 2, "It never asks the denoiser."),  # noqa: ARG005
        (lambda denoiser, x, times, generator: x * math.nan + denoiser(x, times[0]), "NaN or infinity"),  # noqa: ARG005
        (exits, "SystemExit: 0"),
    ],
    ids=["None", "shape", "dtype", "no evaluation", "NaN", "exit"],
)
def test_what_cannot_be_measured_fails_once_and_is_written_all_the_same(run, said: str, tmp_path: Path):
    certificate = certify_sampler(Target("odd", run, None, False, None))
    assert certificate.verdict == "fails"
    (failure,) = certificate.findings
    assert said in failure.verdict
    assert "odd" in certificate.save(tmp_path).read_text()


def test_one_schedule_that_fails_is_told_once_and_the_others_are_asked():
    def run(denoiser, x, times, generator):  # noqa: ARG001
        if isinstance(denoiser.schedule, VP):
            raise NotImplementedError("no VP")
        return sample(DDIM(), denoiser, x, times)

    target = Target("two of three", run, 1, False, 1, finest=40)
    certificate = certify_sampler(target, steps=(10, 16, 25, 40))
    (failure,) = certificate.failures
    assert failure.name == "runs"
    assert failure.verdict.startswith("Under VP: ")
    assert {"order.mixture-2.RectifiedFlow", "order.gaussian"} <= {finding.name for finding in certificate.findings}
    assert not [finding.name for finding in certificate.findings if finding.name.endswith(".VP")]


def test_a_target_that_refuses_everything_is_not_certified():
    def run(denoiser, x, times, generator):  # noqa: ARG001
        raise InputError("times: never")

    certificate = quick(Target("refusing", run, 1, False, 1))
    assert not certificate.failures
    assert certificate.verdict == "undecided"
    (verdict,) = certificate.page().verdicts
    assert verdict.tone == "unknown"
    assert "cannot be certified" in verdict.verdict


def test_few_accepted_numbers_of_steps_are_used_as_they_are_and_too_few_are_no_wrong_order():
    honest = sampler_target(DDIM())
    _, order, *_ = questions(replace(honest, finest=40), FEWER)
    found = order.answer()
    assert (found.tone, found.value) == ("good", pytest.approx(1, abs=0.15))
    _, order, *_ = questions(replace(honest, finest=3), FEWER)
    with pytest.raises(InputError, match="steps: expected at least 4"):
        order.answer()


def small_certificate(**changes) -> Certificate:
    """Two problems, two numbers of steps each, and the one finding that a certificate needs to pass."""
    errors = {"gaussian": [(10, 20, 0.04), (40, 80, 0.0025)], "mixture": [(10, 20, 0.08), (40, 80, 0.005)]}
    order = Finding(name="order.gaussian", title="Order <b>", value=2.0, unit="order", verdict="2.00", tone="good")
    return replace(Certificate(Target("mine", sampler_target(DDIM()).run, 2, False, 2), (order,), errors), **changes)


def test_the_figure_of_a_certificate_spans_its_errors_and_its_dotted_line_has_the_declared_slope():
    """Order 2 from 10 to 40 steps: the error falls 16-fold. The axis ends a tenth beyond the first problem's NFE."""
    (chart,) = [block for block in small_certificate().page().sections[1].blocks if isinstance(block, Chart)]
    (panel,) = chart.panels
    gaussian, mixture, slope = marks_of(panel, Line)
    assert len(panel.marks) == 3
    assert (gaussian.label, gaussian.x, gaussian.y) == ("gaussian", (20.0, 80.0), (0.04, 0.0025))
    assert mixture.y == (0.08, 0.005)
    assert (slope.label, slope.style, slope.x) == ("order 2", "dotted", (20.0, 80.0))
    assert slope.y == pytest.approx((0.04, 0.04 / 16), rel=1e-14)
    assert panel.x_range == pytest.approx((18.0, 88.0), rel=1e-14)
    assert (panel.x_log, panel.y_log) == (True, True)


def test_a_saved_certificate_is_a_page_and_every_number_of_its_figure(tmp_path: Path):
    certificate = small_certificate()
    page = certificate.save(tmp_path / "new")
    assert page == tmp_path / "new" / "certificate.html"
    assert "mine passes" in page.read_text()
    assert "Order &lt;b&gt;" in page.read_text()
    saved = json.loads((tmp_path / "new" / "certificate.json").read_text())
    assert saved["errors"] == {name: [list(row) for row in rows] for name, rows in certificate.errors.items()}
    marks = saved["charts"][0]["panels"][0]["marks"]
    assert [mark["label"] for mark in marks] == ["gaussian", "mixture", "order 2"]
    assert marks[0]["y"] == [0.04, 0.0025]
    assert "mine" in certificate._repr_html_()


def test_a_certificate_without_errors_has_no_figure_and_one_without_an_order_no_slope():
    assert not small_certificate(errors={}).page().sections[1].blocks
    undeclared = small_certificate(target=Target("mine", sampler_target(DDIM()).run, None, False, 2))
    (chart,) = [block for block in undeclared.page().sections[1].blocks if isinstance(block, Chart)]
    assert len(chart.panels[0].marks) == 2
    single = small_certificate(errors={"gaussian": [(10, 20, 0.04)]})
    (chart,) = [block for block in single.page().sections[1].blocks if isinstance(block, Chart)]
    assert (len(chart.panels[0].marks), chart.panels[0].x_range) == (1, None)
    assert chart.panels[0].x_range is None


def test_a_likelihood_has_a_certificate_of_its_own(tmp_path: Path):
    good = Finding(name="likelihood.mass", title="Mass <b>", value=1.0, unit="", verdict="It is 1.", tone="good")
    certificate = LikelihoodCertificate("mine", (good,))
    assert certificate.passed
    assert not LikelihoodCertificate("mine", ()).passed
    page = certificate.save(tmp_path)
    assert "Mass &lt;b&gt;" in page.read_text()
    assert json.loads((tmp_path / "certificate.json").read_text())["findings"][0]["verdict"] == "It is 1."
    failing = LikelihoodCertificate("mine", (good, replace(good, tone="alarm", title="Second")))
    assert not failing.passed
    assert "Second" in failing._repr_html_()


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A folder with a user's module: a sound sampler, a faulty one and two likelihoods."""
    (tmp_path / "my_samplers.py").write_text(
        """
from diffuscope.samplers import DDIM, sample

def sound(denoiser, x_start, times, generator):
    return sample(DDIM(), denoiser, x_start, times)
sound.order, sound.stochastic, sound.nfe_per_step = 1, False, 1

def faulty(denoiser, x_start, times, generator):
    return sample(DDIM(), denoiser, x_start, times[:-1])
faulty.order, faulty.stochastic, faulty.nfe_per_step = 2, False, 1

def nothing(denoiser, x_start, times, generator):
    denoiser(x_start, times[0])

def exact(denoiser, x_t, t, generator):
    distribution, schedule = denoiser.distribution, denoiser.schedule
    return distribution.log_prob(x_t, schedule.alpha(t), schedule.sigma(t))

def wrong_prior(denoiser, x_t, t, generator):
    return exact(denoiser, x_t, t, generator) - x_t.shape[1] * 4.0
"""
    )
    return tmp_path


def code_of(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of the same command in this process, whose start would take longer than most certificates."""
    monkeypatch.chdir(folder)
    try:
        cli.main(["certify", *arguments, "--out", "out"])
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.modules.pop("my_samplers", None)  # each test has its own
    return 0


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a person runs it, in `folder`, where my_samplers.py is."""
    run = [sys.executable, "-m", "diffuscope", "certify", *arguments, "--out", "out"]
    return subprocess.run(run, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow  # by default: the workflow of the page "Certify in your CI"
def test_the_command_certifies_a_users_sampler(module: Path):
    ran = command(module, "my_samplers:sound")
    assert ran.returncode == 0, ran.stderr
    assert "as declared (1)" in ran.stdout
    assert json.loads((module / "out" / "certificate.json").read_text())["passed"] is True
    assert "passes" in (module / "out" / "certificate.html").read_text()


@pytest.mark.slow
def test_the_command_names_the_orders_that_fail(module: Path):
    ran = command(module, "my_samplers:faulty")
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("my_samplers:faulty fails: order.gaussian")


def test_the_command_exits_with_one_and_names_what_fails(module: Path):
    ran = command(module, "my_samplers:nothing")
    assert ran.returncode == 1
    assert "FAIL A plain run: it returns a NoneType" in ran.stdout
    assert ran.stderr.splitlines()[-1] == "my_samplers:nothing fails: runs"
    assert json.loads((module / "out" / "certificate.json").read_text())["passed"] is False


def test_what_a_spent_budget_leaves_unasked_is_undecided():
    certificate = certify_sampler(sampler_target(DDIM()), seconds=0.0)
    assert certificate.verdict == "undecided"
    runs, *others = certificate.findings
    assert runs.tone == "good"
    assert {each.verdict for each in others} == {
        "Not asked: the 0 s of CPU time are over; --budget, in Python seconds=, gives more."
    }


def test_the_command_certifies_likelihoods(
    module: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert code_of(module, monkeypatch, "my_samplers:exact", "--likelihood") == 0
    assert "my_samplers:exact passes" in (module / "out" / "certificate.html").read_text()
    capsys.readouterr()
    assert code_of(module, monkeypatch, "my_samplers:wrong_prior", "--likelihood") == 1
    assert "-4 per dimension" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nothing", "no_such_module:thing", "azula", ":", "json:no_such_name"])
def test_a_target_that_does_not_exist_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["diffuscope", "certify", name, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("diffuscope: TARGET:")
    assert "\n" not in error

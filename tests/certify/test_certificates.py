"""A certificate as a whole: what passes, what fails, what is said when the target breaks; and likelihoods."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diffuscope import cli
from diffuscope.certify import (
    Certificate,
    Target,
    certificate_page,
    certify,
    certify_likelihood,
    questions,
    sampler_target,
)
from diffuscope.errors import InputError
from diffuscope.files import finite
from diffuscope.report import render
from diffuscope.samplers import DDIM, DDPM, DormandPrince, DPMSolverPP2M, sample
from diffuscope.schedules import VE

FEWER = (20, 32, 50, 80)


def quick(target: Target) -> Certificate:
    """One schedule and small grids: under the run-time type checks every tensor access of a chosen draw costs."""
    return certify(replace(target, schedules=(VE(),)), steps=FEWER, samples=2000)


@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP2M(), DDPM()], ids=lambda sampler: type(sampler).__name__)
def test_sound_samplers_are_certified(sampler):
    certificate = quick(sampler_target(sampler))
    assert certificate.passed, [finding.verdict for finding in certificate.failures]
    assert certificate.errors
    json.dumps(finite(certificate.as_json()), allow_nan=False)


def test_error_control_is_not_accused_of_an_order_in_the_number_of_steps():
    target = sampler_target(DormandPrince())
    assert target.order is None
    order = next(questions(target, FEWER))
    assert order.name == "order.gaussian"
    assert order.answer().tone in ("good", "neutral")


def test_a_claimed_order_that_is_not_there_fails_by_name():
    honest = sampler_target(DDIM())
    boast = Target("boast", honest.run, 2, False, 1, finest=80)  # no finer grids for a second look
    certificate = quick(boast)
    assert not certificate.passed
    assert "order.gaussian" in {finding.name for finding in certificate.failures}
    assert "not at the declared order 2" in certificate.failures[0].verdict
    page = render(certificate_page(certificate))
    assert "FAILS" in page
    assert "boast" in page


def test_a_wrong_variance_fails_the_weak_order_and_the_law():
    def run(denoiser, x, times, generator):
        return sample(DDPM(), denoiser, x, times, noise=generator) * 1.2

    names = {finding.name for finding in quick(Target("too wide", run, 1, True, 1)).failures}
    assert {"weak_order.VE", "law"} <= names


def test_a_target_that_raises_fails_every_question_it_breaks_and_the_run_goes_on():
    def run(denoiser, x, times, generator):  # noqa: ARG001
        raise RuntimeError("no such step <b>bold</b>")

    certificate = quick(Target("broken", run, 1, False, 1))
    assert not certificate.passed
    assert all("Raised RuntimeError in run, line" in finding.verdict for finding in certificate.failures)
    assert certificate.errors == {}
    assert "<b>bold</b>" not in render(certificate_page(certificate))


def test_a_target_that_refuses_everything_is_not_certified():
    def run(denoiser, x, times, generator):  # noqa: ARG001
        raise InputError("times: never")

    certificate = quick(Target("refusing", run, 1, False, 1))
    assert not certificate.failures
    assert not certificate.passed


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A folder with a user's module: a sound sampler, a faulty one and two likelihoods."""
    (tmp_path / "my_samplers.py").write_text(
        """
import torch
from diffuscope.samplers import DDIM, sample

def sound(denoiser, x_start, times, generator):
    return sample(DDIM(), denoiser, x_start, times)
sound.order, sound.stochastic, sound.nfe_per_step = 1, False, 1

def faulty(denoiser, x_start, times, generator):
    return sample(DDIM(), denoiser, x_start, times[:-1])
faulty.order, faulty.stochastic, faulty.nfe_per_step = 2, False, 1

def exact(denoiser, x_t, t, generator):
    law, schedule = denoiser.distribution, denoiser.schedule
    return law.log_prob(x_t, schedule.alpha(t), schedule.sigma(t))

def wrong_prior(denoiser, x_t, t, generator):
    return exact(denoiser, x_t, t, generator) - x_t.shape[1] * 4.0
"""
    )
    return tmp_path


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a person runs it, in `folder`, where my_samplers.py is."""
    run = [sys.executable, "-m", "diffuscope", "certify", *arguments, "--out", "out"]
    return subprocess.run(run, cwd=folder, capture_output=True, text=True, check=False)


def test_the_command_certifies_a_users_sampler(module: Path):
    ran = command(module, "my_samplers:sound")
    assert ran.returncode == 0, ran.stderr
    assert "as declared (1)" in ran.stdout
    assert json.loads((module / "out" / "certificate.json").read_text())["passed"] is True
    assert "passes" in (module / "out" / "certificate.html").read_text()


def test_the_command_exits_with_one_and_names_what_fails(module: Path):
    ran = command(module, "my_samplers:faulty")
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("my_samplers:faulty fails: order.gaussian")
    assert json.loads((module / "out" / "certificate.json").read_text())["passed"] is False


def test_the_command_certifies_likelihoods(module: Path):
    assert command(module, "my_samplers:exact", "--likelihood").returncode == 0
    wrong = command(module, "my_samplers:wrong_prior", "--likelihood")
    assert wrong.returncode == 1
    assert "-4 per dimension" in wrong.stdout


@pytest.mark.parametrize("name", ["nothing", "no_such_module:thing", "azula", ":", "json:no_such_name"])
def test_a_target_that_does_not_exist_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["diffuscope", "certify", name, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("diffuscope: target:")
    assert "\n" not in error


def test_a_random_likelihood_is_judged_by_its_own_standard_error():
    def estimate(denoiser, x_t, t, generator):
        schedule = denoiser.schedule
        exact = denoiser.distribution.log_prob(x_t, schedule.alpha(t), schedule.sigma(t))
        return exact + 0.05 * torch.randn(len(x_t), dtype=torch.float64, generator=generator)

    assert all(finding.tone == "good" for finding in certify_likelihood(estimate))

    def biased(denoiser, x_t, t, generator):
        return estimate(denoiser, x_t, t, generator) + 0.5

    assert all(finding.tone == "alarm" for finding in certify_likelihood(biased))


def test_a_likelihood_of_the_wrong_shape_is_told():
    findings = certify_likelihood(lambda denoiser, x_t, t, generator: torch.zeros(len(x_t), 1))  # noqa: ARG005
    assert "Expected one value per sample" in findings[0].verdict

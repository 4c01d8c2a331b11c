"""A certificate as a whole: what passes, what fails, what is said when the target breaks; and likelihoods."""

import json
import sys
from pathlib import Path

import pytest
import torch

from diffuscope import cli
from diffuscope.certify import Certificate, Target, certify, certify_likelihood, own_target
from diffuscope.cli.commands import finite
from diffuscope.errors import InputError
from diffuscope.report import certificate_page, render
from diffuscope.samplers import DDIM, DDPM, DPMSolverPP2M, sample

FEWER = (20, 32, 50, 80, 125)


def quick(target: Target) -> Certificate:
    return certify(target, steps=FEWER, samples=4000)


@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP2M(), DDPM()], ids=lambda sampler: type(sampler).__name__)
def test_sound_samplers_are_certified(sampler):
    certificate = quick(own_target(sampler))
    assert certificate.passed, [finding.verdict for finding in certificate.failures]
    assert certificate.errors
    json.dumps(finite(certificate.as_json()), allow_nan=False)


def test_a_claimed_order_that_is_not_there_fails_by_name():
    honest = own_target(DDIM())
    boast = Target("boast", honest.run, 2, False, 1)
    certificate = quick(boast)
    assert not certificate.passed
    assert "order.gaussian" in {finding.name for finding in certificate.failures}
    assert "not at the declared order 2" in certificate.failures[0].verdict
    page = render(certificate_page(certificate))
    assert "FAILS" in page
    assert "boast" in page


def test_a_wrong_variance_fails_the_weak_order_and_the_law():
    def run(denoiser, x, times, generator):
        return sample(DDPM(), denoiser, x, times, noise=generator) * 1.05

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
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's module with a sound sampler, a faulty one and two likelihoods."""
    (tmp_path / "my_samplers.py").write_text(
        """
import torch
from diffuscope.samplers import DDIM, sample

def sound(denoiser, x_start, times, generator):
    return sample(DDIM(), denoiser, x_start, times)
sound.order, sound.stochastic, sound.nfe_per_step = 1, False, 1

def faulty(denoiser, x_start, times, generator):
    return sample(DDIM(), denoiser, x_start, times[:-1])
faulty.order, faulty.stochastic, faulty.nfe_per_step = 1, False, 1

def exact(denoiser, x_t, t, generator):
    law, schedule = denoiser.distribution, denoiser.schedule
    return law.log_prob(x_t, schedule.alpha(t), schedule.sigma(t))

def wrong_prior(denoiser, x_t, t, generator):
    return exact(denoiser, x_t, t, generator) - x_t.shape[1] * 4.0
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "my_samplers"


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["diffuscope", "certify", *arguments])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_command_certifies_a_users_sampler(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert command(monkeypatch, f"{module}:sound", "--out", str(tmp_path / "out")) == 0
    assert "as declared (1)" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "certificate.json").read_text())["passed"] is True
    assert "passes" in (tmp_path / "out" / "certificate.html").read_text()


def test_the_command_exits_with_one_and_names_what_fails(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert command(monkeypatch, f"{module}:faulty", "--out", str(tmp_path / "out")) == 1
    assert "fails: order.gaussian" not in capsys.readouterr().out  # on stderr, for people and scripts
    assert json.loads((tmp_path / "out" / "certificate.json").read_text())["passed"] is False


def test_the_command_certifies_likelihoods(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out = str(tmp_path / "out")
    assert command(monkeypatch, f"{module}:exact", "--likelihood", "--out", out) == 0
    assert command(monkeypatch, f"{module}:wrong_prior", "--likelihood", "--out", out) == 1
    assert "-4 per dimension" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nothing", "no_such_module:thing", "azula", ":", "json:no_such_name"])
def test_a_target_that_does_not_exist_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert command(monkeypatch, name, "--out", str(tmp_path / "out")) == 2
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

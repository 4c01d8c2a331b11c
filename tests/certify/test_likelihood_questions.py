"""What a likelihood is asked beside its error: that it runs, repeats itself, keeps float32, and refuses in words."""

import json
import random
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from likelihood_targets import OdeLikelihood, exact, normal, vp_only

from diffuscope.certify import LikelihoodCertificate, certify_likelihood
from diffuscope.certify.likelihood_finding import ComparedFinding
from diffuscope.errors import InputError
from diffuscope.schedules import VE, VP, DiscreteVP


def findings(target, **options):
    return {finding.name: finding for finding in certify_likelihood(target, **options)}


def raises(denoiser, x_t, t, generator):  # noqa: ARG001
    raise RuntimeError("first line\nsecond line")


def exits(denoiser, x_t, t, generator):  # noqa: ARG001
    sys.exit(0)


def inside_torch(denoiser, x_t, t, generator):  # noqa: ARG001
    return torch.zeros(3) + torch.zeros(4)


class Callable:
    def __call__(self, denoiser, x_t, t, generator):  # noqa: ARG002
        raise KeyError("b")


@pytest.mark.parametrize(
    ("target", "begins"),
    [
        (raises, r"test_likelihood_questions\.py:\d+: RuntimeError"),
        (exits, r"test_likelihood_questions\.py:\d+: SystemExit"),
        (inside_torch, r"test_likelihood_questions\.py:\d+: RuntimeError"),
        (partial(raises), r"test_likelihood_questions\.py:\d+: RuntimeError"),
        (Callable(), r"test_likelihood_questions\.py:\d+: KeyError"),
        (lambda *given: None, "Expected a tensor with one log-density per sample, got None from test_likelihood"),  # noqa: ARG005
        (lambda *given: exact(*given).numpy(), "Expected a tensor with one log-density per sample, got ndarray"),
        (lambda *given: exact(*given)[:, None], r"Expected one value per sample, got shape \(8, 1\) for 8 samples"),
        (lambda *given: exact(*given).long(), "Expected floating-point values, got torch.int64"),
        (lambda denoiser: denoiser, "TypeError"),
    ],
)
def test_a_target_that_cannot_be_called_is_one_line_about_its_own_code(target, begins: str):
    (only,) = certify_likelihood(target)
    assert (only.name, only.tone) == ("likelihood.runs", "alarm")
    assert re.search(begins, only.verdict)
    assert "\n" not in only.verdict
    assert LikelihoodCertificate("mine", (only,)).verdict == "fails"


def test_an_interrupt_is_passed_on():
    def interrupted(denoiser, x_t, t, generator):  # noqa: ARG001
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        certify_likelihood(interrupted)


def test_an_exception_in_one_schedule_is_a_finding_about_that_schedule():
    found = findings(vp_only)
    assert found["likelihood.VP"].tone == "good"
    assert found["likelihood.VE"].verdict.startswith("tests/certify/likelihood_targets.py:")


def test_a_schedule_or_a_level_that_is_refused_in_words_is_not_measured():
    def refusing(denoiser, x_t, t, generator):
        schedule = denoiser.schedule
        if isinstance(schedule, VP) or float(schedule.noise_to_signal(t)) > 5:
            raise InputError("this likelihood is for VE, below 5")
        return exact(denoiser, x_t, t, generator)

    found = findings(refusing, schedules=[VP(), VE()])
    assert found["likelihood.gaussian"].tone == "good"  # in the first schedule that it takes
    assert found["likelihood.VP"].tone == found["likelihood.VE"].tone == "attention"
    assert found["likelihood.VP"].verdict.startswith("Not measured: this likelihood")
    assert "1 of 5 levels are not measured" in found["likelihood.VE"].verdict
    (only,) = certify_likelihood(refusing, schedules=[VP()])
    assert only.tone == "unknown"
    assert LikelihoodCertificate("mine", (only,)).verdict == "undecided"


def test_levels_outside_a_schedule_are_moved_to_its_ends():
    found = findings(exact, schedules=[VE(0.05, 4.0)])["likelihood.VE"]
    assert isinstance(found, ComparedFinding)
    levels = [measured.ratio for measured in found.errors]
    assert min(levels) == pytest.approx(0.05)
    assert max(levels) == pytest.approx(4.0)
    assert len(findings(exact, schedules=[DiscreteVP.linear(), VP(), VP(2.0, 2.0)])) == 14
    assert "likelihood.VP-2" in findings(exact, schedules=[VP(), VP(2.0, 2.0)])


@pytest.mark.parametrize("options", [{"schedules": ()}, {"tolerance": 0.0}, {"budget": 0.0}])
def test_senseless_options_are_refused(options):
    with pytest.raises(InputError):
        certify_likelihood(exact, **options)


def test_every_global_generator_is_watched():
    def drawing(draw):
        def target(denoiser, x_t, t, generator):
            draw()
            return exact(denoiser, x_t, t, generator) + 0.01 * normal(x_t[:, 0], generator)

        return target

    def using_python(denoiser, x_t, t, generator):
        return exact(denoiser, x_t, t, generator) + random.random()

    targets = {"torch": drawing(lambda: torch.rand(1)), "NumPy": drawing(np.random.rand), "random": using_python}
    for name, target in targets.items():
        found = findings(target, schedules=[VE()])["likelihood.deterministic"]
        assert found.tone == "alarm"
        assert f"generator of {name} is drawn from" in found.verdict

    def unused(denoiser, x_t, t, generator):
        torch.rand(1)
        return exact(denoiser, x_t, t, generator)

    assert findings(unused, schedules=[VE()])["likelihood.deterministic"].tone == "attention"
    # which a run-time type checker of the target's arguments does
    assert findings(drawing(random.random), schedules=[VE()])["likelihood.deterministic"].tone == "good"


def test_a_likelihood_in_float32_passes_with_a_note():
    def single(denoiser, x_t, t, generator):
        return exact(denoiser, x_t.float(), t, generator)

    found = certify_likelihood(single)
    assert {finding.tone for finding in found} == {"good", "attention"}
    assert LikelihoodCertificate("mine", found).passed
    (note,) = [finding for finding in found if finding.tone == "attention"]
    assert note.name == "likelihood.dtype"
    half = findings(lambda *given: exact(*given).half(), schedules=[VE()])
    assert half["likelihood.dtype"].tone == "alarm"


def test_the_certificate_shows_every_level_and_is_json(tmp_path: Path):
    found = certify_likelihood(lambda *given: exact(*given) + 0.02)
    certificate = LikelihoodCertificate("mine", found)
    page = certificate.save(tmp_path).read_text()
    assert "Error by density, schedule and level" in page
    assert page.count("RectifiedFlow") >= 5
    written = json.loads((tmp_path / "certificate.json").read_text())
    assert (written["verdict"], written["passed"]) == ("fails", False)
    (flow,) = [finding for finding in written["findings"] if finding["name"] == "likelihood.RectifiedFlow"]
    assert [row["error"] for row in flow["errors"]] == pytest.approx(5 * [0.02])
    assert "5 of 5 levels fail" in flow["verdict"]


def test_advance_is_called_with_every_title():
    titles = []
    found = certify_likelihood(exact, schedules=[VE()], advance=titles.append)
    assert titles == [finding.title for finding in found]


@pytest.mark.slow
def test_an_ode_likelihood_with_an_error_of_a_thousandth_passes():
    found = certify_likelihood(OdeLikelihood())
    assert {finding.tone for finding in found} == {"good"}
    assert max(abs(finding.value) for finding in found if "Log-density" in finding.title) > 1e-4

"""What a maintainer puts into a test suite and CI: assertions, JUnit's XML, known failures, exit codes."""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from diffuscope import cli
from diffuscope.certify import (
    Certificate,
    Target,
    certify_sampler,
    check_likelihood,
    check_sampler,
    sampler_target,
    target_of,
    write_junit,
)
from diffuscope.certify.known import with_known
from diffuscope.certify.maintainers import require
from diffuscope.certify.target import called
from diffuscope.cli.certify import Certify
from diffuscope.errors import InputError
from diffuscope.files import load_object
from diffuscope.findings import Finding
from diffuscope.report import Table
from diffuscope.samplers import DDIM
from diffuscope.schedules import VE


def finding(name: str, tone) -> Finding:
    return Finding(
        name=name, title=f"On {name}", value=1.0, unit="order", verdict=f"Measured \x07 <{name}>.", tone=tone
    )


def certificate(*tones: str) -> Certificate:
    found = tuple(finding(f"order.{i}", tone) for i, tone in enumerate(tones))
    return Certificate(sampler_target(DDIM(), "mine"), found, {})


@pytest.mark.parametrize(
    ("tones", "verdict"),
    [
        (("good", "attention", "neutral"), "passes"),
        (("good", "unknown"), "undecided"),
        (("good", "unknown", "alarm"), "fails"),
        (("attention",), "undecided"),  # nothing was measured
        ((), "undecided"),
    ],
)
def test_a_certificate_has_three_verdicts(tones, verdict: str):
    found = certificate(*tones)
    assert found.verdict == verdict
    assert found.as_json()["verdict"] == verdict
    assert found.passed == (verdict == "passes")
    (card,) = found.page().verdicts
    assert card.tone == {"passes": "good", "fails": "alarm", "undecided": "unknown"}[verdict]


def test_a_pass_names_what_is_neither_met_nor_failed_and_why():
    found = certificate("good", "attention", "neutral", "good")
    (card,) = found.page().verdicts
    assert card.verdict == (
        "mine: 2 of 4 requirements are met, none failed. "
        "Neither met nor failed: On order.1 (note), On order.2 (informational)."
    )
    section = found.page().sections[0]
    assert section.answer.startswith("2 of 4 requirements are met, 0 failed. 2 neither are met nor failed: ")
    others, every = section.blocks
    assert isinstance(others, Table)
    assert isinstance(every, Table)
    assert [list(row) for row in others.rows] == [
        ["On order.1", "note", "Measured \x07 <order.1>."],
        ["On order.2", "informational", "Measured \x07 <order.2>."],
    ]
    assert len(every.rows) == 4
    (card,) = certificate("good", "good").page().verdicts
    assert card.verdict == "mine: 2 of 2 requirements are met, none failed."
    assert len(certificate("good", "good").page().sections[0].blocks) == 1


def test_the_command_ends_with_the_verdict_of_a_pass(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for tones, said in (
        (("good", "good"), "mine passes: 2 of 2 requirements are met, none failed"),
        (
            ("good", "attention", "neutral"),
            "mine passes: 1 of 3 requirements are met, none failed; neither met nor failed: order.1, order.2",
        ),
    ):
        Certify("mine")._report(certificate(*tones))
        assert capsys.readouterr().out.splitlines()[-1] == said
    with pytest.raises(SystemExit):
        Certify("mine")._report(certificate("good", "alarm"))
    printed = capsys.readouterr()
    assert "passes" not in printed.out
    assert printed.err.strip() == "mine fails: order.1"


def test_an_assertion_names_what_fails_or_is_undecided():
    require(certificate("good"), "mine")
    with pytest.raises(AssertionError, match=r"(?s)^mine fails\norder\.1: Measured .* <order\.1>\.$"):
        require(certificate("good", "alarm", "unknown"), "mine")
    with pytest.raises(AssertionError, match=r"mine is undecided\norder\.1"):
        require(certificate("good", "unknown"), "mine")
    with pytest.raises(AssertionError, match="too little of it could be measured"):
        require(certificate(), "mine")


def test_a_likelihood_that_is_wrong_raises():
    with pytest.raises(AssertionError, match="likelihood"):
        check_likelihood(lambda denoiser, x_t, t, generator: x_t[:, 0] * 0)  # noqa: ARG005


def test_junit_counts_failures_and_undecided_ones_apart(tmp_path: Path):
    path = write_junit(certificate("good", "alarm", "unknown", "attention"), "mine", tmp_path / "new" / "out.xml")
    suite = ET.parse(path).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "1", "1")
    cases = {case.get("name"): [child.tag for child in case] for case in suite}
    assert cases == {
        "order.0": ["system-out"], "order.1": ["failure"], "order.2": ["error"], "order.3": ["system-out"],
    }  # fmt: skip
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "Measured ? <order.1>."  # the bell is no character of XML
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"junit: .* cannot be written"):
        write_junit(certificate("good"), "mine", tmp_path / "file" / "out.xml")


def test_a_known_failure_does_not_count_and_one_that_passes_says_so():
    found = with_known([finding("order.a", "alarm"), finding("order.b", "good"), finding("order.c", "unknown")], [])
    assert [each.tone for each in found] == ["alarm", "good", "unknown"]
    found = with_known(found, ["order.a", "order.b", "order.c"])
    assert [each.tone for each in found] == ["attention", "attention", "attention"]
    assert found[0].verdict.startswith("Known to fail: Measured")
    assert "it passes now" in found[1].verdict
    with pytest.raises(InputError, match=r"known: no question is called 'order\.d'; expected runs, order"):
        certify_sampler(DDIM(), known=["order.d"])


def test_a_certificate_whose_orders_are_all_known_to_fail_passes():
    found = with_known([finding("order.a", "alarm"), finding("batch", "good")], ["order.a"])
    assert Certificate(sampler_target(DDIM()), found, {}, ("order.a",)).verdict == "passes"
    assert Certificate(sampler_target(DDIM()), found, {}).verdict == "undecided"  # nothing of it was measured


def my_sampler(denoiser, x_start, times, generator):  # noqa: ARG001
    return denoiser(x_start, times[0])


def test_any_callable_is_a_target_and_its_attributes_are_what_it_declares():
    assert target_of(my_sampler).name == "my_sampler (stochastic undeclared, taken as deterministic)"
    declared = {
        "order": 2, "stochastic": False, "nfe_per_step": 3, "schedules": (VE(),), "coarsest": 2, "finest": 50,
        "floor": 1e-6, "event": "image", "reaches_zero": False, "starts_at_zero_snr": True,
    }  # fmt: skip

    class Mine:
        def __call__(self, denoiser, x_start, times, generator):
            return my_sampler(denoiser, x_start, times, generator)

    for attribute, value in declared.items():
        setattr(Mine, attribute, value)
    found = target_of(Mine)
    assert isinstance(found, Target)
    assert {attribute: getattr(found, attribute) for attribute in declared} == declared
    assert found.name == "Mine"
    assert target_of(DDIM()).order == 1
    assert target_of(found) is found


def made(name: str | None):
    def heun(denoiser, x_start, times, generator):  # noqa: ARG001
        return None

    if name:
        heun.__name__ = name
    heun.__dict__["stochastic"] = False
    return heun


class Family:
    def method(self, denoiser, x_start, times, generator):  # noqa: ARG002
        return x_start


def test_a_sampler_is_called_what_its_name_is():
    """Not after the function that made it; a method after its class."""
    assert [target_of(made(name)).name for name in (None, "heun_of_order_3")] == ["heun", "heun_of_order_3"]
    assert called(Family.method) == "Family.method"
    assert called(Family) == called(Family()) == "Family"
    for name in (None, "heun_of_order_3"):
        with pytest.raises(AssertionError, match=rf"^{name or 'heun'} fails\nruns: it returns a NoneType"):
            check_sampler(made(name))


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("order", 0), ("order", True), ("stochastic", None), ("schedules", [VE()]), ("floor", 0), ("event", "audio")],
)
def test_a_declaration_of_another_kind_is_one_line(attribute: str, value: object):
    def mine(denoiser, x_start, times, generator):  # noqa: ARG001
        return x_start

    setattr(mine, attribute, value)
    with pytest.raises(InputError, match=rf"target: .*mine\.{attribute}: expected .*, got "):
        target_of(mine)


def test_what_is_no_sampler_is_one_line():
    with pytest.raises(InputError, match=r"target: int is a int; expected callable\(denoiser"):
        target_of(3)


def test_a_module_that_exits_while_it_is_imported_does_not_end_the_command_well(tmp_path, monkeypatch):
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="importing 'leaves' failed with SystemExit: 0"):
        load_object("leaves:sampler", "target")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--likelihood", "--guidance"], "--likelihood: expected one kind of target, got --likelihood and --guidance"),
        (["--budget", "0"], "--budget: expected at least 1 second, got 0"),
        (["--flow-map", "--known", "order.gaussian"], "--known: belongs to samplers, got it with --flow-map"),
        (["--guidance", "--budget", "9"], "--budget: belongs to samplers and likelihoods, got it with --guidance"),
        (["--guidance"], "TARGET: expected callable(conditional, unconditional, scale), got a str"),
    ],
)
def test_options_held_wrong_are_one_line(options, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "held_wrong.py").write_text("sampler = 'a word'\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(["certify", "held_wrong:sampler", "--out", str(tmp_path / "out"), *options])
    assert stop.value.code == 2
    assert capsys.readouterr().err.strip() == f"diffuscope: {said}"


def test_a_junit_file_that_cannot_be_written_is_one_line_before_any_question(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for path, reason in (("x" * 300, "cannot write"), (".", "expected a file")):
        with pytest.raises(SystemExit) as stop:
            cli.main(["certify", "diffuscope:Heun", "--junit", path])
        assert stop.value.code == 2
        printed = capsys.readouterr()
        (line,) = printed.err.splitlines()
        assert line.startswith(f"diffuscope: --junit: {reason}")
        assert not printed.out


def test_guidance_and_maps_are_certified_from_the_command_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_guides.py").write_text(
        "from diffuscope.denoisers import Guided\n"
        "def other(conditional, free, scale):\n"
        "    return lambda x, t: conditional(x, t)\n"
        "def nothing(denoiser, x_t, t, s):\n"
        "    return x_t\n"
    )
    monkeypatch.chdir(tmp_path)
    cli.main(["certify", "my_guides:Guided", "--guidance", "--out", "good", "--junit", "junit.xml"])
    assert ET.parse(tmp_path / "junit.xml").getroot().get("failures") == "0"
    for name, kind in (("other", "--guidance"), ("nothing", "--flow-map")):
        with pytest.raises(SystemExit) as stop:
            cli.main(["certify", f"my_guides:{name}", kind, "--out", "bad"])
        assert stop.value.code == 1
        assert "fails" in (tmp_path / "bad" / "certificate.html").read_text()
    assert sys.modules.pop("my_guides")
    assert "JUnit: junit.xml" in capsys.readouterr().out


def test_what_returns_nothing_fails_by_its_name():
    def forgets(denoiser, x, t, generator) -> Any:  # noqa: ARG001
        return None

    with pytest.raises(AssertionError, match=r"^forgets .* fails\nruns: it returns a NoneType"):
        check_sampler(forgets)
    with pytest.raises(AssertionError, match=r"^forgets fails\nlikelihood\.runs: "):
        check_likelihood(forgets)

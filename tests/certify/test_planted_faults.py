"""The certifier certified: it finds the faults that are planted in our samplers, and none where none is planted."""

import json
import subprocess
import sys
from pathlib import Path

import planted_faults
import pytest

LEAST_FOUND = 0.95
FAMILIES = {
    "adams_bashforth",
    "bridge",
    "churn",
    "contract",
    "ddim",
    "ddim_eta",
    "ddpm",
    "dpm_solver",
    "dpm_solver_sde",
    "noise",
    "ode",
    "schedule_values",
    "sde",
    "unipc",
}


SOME, ALL = {"planted_faults": 52, "undeclared_faults": 24}, {"planted_faults": 1, "undeclared_faults": 1}


@pytest.fixture(
    scope="module", params=[SOME, pytest.param(ALL, marks=pytest.mark.slow)], ids=["every fifty-second", "all"]
)
def every(request: pytest.FixtureRequest) -> dict[str, int]:
    """Of how many samplers and faults of each script one is certified: every twenty-fourth of the undeclared ones."""
    return request.param


@pytest.fixture(scope="module")
def printed(every: dict[str, int]) -> dict[str, list[dict]]:
    """What the certifier says of samplers, sound and faulty: the lines that each script of this folder prints.

    A process of its own, one for both: the run-time type checks of the test run would triple the time, and what is
    planted is not checked by them in any case.
    """
    program = "\nprint()\n".join(f"import {script}; {script}.main({k})" for script, k in every.items())
    here = Path(__file__).parent
    ran = subprocess.run([sys.executable, "-c", program], cwd=here, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    parts = ran.stdout.split("\n\n")
    return {script: [json.loads(line) for line in part.splitlines()] for script, part in zip(every, parts, strict=True)}


def test_every_fault_has_its_one_place_in_the_source():
    """All of them are planted at night alone: a change of the source must not wait for it."""
    for fault in planted_faults.FAULTS:
        compile(fault.source(), str(fault), "exec")


@pytest.fixture
def lines(printed: dict[str, list[dict]]) -> list[dict]:
    return printed["planted_faults"]


def test_a_sampler_without_a_fault_passes(lines: list[dict]):
    accused = {line["name"]: line["alarm"] for line in lines if not line["planted_in"] and line["alarm"]}
    assert not accused


def test_nineteen_of_twenty_planted_faults_are_found(lines: list[dict], every: dict[str, int]):
    faulty = [line for line in lines if line["planted_in"]]
    missed = [line["name"] for line in faulty if not line["alarm"]]
    print(f"{len(faulty) - len(missed)} of {len(faulty)} planted faults found; missed:", *missed, sep="\n  ")
    assert len(faulty) >= 100 / every["planted_faults"]
    if every == ALL:
        assert {line["planted_in"] for line in faulty} >= FAMILIES
    assert len(missed) <= (1 - LEAST_FOUND) * len(faulty), missed


def test_hardly_any_is_found_by_an_exception_alone(lines: list[dict]):
    assert sum("Raised" in (line["alarm"] or "") for line in lines) <= 3


def test_nineteen_of_twenty_faults_are_found_without_a_declared_order(
    printed: dict[str, list[dict]], every: dict[str, int]
):
    faulty = printed["undeclared_faults"]
    missed = [line["name"] for line in faulty if not line["alarm"]]
    print(f"{len(faulty) - len(missed)} of {len(faulty)} undeclared faults found; missed:", *missed, sep="\n  ")
    assert len(faulty) >= 48 / every["undeclared_faults"]
    assert len(missed) <= (1 - LEAST_FOUND) * len(faulty), missed

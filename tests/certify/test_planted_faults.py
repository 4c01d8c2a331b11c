"""The certifier certified: it finds the faults that are planted in our samplers, and none where none is planted."""

import json
import subprocess
import sys
from pathlib import Path

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


@pytest.fixture(scope="module", params=[26, pytest.param(1, marks=pytest.mark.slow)], ids=["every twenty-sixth", "all"])
def every(request: pytest.FixtureRequest) -> int:
    """Of how many samplers and faults one is certified."""
    return request.param


@pytest.fixture(scope="module")
def lines(every: int) -> list[dict]:
    """What the certifier says of samplers, sound and faulty.

    A process of its own: the run-time type checks of the test run would triple the time, and what is planted is not
    checked by them in any case.
    """
    return printed("planted_faults.py", every)


def printed(script: str, every: int) -> list[dict]:
    """The lines that a script of this folder prints."""
    path = Path(__file__).with_name(script)
    ran = subprocess.run([sys.executable, path, str(every)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_a_sampler_without_a_fault_passes(lines: list[dict]):
    accused = {line["name"]: line["alarm"] for line in lines if not line["planted_in"] and line["alarm"]}
    assert not accused


def test_nineteen_of_twenty_planted_faults_are_found(lines: list[dict], every: int):
    faulty = [line for line in lines if line["planted_in"]]
    missed = [line["name"] for line in faulty if not line["alarm"]]
    print(f"{len(faulty) - len(missed)} of {len(faulty)} planted faults found; missed:", *missed, sep="\n  ")
    assert len(faulty) >= 100 / every
    if every == 1:
        assert {line["planted_in"] for line in faulty} >= FAMILIES
    assert len(missed) <= (1 - LEAST_FOUND) * len(faulty), missed


def test_hardly_any_is_found_by_an_exception_alone(lines: list[dict]):
    assert sum("Raised" in (line["alarm"] or "") for line in lines) <= 3


@pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.slow)], ids=["every seventeenth", "all"])
def test_nineteen_of_twenty_faults_are_found_without_a_declared_order(every: int):
    faulty = printed("undeclared_faults.py", every)
    missed = [line["name"] for line in faulty if not line["alarm"]]
    print(f"{len(faulty) - len(missed)} of {len(faulty)} undeclared faults found; missed:", *missed, sep="\n  ")
    assert len(faulty) >= 48 / every
    assert len(missed) <= (1 - LEAST_FOUND) * len(faulty), missed

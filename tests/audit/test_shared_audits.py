"""Two processes that share every search find what one finds; what one alone meets is raised in both."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from shared_audits import main, of_bytes, of_latents, of_model, of_one_step

from launched import launch

Case = Callable[[Path], dict[str, Any]]
QUICK, SLOW = (of_bytes, of_model), (of_latents, of_one_step)


def audits(folder: Path, cases: tuple[Case, ...]) -> list[dict[str, Any]]:
    """What each of two processes found, and every audit made by one of them alone; a run that hangs is an error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")  # two processes on the CPU, whatever the machine has
        launch(partial(main, cases=cases), folder, 2)
    return [json.loads((folder / f"found{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return audits(tmp_path_factory.mktemp("shared"), QUICK)


@pytest.mark.parametrize("case", QUICK)
def test_an_audit_whose_searches_are_shared_is_that_of_one_process_alone(two, case):
    """Samples of data held as bytes, a denoiser: every number, bit for bit."""
    assert_as_alone(two, case, QUICK)


@pytest.mark.slow
def test_audits_of_latents_and_of_a_one_step_model_are_those_of_one_process_alone(tmp_path):
    found = audits(tmp_path, SLOW)
    for case in SLOW:
        assert_as_alone(found, case, SLOW)


def assert_as_alone(found: list[dict[str, Any]], case: Case, cases: tuple[Case, ...]) -> None:
    name = case.__name__
    expected = found[cases.index(case) % 2][f"{name} alone"]
    assert expected["findings"]["memorized"]
    for each in found:
        assert each[name]["searches"] > 0
        assert each[name]["shared"] == expected


def test_copies_are_found_by_a_shared_search(two):
    """10 of 150 samples are training examples: the search is asked something."""
    assert two[0]["of_bytes"]["shared"]["verdict"]["word"] == "copies"


@pytest.mark.parametrize(("what", "name"), [("seeds", "settings"), ("weights", "model")])
def test_processes_that_were_given_different_things_are_refused(two, what, name):
    """Their pieces would otherwise be put together."""
    for each in two:
        assert each[what].endswith(
            f"Error: {name}: expected the same in all processes of torchrun, got others in some; draw weights and data "
            "from a fixed seed"
        )


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_process_in_work_for_all_is_raised_in_all(two, rank):
    found = [each[f"crash of {rank}"] for each in two]
    assert found[rank] == "KeyError: 'a mistake'"
    assert found[1 - rank] == "CrashedElsewhereError: KeyError: 'a mistake'"

"""Two processes, as torchrun starts them, take the steps of one; a run goes on with another number of processes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from parallel_run import STEPS, STOP, OneNoisy, Poisoned, images, implicit, main, refusal

from diffuscope.training import TrainingSettings, read_distances
from launched import launch

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """What two processes found, each; and the folder they wrote."""
    folder = tmp_path_factory.mktemp("two")
    launch(main, folder, 2)
    return folder, [json.loads((folder / f"found{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    folder = tmp_path_factory.mktemp("alone")
    return folder, images(folder)[0]


def relative(found: list[float], expected: list[float]) -> float:
    one, other = torch.tensor(found, dtype=torch.float64), torch.tensor(expected, dtype=torch.float64)
    return float(((one - other) / other).abs().max())


def test_two_processes_have_the_loss_curve_of_one_with_the_same_global_batch(two, alone):
    """U-Net, classes, two epochs and more: every loss to 1e-5, the rounding of float32 sums, carried on."""
    _, found = two
    _, expected = alone
    assert [each["processes"] for each in found] == [2, 2]
    assert len(expected) == STEPS
    assert relative(found[0]["images"][0], expected) < 1e-5


def test_both_processes_have_the_same_weights_and_resume_to_those_of_the_whole_run_bit_for_bit(two):
    """The loss is common by construction; the weights are each process's own."""
    (_, weights), (_, others) = (each["images"] for each in two[1])
    assert weights == others
    for each in two[1]:
        (begun, unfinished), (rest, resumed) = each["resumed"]
        assert (len(begun), len(rest)) == (STOP, STEPS - STOP)
        assert unfinished != weights
        assert resumed == weights


def test_an_objective_that_differentiates_twice_is_shared_alike(two):
    assert relative(two[1][0]["implicit"], implicit()) < 1e-5


def test_a_run_broken_off_in_two_processes_goes_on_in_one_and_its_log_too(two, alone):
    folder, found = two
    _, expected = alone
    begun, rest = found[0]["broken off"][0], images(folder / "broken")[0]
    assert (len(begun), len(rest)) == (STOP, STEPS - STOP)
    assert relative(begun + rest, expected) < 1e-5
    logs = [read_distances(path / "log.jsonl") for path in (folder / "broken", folder / "whole", alone[0])]
    assert all([each.step for each in log] == [0, STOP, 2 * STOP, STEPS] for log in logs)
    for log in logs[:2]:
        assert [each.train for each in log] == pytest.approx([each.train for each in logs[2]], rel=1e-4)


def test_a_loss_that_is_nan_in_one_share_stops_every_process_with_the_line_of_one(two):
    expected = refusal(Poisoned(3), TrainingSettings(steps=3, batch_size=16, noise=OneNoisy()))
    assert "diverged at step 1" in expected
    assert "sigma = 2" in expected
    assert [each["diverged"] for each in two[1]] == [expected, expected]


def test_a_batch_that_two_cannot_share_is_refused(two):
    expected = "batch_size: expected a multiple of the number of processes, 2, got 15"
    assert [each["uneven"] for each in two[1]] == [expected, expected]


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("batch norm", "denoiser: network.1 is batch norm, whose statistics would be those of one process's share"),
        ("unused", "denoiser: idle takes no part in a step; expected a gradient for every parameter, or one process"),
        ("no place", "log: cannot write"),
        ("seeds", "seed: expected the same in all processes of torchrun, got others in some"),
    ],
)
def test_what_two_cannot_do_and_what_one_alone_finds_is_a_line_in_both(two, what, line):
    first, second = (each[what] for each in two[1])
    assert line in first
    assert first == second

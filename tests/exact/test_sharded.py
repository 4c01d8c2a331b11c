"""Two and three processes give the posterior, neighbors and refusals of one."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sharded_run import CASES, case, neighbors, refusals
from torch import Tensor

from diffuscope.distributed import shard
from diffuscope.exact import (
    Distribution,
    Empirical,
    PosteriorCovariance,
    ShardedEmpirical,
    nearest_neighbors,
    nearest_other_neighbors,
    sharded_neighbors,
    sharded_other_neighbors,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=[2, 3])
def several(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What every process found."""
    folder = tmp_path_factory.mktemp("several")
    program = Path(__file__).with_name("sharded_run.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(request.param), str(program), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"found{rank}.pt", weights_only=True) for rank in range(request.param)]


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Indices and draws exactly, numbers to 1e-6 in float32 and 1e-11 in float64; errors up to a factor."""
    assert found.keys() == expected.keys()
    tolerance = 1e-6 if dtype == torch.float32 else 1e-11
    for name, value in found.items():
        if name.startswith("error"):
            assert bool((value <= 3 * expected[name] + tolerance).all()), name
        elif value.dtype == torch.int64 or name in ("sample", "points"):
            assert torch.equal(value, expected[name]), name
        else:
            # the terms of a score, and what the covariance is multiplied with, are 1/sigma^2 times the points
            scale = float(name.split(", ")[1]) ** -2 if "score" in name or "gradient" in name else 1.0
            difference = (value - expected[name]).abs()
            assert bool((difference <= tolerance * (max(1.0, scale) + expected[name].abs())).all()), name


@pytest.mark.parametrize("name", CASES)
def test_several_processes_have_the_posterior_of_one(several, name):
    expected = case(Empirical, name)
    for found in several:
        assert_equal(found[name], expected, CASES[name][1])


@pytest.mark.parametrize("name", CASES)
def test_without_a_group_the_one_shard_is_the_whole(name):
    assert_equal(case(ShardedEmpirical, name), case(Empirical, name), CASES[name][1])


def test_several_processes_have_the_neighbors_of_one_and_its_choice_among_ties(several):
    expected = neighbors(nearest_neighbors, nearest_other_neighbors)
    for found in [*(each["neighbors"] for each in several), neighbors(sharded_neighbors, sharded_other_neighbors)]:
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_one_process_alone_refuses_is_refused_in_all_with_the_line_of_one(several):
    expected = refusals(Empirical, nearest_neighbors)
    assert "accepted" not in expected
    for found in several:
        assert found["refusals"] == expected


def test_shards_without_a_group_are_everything():
    assert shard(7) == (0, 7)


def test_a_sharded_set_is_a_distribution():
    distribution = ShardedEmpirical(torch.eye(3))
    assert isinstance(distribution, Distribution)
    assert isinstance(distribution.posterior_covariance(torch.eye(3), 1.0, 1.0), PosteriorCovariance)

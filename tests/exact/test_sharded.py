"""Two and three processes give the posterior, neighbors and refusals of one."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from sharded_run import CASES, case, main, moments, neighbors, refusals
from torch import Tensor

from diffuscope.distributed import shard
from diffuscope.exact import (
    Distribution,
    Empirical,
    PosteriorCovariance,
    ShardedEmpirical,
    leading_pairs,
    nearest_neighbors,
    nearest_other_neighbors,
    sharded_neighbors,
    sharded_other_neighbors,
)
from diffuscope.exact.streaming import streamed_moments
from launched import launch

pytestmark = pytest.mark.usefixtures("one_thread")


def page() -> tuple[str, ...]:
    """The blocks of the page: writing the pictures, the program, its command, and what it prints."""
    text = (Path(__file__).parents[2] / "docs" / "large.md").read_text()
    part = text.split("## Exact scores of millions of examples")[1].split("\n## ")[0]
    blocks = re.findall(r"```(python|console|text)\n(.*?)```", part, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "python", "console", "text"]
    return tuple(block for _, block in blocks)


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])  # threads: test_shards_in_threads
def several(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What every process found: one launch for all tests."""
    folder = tmp_path_factory.mktemp("several")
    writing, scores, _, _ = page()
    with pytest.MonkeyPatch.context() as there:
        there.chdir(folder)
        exec(compile(writing, "docs/large.md", "exec"), {})
    (folder / "scores.py").write_text(scores)
    launch(main, folder, request.param)
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


def test_several_processes_have_the_moments_and_the_leading_pairs_of_one(several):
    """Values of 1e6: 1e-9 of their variance is left of float64."""
    expected = moments(
        lambda x, probe: streamed_moments([x], probe),
        lambda x, rank, generator: leading_pairs(lambda: [x.floats()], rank, generator=generator),
    )
    for found in several:
        assert found["moments"].keys() == expected.keys()
        for name, value in found["moments"].items():
            torch.testing.assert_close(value, expected[name], rtol=1e-8, atol=1e-8, msg=name)


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


def test_the_page_on_large_data_runs_as_printed(several):
    _, _, command, printed = page()
    assert shlex.split(command) == ["torchrun", "--standalone", "--nproc-per-node", "2", "scores.py"]
    assert "2 processes" in printed
    expected = printed.replace("2 processes", f"{len(several)} processes")
    assert [each["printed"] for each in several] == [expected, *[""] * (len(several) - 1)]

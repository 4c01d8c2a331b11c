import json
import os
import queue
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from diffuscope.cli import main
from diffuscope.cli.grade import Grade

METHODS = """
import torch
from diffuscope.physics import posterior

def exact(denoiser, observation, y, n, *, seed, steps):
    return posterior(denoiser.distribution, observation, y).sample(n, generator=torch.Generator().manual_seed(seed))

def broken(denoiser, observation, y, n, *, seed, steps):
    return 1 / 0
"""
WORDS = ["grade", "--cases", "gaussian", "--problems", "1", "--draws", "32", "--steps", "6"]


@pytest.fixture(autouse=True)
def few_reference_points(monkeypatch):
    monkeypatch.setattr("diffuscope.physics.grading.gaussian.REFERENCE", 512)


def test_a_table_a_page_and_a_row_for_a_method_that_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("my_methods.py").write_text(METHODS, encoding="utf-8")
    words = [*WORDS, "--methods", "exact", "projected", "--method", "my_methods:exact", "my_methods:broken"]
    main([*words, "--out", "out"])
    printed = capsys.readouterr().out
    assert "ZeroDivisionError: division by zero (my_methods.py:9)" in printed
    kept = json.loads(Path("out/grading.json").read_text(encoding="utf-8"))
    verdicts = {row["method"]: row["verdict"] for row in kept["rows"]}
    assert verdicts["projected"] == "wrong"
    assert verdicts["my_methods:broken"] == "cannot tell"
    assert verdicts["exact"] == verdicts["my_methods:exact"] != "wrong"
    assert "Which method gets the posterior right?" in Path("out/grading.html").read_text(encoding="utf-8")
    assert Path("out/grading.png").stat().st_size > 0
    main([*words, "--out", "out"])  # from what was kept
    assert json.loads(Path("out/grading.json").read_text(encoding="utf-8")) == kept


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "nothing"], "--methods: expected some of exact"),
        (["--cases", "nothing"], "--cases: expected some of gaussian"),
        (["--draws", "1"], "--draws: expected a whole number from 8"),
        (["--seed", "-1"], "--seed: expected a whole number from 0"),
        (["--method", "json:nothing"], "--method"),
        (["--method", "json:__name__"], "--method: expected a callable"),
    ],
)
def test_bad_input_is_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["grade", *words])
    assert ended.value.code == 2
    line = capsys.readouterr().err.strip()
    assert message in line
    assert "\n" not in line


@pytest.mark.slow
def test_families_side_by_side_have_the_results_of_one_after_the_other(tmp_path):
    """Two processes fill the folder; a file that is lost (a kill in between) is made again, the same."""
    (tmp_path / "their_methods.py").write_text(METHODS, encoding="utf-8")
    words = ["grade", "--cases", "gaussian", "finite-set-nonlinear", "--problems", "1", "--draws", "16", "--steps", "4"]
    words += ["--methods", "exact", "prior", "--method", "their_methods:exact", "their_methods:broken"]

    def graded(cores: int, out: str) -> list[dict]:
        environment = {**os.environ, "OMP_NUM_THREADS": str(cores)}
        command = [sys.executable, "-m", "diffuscope", *words, "--out", out]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
        assert len(list((tmp_path / out / "kept").iterdir())) == 2 * (1 + 4)  # planted faults, methods
        rows = json.loads((tmp_path / out / "grading.json").read_text(encoding="utf-8"))["rows"]
        return [{**row, "seconds": 0} for row in rows]

    one, two = graded(1, "one"), graded(2, "two")
    assert one == two
    sorted((tmp_path / "two" / "kept").iterdir())[3].unlink()
    assert graded(2, "two") == two


@pytest.mark.parametrize(
    ("families", "cores", "threads"),
    [(3, 8, 2), (3, 3, 1), (3, 2, 1), (2, 2, 1), (2, 5, 2), (1, 8, None), (3, 1, None)],
)
def test_as_many_families_are_graded_at_once_as_there_are_cores_which_they_share(families, cores, threads, monkeypatch):
    """Each in a process of its own, with its part of the cores; a single one in this process."""
    names, begun, running, most = [*"abc"][:families], [], [], []

    class Process:
        def __init__(self, *, target, args, daemon):
            assert (target.__name__, daemon) == ("_one_family", True)
            self.args = args

        def start(self):
            _, family, own, done = self.args
            begun.append((family, own))
            running.append(self)
            most.append(len(running))
            done.put(f"{family} done")

        def is_alive(self):
            running.clear()
            return False

    context = SimpleNamespace(Queue=queue.Queue, Process=Process)
    monkeypatch.setattr("multiprocessing.get_context", lambda _: context)
    monkeypatch.setattr("torch.get_num_threads", lambda: cores)
    told = []
    assert Grade()._side_by_side(names, told.append) == (threads is not None)
    assert begun == [(name, threads) for name in names if threads]
    assert told == [f"{name} done" for name in names if threads]
    assert max(most, default=0) == (min(families, cores) if threads else 0)

import json
from pathlib import Path

import pytest

from diffuscope.cli import main

METHODS = """
import torch
from diffuscope.physics import posterior

def exact(denoiser, observation, y, n, *, seed, steps):
    return posterior(denoiser.distribution, observation, y).sample(n, generator=torch.Generator().manual_seed(seed))

def broken(denoiser, observation, y, n, *, seed, steps):
    return 1 / 0
"""
WORDS = ["grade", "--cases", "gaussian", "--problems", "2", "--draws", "32", "--steps", "10"]


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
def test_families_side_by_side_have_the_results_of_one_after_the_other(tmp_path, monkeypatch, capsys):
    """Two processes fill the folder; a file that is lost (a kill in between) is made again, the same."""
    monkeypatch.chdir(tmp_path)
    Path("their_methods.py").write_text(METHODS, encoding="utf-8")
    words = ["grade", "--cases", "gaussian", "finite-set-nonlinear", "--problems", "1", "--draws", "16", "--steps", "4"]
    words += ["--methods", "exact", "prior", "--method", "their_methods:exact", "their_methods:broken"]
    results = []
    for cores, out in ((1, "one"), (2, "two")):
        monkeypatch.setattr("torch.get_num_threads", lambda cores=cores: cores)
        main([*words, "--out", out])
        if out == "two":
            kept = sorted(Path("two/kept").iterdir())
            assert len(kept) == 2 * 5
            kept[3].unlink()
            main([*words, "--out", out])
        rows = json.loads(Path(out, "grading.json").read_text(encoding="utf-8"))["rows"]
        results.append([{**row, "seconds": 0} for row in rows])
    assert results[0] == results[1]
    assert {row["verdict"] for row in results[0]} <= {"right", "wrong", "cannot tell"}
    capsys.readouterr()

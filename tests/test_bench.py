"""Benchmarks as JSON: tables are read as printed, and a changed figure is found."""

import json
import math
import runpy
import subprocess
import sys

import pytest

import bench

PRINTED = """Data: digits

| solver | NFE | error | ratio |
|---|--:|--:|--:|
| Heun | 10 | 0.120 | 1.50 |
| Heun | 20 | 0.030 ± 0.001 | 1.40 |
not a row
| word | s |
|--:|--:|
| none | 1,280 |
"""


def report(text: str, processor: str = "a"):
    return {"benchmark": "solvers", "processor": processor, "tables": bench.tables(text)}


def test_tables_are_read_as_they_are_printed():
    first, second = bench.tables(PRINTED)
    assert first["columns"] == ["solver", "NFE", "error", "ratio"]
    assert first["rows"] == [["Heun", "10", "0.120", "1.50"], ["Heun", "20", "0.030 ± 0.001", "1.40"]]
    assert second == {"columns": ["word", "s"], "rows": [["none", "1,280"]]}


def test_figures_are_known_by_their_row_and_column():
    assert dict(bench.figures(report(PRINTED))) == {
        ("Heun #1", "NFE"): 10,
        ("Heun #1", "error"): 0.12,
        ("Heun #1", "ratio"): 1.5,
        ("Heun #2", "NFE"): 20,
        ("Heun #2", "error"): 0.03,
        ("Heun #2", "ratio"): 1.4,
        ("none #1", "s"): 1280,
    }


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("-0.5", -0.5),
        ("1.2e-05", 1.2e-5),
        ("~3", 3),
        ("12%", 12),
        ("2.5x", 2.5),
        ("", None),
        ("UniPC", None),
        ("3M", None),
    ],
)
def test_a_number_is_one_that_begins_its_cell(cell, value):
    assert bench.number(cell) == value


@pytest.mark.parametrize(
    ("old", "new", "factor"), [(2, 3, 1.5), (3, 2, 1.5), (0, 0, 1), (0, 1, math.inf), (-1, 1, math.inf)]
)
def test_a_change_counts_alike_in_both_directions(old, new, factor):
    assert bench.Change("b", "r", "c", old, new).factor == factor


def compared(tmp_path, new_text: str, processor: str = "a"):
    paths = tmp_path / "old.json", tmp_path / "new.json"
    for path, each in zip(paths, (report(PRINTED), report(new_text, processor)), strict=True):
        path.write_text(json.dumps(each))
    command = [sys.executable, bench.__file__, "compare", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_same_figures_are_no_change(tmp_path):
    ended = compared(tmp_path, PRINTED)
    assert ended.returncode == 0, ended.stderr
    assert "0 of 7 figures in 1 benchmarks" in ended.stdout


def test_a_figure_beyond_the_factor_is_named_and_the_exit_status_is_1(tmp_path):
    ended = compared(tmp_path, PRINTED.replace("1.40", "1.80").replace("0.120", "0.130"), "b")
    assert ended.returncode == 1
    assert [line for line in ended.stdout.splitlines() if "solvers" in line] == [
        "| solvers | Heun #2 | ratio | 1.4 | 1.8 | 1.29 |"
    ]
    assert "the processors differ" in ended.stdout


def test_nothing_in_common_is_not_called_unchanged(tmp_path):
    (tmp_path / "empty").mkdir()
    command = [sys.executable, bench.__file__, "compare", str(tmp_path / "empty"), str(tmp_path / "empty")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "nothing to compare" in ended.stdout


def test_a_run_writes_what_was_printed_and_leaves_out_what_needs_arguments(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(bench, "BENCHMARKS", tmp_path)
    (tmp_path / "good.py").write_text(f"print({PRINTED!r})")
    (tmp_path / "needs.py").write_text("raise SystemExit('usage: needs.py FOLDER')")
    (tmp_path / "bad.py").write_text("raise SystemExit('no disk')")
    assert [bench.run(name, tmp_path / "out") for name in ("good", "needs", "bad")] == [0, 0, 1]
    (written,) = (tmp_path / "out").iterdir()
    kept = json.loads(written.read_text())
    assert kept["tables"] == bench.tables(PRINTED)
    assert kept["versions"]["torch"]
    assert "needs: left out, it needs arguments" in capfd.readouterr().out


@pytest.mark.parametrize("name", ["forecast", "monitor", "tracking"])
def test_a_benchmark_that_needs_arguments_answers_with_its_usage(name, monkeypatch):
    path = str(bench.BENCHMARKS / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [path])
    with pytest.raises(SystemExit, match=f"^usage: python benchmarks/{name}.py "):
        runpy.run_path(path, run_name="__main__")

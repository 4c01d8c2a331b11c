"""`diffuscope solve` as typed: files and numbers, resuming, public fields, and one line for every mistake."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffuscope.cli import main
from diffuscope.physics import Problem

MODULE = """
import torch
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE

gaussian = Gaussian.isotropic(torch.zeros(2, 11), 1.0)
small = Gaussian.isotropic(torch.zeros(2, 9), 1.0)
denoiser = ExactDenoiser(gaussian, VE())
number = 3


class Wrong:
    schedule = VE()

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, x_t, t):
        return self.answer(x_t)


flat = Wrong(lambda x_t: x_t[:, :1])
nan = Wrong(lambda x_t: x_t * float("nan"))
detached = Wrong(lambda x_t: x_t.detach())
"""
READINGS = "# x: m\n# solution: K\nx,value,noise\n0.3,0.05,0.02\n0.7,0.04,0.02\n"
SMALL = ["poisson-1d", "--nodes", "11", "--fields", "400", "--samples", "10", "--out", "out"]
FILES = ("report.html", "solution.npz", "solution.json", "solution.png")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with the user's module and readings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "readings.csv").write_text(READINGS)
    yield tmp_path
    sys.modules.pop("mine", None)


@pytest.fixture
def undrawn(monkeypatch):
    """Without pictures, which take most of a small run: their numbers are in solution.json too."""
    monkeypatch.setattr("diffuscope.report.page.page_svg", lambda chart: f"<svg>{len(chart.panels)}</svg>")
    monkeypatch.setattr("diffuscope.physics.solution_report.charts_png", lambda _charts, title: title.encode())


def solution():
    return json.loads(Path("out/solution.json").read_text())


def test_readings_of_a_file_give_files_a_page_and_a_picture(capsys):
    main(["solve", *SMALL, "--data", "readings.csv", "--prior", "gaussian"])
    printed = capsys.readouterr().out
    assert "Readings: 2 of the solution, noise 0.02, readings.csv" in printed
    assert "Do the samples solve the equation?: Yes" in printed
    written = solution()
    assert written["readings"]["units"] == {"x": "m", "solution": "K"}
    assert written["calibration"]["coverage"][1] == pytest.approx(
        0.9, abs=4 * written["calibration"]["standard_error"][1]
    )
    with np.load("out/solution.npz") as held:
        assert held["samples"].shape == (10, 2, 11)
        assert list(held["channels"]) == ["forcing", "solution"]
        assert bool((held["quantile_05"] <= held["quantile_95"]).all())
    page = Path("out/report.html").read_text()
    assert "0 to 1" in page  # the domain
    assert "solution (K)" in page
    with Image.open("out/solution.png") as picture:
        assert picture.width > 500


@pytest.mark.usefixtures("undrawn")
def test_an_example_without_a_file_knows_its_truth_and_grades_itself(capsys):
    main(["solve", *SMALL, "--noise", "0.03"])
    assert "an example, whose truth is known" in capsys.readouterr().out
    assert "Against the truth of the example" in Path("out/report.html").read_text()
    with np.load("out/solution.npz") as held:
        assert held["truth"].shape == (2, 11)


@pytest.mark.usefixtures("undrawn")
def test_an_interrupted_run_resumes_to_the_same_files(monkeypatch, capsys):
    words = ["solve", *SMALL, "--data", "readings.csv"]
    main(words)
    whole = {name: Path("out", name).read_bytes() for name in FILES}
    calls, draw = [], Problem.fields

    def interrupted(problem, n, *, generator):
        calls.append(n)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return draw(problem, n, generator=generator)

    again = [word.replace("out", "again") if word == "out" else word for word in words]
    monkeypatch.setattr(Problem, "fields", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(again)
    assert ended.value.code == 130
    assert "rerun the same command to resume" in capsys.readouterr().err
    assert not Path("again/report.html").exists()
    main(again)
    assert len(calls) == 3 + 2  # four blocks of 100: two were kept
    assert {name: Path("again", name).read_bytes() for name in FILES} == whole
    main(again)
    assert len(calls) == 5


@pytest.mark.usefixtures("undrawn")
def test_too_few_agreeing_fields_end_with_exit_code_3_and_files(capsys):
    Path("sharp.csv").write_text("x,value,noise\n0.3,0.05,0.0001\n0.5,0.06,0.0001\n0.7,0.04,0.0001\n")
    with pytest.raises(SystemExit) as ended:
        main(["solve", *SMALL, "--data", "sharp.csv"])
    assert ended.value.code == 3
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("poisson-1d: cannot tell: ")
    assert not solution()["has_intervals"]
    with np.load("out/solution.npz") as held:
        assert "quantile_05" not in held.files


@pytest.mark.usefixtures("undrawn")
def test_a_denoiser_of_the_users_own_is_conditioned(capsys):
    main(["solve", *SMALL, "--data", "readings.csv", "--prior", "mine:denoiser"])
    assert "mine:denoiser, your own: a denoiser" in capsys.readouterr().out
    assert solution()["calibration"] is None


@pytest.mark.usefixtures("undrawn")
@pytest.mark.skipif("DIFFUSCOPE_DATA" not in os.environ, reason="needs the public fields")
@pytest.mark.parametrize("problem", [pytest.param("darcy", marks=pytest.mark.slow), "burgers"])
def test_public_fields_are_a_prior_of_their_own_grid(problem, capsys):
    main(["solve", problem, "--prior", f"{problem}_neuraloperator", "--noise", "0.3", "--out", "out"])
    written = solution()
    assert written["calibration"]["coverage"][-1] == pytest.approx(0.9, abs=0.05)
    assert written["grid"]["shape"] == {"darcy": [16, 16], "burgers": [17, 16]}[problem]
    assert written["prior"]["fields"] == {"darcy": 1000, "burgers": 800}[problem]
    assert f"{problem}_neuraloperator" in capsys.readouterr().out


MISTAKES = {
    "heat": (["heat"], "PROBLEM: expected one of poisson-1d, poisson-2d, darcy, helmholtz, burgers, got 'heat'"),
    "absent": (["poisson-1d", "--data", "absent.csv"], "--data: cannot read absent.csv (No such file or directory)"),
    "no noise": (["poisson-1d", "--data", "bare.csv"], "--noise: expected the standard deviation of the values"),
    "two noises": (["poisson-1d", "--data", "readings.csv", "--noise", "1"], "--noise: expected nothing, as"),
    "negative": (["poisson-1d", "--noise", "-1"], "--noise: expected a standard deviation >= 0, got -1"),
    "exact": (["poisson-1d", "--data", "bare.csv", "--noise", "0"], "--noise: expected > 0 with the prior generated"),
    "outside": (["poisson-1d", "--data", "outside.csv"], "--data: outside.csv, row 3: expected x in the domain"),
    "holes": (["poisson-2d", "--data", "pinnacle_poisson_classic"], "--data: pinnacle_poisson_classic is a field on"),
    "samples": (["poisson-1d", "--samples", "1"], "--samples: expected a whole number from 2"),
    "fields": (["poisson-1d", "--fields", "3"], "--fields: expected a whole number from 50"),
    "nodes": (["poisson-1d", "--nodes", "3"], "--nodes: expected a whole number from 11"),
    "prior": (["poisson-1d", "--prior", "gauss"], "--prior: expected generated, gaussian, open-boundary,"),
    "another problem": (
        ["poisson-1d", "--prior", "darcy_neuraloperator"],
        "--prior: expected fields of poisson-1d, got",
    ),
    "another grid": (["darcy", "--prior", "darcy_neuraloperator", "--nodes", "20"], "--nodes: expected 16, those of"),
    "a number": (["poisson-1d", "--prior", "mine:number"], "--prior: expected a Gaussian, "),
    "a shape": (
        [*SMALL, "--prior", "mine:flat"],
        "--prior: mine:flat: expected the shape (2, 2, 11) of x_t, got (2, 1, 11)",
    ),
    "NaN": ([*SMALL, "--prior", "mine:nan"], "--prior: mine:nan: expected finite values, got NaN"),
    "no gradient": ([*SMALL, "--prior", "mine:detached"], "--prior: mine:detached: expected one that autograd can"),
    "noise NaN": ([*SMALL, "--noise", "nan"], "--noise: expected a finite number, got 'nan'"),
    "absent object": (["poisson-1d", "--prior", "mine:absent"], "--prior: module 'mine' has no 'absent'"),
    "another shape": (
        ["poisson-1d", "--nodes", "11", "--data", "readings.csv", "--prior", "mine:small"],
        "--prior: expected fields of shape (2, 11) (forcing, solution on the grid), got (2, 9) from mine:small",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_is_one_line_that_names_it(name, capsys, here):
    words, line = MISTAKES[name]
    if any("neuraloperator" in word for word in words) and "DIFFUSCOPE_DATA" not in os.environ:
        pytest.skip("needs the public fields")
    (here / "bare.csv").write_text("x,value\n0.5,0.1\n")
    (here / "outside.csv").write_text("x,value,noise\n0.5,0.1,1\n7,0.1,1\n")
    with pytest.raises(SystemExit) as ended:
        main(["solve", *words, *([] if "--fields" in words else ["--fields", "50"])])
    (error,) = [row for row in capsys.readouterr().err.splitlines() if row.startswith("diffuscope: ")]
    assert ended.value.code == 2
    assert error.startswith(f"diffuscope: {line}")

"""`diffuscope paths` as typed: known paths with their numbers, and one line for every mistake."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from diffuscope.cli import main
from diffuscope.theory.paths import Dynamics

MODULE = """
import torch
from diffuscope.theory.paths import Dynamics

def ornstein_uhlenbeck(x):
    return -x

def maier_stein(z):
    x, y = z[:, 0], z[:, 1]
    return torch.stack([x - x**3 - 10 * x * y**2, -(1 + x**2) * y], 1)

def kinetic(z):
    return torch.stack([z[:, 1], -z[:, 0]], 1)

def moving(x, t):
    return torch.sin(t)[:, None] - x

def raising(x):
    raise ValueError("in\\nthe user's code")

def detached(x):
    return -x.detach() ** 3

def unbounded(x):
    return 1 / (x - 0.5)

def reshaped(x):
    return x.sum(1)

def counted(x, y, z):
    return x

def falling(x):
    return torch.stack([-1 + 0 * x[:, 0], x[:, 0]], 1)

def flat(x):
    return torch.diag_embed(x**2)

number, words = 3, "text"
boxed = Dynamics(ornstein_uhlenbeck, 1.0, domain=(-1.0, 1.0))
"""
PLANE = ["--start", "-2", "2", "--end", "2", "2"]


@pytest.fixture(autouse=True)
def _undrawn(request, monkeypatch):
    """Pictures, which take most of the time of a short path, in the test that opens one alone."""
    if "ornstein_uhlenbeck" not in request.node.name:
        request.getfixturevalue("blank_figures")
        monkeypatch.setattr("diffuscope.theory.paths.path_page.charts_png", lambda _, title: title.encode())


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with the user's module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine.py").write_text(MODULE)
    yield tmp_path
    sys.modules.pop("mine", None)


def run(words, capsys):
    main(["paths", *words])
    return capsys.readouterr().out, json.loads(Path("out/paths/path.json").read_text())


def test_the_path_of_an_ornstein_uhlenbeck_process_is_printed_and_written_with_its_closed_form_numbers(here, capsys):
    printed, written = run(["mine:ornstein_uhlenbeck", "--diffusion", "1", *PLANE, "--duration", "1"], capsys)
    exact = 4 * ((1 + math.exp(-1)) ** 2 + (1 - math.exp(-1)) ** 2) / (2 * (1 - math.exp(-2)))
    error = written["action"]["error"]
    assert written["action"]["value"] == pytest.approx(exact, abs=error)  # the error it states
    assert error < 1e-5
    assert f"Action: {exact:.6f}"[:13] in printed
    assert "Stationary point: a minimum, the least of 3 from 3 starts" in printed
    energy = 2.8962466440  # (|v|^2 - |x|^2) / 4, from 11.58498657546097 / 4
    assert sum(written["energy"]) / 200 == pytest.approx(energy, abs=1e-4)
    (turning,) = [found for found in written["symmetries"] if "rotation 01" in found["coefficients"]]
    assert turning["charge"][50] == pytest.approx(-6.8073450259145725 / 2, abs=1e-4)  # second order, 200 intervals
    assert turning["variation"] < 1e-9
    assert len(written["symmetries"]) == 2  # time and the rotation
    assert written["states"][0] == [-2, 2]
    assert written["states"][-1] == [2, 2]
    assert len(written["times"]) == len(written["states"]) == len(written["momenta"]) + 1 == 201
    with Image.open("out/paths/path.png") as picture:
        assert picture.width > 500
    page = (here / "out/paths/report.html").read_text()
    assert "The action is" in page
    assert "rotation 01" in page


def test_a_free_duration_gives_the_quasipotential_though_the_straight_line_is_a_saddle(capsys):
    words = ["mine:maier_stein", "--diffusion", ".5", "--start", "-1", "0", "--end", "0", "0", "--nodes", "101"]
    printed, written = run(words, capsys)
    assert written["action"]["value"] == pytest.approx(0.34004, abs=2e-4)
    assert written["certificate"]["minimum"]
    assert written["duration"] is None
    assert "Energy: zero" in printed
    assert "saddle" not in printed


def test_noise_in_one_coordinate_alone_costs_what_the_gramian_says_and_symmetries_are_not_claimed(capsys):
    """An oscillator that noise drives: S = w^T W^-1 w / 4 with W = int exp(A s) D exp(A^T s) ds, after one period
    diag(pi D, pi D)."""
    words = ["mine:kinetic", "--diffusion", "0", "1", "--start", "0", "0", "--end", "1", "0"]
    printed, written = run([*words, "--duration", f"{2 * math.pi}", "--nodes", "101"], capsys)
    assert written["action"]["value"] == pytest.approx(1 / (4 * math.pi), abs=2 * written["action"]["error"] + 1e-6)
    assert "Symmetries: cannot be told" in printed
    assert written["symmetries"] is None


def test_a_drift_that_changes_with_time_has_no_energy_to_conserve_and_a_line_has_a_chart_against_time(capsys):
    words = ["mine:moving", "--diffusion", "1", "--start", "0", "--end", "1", "--duration", "2", "--functional", "OM"]
    words += ["--nodes", "51"]
    printed, written = run(words, capsys)
    assert "not conserved" in printed
    assert "none was found" in printed
    assert written["certificate"]["energy_variation"] is None
    reached = (math.sin(2) - math.cos(2) + math.exp(-2)) / 2  # without noise
    exact = (1 - reached) ** 2 / (2 * (1 - math.exp(-4))) - 1  # and half the divergence, -1 times the duration over 2
    assert written["action"]["value"] == pytest.approx(exact, abs=2 * written["action"]["error"])


def test_a_module_of_torch_is_a_drift():
    """Of the arguments of its forward, not of the call that every module shares."""
    layer = torch.nn.Linear(2, 2, dtype=torch.float64)
    dynamics, x = Dynamics(layer, 1.0), torch.ones(3, 2).double()
    assert dynamics.autonomous
    assert torch.equal(dynamics.drift_at(x, torch.zeros(3).double()), layer(x))


def test_a_path_on_too_few_nodes_is_undecided(capsys):
    words = ["mine:ornstein_uhlenbeck", "--diffusion", "1", *PLANE, "--duration", "30", "--nodes", "5"]
    with pytest.raises(SystemExit) as ended:
        run(words, capsys)
    assert ended.value.code == 3
    captured = capsys.readouterr()
    assert "not resolved" in captured.out
    assert captured.err == "mine:ornstein_uhlenbeck: the path needs more nodes\n"


OU, ONE, TIME = ["mine:ornstein_uhlenbeck"], ["--diffusion", "1"], ["--duration", "1", "--nodes", "21"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([*OU, *PLANE, *TIME], "--diffusion: expected a number, one per coordinate, or module:object, got none"),
        ([*OU, *PLANE, *TIME, "--diffusion", "-1"], "--diffusion: expected D = G G^T / 2 >= 0"),
        ([*OU, *PLANE, *TIME, "--diffusion", "0"], "--diffusion: expected D = G G^T / 2 >= 0 and not zero"),
        ([*OU, *PLANE, *TIME, "--diffusion", "1", "nan"], "--diffusion: expected finite numbers"),
        ([*OU, *PLANE, *TIME, "--diffusion", "1", "1", "1"], "--diffusion: expected 1 number or 2, one per coordinate"),
        ([*OU, *PLANE, *TIME, "--diffusion", "one"], "--diffusion: expected numbers or module:object, got 'one'"),
        ([*OU, *PLANE, *TIME, "--diffusion", "mine:words"], "--diffusion: expected a number, a tensor or a function"),
        ([*OU, *PLANE, *TIME, "--diffusion", "mine:absent"], "--diffusion: module 'mine' has no 'absent'"),
        (
            [*OU, "--start", "0", "0", "--end", "1", "1", *TIME, "--diffusion", "mine:flat"],
            "--diffusion: expected symmetric positive definite matrices where D depends on the state",
        ),
        ([*OU, *PLANE, "--diffusion", "0", "1"], "--diffusion: expected noise in every direction where the duration"),
        (
            [*OU, *PLANE, *TIME, "--diffusion", "mine:flat", "--functional", "OM"],
            "--functional: expected 'FW' where the diffusion depends on the state",
        ),
        ([*OU, *PLANE, *ONE, "--functional", "OM"], "--functional: expected 'FW' where the duration is free"),
        ([*OU, *PLANE, *ONE, "--functional", "FM"], "--functional: expected one of"),
        ([*OU, *PLANE, *ONE, "--duration", "0"], "--duration: expected a positive number, got 0"),
        ([*OU, *PLANE, *ONE, "--duration", "-2"], "--duration: expected a positive number, got -2"),
        ([*OU, *PLANE, *ONE, *TIME[:2], "--nodes", "2"], "--nodes: expected a whole number from 5 to 20,001, got 2"),
        ([*OU, *ONE, *TIME, "--start", "0", "--end", "1", "1"], "--end: expected as many numbers as after --start (1)"),
        ([*OU, *ONE, *TIME, "--start", "x", "--end", "1"], "--start: expected finite numbers, got 'x'"),
        (
            [*OU, *ONE, *TIME, "--start", "nan", "0", "--end", "1", "1"],
            "--start: expected finite numbers, got 'nan', '0'",
        ),
        ([*OU, *ONE, "--start", "1", "1", "--end", "1", "1"], "--end: expected another state than start"),
        (["mine:moving", *ONE, "--start", "0", "--end", "1"], "DRIFT: expected a function of (x) alone"),
        (["absent:drift", *PLANE, *ONE, *TIME], "DRIFT: no module named 'absent'"),
        (["mine:absent", *PLANE, *ONE, *TIME], "DRIFT: module 'mine' has no 'absent'"),
        (["mine", *PLANE, *ONE, *TIME], "DRIFT: expected module:object as the first word, before all options, got 'm"),
        ([*ONE, *OU, "--start", "0", "--end", "1"], "DRIFT: expected module:object as the first word, before all opt"),
        (["mine:number", *PLANE, *ONE, *TIME], "DRIFT: expected a function of (x) or (x, t), or Dynamics, got a int"),
        (["mine:counted", *PLANE, *ONE, *TIME], "DRIFT: expected a function of (x) or of (x, t), got one of 3"),
        (["mine:detached", *PLANE, *ONE, *TIME], "DRIFT: expected a function that autograd can differentiate"),
        (["mine:reshaped", *PLANE, *ONE, *TIME], "DRIFT: expected states of shape"),
        (["mine:unbounded", *ONE, *TIME, "--start", "0.5", "--end", "1"], "DRIFT: expected finite values, got"),
        (["mine:raising", *PLANE, *ONE, *TIME], "mine.py:19: ValueError: in the user's code; the traceback is in"),
        (["mine:boxed", *PLANE, *TIME], "--start: expected a state in the domain, got [-2.0, 2.0]"),
        (["mine:boxed", *PLANE, *ONE, *TIME], "--diffusion: mine:boxed has its own, got 1 too"),
        (
            ["mine:falling", "--diffusion", "0", "1", "--start", "0", "0", "--end", "1", "1", *TIME],
            "--end: no path reaches it along the directions without noise",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(words, line, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["paths", *words])
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert error[0].startswith(f"diffuscope: {line}")

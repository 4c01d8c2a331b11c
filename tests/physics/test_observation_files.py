"""Readings from files: what they mean, and one line for whatever they cannot mean."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.physics import Grid
from diffuscope.physics.observation_file import read_sensors
from diffuscope.physics.problems import PROBLEMS
from diffuscope.physics.sensors import interpolation

LINE, SQUARE, DARCY, BURGERS = (PROBLEMS[name](17) for name in ("poisson-1d", "poisson-2d", "darcy", "burgers"))


def write(folder: Path, text: str) -> Path:
    path = folder / "readings.csv"
    path.write_text(text)
    return path


def test_interpolation_is_exact_for_multilinear_fields_and_a_node_reads_itself():
    grid = Grid((5, 9), (2.0, 3.0), origin=(-1.0, 0.5))
    generator = torch.Generator().manual_seed(0)
    at = torch.rand(50, 2, dtype=torch.float64, generator=generator) * torch.tensor([2.0, 3.0]) + torch.tensor(
        [-1.0, 0.5]
    )

    def f(s):
        return 1 + 2 * s[..., 0] - 3 * s[..., 1] + 0.5 * s[..., 0] * s[..., 1]

    matrix = interpolation(grid, at)
    torch.testing.assert_close(matrix @ f(grid.coordinates).flatten(), f(at), atol=1e-13, rtol=0)
    nodes = interpolation(grid, grid.coordinates.reshape(-1, 2))
    torch.testing.assert_close(nodes, torch.eye(45, dtype=torch.float64), atol=1e-12, rtol=0)


def test_interpolation_wraps_around_a_periodic_axis_and_converges_at_order_two():
    grid = Grid((8,), periodic=(True,))
    row = interpolation(grid, torch.tensor([[1 - 1 / 32]], dtype=torch.float64))[0]
    assert row.tolist() == [0.75, 0, 0, 0, 0, 0, 0, 0.25]
    at = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
    errors = []
    for n in (16, 32):
        grid = Grid((n,), periodic=(True,))
        wave = torch.sin(2 * torch.pi * grid.along(0))
        errors.append(float((interpolation(grid, at) @ wave - torch.sin(2 * torch.pi * at[:, 0])).abs().max()))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


def test_long_and_wide_tables_and_archives_hold_the_same_readings(tmp_path):
    long = read_sensors(
        write(tmp_path, "# x: m\n# free words\nx,channel,value,noise\n0.25,solution,0.5,0.1\n0.5,forcing,2,0.3\n"), LINE
    )
    assert long.points.tolist() == [[0.25], [0.5]]
    assert long.channels.tolist() == [1, 0]
    assert long.values.tolist() == [0.5, 2]
    assert long.noise.tolist() == [0.1, 0.3]
    assert long.units == (("x", "m"),)
    assert long.rows == (4, 5)  # lines of the file
    wide = read_sensors(write(tmp_path, "x,forcing,solution,noise\n0.25,,0.5,0.1\n0.5,2,,0.3\n"), LINE)
    arrays = {"x": [0.25, 0.5], "channel": ["solution", "forcing"], "value": [0.5, 2], "noise": [0.1, 0.3]}
    np.savez(tmp_path / "readings.npz", **arrays)
    for other in (wide, read_sensors(tmp_path / "readings.npz", LINE)):
        for name in ("points", "channels", "values", "noise"):
            assert getattr(other, name).tolist() == getattr(long, name).tolist()


def test_a_reading_without_channel_is_of_the_solution_and_time_comes_first(tmp_path):
    found = read_sensors(write(tmp_path, "x,value,t\n0.25,0.5,1.0\n"), BURGERS, noise=0.2)
    assert found.points.tolist() == [[1.0, 0.25]]
    assert found.noise.tolist() == [0.2]
    field = torch.arange(17 * 16.0).reshape(1, 17, 16)
    assert (found.matrix(BURGERS) @ field.flatten().double()).tolist() == [16 * 16 + 4]  # last time, fifth node


def test_noisy_readings_are_divided_by_their_noise_and_exact_ones_are_not(tmp_path):
    found = read_sensors(write(tmp_path, "x,value,noise\n0.5,3,0.5\n0.25,1,0\n0.25,1,0\n"), LINE)
    observation, y = found.noisy(LINE)
    assert (y.tolist(), observation.noise, float(observation.matrix.sum())) == ([6.0], 1.0, 2.0)
    exact, values = found.exact(LINE)
    assert (values.tolist(), exact.noise, exact.matrix.shape[0]) == ([1.0], 0.0, 1)  # given twice, held once


BAD = {
    "x,value\n0.5,1\n": "noise: expected the standard deviation .* got none",
    "x,value,noise\n0.5,1,-0.1\n": "data: .* row 2: expected noise >= 0 .* got -0.1",
    "x,value,noise\n0.5,1,nan\n": "data: .* row 2: expected noise >= 0 .* got nan",
    "x,value,noise\n0.5,nan,1\n": "data: .* row 2: expected a finite value, got nan",
    "x,value,noise\n0.5,,1\n": "data: .* row 2: expected a number for value, got ''",
    "x,value,noise\n0.5,1,1\n1.5,1,1\n-3,1,1\n": r"data: .* row 3: expected x in .*, 0 to 1, got 1.5 \(and 1 more\)",
    "x,value,noise\ninf,1,1\n": "data: .* row 2: expected finite x, got inf",
    "y,value,noise\n0.5,1,1\n": "data: .* no column x .*expected x, then value",
    "x,u,noise\n0.5,1,1\n": "data: .* the column 'u' .*expected x, then value .* or forcing or solution",
    "x,noise\n0.5,1\n": "data: .* has the columns x, noise; expected",
    "x,value,solution,noise\n0.5,1,1,1\n": "data: .* has the columns .*; expected",
    "x,channel,value,noise\n0.5,pressure,1,1\n": "data: .* row 2: expected channel forcing or solution, got 'pressure'",
    "x,forcing,solution,noise\n0.5,,,1\n": "data: .* row 2: expected a value, got none",
    "x,value,noise\n0.5,1\n": "data: .* row 2: expected 3 cells, got 2",
    "x,x,value,noise\n0.5,1,1,1\n": "data: .* has a column twice",
    "x,value,noise\n": "data: .* is empty",
    "": "data: .* is empty",
    "x,value,noise\na,1,1\n": "data: .* row 2: expected a number for x, got 'a'",
    "x,value,noise\n0.5,1,0\n0.5,2,0\n": "data: .* row 2 and 3: expected one exact value .* got 1 and 2",
    'x,value,noise\n"0.5,1,0\n': "data: .* is no table",
}


@pytest.mark.parametrize("text", BAD, ids=[str(k) for k in range(len(BAD))])
def test_whatever_readings_cannot_mean_is_one_line_with_its_row(tmp_path, text):
    with pytest.raises(InputError, match=BAD[text]) as raised:
        read_sensors(write(tmp_path, text), LINE)
    assert "\n" not in str(raised.value)


def test_noise_in_the_file_and_given_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"noise: expected nothing, as .* has a column noise, got 0.1"):
        read_sensors(write(tmp_path, "x,value,noise\n0.5,1,1\n"), LINE, noise=0.1)


def test_a_coefficient_that_is_not_positive_is_refused_and_a_solution_may_be_negative(tmp_path):
    text = "x,y,channel,value,noise\n0.5,0.5,solution,-1,1\n0.5,0.5,{},{},1\n"
    with pytest.raises(InputError, match=r"data: .* row 3: expected a positive coefficient, got 0"):
        read_sensors(write(tmp_path, text.format("coefficient", 0)), DARCY)
    assert len(read_sensors(write(tmp_path, text.format("coefficient", 2)), DARCY)) == 2
    assert len(read_sensors(write(tmp_path, text.format("forcing", -2)), SQUARE)) == 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": [0.5], "value": [1.0, 2.0], "noise": [1.0]}, "has x 1, value 2, noise 1; expected arrays of one length"),
        ({"x": [[0.5]], "value": [[1.0]]}, "arrays of other than one axis"),
        ({}, "has nothing"),
        ({"x": [0.5], "value": [np.nan], "noise": [1.0]}, "row 1: expected a finite value, got nan"),
    ],
)
def test_archives_of_other_arrays_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "readings.npz", **arrays)
    with pytest.raises(InputError, match=f"data: .*{re.escape(message)}"):
        read_sensors(tmp_path / "readings.npz", LINE)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npz", b"PK text", "cannot be read"),
        ("a.npz", b"", "cannot be read"),
        ("a.csv", b"\xff\xfe\x00", "UTF-8"),
        ("a.txt", b"x,value\n", r"expected a file .csv or .npz"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"data: .*{message}"):
        read_sensors(tmp_path / name, LINE, noise=1.0)


def test_a_file_that_is_absent_or_pickled_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"data: cannot read .*No such file"):
        read_sensors(tmp_path / "absent.csv", LINE, noise=1.0)
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"data: .*cannot be read"):
        read_sensors(tmp_path / "a.npz", LINE, noise=1.0)

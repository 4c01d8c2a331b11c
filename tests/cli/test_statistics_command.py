"""`diffuscope statistics` as typed: what it prints and writes, and one line for every mistake."""

import numpy as np
import pytest
from PIL import Image

from diffuscope.cli import main
from diffuscope.data import DataStatistics


def test_the_command_prints_the_moments_and_writes_a_file_and_a_picture(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(2000, 2)) * [5.0, 1.0] + [4.0, 0.0]
    np.savez(tmp_path / "x.npz", x=x, labels=np.arange(2000) % 2)
    out = tmp_path / "new" / "x.safetensors"
    main(["statistics", "--data", str(tmp_path / "x.npz"), "--classes", "pooled", "--out", str(out)])
    printed = capsys.readouterr().out
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    assert "2,000 examples of shape (2,)" in printed
    assert f"Leading eigenvalues: {values[0]:.4g}, {values[1]:.4g}\n" in printed
    assert f"Total variance: {values.sum():.6g}," in printed
    assert 0.95 < values[0] / values.sum() < 0.99
    assert "80%, 90%, 95%, 99% of the variance: 1, 1, 1, 2\n" in printed
    assert "Classes: 2, 1,000 examples each, one covariance" in printed
    assert "Enough examples: at every noise level" in printed
    assert "Warning" not in printed
    loaded = DataStatistics.load(out)
    assert (loaded.data, loaded.gaussian.count) == ("x", 2000)
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.width > 500


def test_a_small_sample_is_warned_of_at_the_level_of_use(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(30, 200)))
    words = ["statistics", "--data", str(tmp_path / "x.npy"), "--out", str(tmp_path / "s.safetensors")]
    main([*words, "--level", "0.1", "--rank", "5"])
    assert "Warning: 30 examples are too few for 200 dimensions at noise 0.1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--out", "x.pt"], "--out: expected a file name ending in .safetensors, got x.pt"),
        (["--data", "missing.npy", "--out", "u8.npy/x.safetensors"], "--out: cannot create the folder u8.npy"),
        (["--data", "missing.npy", "--out", f"{'x' * 300}.safetensors"], "--out: cannot write xxx"),
        (["--to-range", "1", "-1"], "--to-range: expected two numbers, the lower first, got 1 -1"),
        (["--level", "0"], "--level: expected a number > 0, got 0"),
        (["--passes", "1"], "--passes: expected a whole number from 2 to 100, got 1"),
        (["--data", "two-moons", "--rank", "-2"], "--rank: expected a whole number from 0 to 1,000,000, got -2"),
        (["--data", "u8.npy"], "--data: u8.npy has integer values (uint8)"),
        (
            ["--data", "u8.npy", "--data-range", "0", "255", "--classes", "pooled"],
            "--classes: expected data with labels",
        ),
        (["--clases", "pooled"], "--clases: no such option of statistics; did you mean --classes?"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(words, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("u8.npy", np.arange(40, dtype=np.uint8).reshape(10, 4))
    with pytest.raises(SystemExit) as ended:
        main(["statistics", *words])
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert error[0].startswith(f"diffuscope: {line}")

"""`diffuscope canaries` and `diffuscope audit --canaries`: files, secrets, the bound in the report."""

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from diffuscope.cli import main
from diffuscope.data import load_data

SMALL = ["--levels", "6", "--points", "100", "--trajectories", "8", "--generated", "20", "--components", "2",
         "--step-seeds", "8", "--transformations", "none"]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("canaries")
    main(["canaries", "--data", "digits", "--number", "200", "--key", "5", "--out", str(out)])
    return out


def test_the_files_are_readable_data_and_the_secrets_are_their_owners(made):
    data = load_data(str(made / "training.npz"), data_range=(0, 16))
    with np.load(made / "canaries.npz", allow_pickle=False) as canaries:
        count = int(canaries["included"].sum())
        assert canaries["canaries"].shape == (200, 1, 8, 8)
    assert len(data.train) == len(load_data("digits").train) + count
    assert len(load_data(str(made / "included.npz"), data_range=(0, 16)).train) > 0
    assert json.loads((made / "key.json").read_text())["key"] == 5
    for name in ("key.json", "canaries.npz"):
        assert stat.S_IMODE((made / name).stat().st_mode) == 0o600


def test_no_byte_of_the_secrets_is_ever_readable_by_others(tmp_path, monkeypatch):
    """Neither of a file that is being written, nor through files of the same names that were there before."""
    modes, opened = {}, os.open

    def watched(name, flags, *rest, **named):
        descriptor = opened(name, flags, *rest, **named)
        if flags & os.O_CREAT:
            modes[Path(name).name] = stat.S_IMODE(os.fstat(descriptor).st_mode)
        return descriptor

    for name in ("key.json", "canaries.npz"):
        for left in (tmp_path / name, tmp_path / f"{name}.partial"):
            left.write_bytes(b"old")
            left.chmod(0o644)
    monkeypatch.setattr("os.open", watched)
    before = os.umask(0)
    try:
        main(["canaries", "--number", "20", "--out", str(tmp_path)])
    finally:
        os.umask(before)
    assert modes["key.json.partial"] == modes["canaries.npz.partial"] == 0o600
    assert modes["training.npz.partial"] == 0o666
    for name in ("key.json", "canaries.npz"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        assert (tmp_path / name).read_bytes() != b"old"
        assert not (tmp_path / f"{name}.partial").exists()


def test_the_same_key_makes_the_same_coins_and_no_key_makes_others(made, tmp_path, capsys):
    for name, words in (("same", ["--key", "5"]), ("fresh", [])):
        main(["canaries", "--number", "200", *words, "--out", str(tmp_path / name)])
        with np.load(tmp_path / name / "canaries.npz") as there, np.load(made / "canaries.npz") as here:
            assert (there["included"] == here["included"]).all() == (name == "same")
    assert "Keep secret" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["canaries", "--number", "19"], "--number: expected a whole number from 20 to 10,000,000, got 19"),
        (["canaries", "--key", "-1"], "--key: expected a whole number from 0"),
        (["audit", "--canaries", "absent.npz"], "--canaries: absent.npz does not exist; expected canaries.npz"),
        (["audit", "--delta", "1"], "--delta: expected a number from 0 up to, not including, 1, got 1"),
    ],
)
def test_mistakes_are_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([*words, "--out", "out"])
    assert ended.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in line


@pytest.mark.slow  # a whole audit
def test_an_audit_with_canaries_bounds_epsilon_of_the_exact_memorizer(made, tmp_path, monkeypatch, capsys):
    """200 canaries: all of 100 guesses right at 95% / 7 would show epsilon of 2.9."""
    (tmp_path / "lookup_of_canaries.py").write_text(
        "from diffuscope.data import load_data\n"
        "from diffuscope.denoisers import ExactDenoiser\n"
        "from diffuscope.exact import Empirical\n"
        "from diffuscope.schedules import VE\n"
        f"data = load_data({str(made / 'training.npz')!r}, data_range=(0, 16))\n"
        "denoiser = ExactDenoiser(Empirical(data.train), VE())\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ["audit", "--model", "lookup_of_canaries:denoiser", "--data", "digits", *SMALL]
    main([*words, "--canaries", str(made / "canaries.npz"), "--out", "out"])
    found = {f["name"]: f for f in json.loads((tmp_path / "out/audit.json").read_text())["findings"]["membership"]}
    assert found["membership.epsilon"]["value"] > 2
    assert found["membership.epsilon"]["tone"] == "attention"
    assert "With probability 95% over the coins" in found["membership.verdict"]["verdict"]
    assert "differentially private" in capsys.readouterr().out

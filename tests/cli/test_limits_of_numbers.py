"""Every number that a command takes has limits, and beyond them the command ends at once in one line that names it."""

import pytest

from commands_in_tests import refused

FAR = 10**20  # beyond any count
PATHS = ("paths", "math:sin", "--start", "0", "--end", "1")
OPTIONS = [
    (("canaries", "--data", "digits"), ("number", "key", "seed")),
    (("grade",), ("problems", "draws", "steps", "seed")),
    (("solve", "poisson-1d", "--noise", "0"), ("samples", "fields", "nodes", "seed")),
    (PATHS, ("nodes",)),
    (("sample", "--model", "math:sin"), ("n", "nfe", "seed")),
    (("statistics", "--data", "digits"), ("passes", "rank", "seed")),
    (("train", "--data", "digits"), ("train-steps", "batch-size", "seed", "log-every", "audit-every", "train-limit")),
    (("audit", "--data", "digits", "--model", "math:sin"), ("train-steps", "batch-size", "train-limit", "seed")),
    (("reproduce", "heat-1d"), ("seed",)),
]


@pytest.mark.parametrize(
    ("command", "option"), [(command, option) for command, options in OPTIONS for option in options], ids=str
)
@pytest.mark.parametrize("value", [-1, FAR])
def test_numbers_beyond_their_limits_are_refused_by_name(capsys, monkeypatch, tmp_path, command, option, value):
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, *command, f"--{option}={value}")
    assert line.startswith(f"diffuscope: --{option}: expected")
    assert list(tmp_path.iterdir()) == []

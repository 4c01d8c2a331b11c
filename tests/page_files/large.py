"""The tracked nearest neighbors keep the error that they promise."""

import json
from pathlib import Path


def check(run):
    assert float(run.names["result"].relative_error.max()) <= 1e-3
    if run.whole:
        assert json.loads(Path("out/shared/audit.json").read_text())["verdict"]["word"]


def after(run, block):
    if "TrackedEmpirical(" in block.text:
        assert "Work(evaluated=" in run.last[0]

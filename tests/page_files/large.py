"""The tracked nearest neighbors keep the error that they promise."""


def check(run):
    assert float(run.names["result"].relative_error.max()) <= 1e-3


def after(run, block):
    if "TrackedEmpirical(" in block.text:
        assert "Work(evaluated=" in run.last[0]

"""Two steps of training in the default run."""

SHORTER = {"steps=2000": "steps=2"}


def check(run):
    assert run.names["progress"].step == (2000 if run.whole else 2)
    assert run.names["guided"].scale == 2

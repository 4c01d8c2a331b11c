"""Two steps of training in place of 1200."""

SHORTER = {"steps = 1200": "steps = 2", "samples=64, levels=12": "samples=4, levels=4"}


def check(run):
    if not run.lacks:
        assert run.names["samples"].shape == (16, 8, 8, 1)
        assert len(run.names["start"].sigmas) == len(run.names["sigmas"]) - run.names["start"].steps_saved

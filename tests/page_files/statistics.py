"""The last block prints why the statistics do not fit; the one before, that they are of few examples."""


def after(run, block):
    if "few = " in block.text:
        assert "60 examples are too few for 64 dimensions at noise 0.1" in run.last[0]
    if "except InputError" in block.text:
        assert run.last[0].rstrip().endswith("expected less than 1: statistics of the model's training data")

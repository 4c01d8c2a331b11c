"""The learning curve as a user runs it: nothing is made smaller, and every claim holds for other seeds."""

import pytest
from answering import failures, planted

from diffuscope.experiments.learning_curve import LEARNING_CURVE, checkpoints


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("part", [part.name for part in LEARNING_CURVE.parts])
def test_every_claim_holds(part, seed, shared_data, monkeypatch):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(shared_data))
    assert failures(LEARNING_CURVE, part, seed) == set()


@pytest.mark.slow
def test_one_checkpoint_read_seven_times_is_caught(shared_data, monkeypatch):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(shared_data))
    load = checkpoints.load_denoiser
    with planted(
        "diffuscope.experiments.learning_curve.checkpoints.load_denoiser",
        lambda file: load(file.with_name("mnist_ddpm_cnn_trajectory_hughes_run1_epoch0400.npz")),
    ):
        found = failures(LEARNING_CURVE, "mnist")
    assert {"mnist-middle", "mnist-training", "mnist-published", "mnist-linear-first", "mnist-low-noise"} <= found

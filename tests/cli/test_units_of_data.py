"""A model takes the data in the units that were stated or that their format has: none are guessed of their values."""

import numpy as np
import pytest

from diffuscope import cli
from diffuscope.data import data_from_arrays
from diffuscope.denoisers import MLP, Preconditioned, save_denoiser
from diffuscope.errors import InputError
from diffuscope.schedules import VE

MODELS = """
import torch
from diffuscope.schedules import VE

class exact:
    schedule = VE()

    def __init__(self, shape, data_range=None):
        self.event_shape = shape
        if data_range is not None:
            self.data_range = data_range

    def __call__(self, x_t, t):
        return x_t / (1 + torch.as_tensor(t).reshape(-1, *[1] * len(self.event_shape)) ** 2)

vectors, images, latents = exact((2,), (-1.0, 1.0)), exact((1, 2, 2), (-1.0, 1.0)), exact((1,), (-1.0, 1.0))
series, unranged = exact((1, 2), (-1.0, 1.0)), exact((2,))

def mean(x):
    return 10 * x.flatten(1).mean(1, keepdim=True)
"""
X = np.random.default_rng(0).uniform(-0.9, 0.8, size=(40, 2)).astype(np.float32)


@pytest.fixture
def given(tmp_path, monkeypatch):
    """The lowest and highest training value that a model is given by `diffuscope audit` with these words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"models_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    np.save("x.npy", X)
    seen = []

    def stop(subject, *_, **__):
        seen.append(subject.train)
        raise InputError("out: enough")

    monkeypatch.setattr("diffuscope.cli.audit.audit_model", stop)

    def run(model, *words):
        words = ["audit", "--model", f"{name}:{model}" if ".safe" not in model else model, *words]
        with pytest.raises(SystemExit) as ended:
            cli.main([word.replace("MODELS", name) for word in words])
        assert ended.value.code == 2
        return (float(seen[-1].min()), float(seen[-1].max())) if seen else None

    return run


def ends(x):
    return float(x.min()), float(x.max())


@pytest.mark.parametrize(("model", "more"), [("vectors", ()), ("series", ("--kind", "series"))])
def test_floats_of_no_stated_range_are_not_stretched_to_the_range_of_a_model(given, capsys, model, more):
    """They may be in its units already: mapping their ends would scale them."""
    assert given(model, "--data", "x.npy", *more) is None
    line = capsys.readouterr().err.splitlines()[-1]
    low, high = ends(X)
    assert line == (
        "diffuscope: --data-range: expected the values of x that are -1 and 1 to the model (its data_range), as x "
        f"states no range and has values in [{low:g}, {high:g}]; for data in the model's own units --data-range -1 1"
    )


def test_a_stated_range_is_mapped_and_that_of_the_model_leaves_data_as_they_are(given):
    train = data_from_arrays(X, seed=0).train
    assert given("vectors", "--data", "x.npy", "--data-range", "-1", "1") == ends(train)
    low, high = ends(train)
    assert given("vectors", "--data", "x.npy", "--data-range", "-2", "2") == pytest.approx((low / 2, high / 2))


def test_a_model_without_a_range_takes_the_data_as_they_are(given):
    assert given("unranged", "--data", "x.npy") == ends(data_from_arrays(X, seed=0).train)


def test_images_have_a_range_by_convention(given):
    np.save("images.npy", np.random.default_rng(1).uniform(0.2, 0.9, size=(40, 2, 2)).astype(np.float32))
    low, high = given("images", "--data", "images.npy")
    assert -0.6 < low < -0.5  # 2 * 0.2 - 1, of values in [0, 1]
    assert 0.7 < high < 0.8


def test_data_that_reach_both_ends_of_the_range_of_the_model_are_in_its_units(given):
    x = X.copy()
    x[:2, 0] = -1.0, 1.0
    np.save("whole.npy", x)
    assert given("vectors", "--data", "whole.npy") == ends(data_from_arrays(x, seed=0).train)


def test_a_file_of_diffuscope_was_trained_on_data_mapped_by_their_values(given):
    network = MLP((2,), width=4, depth=1)
    save_denoiser(Preconditioned(network, VE(), 1.0, event_shape=(2,), data_range=(-1.0, 1.0)), "own.safetensors")
    low, high = given("own.safetensors", "--data", "x.npy")
    train = data_from_arrays(X, seed=0).in_range(-1, 1).train
    assert (low, high) == ends(train)


def test_latents_are_taken_as_the_encoder_makes_them(given):
    low, high = given("latents", "--data", "x.npy", "--encode", "MODELS:mean")
    assert (low, high) == pytest.approx(ends(10 * data_from_arrays(X, seed=0).train.mean(1)))

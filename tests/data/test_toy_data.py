"""Toy data sets are drawn from the distribution that is named, reproducibly, and the commands take them."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import monte_carlo

from diffuscope.cli import main
from diffuscope.data import load_data, toy_data
from diffuscope.denoisers import load_denoiser
from diffuscope.errors import InputError
from diffuscope.exact import TOYS, known_distribution, known_range


@pytest.mark.parametrize("name", TOYS)
def test_examples_are_as_likely_as_draws_of_the_named_distribution(name: str):
    data, distribution = load_data(name, seed=1), known_distribution(name)
    assert (len(data.train), len(data.heldout), data.event_shape) == (5000, 5000, (2,))
    # the mean log density of noised examples, against that of the distribution's own draws: within the errors of both
    draw = torch.Generator().manual_seed(2)
    own = distribution.sample(5000, generator=draw)
    means = []
    for x in (data.train.double(), data.heldout.double(), own):
        noised = x + 0.1 * torch.randn(x.shape, dtype=torch.float64, generator=draw)
        means.append(monte_carlo(distribution.log_prob(noised[:700], 1.0, 0.1)))
    for part in means[:2]:
        error = math.hypot(part.standard_error, means[2].standard_error)
        assert abs(part.mean - means[2].mean) < 4 * error
    assert (data.shared, data.duplicates) == (0, 0)


@pytest.mark.parametrize("name", TOYS)
def test_the_stated_range_holds_every_value(name: str):
    data = load_data(name)
    low, high = known_range(name)
    assert data.data_range == (low, high)
    assert low <= min(float(data.train.min()), float(data.heldout.min()))
    assert high >= max(float(data.train.max()), float(data.heldout.max()))
    assert float(data.in_range(-1, 1).train.abs().max()) <= 1


def test_draws_depend_on_the_seed_alone():
    first, again, other = (load_data("two-moons", seed=seed) for seed in (3, 3, 4))
    assert first.fingerprint() == again.fingerprint()
    assert not bool((first.train == other.train).any())
    assert "seed 3" in first.provenance


def test_labels_say_which_moon():
    data = load_data("two-moons")
    assert data.train_labels is not None
    upper = data.train[data.train_labels == 0].double()
    lower = data.train[data.train_labels == 1].double()
    # the distance to the arc's center is 1 + .05 z up to (.05 z)^2 / 2: second order in the jitter, hence 6 deviations
    for points, center in ((upper, [0.0, 0.0]), (lower, [1.0, 0.5])):
        assert float(((points - torch.tensor(center)).norm(dim=1) - 1).abs().max()) < 6 * 0.05
    # a binomial count of chance 1/2
    assert abs(len(upper) / 5000 - 0.5) < 5 * 0.5 / 5000**0.5
    assert load_data("swiss-roll").train_labels is None


def test_sizes_are_chosen():
    data = toy_data("rings", n_train=30, n_heldout=7, seed=5)
    assert (len(data.train), len(data.heldout)) == (30, 7)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"name": "moons"}, "name: expected one of two-moons, .*got 'moons'"),
        ({"name": "rings", "n_train": 1}, "n_train: got 1, expected at least 2"),
        ({"name": "rings", "n_heldout": 0}, "n_heldout: got 0, expected at least 2"),
        ({"name": "rings", "seed": -1}, "seed: got -1, expected 0 or a positive number"),
    ],
)
def test_bad_toys_are_refused(options: dict, line: str):
    with pytest.raises(InputError, match=line):
        toy_data(**options)


def test_a_toy_is_trained_on_and_sampled_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def run(*words: str) -> None:
        monkeypatch.setattr("sys.argv", ["diffuscope", *words, "--out", str(tmp_path)])
        main()

    run("train", "--data", "checkerboard", "--train-steps", "200")
    model = load_denoiser(tmp_path / "model.safetensors")
    distribution = known_distribution("checkerboard", (-1.0, 1.0))
    # beside the exact denoiser of the distribution in the model's range, at noise as wide as the board
    draw = torch.Generator().manual_seed(0)
    x = distribution.sample(1000, generator=draw).float() + torch.randn(1000, 2, generator=draw)
    exact = distribution.denoise(x, 1.0, 1.0)
    with torch.no_grad():
        error = (model(x, 1.0) - exact).square().mean() / exact.square().mean()
    assert float(error) < 0.05
    run("sample", "--model", str(tmp_path / "model.safetensors"), "--n", "8", "--nfe", "20")
    samples = np.load(tmp_path / "samples.npz")["x"]
    assert samples.shape == (8, 2)
    assert float(np.abs(samples).max()) < 2

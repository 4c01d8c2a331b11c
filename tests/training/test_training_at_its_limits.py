"""Settings, rates and noise of a training at the ends of their ranges."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from diffuscope.by_parts import mean_and_deviation
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian
from diffuscope.schedules import VE
from diffuscope.training import (
    Distance,
    DistanceLog,
    EDMWeight,
    LogNormalNoise,
    LogUniformNoise,
    Optimum,
    TrainingSettings,
    new_denoiser,
    recipe,
    target_average,
)
from diffuscope.training.average import average_decay
from diffuscope.training.checkpoint import _short
from diffuscope.training.log import OpenLog, read_distances
from diffuscope.training.optimum import RELATIVE_LEVELS
from diffuscope.training.run import _require_no_dropout_nor_batch_norm, clip_gradients
from diffuscope.training.target_average import AveragedTarget, DataPosterior

SETTINGS = TrainingSettings(steps=10, batch_size=4, learning_rate=1.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 1), ("batch_size", 1), ("warmup_steps", 0), ("final_fraction", 0.0), ("final_fraction", 1.0),
        ("weight_decay", 0.0), ("average_decay", 0.0), ("class_dropout", 0.0), ("class_dropout", 1.0),
    ],
)  # fmt: skip
def test_the_ends_of_closed_ranges_are_settings(name, value):
    assert getattr(replace(SETTINGS, **{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0), ("batch_size", 0), ("learning_rate", 0.0), ("learning_rate", math.inf), ("warmup_steps", -1),
        ("weight_decay", math.inf), ("max_gradient_norm", 0.0), ("average_decay", 1.0),
    ],
)  # fmt: skip
def test_the_ends_of_open_ranges_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name}: expected"):
        replace(SETTINGS, **{name: value})


@pytest.mark.parametrize("value", [0.0, math.inf])
def test_scales_are_positive_and_finite(value):
    for made in (
        lambda: LogNormalNoise(std=value),
        lambda: LogUniformNoise(low=value),
        lambda: LogUniformNoise(high=value),
        lambda: EDMWeight(data_std=value),
        lambda: recipe(value, steps=1, batch_size=1, seed=0),
    ):
        with pytest.raises(InputError, match="expected"):
            made()
    with pytest.raises(InputError, match="expected 0 < low < high"):
        LogUniformNoise(low=1.0, high=1.0)
    with pytest.raises(InputError, match="data: expected finite values that vary"):
        new_denoiser(torch.full((3, 2), value), (0.0, 1.0), seed=0)


def test_one_step_and_one_target_are_the_fewest():
    optimum = Optimum.of(
        ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VE()), torch.arange(9.0)[:, None], points=1
    )
    assert DistanceLog(optimum, every=1).every == 1
    assert AveragedTarget(targets=1).targets == 1
    with pytest.raises(InputError, match="every: expected a whole number of steps >= 1"):
        DistanceLog(optimum, every=0)
    with pytest.raises(InputError, match="targets: expected a whole number >= 1"):
        AveragedTarget(targets=0)
    with pytest.raises(InputError, match="points: expected a whole number >= 1"):
        Optimum.of(ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VE()), torch.arange(9.0)[:, None], points=0)


def test_the_rate_rises_to_its_height_and_falls_to_its_end():
    """Steps 0 to 4 rise by fifths; halfway through the cosine the rate is the mean of both ends."""
    settings = replace(SETTINGS, warmup_steps=5, steps=15, final_fraction=0.2)
    assert [settings.learning_rate_at(k) for k in (0, 4, 5)] == pytest.approx([0.2, 1.0, 1.0])
    assert settings.learning_rate_at(10) == pytest.approx(0.6)
    assert settings.learning_rate_at(15) == pytest.approx(0.2)
    alone = replace(SETTINGS, warmup_steps=10, steps=10)
    assert [alone.learning_rate_at(k) for k in (9, 10)] == pytest.approx([1.0, 1.0])  # no step is left to fall in


@pytest.mark.parametrize(("step", "decay"), [(1, 0.0), (2, 0.5**9), (10**6, 0.9)])
def test_the_average_forgets_its_start(step, decay):
    assert average_decay(step, 0.9) == decay


@pytest.mark.parametrize(("cap", "factor"), [(5.0, 1.0), (2.5, 0.5), (7.0, 1.0)])
def test_gradients_beyond_the_cap_alone_are_scaled(cap, factor):
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([parameter], cap) == 5.0
    assert parameter.grad.tolist() == [3.0 * factor, 4.0 * factor]


def test_gradients_that_are_not_finite_stay_so():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, math.inf])
    assert clip_gradients([parameter], 1.0) == math.inf
    assert parameter.grad.tolist() == [3.0, math.inf]


def test_forty_letters_of_a_value_are_shown():
    assert _short("a" * 40) == "a" * 40
    assert _short("a" * 41) == "a" * 37 + "..."


def test_levels_at_the_ends_of_the_schedule_are_measured():
    data = torch.tensor([[-1.0], [1.0]])
    (low, *_, high) = RELATIVE_LEVELS
    schedule = VE(sigma_min=low, sigma_max=high)
    given = ExactDenoiser(Empirical(data), schedule)
    found = Optimum.of(given, data, noise_to_signal=(low, high), points=2)
    assert len(found.noise_to_signal) == 2
    with pytest.raises(InputError, match="noise_to_signal: expected levels between"):
        Optimum.of(given, data, noise_to_signal=(low, 1.01 * high), points=2)


@pytest.mark.parametrize(("memory", "blocks"), [(1, [1] * 5), (16 * 3 * 2, [2, 2, 1]), (10**9, [5])])
def test_draws_in_blocks_are_those_at_once(memory, blocks, monkeypatch):
    lengths, ones, soft = [], torch.ones(5, dtype=torch.float64), torch.softmax

    def recorded(rows, dim):
        lengths.append(len(rows))
        return soft(rows, dim)

    def draws():
        posterior, x_t = DataPosterior(torch.tensor([[-3.0], [0.0], [3.0]])), torch.linspace(-3, 3, 5)[:, None]
        return posterior.draw(x_t, ones, 2 * ones, 4, generator=torch.Generator().manual_seed(0))

    at_once = draws()
    monkeypatch.setattr(target_average, "MEMORY", memory)
    monkeypatch.setattr(torch, "softmax", recorded)
    assert torch.equal(draws(), at_once)
    assert lengths == blocks


@pytest.mark.parametrize("values", [[3.0, 3.0], [-1e300, 1e300]])
def test_data_have_a_deviation_that_is_positive_and_finite(values):
    """The square of 1e300 is beyond float64."""
    with pytest.raises(InputError, match="data: expected finite values that vary, got a standard deviation"):
        new_denoiser(torch.tensor(values, dtype=torch.float64)[:, None], (0.0, 1.0), seed=0)


def test_a_step_is_logged_once(tmp_path):
    exact = ExactDenoiser(Empirical(torch.tensor([[3.0]])), VE())
    optimum = Optimum.of(exact, torch.tensor([[3.0]]), noise_to_signal=(0.5,), points=1)
    log = OpenLog(DistanceLog(optimum, path=tmp_path / "log.jsonl"), 0, resumed=False)
    for step in (0, 1, 1, 0, 2):
        log.write(Distance(step, ()))
    assert [distance.step for distance in read_distances(tmp_path / "log.jsonl")] == [0, 1, 2]


def test_default_levels_at_the_ends_of_the_schedule_are_measured():
    data = torch.tensor([[-1.0], [1.0], [-1.0], [1.0]])
    scale = mean_and_deviation(data)[1] * math.sqrt(1 - 1 / 4)
    levels = tuple(level * scale for level in RELATIVE_LEVELS)
    exact = ExactDenoiser(Empirical(data), VE(sigma_min=levels[0], sigma_max=levels[-1]))
    assert Optimum.of(exact, data, points=2).noise_to_signal == levels
    narrower = VE(sigma_min=math.nextafter(levels[0], 9), sigma_max=math.nextafter(levels[-1], 0))
    assert Optimum.of(ExactDenoiser(Empirical(data), narrower), data, points=2).noise_to_signal == levels[1:-1]


def test_dropout_of_nothing_is_no_dropout():
    _require_no_dropout_nor_batch_norm(nn.Sequential(nn.Dropout(0.0)))
    _require_no_dropout_nor_batch_norm(nn.Sequential(nn.Dropout(0.1)).eval())
    with pytest.raises(InputError, match=r"0 is dropout with p = 0.1, .*expected p = 0"):
        _require_no_dropout_nor_batch_norm(nn.Sequential(nn.Dropout(0.1)))

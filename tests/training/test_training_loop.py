"""The loop: what it learns, that its seed decides everything, its gradient cap, and how it stops."""

import math
import sys

import numpy as np
import pytest
import torch
from conftest import monte_carlo
from torch import nn
from training_models import FixedTime, LinearDenoiser, SmallDenoiser, vectors

from diffuscope.cli import main
from diffuscope.data import toy_data
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.schedules import VE, VP
from diffuscope.training import (
    DataPosterior,
    EDMWeight,
    LogNormalNoise,
    LogUniformNoise,
    PlainWeight,
    TrainingSettings,
    averaged,
    fit,
    new_denoiser,
    recipe,
    show_progress,
    train,
    train_denoiser,
)
from diffuscope.training.average import average_decay
from diffuscope.training.run import clip_gradients

pytestmark = pytest.mark.usefixtures("one_thread")  # bit for bit holds for a fixed number of threads


def weights_of(denoiser: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in denoiser.parameters()]


def trained(seed: int, steps: int = 30) -> list[torch.Tensor]:
    denoiser = SmallDenoiser(3)
    for _ in train(denoiser, vectors(), TrainingSettings(steps=steps, batch_size=16, seed=seed), checkpoint=None):
        pass
    return weights_of(denoiser)


def test_a_network_trained_on_a_mixture_comes_ten_times_closer_to_the_exact_denoiser_than_any_linear_one():
    """The excess loss E w|D - D*|^2 of the trained network against that of the best linear denoiser.

    The best linear denoiser is the exact one of the Gaussian with the mixture's moments: what can be learnt from
    the mean and the covariance alone. A tenth of its excess, estimated on 20,000 fresh noised examples with four
    standard errors to spare, is reached only by learning the components.
    """
    modes = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [0.0, -1.2]], dtype=torch.float64)
    distribution = GaussianMixture.isotropic(
        torch.full((3,), 1 / 3, dtype=torch.float64), modes, torch.full((3,), 0.02)
    )
    generator = torch.Generator().manual_seed(5)
    data = distribution.sample(20_000, generator=generator).float()
    noise_distribution, weight = LogNormalNoise(-0.7, 0.8), EDMWeight(1.0)
    settings = TrainingSettings(
        steps=600,
        batch_size=256,
        learning_rate=1e-2,
        warmup_steps=20,
        weight=weight,
        noise=noise_distribution,
        average_decay=0.99,
    )
    network = fit(SmallDenoiser(2, hidden=64), data, settings)

    x_0 = distribution.sample(20_000, generator=generator).float()
    t = noise_distribution.sample(VE(), len(x_0), generator=generator)
    x_t = x_0 + t[:, None].float() * torch.randn(x_0.shape, generator=generator)
    exact = ExactDenoiser(distribution, VE())(x_t, t)
    linear = ExactDenoiser(distribution.as_gaussian(), VE())(x_t, t)
    with torch.no_grad():
        network_excess = monte_carlo(weight(VE(), t) * (network(x_t, t) - exact).square().mean(1))
    linear_excess = monte_carlo(weight(VE(), t) * (linear - exact).square().mean(1))
    highest = network_excess.mean + 4 * network_excess.standard_error
    assert highest < 0.1 * (linear_excess.mean - 4 * linear_excess.standard_error)


def test_a_linear_denoiser_trained_on_gaussian_data_reaches_the_closed_form():
    """D = a x on N(0, v I) at one level: a -> v alpha / (alpha^2 v + sigma^2).

    The data are scaled to second moment v exactly, so the minimizer over fresh noise is the closed form itself up to
    the data-noise correlation that averages out. The weights average the last n = batch x steps / 10 draws or more
    (mean age of the average), and the variance of an averaged iterate is that of a regression on so many
    (Polyak & Juditsky 1992): tolerance 4 such standard errors.
    """
    v, t, dimension = 2.5, 0.3, 4
    schedule = VP()
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    data = vectors(2000, dimension)
    data *= math.sqrt(v) / data.square().mean().sqrt()
    settings = TrainingSettings(
        steps=400, batch_size=128, learning_rate=0.03, warmup_steps=10, noise=FixedTime(t), weight=PlainWeight()
    )
    denoiser = fit(LinearDenoiser(schedule), data, settings)
    total = alpha**2 * v + sigma**2
    draws = settings.batch_size * settings.steps * dimension / 10
    standard_error = math.sqrt(v * sigma**2 / total / (draws * total))
    assert abs(denoiser.a.item() - v * alpha / total) < 4 * standard_error


def test_one_seed_gives_one_result_and_another_seed_another():
    first, again, other = trained(seed=1), trained(seed=1), trained(seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_training_neither_reads_nor_moves_the_global_generators():
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    first = trained(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # type: ignore[index]  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        assert all(torch.equal(a, b) for a, b in zip(first, trained(seed=1), strict=True))


def test_a_gradient_above_the_cap_is_scaled_to_the_cap_and_keeps_its_direction(generator):
    shapes, cap = [(30, 7), (7,), ()], 0.25
    parameters = [nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    before = torch.cat([p.grad.flatten().clone() for p in parameters])  # type: ignore[union-attr]
    norm = clip_gradients(parameters, cap)
    after = torch.cat([p.grad.flatten() for p in parameters])  # type: ignore[union-attr]
    assert norm == pytest.approx(float(before.norm()), rel=1e-14)
    assert float(after.norm()) == pytest.approx(cap, rel=1e-14)  # rounding: no slack in the cap
    torch.testing.assert_close(after / cap, before / norm, rtol=1e-13, atol=0)


@pytest.mark.parametrize("cap", [1e3, math.inf])
def test_a_gradient_below_the_cap_is_left_as_it_is(cap, generator):
    parameter = nn.Parameter(torch.zeros(40))
    parameter.grad = torch.randn(40, generator=generator)
    before = parameter.grad.clone()
    clip_gradients([parameter], cap)
    assert torch.equal(parameter.grad, before)


def test_the_average_of_a_run_is_the_stated_average_of_its_weights():
    denoiser, average, progress = SmallDenoiser(3), None, None
    settings = TrainingSettings(steps=60, batch_size=8, average_decay=0.9)
    for progress in train(denoiser, vectors(), settings, checkpoint=None):
        current = torch.cat([p.detach().double().flatten() for p in denoiser.parameters()])
        decay = average_decay(progress.step, 0.9)
        average = current if average is None else decay * average + (1 - decay) * current
        live = torch.cat([progress.average[name].flatten() for name, _ in denoiser.named_parameters()])
        torch.testing.assert_close(live.double(), average, rtol=1e-5, atol=1e-6)  # float32 rounding over 60 steps
    assert progress is not None
    before = weights_of(denoiser)
    copy = averaged(denoiser, progress.average)
    assert all(torch.equal(p, progress.average[name]) for name, p in copy.named_parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(denoiser), strict=True))


def test_the_learning_rate_rises_linearly_and_falls_along_a_cosine():
    settings = TrainingSettings(steps=1100, warmup_steps=100, learning_rate=2.0, final_fraction=0.1)
    assert settings.learning_rate_at(0) == pytest.approx(0.02)
    assert settings.learning_rate_at(49) == pytest.approx(1.0)
    assert settings.learning_rate_at(99) == settings.learning_rate_at(100) == 2.0
    assert settings.learning_rate_at(600) == pytest.approx(2.0 * (0.1 + 0.9 / 2))
    assert settings.learning_rate_at(1099) == pytest.approx(0.2, abs=1e-5)
    constant = TrainingSettings(steps=1100, warmup_steps=0, learning_rate=2.0, final_fraction=1.0)
    assert {constant.learning_rate_at(step) for step in range(1100)} == {2.0}


def test_the_rate_and_the_step_that_are_reported_are_those_of_the_step_that_was_made():
    settings = TrainingSettings(steps=5, batch_size=10, warmup_steps=3, learning_rate=0.1)
    reported = list(train(SmallDenoiser(3), vectors(), settings, checkpoint=None))
    assert [progress.step for progress in reported] == [1, 2, 3, 4, 5]
    assert [progress.learning_rate for progress in reported] == [settings.learning_rate_at(k) for k in range(5)]
    assert reported[0].learning_rate == pytest.approx(0.1 / 3)
    assert all(progress.steps == 5 for progress in reported)


def test_the_smoothed_loss_is_the_mean_so_far_and_neither_it_nor_the_average_carries_a_graph():
    settings = TrainingSettings(steps=4, batch_size=10, warmup_steps=0)
    reported = list(train(SmallDenoiser(3), vectors(), settings, checkpoint=None))
    for k, progress in enumerate(reported, 1):
        mean = sum(earlier.loss for earlier in reported[:k]) / k
        assert progress.smoothed_loss == pytest.approx(mean, rel=1e-12)
        assert not any(tensor.requires_grad for tensor in progress.average.values())
    model = averaged(SmallDenoiser(3), reported[-1].average)
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())


def test_the_recipe_is_what_its_docstring_says(generator):
    """Noise from a hundredth of the data's standard deviation to 40 of them; log-normal about it with width 1.8."""
    data = 3 + 0.7 * torch.randn(200, 5, generator=generator)
    scale = float(data.double().std())
    denoiser = new_denoiser(data, (-1.0, 6.0), seed=0)
    assert denoiser.schedule.t_min == pytest.approx(0.01 * scale, rel=1e-12)
    assert denoiser.schedule.t_max == pytest.approx(40 * scale, rel=1e-12)
    settings = recipe(scale, steps=10, batch_size=10, seed=0)
    assert settings.noise == LogNormalNoise(mean=math.log(scale), std=1.8)
    assert settings.weight == EDMWeight(scale)
    # untrained it is the exact denoiser of the isotropic Gaussian with the data's mean and variance
    x = torch.randn(4, 5, generator=generator)
    exact = Gaussian.isotropic(torch.full((5,), float(data.double().mean())), scale**2).denoise(x, 1.0, 0.9)
    torch.testing.assert_close(denoiser(x, 0.9), exact.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_a_recipe_needs_a_positive_scale(scale):
    with pytest.raises(InputError, match=r"^scale: expected a number > 0"):
        recipe(scale, steps=1, batch_size=1, seed=0)


@pytest.mark.parametrize("value", [1.0, math.nan])
def test_data_that_do_not_vary_are_named_and_not_the_noise_levels_made_of_them(value):
    with pytest.raises(InputError, match=r"^data: expected finite values that vary, got a standard deviation of"):
        new_denoiser(torch.full((4, 2), value), (0.0, 1.0), seed=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogNormalNoise(math.nan, 1), "LogNormalNoise.mean: expected a finite number, got nan"),
        (lambda: LogNormalNoise(0, math.inf), "LogNormalNoise.std: expected a number > 0, got inf"),
        (lambda: LogUniformNoise(1, math.inf), "LogUniformNoise: expected 0 < low < high, got low = 1, high = inf"),
        (lambda: EDMWeight(math.inf), "EDMWeight.data_std: expected a number > 0, got inf"),
        (lambda: DataPosterior(torch.zeros(0, 2)), "data: expected at least one example, got none"),
    ],
)
def test_noise_weights_and_posteriors_outside_their_range_are_named(make, message):
    with pytest.raises(InputError) as refused:
        make()
    assert str(refused.value) == message


def test_the_folder_of_a_training_is_made_and_a_file_in_its_place_is_named(tmp_path):
    """Found as a checkpoint in a folder that does not exist, which nobody had asked for."""
    data = toy_data("two-moons", n_train=20, n_heldout=20)
    train_denoiser(data, steps=1, out=tmp_path / "of" / "mine")
    assert (tmp_path / "of" / "mine" / "model.safetensors").is_file()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^out: expected a folder that can be written, got .*file \("):
        train_denoiser(data, steps=1, out=tmp_path / "file")


def test_a_diverging_run_stops_before_it_spoils_a_weight_and_leaves_the_last_checkpoint(tmp_path):
    class Exploding(SmallDenoiser):
        calls = 0

        def forward(self, x_t, t):
            self.calls += 1
            return super().forward(x_t, t) * (math.inf if self.calls == 8 else 1.0)

    path = tmp_path / "run.safetensors"
    denoiser = Exploding(3)
    settings = TrainingSettings(steps=20, batch_size=8, learning_rate=0.5, warmup_steps=0, final_fraction=1.0)
    run = train(denoiser, vectors(), settings, checkpoint=path)
    for _ in range(7):
        next(run)
    before, file = weights_of(denoiser), path.read_bytes()
    with pytest.raises(InputError, match=r"diverged at step 8 with learning rate 0\.5") as caught:
        next(run)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(f"the last good checkpoint is {path}, of step 0")
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(denoiser), strict=True))
    assert path.read_bytes() == file


class PlantedNaN(SmallDenoiser):
    """Answers NaN for one sample of the batch at call `at`, the one of largest noise."""

    def __init__(self, at: int) -> None:
        super().__init__(3)
        self.at, self.calls, self.planted = at, 0, math.nan

    def forward(self, x_t, t):
        self.calls += 1
        answer = super().forward(x_t, t)
        if self.calls == self.at:
            worst = int(t.argmax())
            self.planted = float(t[worst])
            answer = torch.where((torch.arange(len(x_t)) == worst)[:, None], math.nan, answer)
        return answer


@pytest.mark.parametrize("saved", [True, False], ids=["with a checkpoint", "without"])
def test_a_planted_nan_stops_in_one_line_with_its_step_its_noise_and_the_last_good_checkpoint(saved, tmp_path):
    path = tmp_path / "run.safetensors" if saved else None
    denoiser = PlantedNaN(at=6)
    settings = TrainingSettings(steps=20, batch_size=8)
    run = train(denoiser, vectors(), settings, checkpoint=path, save_every=0.0)
    for _ in range(5):
        next(run)
    before = weights_of(denoiser)
    with pytest.raises(InputError, match=r"diverged at step 6 .*\(loss nan") as caught:
        next(run)
    message = str(caught.value)
    assert "\n" not in message
    assert f"sigma = {denoiser.planted:.3g}, alpha = 1)" in message
    assert message.endswith(f"checkpoint is {path}, of step 5" if saved else "no checkpoint was saved")
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(denoiser), strict=True))
    if saved:  # and it is good: a run without the fault goes on from there
        assert next(train(SmallDenoiser(3), vectors(), settings, checkpoint=path)).step == 6


def test_a_nan_on_the_command_line_is_one_line_and_exit_code_2(monkeypatch, capsys, tmp_path):
    class Planted(torch.nn.Module):
        """The command's own model, spoiled at its fourth call."""

        def __init__(self, denoiser) -> None:
            super().__init__()
            self.denoiser, self.schedule, self.sigma_data, self.calls = denoiser, denoiser.schedule, 1.0, 0

        def forward(self, x_t, t):
            self.calls += 1
            return self.denoiser(x_t, t) * (math.nan if self.calls == 4 else 1.0)

    monkeypatch.setattr(
        "diffuscope.training.default_model.new_denoiser",
        lambda *given, **classes: Planted(new_denoiser(*given, **classes)),
    )
    np.save(tmp_path / "data.npy", vectors(40).numpy())
    given = ["--data", str(tmp_path / "data.npy"), "--train-steps", "9", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["diffuscope", "train", *given, "--log-every", "0"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("diffuscope:")]
    assert "diverged at step 4" in line
    assert "sigma = " in line
    assert f"the last good checkpoint is {tmp_path / 'training.safetensors'}, of step 0" in line


def test_the_bar_shows_the_loss_and_the_remaining_time_and_closing_it_closes_the_run(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run = train(SmallDenoiser(3), vectors(), TrainingSettings(steps=40, batch_size=8), checkpoint=None)
    bar = show_progress(run)
    for _ in range(5):
        next(bar)
    bar.close()
    shown = capsys.readouterr().err
    assert "5/40" in shown
    assert "loss " in shown
    assert "<" in shown  # elapsed<remaining
    with pytest.raises(StopIteration):
        next(run)


def with_nan() -> torch.Tensor:
    data = vectors()
    data[17, 1] = math.nan
    return data


class WithDropout(SmallDenoiser):
    def __init__(self) -> None:
        super().__init__(3)
        self.network.append(nn.Dropout(0.1))


class WithoutSchedule(nn.Linear):
    pass


class Detached(SmallDenoiser):
    def forward(self, x_t, t):
        return super().forward(x_t, t).detach().requires_grad_()


@pytest.mark.parametrize(
    ("denoiser", "data", "message"),
    [
        (SmallDenoiser(3), with_nan(), "data: expected finite values"),
        (SmallDenoiser(3), torch.zeros(0, 3), "data: expected at least one example"),
        (WithDropout(), vectors(), r"denoiser: network\.5 is dropout with p = 0\.1"),
        (WithoutSchedule(3, 3), vectors(), "denoiser: expected a module with a `schedule`"),
        (SmallDenoiser(3).requires_grad_(False), vectors(), "denoiser: expected at least one parameter"),
        (Detached(3), vectors(), "denoiser: expected an answer that depends on its parameters"),
    ],
    ids=["nan", "empty", "dropout", "no schedule", "frozen", "detached"],
)
def test_what_cannot_be_trained_is_refused_in_one_line(denoiser, data, message):
    with pytest.raises(InputError, match=message) as caught:
        next(train(denoiser, data, TrainingSettings(steps=2), checkpoint=None))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("warmup_steps", -1),
        ("final_fraction", 1.5),
        ("weight_decay", -0.1),
        ("max_gradient_norm", 0.0),
        ("average_decay", 1.0),
        ("seed", -1),
    ],
)
def test_settings_outside_their_range_are_named(name, value):
    with pytest.raises(InputError, match=f"^{name}: expected"):
        TrainingSettings(**{name: value})

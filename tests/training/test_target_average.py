"""The target-averaged objective: its mean, its variance, its two ends, and the draws behind it."""

import math

import pytest
import torch
from conftest import monte_carlo
from training_models import SmallDenoiser, vectors

from diffuscope.denoisers import over_events
from diffuscope.errors import InputError
from diffuscope.exact import Empirical
from diffuscope.schedules import VE, VP, RectifiedFlow
from diffuscope.training import (
    AveragedTarget,
    DataPosterior,
    Denoising,
    NoiseFreeTarget,
    PlainWeight,
    TrainingSettings,
    train,
)

CPU = torch.device("cpu")
POINTS = torch.tensor([[-1.5, 0.3], [-0.2, -0.8], [0.4, 0.9], [2.0, 0.1]], dtype=torch.float64)


pytestmark = pytest.mark.usefixtures("one_thread")  # bit for bit holds for a fixed number of threads


def times(n: int, t: float) -> torch.Tensor:
    return torch.full((n,), t, dtype=torch.float64)


class Shrinking(torch.nn.Module):
    """D = a x_t."""

    def __init__(self, schedule, a: float = 0.4) -> None:
        super().__init__()
        self.schedule = schedule
        self.a = torch.nn.Parameter(torch.tensor(a, dtype=torch.float64))

    def forward(self, x_t, t):
        del t
        return self.a * x_t


@pytest.mark.parametrize(("schedule", "t"), [(VE(), 0.7), (VP(), 0.4), (RectifiedFlow(), 0.5)], ids=["VE", "VP", "RF"])
def test_posterior_draws_have_the_posterior_weights(schedule, t, generator):
    """200,000 draws at each of 5 points: every frequency within 4.5 standard errors of its weight."""
    alpha, sigma, draws = schedule.alpha(times(5, t)), schedule.sigma(times(5, t)), 200_000
    x_t = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    drawn = DataPosterior(POINTS).draw(x_t, alpha, sigma, draws, generator=generator)
    frequency = torch.stack([(drawn == i).double().mean(1) for i in range(4)], 1)
    square = (x_t[:, None] - over_events(alpha, x_t)[:, None] * POINTS).square().sum(2)
    weights = torch.softmax(-square / (2 * sigma[:, None] ** 2), 1)
    error = (weights * (1 - weights) / draws).sqrt()
    assert bool(((frequency - weights).abs() <= 4.5 * error + 1e-12).all())


def test_draws_at_small_noise_are_the_nearest_point_far_from_the_origin(generator):
    """Where logits are 1e8 and the weights 0 or 1: no other point is ever drawn."""
    data = vectors(300, 5).double() + 1000.0
    x_t = data[:50] + 1e-3 * torch.randn(50, 5, generator=generator, dtype=torch.float64)
    drawn = DataPosterior(data).draw(x_t, times(50, 1.0), times(50, 1e-3), 20, generator=generator)
    assert bool((drawn == torch.arange(50)[:, None]).all())


def test_no_signal_draws_every_example_alike(generator):
    drawn = DataPosterior(POINTS).draw(POINTS[:1], times(1, 0.0), times(1, 1.0), 100_000, generator=generator)
    shares = torch.bincount(drawn[0], minlength=4) / 100_000
    assert float((shares - 0.25).abs().max()) < 4.5 * math.sqrt(0.25 * 0.75 / 100_000)


@pytest.mark.parametrize("targets", [1, 2, 8])
def test_the_averaged_loss_is_the_noise_free_one_plus_the_posterior_variance_over_m(targets, generator):
    """E|D - T_M|^2/d = E|D - D*|^2/d + E tr Cov / (M d), paired over 50,000 samples, within 4 standard errors."""
    schedule, t, n = VP(), 0.35, 50_000
    x_0 = POINTS[torch.randint(0, 4, (n,), generator=generator)]
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    denoiser = Shrinking(schedule)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    with torch.no_grad():
        errors = AveragedTarget(targets).on(POINTS, CPU)(denoiser, x_0, times(n, t), noise, generator=generator)
        noise_free = NoiseFreeTarget().on(POINTS, CPU)(denoiser, x_0, times(n, t), noise, generator=generator)
    x_t = alpha * x_0 + sigma * noise
    variance = Empirical(POINTS).posterior_covariance(x_t, alpha, sigma).trace() / (targets * 2)
    assert float(variance.mean()) > 0.01
    assert monte_carlo(errors - noise_free - variance).agrees_with(0.0, standard_errors=4)


def test_over_the_targets_the_mean_of_the_loss_is_exact_at_every_point():
    """All M-tuples of the four points by their probabilities, instead of draws: M = 1, 2, 3 at 1e-13."""
    schedule, t = VE(), 0.9
    x_t = torch.tensor([[0.1, 0.2], [-1.0, 0.0], [1.2, -0.6]], dtype=torch.float64)
    distribution, denoised = Empirical(POINTS), 0.4 * x_t
    square = (x_t[:, None] - POINTS).square().sum(2)
    weights = torch.softmax(-square / (2 * t**2), 1)
    noise_free = (denoised - distribution.denoise(x_t, schedule.alpha(t), schedule.sigma(t))).square().mean(1)
    variance = distribution.posterior_covariance(x_t, 1.0, t).trace() / 2
    for targets in (1, 2, 3):
        tuples = torch.cartesian_prod(*[torch.arange(4)] * targets).reshape(-1, targets)
        probability = weights[:, tuples].prod(2)
        mean = POINTS[tuples].mean(1)
        loss = (probability * (denoised[:, None] - mean).square().mean(2)).sum(1)
        torch.testing.assert_close(loss, noise_free + variance / targets, rtol=1e-13, atol=1e-13)


def test_the_variance_of_the_gradient_falls_to_that_of_the_noise_free_target(generator):
    """For D = a x_t the slope 2 x.(a x - T_M)/d at one x_t has variance 4 x^T Cov x / (M d^2): the dial.

    40,000 draws: a sample variance has the relative standard error ((kurtosis - 1) / n)^(1/2); within 4 of them.
    """
    t, n = 0.8, 40_000
    x_t = torch.tensor([0.3, -0.4], dtype=torch.float64)
    distribution = Empirical(POINTS)
    covariance = distribution.posterior_covariance(x_t[None], 1.0, t)
    along = float((x_t * covariance.matvec(x_t[None])[0]).sum())
    posterior = DataPosterior(POINTS)
    for targets in (1, 4, 16):
        drawn = posterior.draw(x_t.expand(n, 2), times(n, 1.0), times(n, t), targets, generator=generator)
        slope = 2 * ((0.4 * x_t - POINTS[drawn].mean(1)) * x_t).sum(1) / 2
        kurtosis = float((slope - slope.mean()).pow(4).mean() / slope.var() ** 2)
        assert float(slope.var()) == pytest.approx(along / targets, rel=4 * math.sqrt((kurtosis - 1) / n))


def weights_after(objective, steps: int = 20) -> torch.Tensor:
    denoiser = SmallDenoiser(3)
    settings = TrainingSettings(steps=steps, batch_size=16, weight=PlainWeight(), objective=objective, warmup_steps=2)
    list(train(denoiser, vectors(), settings, checkpoint=None))
    return torch.cat([p.detach().flatten() for p in denoiser.parameters()])


def test_one_target_is_denoising_bit_for_bit():
    assert torch.equal(weights_after(AveragedTarget(1)), weights_after(Denoising()))


def test_the_noise_free_target_is_a_constant():
    """The gradient of |E[x_0 | x_t] - a x_t|^2 in x_0 is that through the answer alone."""
    clean = torch.tensor([[0.3, -0.2], [1.0, 0.4]], dtype=torch.float64)
    noise, model = torch.ones(2, 2, dtype=torch.float64), Shrinking(VE())

    def gradient(x_0, errors):
        x_0 = x_0.clone().requires_grad_()
        return torch.autograd.grad(errors(x_0).sum(), x_0)[0]

    on = NoiseFreeTarget().on(POINTS, CPU)
    found = gradient(clean, lambda x_0: on(model, x_0, times(2, 0.5), noise, generator=torch.Generator()))
    target = Empirical(POINTS).denoise(clean + 0.5 * noise, 1.0, 0.5)
    expected = gradient(clean, lambda x_0: (target - model(x_0 + 0.5 * noise, 0.5)).square().mean(1))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_many_targets_come_to_the_noise_free_gradient_as_one_over_root_m(generator):
    """|T_M - D*|^2 = tr Cov / M in the mean: the targets of M = 4096 lie within 4 such deviations, sample by sample."""
    x_t, m = torch.randn(64, 2, generator=generator, dtype=torch.float64), 4096
    drawn = DataPosterior(POINTS).draw(x_t, times(64, 1.0), times(64, 0.7), m, generator=generator)
    distribution = Empirical(POINTS)
    distance = (POINTS[drawn].mean(1) - distribution.denoise(x_t, 1.0, 0.7)).norm(dim=1)
    deviation = (distribution.posterior_covariance(x_t, 1.0, 0.7).trace() / m).sqrt()
    assert bool((distance <= 4 * deviation + 1e-12).all())
    assert float((distance / deviation).square().mean()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / 64))


@pytest.mark.parametrize("objective", [AveragedTarget(5), NoiseFreeTarget()], ids=["five", "noise-free"])
def test_runs_on_averaged_targets_resume_bit_for_bit(objective, tmp_path):
    settings = TrainingSettings(steps=12, batch_size=8, objective=objective, warmup_steps=2)
    whole, left, resumed = SmallDenoiser(3), SmallDenoiser(3), SmallDenoiser(3, seed=4)
    list(train(whole, vectors(), settings, checkpoint=None))
    run = train(left, vectors(), settings, checkpoint=tmp_path / "run.safetensors")
    for _ in range(5):
        next(run)
    run.close()
    list(train(resumed, vectors(), settings, checkpoint=tmp_path / "run.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_another_objective_or_number_of_targets_does_not_resume_a_run(tmp_path):
    path = tmp_path / "run.safetensors"
    settings = TrainingSettings(steps=5, batch_size=4, objective=AveragedTarget(4))
    next(train(SmallDenoiser(3), vectors(), settings, checkpoint=path))
    with pytest.raises(InputError, match=r"objective\.targets = 4, this run has 8"):
        train(SmallDenoiser(3), vectors(), TrainingSettings(5, 4, objective=AveragedTarget(8)), checkpoint=path)
    with pytest.raises(InputError, match="objective = AveragedTarget, this run has Denoising"):
        train(SmallDenoiser(3), vectors(), TrainingSettings(5, 4), checkpoint=path)


def test_no_targets_are_refused():
    with pytest.raises(InputError, match="targets: expected a whole number >= 1, got 0"):
        AveragedTarget(0)


def test_the_last_example_is_drawn_where_the_uniform_number_rounds_to_one(monkeypatch):
    posterior = DataPosterior(torch.tensor([[0.0], [1.0], [5.0]]))
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.ones(*shape, dtype=torch.float64))
    one = torch.ones(2, dtype=torch.float64)
    drawn = posterior.draw(torch.zeros(2, 1), one, one, 3, generator=torch.Generator())
    assert drawn.tolist() == [[2, 2, 2]] * 2

"""The denoising loss: its noise distributions, its units, its minimizer and its least value, on Gaussians."""

import math

import pytest
import torch
from conftest import monte_carlo
from scipy import stats
from training_models import FixedTime, LinearDenoiser

from diffuscope.denoisers import ExactDenoiser, denoised_to_noise, denoised_to_score, denoised_to_velocity, over_events
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP, Cosine, RectifiedFlow, Schedule
from diffuscope.training import (
    EDMWeight,
    LogNormalNoise,
    LogUniformNoise,
    NoiseWeight,
    PlainWeight,
    ScoreWeight,
    UniformTime,
    VelocityWeight,
    denoising_loss,
    squared_errors,
)

SCHEDULES = [VE(), VP(), Cosine(), RectifiedFlow()]
LEAST_P = 1e-3  # of a Kolmogorov-Smirnov test, at fixed seeds


def every_schedule(test):
    return pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)(test)


@every_schedule
def test_log_normal_noise_has_a_normal_log_noise_to_signal_in_every_schedule(schedule, generator):
    # std .5: the schedule's ends are more than six standard deviations away
    t = LogNormalNoise(-1.2, 0.5).sample(schedule, 20_000, generator=generator)
    log_noise = schedule.noise_to_signal(t).log().numpy()
    assert stats.kstest(log_noise, stats.norm(-1.2, 0.5).cdf).pvalue > LEAST_P


@every_schedule
def test_log_uniform_noise_has_a_uniform_log_noise_to_signal_in_every_schedule(schedule, generator):
    t = LogUniformNoise(0.1, 10.0).sample(schedule, 20_000, generator=generator)
    log_noise = schedule.noise_to_signal(t).log().numpy()
    assert stats.kstest(log_noise, stats.uniform(math.log(0.1), math.log(100)).cdf).pvalue > LEAST_P


@every_schedule
def test_uniform_time_is_uniform_between_the_ends_of_the_schedule(schedule, generator):
    t = UniformTime().sample(schedule, 20_000, generator=generator).numpy()
    assert stats.kstest(t, stats.uniform(schedule.t_min, schedule.t_max - schedule.t_min).cdf).pvalue > LEAST_P


@every_schedule
@pytest.mark.parametrize(
    "distribution", [LogNormalNoise(0.0, 9.0), LogUniformNoise(1e-9, 1e9)], ids=["normal", "uniform"]
)
def test_times_stay_in_the_schedule_however_wide_the_distribution(distribution, schedule, generator):
    t = distribution.sample(schedule, 5000, generator=generator)
    assert t.min() == schedule.t_min
    # where alpha(t_max) = 0 the last time is approached, not reached
    assert schedule.t_max * (1 - 1e-6) <= t.max() <= schedule.t_max


def test_edm_weight_is_karras_formula_and_stays_finite_where_the_signal_is_gone():
    weight, s = EDMWeight(0.7), 0.7
    t = torch.logspace(-2, 1.9, 20, dtype=torch.float64)
    torch.testing.assert_close(weight(VE(), t), (t**2 + s**2) / (t * s) ** 2, rtol=1e-13, atol=0)
    assert float(weight(RectifiedFlow(), 1.0)) == 1 / s**2


@every_schedule
def test_noise_score_and_velocity_errors_are_the_data_error_in_other_units(schedule: Schedule, generator):
    x_0, noise, denoised = torch.randn(3, 64, 5, generator=generator, dtype=torch.float64).unbind(0)
    t = torch.linspace(0.1, 0.9, 64, dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    x_t = over_events(alpha, x_0) * x_0 + over_events(sigma, x_0) * noise
    data_error = (denoised - x_0).square().mean(1)
    noise_error = (denoised_to_noise(x_t, denoised, schedule, t) - noise).square().mean(1)
    score_error = (denoised_to_score(x_t, denoised, schedule, t) + noise / over_events(sigma, noise)).square().mean(1)
    velocity = over_events(schedule.alpha_dot(t), x_0) * x_0 + over_events(schedule.sigma_dot(t), x_0) * noise
    velocity_error = (denoised_to_velocity(x_t, denoised, schedule, t) - velocity).square().mean(1)
    lambda_dot = schedule.alpha_dot(t) / alpha - schedule.sigma_dot(t) / sigma
    torch.testing.assert_close(noise_error, alpha**2 / sigma**2 * data_error, rtol=1e-9, atol=0)
    torch.testing.assert_close(score_error, alpha**2 / sigma**4 * data_error, rtol=1e-9, atol=0)
    torch.testing.assert_close(velocity_error, (alpha * lambda_dot) ** 2 * data_error, rtol=1e-9, atol=0)
    # and those are the weights of that name
    torch.testing.assert_close(NoiseWeight()(schedule, t) * data_error, noise_error, rtol=1e-9, atol=0)
    torch.testing.assert_close(ScoreWeight()(schedule, t) * data_error, score_error, rtol=1e-9, atol=0)
    torch.testing.assert_close(VelocityWeight()(schedule, t) * data_error, velocity_error, rtol=1e-9, atol=0)


def test_flow_matching_is_the_velocity_weight_in_rectified_flow_and_finite_where_the_signal_is_gone():
    t = torch.linspace(0.01, 1.0, 50, dtype=torch.float64)
    torch.testing.assert_close(VelocityWeight()(RectifiedFlow(), t), t**-2, rtol=1e-13, atol=0)


@every_schedule
def test_the_best_linear_denoiser_of_a_centered_gaussian_is_the_closed_form(schedule, generator):
    """The least loss over D = a x is at a = v alpha / (alpha^2 v + sigma^2), within 4 standard errors of a."""
    v, t, n = 2.5, 0.6, 200_000
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    x_0 = math.sqrt(v) * torch.randn(n, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    denoiser = LinearDenoiser(schedule).double()
    # the loss is a parabola in a, so Newton's method from a = 0 arrives in one step
    loss = denoising_loss(denoiser, x_0, t, noise, PlainWeight())
    (slope,) = torch.autograd.grad(loss, denoiser.a, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, denoiser.a)
    best = float((-slope / curvature).detach())
    total = alpha**2 * v + sigma**2
    # regression through the origin: Var(a) = residual variance / (n E x_t^2)
    standard_error = math.sqrt(v * sigma**2 / total / (n * total))
    assert abs(best - v * alpha / total) < 4 * standard_error


@every_schedule
@pytest.mark.parametrize("weight", [PlainWeight(), EDMWeight(1.3)], ids=["plain", "edm"])
def test_the_least_loss_is_the_weighted_posterior_variance(schedule, weight, generator):
    """At D = E[x_0 | x_t] of N(0, v I) the loss per coordinate is w v sigma^2 / (alpha^2 v + sigma^2)."""
    v, n = 1.7, 20_000
    exact = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), v), schedule)
    for t in (0.05, 0.5, schedule.t_max):  # alpha(t_max) = 0 for two of the schedules
        x_0 = math.sqrt(v) * torch.randn(n, 2, generator=generator, dtype=torch.float64)
        noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        w = float(weight(schedule, t))
        errors = monte_carlo(w * squared_errors(exact, x_0, t, noise))
        assert errors.agrees_with(w * v * sigma**2 / (alpha**2 * v + sigma**2), standard_errors=4)
        assert float(denoising_loss(exact, x_0, t, noise, weight)) == pytest.approx(errors.mean, rel=1e-12)


def test_the_loss_exceeds_its_least_value_by_the_distance_to_the_exact_denoiser(generator):
    """E|D - x_0|^2 - E|D* - x_0|^2 = E|D - D*|^2, paired over 200,000 draws, within 4 standard errors."""
    v, t, a, n = 1.7, 0.8, 0.3, 200_000
    x_0 = math.sqrt(v) * torch.randn(n, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    denoiser = LinearDenoiser(VE()).double()
    torch.nn.init.constant_(denoiser.a, a)
    exact = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), v), VE())
    with torch.no_grad():
        excess = squared_errors(denoiser, x_0, t, noise) - squared_errors(exact, x_0, t, noise)
    distance = (a - v / (v + t**2)) ** 2 * (v + t**2)
    assert monte_carlo(excess).agrees_with(distance, standard_errors=4)


def test_an_answer_of_another_shape_is_refused_instead_of_broadcast(generator):
    class Flat(LinearDenoiser):
        def forward(self, x_t, t):
            return super().forward(x_t, t).mean(1, keepdim=True)

    x_0 = torch.randn(4, 3, generator=generator)
    with pytest.raises(InputError, match=r"denoiser: expected an answer of shape \(4, 3\), got \(4, 1\)"):
        squared_errors(Flat(VE()), x_0, FixedTime(1.0).sample(VE(), 4, generator=generator), x_0)


@pytest.mark.parametrize(
    ("distribution", "name"),
    [
        (lambda: LogNormalNoise(std=0.0), "LogNormalNoise.std"),
        (lambda: LogUniformNoise(2.0, 1.0), "LogUniformNoise"),
        (lambda: EDMWeight(data_std=-1.0), "EDMWeight.data_std"),
    ],
)
def test_distributions_and_weights_refuse_values_outside_their_range(distribution, name):
    with pytest.raises(InputError, match=name):
        distribution()

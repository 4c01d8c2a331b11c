"""Cases that a sampler must hit exactly: single data points, closed-form posteriors, singular ends."""

import pytest
import torch
from conftest import monte_carlo
from exact_flows import unequal_gaussian

from diffuscope.denoisers import ExactDenoiser, denoised_to_noise
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.samplers import DDIM, DDPM, DPMSolverPP2M, Euler, Heun, RungeKutta4, Sampler, sample
from diffuscope.schedules import VE, VP, Cosine, DiscreteVP, GeometricVE, Karras, RectifiedFlow, Schedule, Sigmoid
from diffuscope.times import log_snr_times, uniform_times
from numbers_in_tests import seeded

SAMPLERS = [Euler(), Heun(), RungeKutta4(), DDIM(), DDPM(), DPMSolverPP2M()]
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
SCHEDULES = [
    VE(),
    GeometricVE(),
    Karras(),
    VP(),
    DiscreteVP.linear(),
    Cosine(),
    Sigmoid(),
    RectifiedFlow(),
]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
POINT = torch.tensor([0.7, -1.9, 3.0], dtype=torch.float64)
DIRAC = Gaussian.isotropic(POINT, 0.0)


def one_step(
    sampler: Sampler, denoiser: ExactDenoiser, x_t: torch.Tensor, t: torch.Tensor, s: torch.Tensor
) -> torch.Tensor:
    return sample(sampler, denoiser, x_t, torch.stack([t, s]), noise=seeded())


def time(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def inside(schedule: Schedule, share: float) -> torch.Tensor:
    """A time at this share of the range."""
    return time(schedule.t_min + share * (schedule.t_max - schedule.t_min))


def start(schedule: Schedule, t: torch.Tensor, rows: int = 5) -> torch.Tensor:
    noise = torch.randn(rows, 3, dtype=torch.float64, generator=seeded(1))
    return schedule.alpha(t) * POINT + schedule.sigma(t) * noise


@every_schedule
@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP2M()], ids=lambda sampler: type(sampler).__name__)
def test_one_step_of_any_size_is_exact_on_a_single_data_point(sampler: Sampler, schedule: Schedule):
    t, s = inside(schedule, 0.95), inside(schedule, 0.1)
    x_t = start(schedule, t)
    ended = sample(sampler, ExactDenoiser(DIRAC, schedule), x_t, torch.stack([t, s]))
    exact = schedule.alpha(s) * POINT + schedule.sigma(s) / schedule.sigma(t) * (x_t - schedule.alpha(t) * POINT)
    assert torch.allclose(ended, exact, rtol=1e-13, atol=1e-13)


@every_schedule
def test_ddpm_step_is_the_bayes_posterior_of_a_single_data_point(schedule: Schedule):
    """q(x_s | x_t, x_0) by Bayes' rule from the two forward kernels, in any schedule, to 1e-13."""
    denoiser = ExactDenoiser(DIRAC, schedule)
    for share_t, share_s in ((0.95, 0.1), (0.9, 0.85), (0.3, 0.299)):
        t, s = inside(schedule, share_t), inside(schedule, share_s)
        x_t = start(schedule, t)
        a = schedule.alpha(t) / schedule.alpha(s)
        b = schedule.sigma(t) ** 2 - a**2 * schedule.sigma(s) ** 2  # Var(x_t | x_s)
        precision = 1 / schedule.sigma(s) ** 2 + a**2 / b
        mean = (schedule.alpha(s) * POINT / schedule.sigma(s) ** 2 + a * x_t / b) / precision
        noise = torch.randn(x_t.shape, dtype=torch.float64, generator=seeded())
        ended = one_step(DDPM(), denoiser, x_t, t, s)
        scale = float(mean.abs().max() + schedule.sigma(s))
        # b cancels when the steps are close, on the test's side: its rounding is amplified by sigma_t^2 / b
        tolerance = 1e-13 * scale * float((schedule.sigma(t) ** 2 / b).clamp(min=1))
        assert float((ended - mean - precision.rsqrt() * noise).abs().max()) < tolerance


def test_ddpm_step_is_the_posterior_of_the_ddpm_paper():
    """Ho et al.'s eq. 7 for steps of the 1000-step chain, from alpha-bar and beta alone."""
    chain = DiscreteVP.linear()
    denoiser = ExactDenoiser(DIRAC, chain)
    beta = torch.tensor(chain.betas, dtype=torch.float64)
    alpha_bar = (1 - beta).cumprod(0)
    for k in (2, 10, 500, 1000):
        now, before, step = alpha_bar[k - 1], alpha_bar[k - 2], beta[k - 1]
        x_t = start(chain, time(k))
        mean = before.sqrt() * step / (1 - now) * POINT + (1 - step).sqrt() * (1 - before) / (1 - now) * x_t
        std = ((1 - before) / (1 - now) * step).sqrt()
        noise = torch.randn(x_t.shape, dtype=torch.float64, generator=seeded())
        ended = one_step(DDPM(), denoiser, x_t, time(k), time(k - 1))
        assert torch.allclose(ended, mean + std * noise, rtol=1e-13, atol=1e-12)


@every_schedule
def test_ddim_is_euler_in_noise_to_signal(schedule: Schedule):
    """x_s / alpha_s = x_t / alpha_t + (sigma_s/alpha_s - sigma_t/alpha_t) eps."""
    distribution = unequal_gaussian()
    denoiser = ExactDenoiser(distribution, schedule)
    t, s = inside(schedule, 0.9), inside(schedule, 0.4)
    x_t = schedule.sigma(t) * torch.randn(6, 2, dtype=torch.float64, generator=seeded())
    noise = denoised_to_noise(x_t, denoiser(x_t, t), schedule, t)
    difference = schedule.noise_to_signal(s) - schedule.noise_to_signal(t)
    euler = schedule.alpha(s) * (x_t / schedule.alpha(t) + difference * noise)
    assert torch.allclose(one_step(DDIM(), denoiser, x_t, t, s), euler, rtol=1e-12, atol=1e-12)


def test_ddim_and_euler_are_one_method_where_sigma_is_time():
    denoiser = ExactDenoiser(unequal_gaussian(), VE())
    x_t = 5 * torch.randn(6, 2, dtype=torch.float64, generator=seeded())
    times = log_snr_times(VE(), 5.0, 0.01, 12)
    assert torch.allclose(
        sample(DDIM(), denoiser, x_t, times), sample(Euler(), denoiser, x_t, times), rtol=1e-12, atol=0
    )


def test_euler_and_ddim_are_one_method_on_straight_lines():
    denoiser = ExactDenoiser(unequal_gaussian(), RectifiedFlow())
    x_t = torch.randn(6, 2, dtype=torch.float64, generator=seeded())
    times = uniform_times(1.0, 0.0, 12)
    assert torch.allclose(
        sample(DDIM(), denoiser, x_t, times), sample(Euler(), denoiser, x_t, times), rtol=1e-12, atol=0
    )


REACHING_CLEAN_DATA = [schedule for schedule in SCHEDULES if float(schedule.sigma(0.0)) == 0]


@pytest.mark.parametrize("schedule", REACHING_CLEAN_DATA, ids=lambda schedule: type(schedule).__name__)
@every_sampler
def test_a_step_to_clean_data_ends_at_the_denoised_signal(sampler: Sampler, schedule: Schedule):
    denoiser = ExactDenoiser(unequal_gaussian(), schedule)
    t, s = inside(schedule, 0.2), time(0.0)
    x_t = schedule.sigma(t) * torch.randn(6, 2, dtype=torch.float64, generator=seeded())
    ended = one_step(sampler, denoiser, x_t, t, s)
    assert torch.allclose(ended, schedule.alpha(s) * denoiser(x_t, t), rtol=1e-12, atol=1e-12)


@every_schedule
@every_sampler
def test_from_pure_noise_to_the_schedules_end_every_state_is_finite_and_a_single_point_is_reached(
    sampler: Sampler, schedule: Schedule
):
    """The whole range, alpha = 0 at the start and sigma = 0 at the end included."""
    times = uniform_times(schedule.t_max, 0.0, 10)
    x_start = schedule.sigma(times[0]) * torch.randn(4, 3, dtype=torch.float64, generator=seeded(2))
    ended = sample(sampler, ExactDenoiser(DIRAC, schedule), x_start, times, noise=seeded())
    assert bool(torch.isfinite(ended).all())
    if schedule in REACHING_CLEAN_DATA:
        assert torch.allclose(ended, POINT.expand(4, 3), rtol=1e-12, atol=0)


DETERMINISTIC = [Euler(), Heun(), RungeKutta4(), DDIM(), DPMSolverPP2M()]


def improvement(sampler: Sampler, schedule: Schedule) -> float:
    """By how much 8 times as many uniform steps from alpha = 0 shrink the error on Gaussian data."""
    distribution = Gaussian.isotropic(torch.tensor([1.3, -0.4], dtype=torch.float64), 0.5)
    denoiser = ExactDenoiser(distribution, schedule)
    x_start = torch.randn(16, 2, dtype=torch.float64, generator=seeded())
    exact = distribution.flow(x_start, schedule, 1.0, 0.1)

    def error(steps: int) -> float:
        return float((sample(sampler, denoiser, x_start, uniform_times(1.0, 0.1, steps)) - exact).abs().max())

    coarse = 32 if sampler.order == 4 else 12  # the fourth order shows itself later
    return error(coarse) / error(8 * coarse)


@pytest.mark.parametrize("schedule", [RectifiedFlow(), Cosine()], ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize("sampler", DETERMINISTIC, ids=lambda sampler: type(sampler).__name__)
def test_samplers_keep_their_order_from_a_start_without_signal(sampler: Sampler, schedule: Schedule):
    # 8^order, the order within 0.2: the grids are coarse
    assert improvement(sampler, schedule) > 8 ** (sampler.order - 0.2)


@pytest.mark.parametrize("sampler", DETERMINISTIC, ids=lambda sampler: type(sampler).__name__)
def test_samplers_converge_from_a_start_where_alpha_falls_like_a_square_root(sampler: Sampler):
    """alpha ~ sqrt(1 - t): methods that follow t have order 1/2 from there, those that follow log-SNR keep 1."""
    assert improvement(sampler, Sigmoid()) > 8 ** (0.8 if isinstance(sampler, DDIM | DPMSolverPP2M) else 0.5)


def test_sde_and_ode_land_on_four_points_with_different_known_probabilities():
    """Started from N(0, 1) although the true marginal is another distribution: the paper-derived landing
    probabilities.
    """
    points = torch.tensor([[-1.5], [-0.2], [0.4], [2.0]], dtype=torch.float64)
    distribution = GaussianMixture.isotropic(torch.full((4,), 0.25), points, torch.zeros(4, dtype=torch.float64))
    schedule = VP()
    # the Ornstein-Uhlenbeck process of T = 0.7 has sigma/alpha = sqrt(exp(2T) - 1) and preserves variance too
    t_start = float(schedule.time_of_noise_to_signal((torch.tensor(1.4, dtype=torch.float64).exp() - 1).sqrt()))
    times = log_snr_times(schedule, t_start, float(schedule.time_of_noise_to_signal(1e-2)), 150)
    denoiser = ExactDenoiser(distribution, schedule)

    def landed(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot((x - points[:, 0]).abs().argmin(1), 4).double()

    x_start = torch.randn(10_000, 1, dtype=torch.float64, generator=seeded(5))
    sde = landed(sample(DDPM(), denoiser, x_start, times, noise=seeded(6)))
    for i, probability in enumerate((0.26078, 0.25877, 0.25371, 0.22674)):
        assert monte_carlo(sde[:, i]).agrees_with(probability)

    # the flow keeps quantiles, so midpoints of 4000 equal shares of N(0, 1) need no Monte Carlo
    quantiles = torch.special.ndtri((torch.arange(4000, dtype=torch.float64) + 0.5) / 4000)[:, None]
    ode = landed(sample(DDIM(), denoiser, quantiles, times)).mean(0)
    assert torch.allclose(ode, torch.tensor([0.25793, 0.27317, 0.26196, 0.20695], dtype=torch.float64), atol=1.5e-3)

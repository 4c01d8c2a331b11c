"""The probability flow of a Gaussian is the integrated one, a semigroup, and pushes densities forward."""

import numpy as np
import pytest
import torch
from gaussians import (
    EVENT,
    D,
    covariance,
    dense,
    every_distribution,
    low_rank,
    mean_of,
    noised,
    random_basis,
    relative_error,
)
from scipy.integrate import solve_ivp

from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule

SCHEDULES = {"VE": (VE(), 80.0, 0.002), "VP": (VP(), 1.0, 1e-3), "flow matching": (RectifiedFlow(), 1.0, 0.002)}
every_schedule = pytest.mark.parametrize(("schedule", "start", "end"), SCHEDULES.values(), ids=SCHEDULES.keys())


def integrated(gaussian: Gaussian, schedule: Schedule, x: np.ndarray, start: float, end: float) -> np.ndarray:
    """The probability-flow ODE x' = alpha' D + sigma' (x - alpha D)/sigma by DOP853, D from a dense solve."""
    mean, sigma_0 = gaussian.mean.flatten().numpy(), covariance(gaussian).numpy()

    def velocity(t: float, x: np.ndarray) -> np.ndarray:
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        kernel = alpha**2 * sigma_0 + sigma**2 * np.eye(len(x))
        D_t = mean + alpha * sigma_0 @ np.linalg.solve(kernel, x - alpha * mean)
        return float(schedule.alpha_dot(t)) * D_t + float(schedule.sigma_dot(t)) * (x - alpha * D_t) / sigma

    return solve_ivp(velocity, (start, end), x, method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]


@every_schedule
@pytest.mark.parametrize("distribution", [dense, low_rank], ids=["dense", "low rank"])
def test_flow_map_equals_the_integrated_probability_flow_ode(distribution, schedule, start, end):
    gaussian = distribution()
    x_t = noised(gaussian, float(schedule.alpha(start)), float(schedule.sigma(start)), n=1)
    truth = integrated(gaussian, schedule, x_t.flatten().numpy(), start, end)
    moved = gaussian.flow(x_t, schedule, start, end).flatten().numpy()
    # coordinates are of order 1; the integration's own error is below 1e-9
    assert np.abs(moved - truth).max() < 1e-8


@every_distribution
@every_schedule
def test_flow_is_a_semigroup_with_inverse(distribution, schedule, start, end):
    gaussian = distribution()
    x_t = noised(gaussian, float(schedule.alpha(start)), float(schedule.sigma(start)))
    middle = (start * end) ** 0.5
    direct = gaussian.flow(x_t, schedule, start, end)
    halfway = gaussian.flow(x_t, schedule, start, middle)
    assert relative_error(gaussian.flow(halfway, schedule, middle, end), direct) < 1e-13
    assert relative_error(gaussian.flow(x_t, schedule, start, start), x_t) < 1e-14
    # back from sigma ~ 0.002 rounding of 1e-16 in a direction without data grows by up to 1/0.002 (x is of order 1)
    assert relative_error(gaussian.flow(direct, schedule, end, start), x_t) < 1e-12


@every_distribution
@every_schedule
def test_flow_pushes_the_noised_distribution_forward_to_the_noised_distribution(distribution, schedule, start, end):
    gaussian = distribution()
    levels = [(float(schedule.alpha(t)), float(schedule.sigma(t))) for t in (start, end)]
    identity = torch.eye(D, dtype=torch.float64)
    before, after = (a**2 * covariance(gaussian) + s**2 * identity for a, s in levels)
    (alpha, _), (alpha_end, _) = levels
    columns = gaussian.flow(alpha * gaussian.mean + identity.reshape(D, *EVENT), schedule, start, end)
    M = (columns - alpha_end * gaussian.mean).reshape(D, D).T
    assert relative_error(M @ before @ M.T, after) < 1e-11
    log_det = gaussian.flow_log_det(schedule, start, end)
    assert abs(log_det - float(torch.linalg.slogdet(M)[1])) < 1e-9 * max(1.0, abs(log_det))


@every_distribution
def test_log_density_moves_along_the_flow_by_its_log_determinant(distribution):
    gaussian, schedule = distribution(), VP()
    t, s = 0.7, 0.2
    x_t = noised(gaussian, float(schedule.alpha(t)), float(schedule.sigma(t)))
    x_s = gaussian.flow(x_t, schedule, t, s)
    before = gaussian.log_prob(x_t, schedule.alpha(t), schedule.sigma(t))
    after = gaussian.log_prob(x_s, schedule.alpha(s), schedule.sigma(s))
    torch.testing.assert_close(before - after, torch.full_like(before, gaussian.flow_log_det(schedule, t, s)))


@every_distribution
@pytest.mark.parametrize("sigma", [0.01, 0.5, 20.0])
def test_velocity_of_the_flow_is_x_minus_denoised_over_sigma(distribution, sigma):
    gaussian, schedule = distribution(), VE()
    x_T = noised(gaussian, 1.0, 80.0, n=1)
    s = torch.tensor(sigma, dtype=torch.float64)
    x_s = gaussian.flow(x_T, schedule, 80.0, s)
    velocity = torch.autograd.functional.jacobian(lambda s: gaussian.flow(x_T, schedule, 80.0, s), s)
    truth = (x_s - gaussian.denoise(x_s, 1.0, sigma)) / sigma
    torch.testing.assert_close(torch.as_tensor(velocity), truth, rtol=1e-10, atol=1e-10)


@every_distribution
@every_schedule
def test_denoiser_on_the_trajectory_is_the_denoiser_after_the_flow(distribution, schedule, start, end):
    gaussian = distribution()
    x_t = noised(gaussian, float(schedule.alpha(start)), float(schedule.sigma(start)))
    for s in (end, (start * end) ** 0.5, start):
        x_s = gaussian.flow(x_t, schedule, start, s)
        truth = gaussian.denoise(x_s, schedule.alpha(s), schedule.sigma(s))
        assert relative_error(gaussian.flow_denoised(x_t, schedule, start, s), truth) < 1e-12


@pytest.mark.parametrize(
    "distribution",
    [dense, low_rank, lambda: Gaussian(mean_of(EVENT), random_basis(D)[:, :2], torch.tensor([9.0, 2.0]))],
    ids=["dense with a null direction", "low rank", "low rank without tail"],
)
def test_where_the_noise_ends_the_denoiser_is_the_sample_itself(distribution):
    gaussian, schedule = distribution(), RectifiedFlow()
    x_1 = noised(gaussian, 0.0, 1.0)
    x_0 = gaussian.flow(x_1, schedule, 1.0, 0.0)
    assert relative_error(gaussian.flow_denoised(x_1, schedule, 1.0, 0.0), x_0) < 1e-14


@every_distribution
def test_flow_with_times_per_sample_equals_the_samples_one_by_one(distribution):
    gaussian, schedule = distribution(), VP()
    x_t = noised(gaussian, 0.5, 0.9)
    t, s = torch.tensor([0.9, 0.5, 0.2, 1.0]), torch.tensor([0.1, 0.8, 0.2, 0.0])
    for many in (gaussian.flow, gaussian.flow_denoised):
        alone = torch.cat([many(x_t[i : i + 1], schedule, float(t[i]), float(s[i])) for i in range(4)])
        torch.testing.assert_close(many(x_t, schedule, t, s), alone, rtol=1e-13, atol=1e-13)

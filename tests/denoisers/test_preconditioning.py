"""What EDM's preconditioning promises: unit variances, the least amplification of errors, the Gaussian at rest."""

import math

import pytest
import torch
from conftest import monte_carlo

from diffuscope.denoisers import MLP, Preconditioned, UNet, preconditioning
from diffuscope.errors import InputError
from diffuscope.schedules import VE, VP, Cosine, DiscreteVP, GeometricVE, Karras, RectifiedFlow, Sigmoid

SCHEDULES = [VE(), GeometricVE(), Karras(), VP(), DiscreteVP.linear(), Cosine(), Sigmoid(), RectifiedFlow()]
SIGMA_DATA = 0.37
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)


def times(schedule):
    return torch.linspace(schedule.t_min, schedule.t_max, 9, dtype=torch.float64)


@every_schedule
def test_input_and_target_of_the_network_have_unit_variance_at_every_time(schedule):
    t = times(schedule)
    c, alpha, sigma = preconditioning(schedule, t, SIGMA_DATA), schedule.alpha(t), schedule.sigma(t)
    input_variance = c.c_in**2 * (alpha**2 * SIGMA_DATA**2 + sigma**2)
    # target (x_0 - c_skip x_t) / c_out, with x_t = alpha x_0 + sigma eps; 1 - c_skip alpha cancels at small sigma
    target_variance = ((1 - c.c_skip * alpha) ** 2 * SIGMA_DATA**2 + c.c_skip**2 * sigma**2) / c.c_out**2
    assert torch.allclose(input_variance, torch.ones_like(t), rtol=1e-12, atol=0)
    assert torch.allclose(target_variance, torch.ones_like(t), rtol=1e-9, atol=0)


def test_the_target_has_unit_variance_on_data_that_are_not_gaussian(generator):
    n, schedule = 200_000, RectifiedFlow()
    x_0 = SIGMA_DATA * (2 * torch.randint(0, 2, (n,), generator=generator).double() - 1)  # two points
    for t in (0.1, 0.6, 1.0):
        c = preconditioning(schedule, t, SIGMA_DATA)
        x_t = schedule.alpha(t) * x_0 + schedule.sigma(t) * torch.randn(n, generator=generator, dtype=torch.float64)
        target = (x_0 - c.c_skip * x_t) / c.c_out
        assert monte_carlo(target**2).agrees_with(1.0)


@every_schedule
def test_c_skip_is_the_choice_that_makes_c_out_smallest(schedule):
    t = times(schedule)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    c = preconditioning(schedule, t, SIGMA_DATA)
    c_skip = c.c_skip.clone().requires_grad_()
    c_out_squared = (1 - c_skip * alpha) ** 2 * SIGMA_DATA**2 + c_skip**2 * sigma**2
    (slope,) = torch.autograd.grad(c_out_squared.sum(), c_skip)
    assert slope.abs().max() < 1e-12  # and a parabola that opens upwards has one minimum
    assert torch.allclose(c_out_squared, c.c_out**2, rtol=1e-9, atol=0)


def test_at_alpha_one_the_coefficients_are_those_of_karras_2022_table_1():
    sigma = torch.tensor([0.002, 0.5, 80.0], dtype=torch.float64)
    c, s = preconditioning(VE(), sigma, 0.5), 0.5
    assert torch.allclose(c.c_skip, s**2 / (sigma**2 + s**2), rtol=1e-14, atol=0)
    assert torch.allclose(c.c_out, sigma * s / (sigma**2 + s**2).sqrt(), rtol=1e-14, atol=0)
    assert torch.allclose(c.c_in, 1 / (sigma**2 + s**2).sqrt(), rtol=1e-14, atol=0)
    assert torch.allclose(c.c_noise, sigma.log() / 4, rtol=1e-14, atol=0)


@pytest.mark.parametrize("schedule", [RectifiedFlow(), Cosine(), Sigmoid()], ids=lambda s: type(s).__name__)
def test_pure_noise_has_finite_coefficients_and_leaves_the_whole_answer_to_the_network(schedule):
    c = preconditioning(schedule, 1.0, SIGMA_DATA)
    assert float(c.c_skip) == 0
    assert float(c.c_out) == pytest.approx(SIGMA_DATA, rel=1e-12)
    assert math.isfinite(float(c.c_noise))


@every_schedule
@pytest.mark.parametrize("network", [MLP, UNet])
def test_an_untrained_network_is_the_exact_denoiser_of_an_isotropic_gaussian(network, schedule, generator):
    t, mean = times(schedule), 0.2
    x_t = torch.randn(len(t), 5, 6, dtype=torch.float64, generator=generator)
    denoiser = Preconditioned(
        network((5, 6)), schedule, SIGMA_DATA, event_shape=(5, 6), data_range=(0.0, 1.0), data_mean=mean
    )
    alpha, sigma = schedule.alpha(t)[:, None, None], schedule.sigma(t)[:, None, None]
    exact = mean + alpha * SIGMA_DATA**2 * (x_t - alpha * mean) / (alpha**2 * SIGMA_DATA**2 + sigma**2)
    assert torch.allclose(denoiser(x_t, t), exact, rtol=1e-12, atol=1e-13)


def test_the_network_can_represent_the_exact_denoiser_of_any_gaussian(generator):
    """With F set to its exact target's mean, D is the exact denoiser of another variance."""
    schedule, variance = VP(), 0.9

    def network(x, label):
        ratio = (4 * label).exp()[:, None]  # sigma / alpha
        alpha = (1 + ratio**2).rsqrt()
        sigma = ratio * alpha
        scale = (alpha**2 * SIGMA_DATA**2 + sigma**2).sqrt()
        x_t = scale * x
        exact = alpha * variance * x_t / (alpha**2 * variance + sigma**2)
        return (exact - alpha * SIGMA_DATA**2 / scale**2 * x_t) * scale / (sigma * SIGMA_DATA)

    t = times(schedule)
    x_t = torch.randn(len(t), 4, dtype=torch.float64, generator=generator)
    denoised = Preconditioned(network, schedule, SIGMA_DATA, event_shape=(4,), data_range=(-1.0, 1.0))(x_t, t)
    alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
    assert torch.allclose(denoised, alpha * variance * x_t / (alpha**2 * variance + sigma**2), rtol=1e-10, atol=0)


def test_a_standard_deviation_that_is_not_positive_is_refused():
    with pytest.raises(InputError, match=r"sigma_data: expected .* > 0, got 0"):
        Preconditioned(MLP((2,)), VE(), 0.0, event_shape=(2,), data_range=(-1.0, 1.0))

"""The four predictions are one another's functions, in every schedule; and a schedule is only a way of reading."""

import itertools
from dataclasses import dataclass

import pytest
import torch

from diffuscope.denoisers import (
    Batch,
    BatchTime,
    Denoiser,
    NoisePredictor,
    Rescheduled,
    denoised_to_noise,
    denoised_to_score,
    denoised_to_velocity,
    nearest_trained_time,
    noise_to_denoised,
    score_to_denoised,
    velocity_to_denoised,
)
from diffuscope.schedules import (
    VE,
    VP,
    Cosine,
    DiscreteVP,
    GeometricVE,
    Karras,
    RectifiedFlow,
    Schedule,
    Sigmoid,
    as_time,
)

SCHEDULES = [VE(), GeometricVE(), Karras(), VP(), DiscreteVP.linear(), Cosine(), Sigmoid(), RectifiedFlow()]
REACH_PURE_NOISE = [Cosine(), RectifiedFlow()]


def name(schedule: Schedule) -> str:
    return type(schedule).__name__


def inside(schedule: Schedule, n: int = 5) -> torch.Tensor:
    """Times at which alpha > 0, the ends kept where they are such."""
    times = torch.linspace(schedule.t_min, schedule.t_max, n, dtype=torch.float64)
    return times[schedule.alpha(times) > 0]


def noised(schedule: Schedule, t: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    x_0, noise = torch.randn(2, len(t), 3, 4, dtype=torch.float64, generator=generator)
    alpha, sigma = schedule.alpha(t)[:, None, None], schedule.sigma(t)[:, None, None]
    return x_0, noise, alpha * x_0 + sigma * noise


@dataclass(frozen=True)
class GaussianDenoiser:
    """The exact denoiser of N(m, v I): D = m + alpha v (x_t - alpha m) / (alpha^2 v + sigma^2)."""

    schedule: Schedule
    m: float = 0.3
    v: float = 0.7

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        t = as_time(t).expand(len(x_t))
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        gain = alpha * self.v / (alpha**2 * self.v + sigma**2)
        return self.m + gain[:, None] * (x_t - alpha[:, None] * self.m)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_the_clean_data_convert_to_the_noise_and_the_score_that_made_the_state(schedule, generator):
    t = inside(schedule)
    x_0, noise, x_t = noised(schedule, t, generator)
    # x_t - alpha x_0 cancels: one rounding of x_t, divided by sigma
    tolerance = 1e-15 * (1 + float(x_t.abs().max())) / float(schedule.sigma(t).min())
    assert (denoised_to_noise(x_t, x_0, schedule, t) - noise).abs().max() < max(1e-12, tolerance)
    score = -noise / schedule.sigma(t)[:, None, None]
    error = (denoised_to_score(x_t, x_0, schedule, t) - score) * schedule.sigma(t)[:, None, None]
    assert error.abs().max() < max(1e-12, tolerance)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_every_conversion_is_undone_by_its_inverse_to_1e_12(schedule, generator):
    t = inside(schedule)
    x_0, _, x_t = noised(schedule, t, generator)
    pairs = [
        (denoised_to_noise, noise_to_denoised),
        (denoised_to_score, score_to_denoised),
        (denoised_to_velocity, velocity_to_denoised),
    ]
    for there, back in pairs:
        returned = back(x_t, there(x_t, x_0, schedule, t), schedule, t)
        assert (returned - x_0).abs().max() < 1e-12 * (1 + float((1 / schedule.alpha(t)).max()))


def derivative(function, t: torch.Tensor) -> torch.Tensor:
    t = t.clone().requires_grad_()
    value = function(t)
    if not value.requires_grad:
        return torch.zeros_like(t)
    return torch.autograd.grad(value.sum(), t)[0]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=name)
def test_the_velocity_is_the_time_derivative_of_the_path_from_data_to_noise(schedule, generator):
    for t in inside(schedule)[1:-1]:
        t = t.reshape(1)
        if isinstance(schedule, DiscreteVP):
            t = t.floor() + 0.5  # between two steps, where the chain is smooth
        x_0, noise, x_t = noised(schedule, t, generator)
        alpha_dot, sigma_dot = derivative(schedule.alpha, t), derivative(schedule.sigma, t)
        expected = alpha_dot[:, None, None] * x_0 + sigma_dot[:, None, None] * noise
        velocity = denoised_to_velocity(x_t, x_0, schedule, t)
        assert torch.allclose(velocity, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", REACH_PURE_NOISE, ids=name)
def test_the_velocity_tells_the_data_even_where_the_state_is_pure_noise(schedule, generator):
    t = torch.ones(3, dtype=torch.float64)
    assert bool((schedule.alpha(t) == 0).all())
    x_0, _, x_t = noised(schedule, t, generator)
    returned = velocity_to_denoised(x_t, denoised_to_velocity(x_t, x_0, schedule, t), schedule, t)
    assert (returned - x_0).abs().max() < 1e-12


@pytest.mark.parametrize(("inner", "outer"), list(itertools.permutations(SCHEDULES, 2)), ids=name)
def test_an_exact_denoiser_read_through_another_schedule_is_the_exact_denoiser_of_that_schedule(
    inner, outer, generator
):
    t = inside(outer)
    # noise levels that the inner schedule reaches too
    reached = outer.noise_to_signal(t) < 0.99 * inner.noise_to_signal(inside(inner)[-1])
    t = t[reached & (outer.noise_to_signal(t) > inner.noise_to_signal(inner.t_min))]
    x_t = 3 * torch.randn(len(t), 4, dtype=torch.float64, generator=generator)
    denoised = Rescheduled(GaussianDenoiser(inner), outer)(x_t, t)
    assert torch.allclose(denoised, GaussianDenoiser(outer)(x_t, t), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("inner", "outer"), list(itertools.permutations([Cosine(), Sigmoid(), RectifiedFlow()], 2)), ids=name
)
def test_rescheduling_keeps_the_denoiser_at_pure_noise(inner, outer, generator):
    t = torch.ones(2, dtype=torch.float64)
    x_t = torch.randn(2, 4, dtype=torch.float64, generator=generator)
    # nothing but the mean is known there
    assert torch.allclose(Rescheduled(GaussianDenoiser(inner), outer)(x_t, t), torch.full_like(x_t, 0.3), atol=1e-12)


def table_denoiser() -> NoisePredictor:
    return NoisePredictor(
        lambda x, _: torch.zeros_like(x), DiscreteVP.linear(), event_shape=(2,), data_range=(-1.0, 1.0)
    )


def test_the_nearest_trained_time_of_a_table_is_the_nearest_step_and_of_a_continuous_model_the_time_itself():
    t = torch.tensor([0.2, 1.0, 17.4, 17.6, 2000.0], dtype=torch.float64)
    assert nearest_trained_time(table_denoiser(), t).tolist() == [1, 1, 17, 18, 1000]
    assert nearest_trained_time(GaussianDenoiser(VE()), t).tolist() == t.tolist()


@pytest.mark.parametrize("outer", [VE(), VP(), RectifiedFlow(), Cosine()], ids=name)
def test_a_table_read_through_another_schedule_can_be_asked_at_its_nearest_trained_times(outer):
    denoiser = table_denoiser()
    read: Denoiser = Rescheduled(denoiser, outer)
    t = outer.time_of_noise_to_signal(torch.logspace(-1.9, 2, 50, dtype=torch.float64))
    with pytest.raises(ValueError, match="integer times"):
        read(torch.zeros(50, 2), t)
    nearest = nearest_trained_time(read, t)
    read(torch.zeros(50, 2), nearest)
    # nothing in the table is closer in its own time
    steps = denoiser.schedule.time_of_lambda(outer.lam(t))
    chosen = denoiser.schedule.time_of_lambda(outer.lam(nearest))
    assert (chosen - as_time(steps.round())).abs().max() < 1e-6

"""Restart: what a round does to the distribution and to earlier errors, when it happens, and the order that it
keeps.
"""

import math
from dataclasses import dataclass

import pytest
import torch
from affine import GaussianOnTheLine, affine_step, moment_error, propagated
from conftest import measured_order
from exact_flows import unequal_gaussian

from diffuscope.denoisers import Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import (
    DDIM,
    DDPM,
    DPMSolverPP2M,
    Heun,
    Instant,
    Noise,
    Restart,
    Sampler,
    State,
    instant,
    sample,
)
from diffuscope.schedules import VE, VP, Cosine, RectifiedFlow, Schedule
from diffuscope.times import log_snr_times, uniform_times

every_schedule = pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()], ids=lambda s: type(s).__name__)
LINE = Gaussian.isotropic(torch.tensor([1.3], dtype=torch.float64), 0.25)


@dataclass(frozen=True)
class ExactFlow:
    """The probability flow of N(1.3, 1/4) itself, which counts its steps."""

    visited: list

    order, stochastic, nfe_per_step = 1, False, 0

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        self.visited.append((state.t, s.t))
        return State(s, LINE.flow(state.x_t, denoiser.schedule, state.t, s.t))


def at_level(schedule: Schedule, ratio: float) -> Instant:
    return instant(schedule, float(schedule.time_of_noise_to_signal(ratio)))


@every_schedule
@pytest.mark.parametrize("repeats", [1, 3])
def test_a_round_keeps_the_distribution_and_shrinks_an_error_of_the_mean_by_its_closed_form(
    schedule: Schedule, repeats: int
):
    low, high = 0.3, 1.1
    sampler = Restart(ExactFlow([]), low, high, repeats)
    t, s = at_level(schedule, 2.0), at_level(schedule, 0.1)
    denoiser = GaussianOnTheLine(schedule)
    a, b, c_squared = affine_step(sampler, denoiser, t, s)
    (mean, variance), (mean_s, variance_s) = denoiser.marginal(t.t), denoiser.marginal(s.t)
    assert a * mean + b == pytest.approx(mean_s, rel=1e-11)
    assert a**2 * variance + c_squared == pytest.approx(variance_s, rel=1e-11)
    # without restarts an error of the mean would be multiplied by sqrt(variance_s / variance)
    contraction = math.sqrt((0.25 + low**2) / (0.25 + high**2))
    assert a == pytest.approx(math.sqrt(variance_s / variance) * contraction**repeats, rel=1e-11)


def test_it_restarts_once_on_the_step_that_crosses_its_lower_level_and_nowhere_else():
    schedule = Cosine()
    t_low, t_high = (float(schedule.time_of_noise_to_signal(ratio)) for ratio in (0.3, 1.1))
    denoiser = GaussianOnTheLine(schedule)
    x_start = torch.zeros(1, 1, dtype=torch.float64)
    for times in (
        [0.9, t_high, 0.4, t_low, 0.1],  # the level is a time of the grid, up to rounding
        [0.9, t_high, 0.4, 0.1],  # it is inside a step
    ):
        visited = []
        sampler = Restart(ExactFlow(visited), 0.3, 1.1, repeats=2, steps=3)
        grid = torch.tensor(times, dtype=torch.float64)
        sample(sampler, denoiser, x_start, grid, noise=torch.Generator().manual_seed(0))
        assert len(visited) == 4 + 2 * 3  # four stretches of the way, two ways down of three steps
        starts = [t for t, _ in visited if t == pytest.approx(t_high, rel=1e-12)]
        ends = [s for _, s in visited if s == pytest.approx(t_low, rel=1e-12)]
        assert (len(starts), len(ends)) == (3, 3)


def test_a_finer_grid_refines_the_descent():
    for steps in (10, 100):
        visited = []
        schedule = VP()
        times = log_snr_times(schedule, 0.9, 0.05, steps)
        x_start = torch.zeros(1, 1, dtype=torch.float64)
        sampler = Restart(ExactFlow(visited), 0.3, 1.1)
        sample(sampler, GaussianOnTheLine(schedule), x_start, times, noise=torch.Generator().manual_seed(0))
        longest = max(float(schedule.lam(s) - schedule.lam(t)) for t, s in visited)
        whole = float(schedule.lam(0.05) - schedule.lam(0.9))
        assert longest <= whole / steps * (1 + 1e-9)
        assert len(visited) == steps + 1 + math.ceil(math.log(1.1 / 0.3) / (whole / steps))


@pytest.mark.parametrize(
    ("sampler", "schedule", "start", "end"),
    [(DDIM(), VE(), 5.0, 0.05), (Heun(), VP(), 0.95, 1e-3), (DPMSolverPP2M(), RectifiedFlow(), 0.95, 2e-3)],
    ids=["DDIM", "Heun", "DPM-Solver++ 2M"],
)
def test_the_order_of_the_sampler_is_kept_in_distribution(
    sampler: Sampler, schedule: Schedule, start: float, end: float
):
    restarted = Restart(sampler, 0.3, 1.1, 2)
    assert restarted.order == sampler.order

    def error(steps: int) -> float:
        if not isinstance(sampler, DPMSolverPP2M):
            return moment_error(restarted, schedule, start, end, steps)
        return whole_trajectory_error(restarted, schedule, start, end, steps)

    assert abs(measured_order(error, [40, 120, 400]).order - sampler.order) < 0.2


def whole_trajectory_error(sampler: Sampler, schedule: Schedule, start: float, end: float, steps: int) -> float:
    """As `moment_error`, for samplers with a history: the whole trajectory is one affine map of x and two draws."""
    denoiser = GaussianOnTheLine(schedule)
    mean, variance = denoiser.marginal(start)

    class Probe(Noise):
        count = 0

        def normal(self, like: torch.Tensor) -> torch.Tensor:
            drawn = torch.zeros_like(like)
            self.count += 1
            drawn[1 + self.count] = 1
            return drawn

    x_start = torch.tensor([[0.0], [1.0], [0.0], [0.0]], dtype=torch.float64)
    times = log_snr_times(schedule, start, end, steps)
    b, a, c_1, c_2 = sample(sampler, denoiser, x_start, times, noise=Probe(torch.Generator()))[:, 0].tolist()
    a, c_1, c_2 = a - b, c_1 - b, c_2 - b
    exact_mean, exact_variance = denoiser.marginal(end)
    return max(abs(a * mean + b - exact_mean), abs(a**2 * variance + c_1**2 + c_2**2 - exact_variance))


def test_restarts_reduce_the_error_of_a_wrong_start_by_their_contraction():
    """A start whose mean is off by 5: three rounds multiply what coarse steps left of it by their contraction, cubed.

    Sixty fine steps resolve a round to 3% of its own factor, three rounds to 10%.
    """
    schedule = VE()
    denoiser = GaussianOnTheLine(schedule)
    times = torch.cat([log_snr_times(schedule, 20.0, 1.0, 2), log_snr_times(schedule, 1.0, 0.05, 60)[1:]])
    mean, variance = denoiser.marginal(20.0)
    plain, _ = propagated(DDIM(), denoiser, times, mean + 5, variance)
    mended, _ = propagated(Restart(DDIM(), 0.1, 1.0, 3), denoiser, times, mean + 5, variance)
    left = math.sqrt((0.25 + 0.1**2) / (0.25 + 1.0**2)) ** 3
    assert abs(plain - 1.3) > 0.01
    assert (mended - 1.3) / (plain - 1.3) == pytest.approx(left, rel=0.1)


def test_from_pure_noise_to_clean_data_a_single_point_is_reached():
    point = torch.tensor([0.7, -1.9], dtype=torch.float64)
    denoiser = ExactDenoiser(Gaussian.isotropic(point, 0.0), RectifiedFlow())
    x_start = torch.randn(4, 2, dtype=torch.float32, generator=torch.Generator().manual_seed(1))
    for steps in (1, 2, 8):  # one step goes over the whole interval, alpha = 0 and sigma = 0 included
        sampler = Restart(Heun(), 0.2, 2.0, 2)
        times = uniform_times(1.0, 0.0, steps)
        ended = sample(sampler, denoiser, x_start, times, noise=torch.Generator().manual_seed(2))
        assert ended.dtype == torch.float32
        assert torch.allclose(ended, point.float().expand(4, 2), rtol=1e-5, atol=0)


def test_bad_arguments_of_restart_raise():
    with pytest.raises(InputError, match="sampler: expected a deterministic"):
        Restart(DDPM(), 0.1, 1.0)
    with pytest.raises(InputError, match="low, high: expected"):
        Restart(DDIM(), 1.0, 0.1)
    with pytest.raises(InputError, match="repeats, steps: expected"):
        Restart(DDIM(), 0.1, 1.0, 0)
    t, s = at_level(VP(), 2.0), at_level(VP(), 0.05)
    state = State(t, torch.zeros(1, 2, dtype=torch.float64))
    with pytest.raises(InputError, match="noise: Restart draws noise"):
        Restart(DDIM(), 0.1, 1.0).step(ExactDenoiser(unequal_gaussian(), VP()), state, s)

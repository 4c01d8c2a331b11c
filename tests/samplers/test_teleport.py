"""Teleport: the jump is the Gaussian's exact flow, and the grids of both protocols are what they claim."""

import pytest
import torch
from exact_flows import unequal_gaussian

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.samplers import (
    DPMSolverPP2M,
    Evaluation,
    Heun,
    instants,
    reallocate,
    sample,
    teleport,
    trajectory,
    truncate,
    warm_history,
)
from diffuscope.schedules import VE, VP, Cosine, DiscreteVP, RectifiedFlow, Schedule, Sigmoid
from diffuscope.times import karras_times, log_snr_times, uniform_times

DATA = unequal_gaussian()
SCHEDULES = [VE(), VP(), DiscreteVP.linear(), Cosine(), Sigmoid(), RectifiedFlow()]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)


def noise(rows: int = 6) -> torch.Tensor:
    return torch.randn(rows, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("skipped", [1, 4, 9, 16])
def test_the_tail_of_a_karras_grid_is_the_karras_grid_from_there(skipped: int):
    times = karras_times(VE(), 80.0, 0.002, 17)
    tail = truncate(times, VE(), float(times[skipped]))
    assert tail.steps_saved == skipped
    assert float(tail.t_skip) == float(times[skipped])
    from_there = karras_times(VE(), float(times[skipped]), 0.002, 17 - skipped)
    assert float(((tail.times - from_there) / from_there).abs().max()) < 1e-14


def test_truncation_saves_the_published_steps_of_edms_grid():
    """18 levels and a step to 0: level 4 is sigma = 19.4, level 6 is 8.4, and Heun needs 27 and 23 evaluations."""
    times = torch.cat([karras_times(VE(), 80.0, 0.002, 17), torch.zeros(1, dtype=torch.float64)])
    for level, sigma, published_nfe in ((4, 19.4, 27), (6, 8.4, 23)):
        tail = truncate(times, VE(), sigma)
        assert tail.steps_saved == level
        assert float(tail.t_skip) == pytest.approx(sigma, abs=0.05)
        assert 35 - Heun.nfe_per_step * tail.steps_saved == published_nfe


@every_schedule
def test_truncation_snaps_to_the_nearest_level_of_the_grid_in_log_snr(schedule: Schedule):
    times = uniform_times(schedule.t_max, schedule.t_min, 25)
    wanted = 0.97 * float(schedule.noise_to_signal(times[10]))
    tail = truncate(times, schedule, wanted)
    distance = (schedule.noise_to_signal(times).log() - torch.tensor(wanted).double().log()).abs()
    assert float(tail.t_skip) == float(times[int(distance.argmin())])
    assert torch.equal(tail.times, times[tail.steps_saved :])


@every_schedule
def test_a_level_at_or_above_the_start_saves_nothing_and_one_step_always_remains(schedule: Schedule):
    times = uniform_times(schedule.t_max, 0.0, 25)
    above, below = truncate(times, schedule, 1e30), truncate(times, schedule, 1e-30)
    assert above.steps_saved == 0 or float(schedule.alpha(times[0])) == 0  # at alpha = 0 every level is below
    assert len(below.times) == 2


def test_reallocation_spends_every_step_below_the_skip():
    times = karras_times(VP(), 1.0, 1e-3, 12)
    again = reallocate(times, VP(), 10.0, lambda start, steps: karras_times(VP(), start, 1e-3, steps))
    assert len(again) == len(times)
    assert float(VP().noise_to_signal(again[0])) == pytest.approx(10, rel=1e-12)
    assert torch.equal(again, karras_times(VP(), float(VP().time_of_noise_to_signal(10.0)), 1e-3, 12))
    above = reallocate(times, VP(), 1e9, lambda start, steps: karras_times(VP(), start, 1e-3, steps))
    assert torch.equal(above, times)
    for level in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="noise_to_signal"):
            reallocate(times, VP(), level, lambda start, steps: karras_times(VP(), start, 1e-3, steps))


@every_schedule
def test_teleport_on_gaussian_data_is_where_the_model_would_have_arrived(schedule: Schedule):
    """The exact flow, from pure noise (alpha = 0 included): any split into jumps ends at the same point."""
    t_start, t_skip = schedule.t_max, schedule.t_min + 0.4 * (schedule.t_max - schedule.t_min)
    x_start = schedule.sigma(t_start) * noise()
    direct = teleport(DATA, schedule, x_start, t_start, schedule.t_min)
    halfway = teleport(DATA, schedule, x_start, t_start, t_skip)
    assert torch.allclose(teleport(DATA, schedule, halfway, t_skip, schedule.t_min), direct, rtol=1e-12, atol=1e-13)
    fine = sample(Heun(), ExactDenoiser(DATA, schedule), halfway, log_snr_times(schedule, t_skip, schedule.t_min, 60))
    # Heun's own error at 60 steps: second order, about 1e-3 of the data's scale
    assert torch.allclose(fine, direct, atol=1e-2)


def test_teleport_keeps_dtype_and_does_not_go_back():
    assert teleport(DATA, VE(), noise().float(), 80.0, 10.0).dtype == torch.float32
    with pytest.raises(InputError, match="t_skip: expected a time at or before the start"):
        teleport(DATA, VE(), noise(), 10.0, 80.0)
    with pytest.raises(InputError, match="noise_to_signal: expected sigma/alpha > 0"):
        truncate(karras_times(VE(), 80.0, 0.002, 17), VE(), -1.0)
    with pytest.raises(InputError, match="above that of the last time"):
        reallocate(karras_times(VE(), 80.0, 0.002, 9), VE(), 1e-3, lambda start, steps: uniform_times(start, 0, steps))


@every_schedule
def test_warm_history_is_the_denoiser_on_the_exact_trajectory(schedule: Schedule):
    times = uniform_times(schedule.t_max, schedule.t_min, 10)
    x_start = schedule.sigma(times[0]) * noise()
    denoiser = ExactDenoiser(DATA, schedule)
    history = warm_history(DATA, schedule, x_start, times[0], times[:4])
    for evaluation, t in zip(history, times[:4], strict=True):
        x_t = teleport(DATA, schedule, x_start, times[0], t)
        assert evaluation.at.t == float(t)
        assert torch.allclose(evaluation.denoised, denoiser(x_t, t), rtol=1e-12, atol=1e-12)


def test_a_multistep_sampler_resumes_from_a_warm_history_as_if_it_had_walked_there():
    """The same samples as with the model's own evaluations at the skipped times, without making them."""
    times = log_snr_times(VE(), 20.0, 0.05, 10)
    x_start, tail = 20 * noise(), truncate(times, VE(), 2.0)
    denoiser = ExactDenoiser(DATA, VE())
    skipped = times[: tail.steps_saved]
    passed = [(at, teleport(DATA, VE(), x_start, times[0], at.t)) for at in instants(VE(), skipped)]
    walked = tuple(Evaluation(at, x, denoiser(x, at.t)) for at, x in passed)
    x_skip = teleport(DATA, VE(), x_start, times[0], tail.t_skip)

    def resumed(history: tuple[Evaluation, ...]) -> torch.Tensor:
        return sample(DPMSolverPP2M(), denoiser, x_skip, tail.times, history=history)

    warm = resumed(warm_history(DATA, VE(), x_start, times[0], skipped))
    assert torch.allclose(warm, resumed(walked), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(warm, resumed(()), atol=1e-4)


def test_a_teleported_trajectory_starts_at_the_skip():
    times = karras_times(VE(), 80.0, 0.002, 17)
    tail = truncate(times, VE(), 10.0)
    x_skip = teleport(DATA, VE(), 80 * noise(), times[0], tail.t_skip)
    states = list(trajectory(Heun(), ExactDenoiser(DATA, VE()), x_skip, tail.times))
    assert len(states) == 17 - tail.steps_saved + 1
    assert float(states[0].t) == float(tail.t_skip)

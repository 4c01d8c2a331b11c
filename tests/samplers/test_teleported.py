"""Teleport as a wrapper: its steps are free, exact on Gaussian data, and elsewhere of known error."""

import pytest
import torch
from conftest import measured_order
from exact_flows import gaussian_in_the_plane, unequal_gaussian
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, DataPredictor, Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import GaussianMixture
from diffuscope.samplers import (
    DDPM,
    DPMSolverPP2M,
    Heun,
    NoiseAdamsBashforth,
    Sampler,
    UniPC,
    sample,
    suggest_skip,
    teleport,
    trajectory,
    truncate,
    warm_history,
)
from diffuscope.samplers.teleported import Teleported, reallocated_times, suggest_sigma_skip, teleported_sample
from diffuscope.schedules import VE, VP, DiscreteVP, RectifiedFlow, Schedule
from diffuscope.times import karras_times, log_snr_times

DATA = unequal_gaussian()
every_schedule = pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()], ids=["VE", "VP", "rectified flow"])


class Counted:
    """A denoiser that counts its calls and records the lowest lambda of its calls."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner, self.schedule, self.times = inner, inner.schedule, []

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        self.times.append(float(t))
        return self.inner(x_t, t)


def starts(schedule: Schedule, t: float, rows: int = 6) -> Tensor:
    clean = DATA.sample(rows, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(clean.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return schedule.alpha(t) * clean + schedule.sigma(t) * noise


@every_schedule
@pytest.mark.parametrize("sampler", [Heun(), UniPC(), NoiseAdamsBashforth(4)], ids=lambda s: type(s).__name__)
def test_above_the_level_nothing_is_evaluated_and_gaussian_data_are_exact(sampler: Sampler, schedule: Schedule):
    start, end = float(schedule.time_of_noise_to_signal(50.0)), float(schedule.time_of_noise_to_signal(0.02))
    times = karras_times(schedule, start, end, 12)
    denoiser = Counted(ExactDenoiser(DATA, schedule))
    x_start = starts(schedule, start)
    level = float(schedule.noise_to_signal(times[5]))
    for i, state in enumerate(trajectory(Teleported(sampler, DATA, level), denoiser, x_start, times)):
        if i <= 5:
            assert denoiser.times == []
            assert torch.allclose(state.x_t, DATA.flow(x_start, schedule, start, state.t), rtol=1e-11, atol=1e-11)
    assert max(denoiser.times) == pytest.approx(float(times[5]))
    if sampler.nfe_per_step == 1:
        assert len(denoiser.times) == 7  # warm: no evaluation is added at the start


@every_schedule
def test_it_is_truncate_then_sample_with_the_analytic_history(schedule: Schedule):
    start, end = float(schedule.time_of_noise_to_signal(50.0)), float(schedule.time_of_noise_to_signal(0.02))
    times = log_snr_times(schedule, start, end, 14)
    denoiser = ExactDenoiser(mixture_in_the_plane(0.3), schedule)
    x_start = starts(schedule, start)
    tail = truncate(times, schedule, float(schedule.noise_to_signal(times[6])))
    x_skip = teleport(DATA, schedule, x_start, start, tail.t_skip)
    history = warm_history(DATA, schedule, x_start, start, times[:6])
    level = float(schedule.noise_to_signal(times[6]))
    for sampler in (DPMSolverPP2M(), NoiseAdamsBashforth(4), UniPC()):
        by_hand = sample(sampler, denoiser, x_skip, tail.times, history=history)
        ended = sample(Teleported(sampler, DATA, level), denoiser, x_start, times)
        assert torch.allclose(ended, by_hand, rtol=1e-9, atol=1e-10)


def mixture_in_the_plane(share: float) -> GaussianMixture:
    """DATA with a `share` of another Gaussian mixed in."""
    covariance = DATA.eigenvectors @ DATA.eigenvalues.diag() @ DATA.eigenvectors.T
    other = torch.tensor([[0.9, 0.2], [0.2, 0.6]], dtype=torch.float64)
    return GaussianMixture.from_covariances(
        torch.tensor([1 - share, share], dtype=torch.float64),
        torch.stack([DATA.mean, torch.tensor([2.4, 0.8], dtype=torch.float64)]),
        torch.stack([covariance, other]),
    )


@pytest.mark.parametrize("sampler", [NoiseAdamsBashforth(4), UniPC(3)], ids=lambda s: type(s).__name__)
def test_the_warm_start_has_the_full_order_without_a_further_evaluation(sampler: Sampler):
    diffusion = gaussian_in_the_plane()
    denoiser = Counted(ExactDenoiser(diffusion.distribution, VE()))
    x_start = diffusion.start(VE(), 30.0)
    exact = diffusion.flow(x_start, VE(), 30.0, 0.05)

    def error(steps: int) -> float:
        times = reallocated_times(
            log_snr_times(VE(), 30.0, 0.05, steps), VE(), 3.0, lambda start, n: log_snr_times(VE(), start, 0.05, n)
        )
        denoiser.times.clear()
        ended = sample(Teleported(sampler, DATA, 3.0), denoiser, x_start, times)
        assert len(denoiser.times) == steps
        return float((ended - exact).square().mean().sqrt())

    assert measured_order(error, [64, 202]).order > sampler.order - 0.15


def test_from_no_signal_to_clean_data_every_sampler_is_finite():
    schedule = RectifiedFlow()
    times = torch.linspace(1.0, 0.0, 11, dtype=torch.float64)
    x_start = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for sampler in (DDPM(), UniPC(), Heun()):
        wrapped = Teleported(sampler, DATA, 2.0)
        assert wrapped.order == sampler.order
        noise = torch.Generator().manual_seed(0) if wrapped.stochastic else None
        ended = sample(wrapped, ExactDenoiser(DATA, schedule), x_start, times, noise=noise)
        assert bool(torch.isfinite(ended).all())


def test_a_level_above_the_start_changes_nothing():
    denoiser = ExactDenoiser(DATA, VE())
    times = log_snr_times(VE(), 5.0, 0.05, 9)
    plain = sample(UniPC(), denoiser, starts(VE(), 5.0), times)
    assert torch.equal(sample(Teleported(UniPC(), DATA, 20.0), denoiser, starts(VE(), 5.0), times), plain)


def test_the_error_told_along_the_way_is_the_displacement_of_the_end():
    """A weak contamination, a fine sampler: teleported against not teleported, within the trapezoidal rule."""
    denoiser = ExactDenoiser(mixture_in_the_plane(0.05), VE())
    times = log_snr_times(VE(), 60.0, 0.01, 150)
    x_start = starts(VE(), 60.0, rows=32)
    teleported = Teleported(Heun(), DATA, 2.0)
    estimated = teleported_sample(teleported, denoiser, x_start, times, checks=40)
    assert estimated.t_skip == pytest.approx(2.0, rel=0.06)
    true = (estimated.x - sample(Heun(), denoiser, x_start, times)).square().mean(1).sqrt()
    ratio = float(estimated.error.at_end[-1].square().mean().sqrt() / true.square().mean().sqrt())
    assert ratio == pytest.approx(1.0, abs=0.1)


def test_on_gaussian_data_the_error_told_is_zero():
    estimated = teleported_sample(
        Teleported(UniPC(), DATA, 2.0),
        ExactDenoiser(DATA, VE()),
        starts(VE(), 60.0),
        log_snr_times(VE(), 60.0, 0.01, 30),
    )
    assert float(estimated.error.at_end.max()) < 1e-10


@every_schedule
def test_the_suggested_level_meets_the_tolerance_and_the_one_below_does_not(schedule: Schedule):
    denoiser = ExactDenoiser(mixture_in_the_plane(0.3), schedule)
    loose, tight = (
        suggest_sigma_skip(denoiser, DATA, tolerance, generator=torch.Generator().manual_seed(0), samples=32)
        for tolerance in (1e-1, 1e-2)
    )
    assert 0 < tight.index < loose.index
    for found in (loose, tight):
        assert found.estimate <= found.tolerance < float(found.error.relative[found.index + 1])
        again = suggest_skip(
            denoiser, DATA, redrawn(schedule), found.error.times, tolerance=found.tolerance
        )  # the same starts
        assert again.index == found.index


def redrawn(schedule: Schedule) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    clean = DATA.sample(32, generator=draw)
    noise = torch.randn(clean.shape, dtype=torch.float64, generator=draw)
    return schedule.alpha(schedule.t_max) * clean + schedule.sigma(schedule.t_max) * noise


def test_on_gaussian_data_the_suggested_level_is_the_lowest():
    found = suggest_sigma_skip(ExactDenoiser(DATA, VP()), DATA, 1e-6, generator=torch.Generator().manual_seed(0))
    assert found.index == len(found.error.times) - 1


def test_bad_settings_raise():
    with pytest.raises(InputError, match="noise_to_signal"):
        Teleported(UniPC(), DATA, 0.0)
    with pytest.raises(InputError, match="remembered"):
        Teleported(UniPC(), DATA, 1.0, remembered=-1)
    denoiser, times = ExactDenoiser(DATA, VE()), log_snr_times(VE(), 5.0, 0.05, 9)
    with pytest.raises(InputError, match="step above"):
        teleported_sample(Teleported(UniPC(), DATA, 20.0), denoiser, starts(VE(), 5.0), times)
    with pytest.raises(InputError, match="checks: expected at least two"):
        teleported_sample(Teleported(UniPC(), DATA, 1.0), denoiser, starts(VE(), 5.0), times, checks=1)
    teleported_sample(Teleported(UniPC(), DATA, 1.0), denoiser, starts(VE(), 5.0), times, checks=2)


def test_without_memory_the_sampler_starts_cold_where_the_jump_lands():
    denoiser, times, x = ExactDenoiser(DATA, VE()), log_snr_times(VE(), 5.0, 0.05, 9), starts(VE(), 5.0)
    landed = int((VE().noise_to_signal(times) >= 1.0).sum()) - 1
    cold = sample(UniPC(), denoiser, DATA.flow(x, VE(), times[0], times[landed]), times[landed:])
    found = sample(Teleported(UniPC(), DATA, 1.0, remembered=0), denoiser, x, times)
    torch.testing.assert_close(found, cold, rtol=1e-12, atol=1e-12)


def test_a_network_of_trained_steps_is_asked_at_these_steps_only():
    """The exact network of the Gaussian, which knows whole steps only: every jump is free of error."""
    schedule = DiscreteVP.linear()
    asked = []

    def network(x: Tensor, index: Tensor) -> Tensor:
        asked.append(float(index[0]))
        t = index[0].double() + 1
        return DATA.denoise(x, schedule.alpha(t), schedule.sigma(t))

    denoiser = DataPredictor(network, schedule, event_shape=tuple(DATA.event_shape), data_range=(-1.0, 1.0))
    found = suggest_sigma_skip(denoiser, DATA, 0.01, generator=torch.Generator().manual_seed(0), samples=8, levels=9)
    assert asked == [float(t) - 1 for t in found.error.times]
    assert asked[0] == 999.0
    assert found.estimate == pytest.approx(0.0, abs=1e-6)  # the network is that of the Gaussian

"""DPM-Solver++ 2S and 3M: published forms, measured orders, and the factor of two that published code lacks."""

import itertools
import math

import pytest
import torch
from conftest import measured_order
from exact_flows import ExactDiffusion, gaussian_in_the_plane, mixture_on_the_line, unequal_gaussian
from torch import Tensor

from diffuscope.denoisers import Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import DataAdamsBashforth, Evaluation, Sampler, instants, sample
from diffuscope.samplers.dpm_solver import DPMSolverPP2S, DPMSolverPP3M
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule
from diffuscope.times import karras_times, log_snr_times, uniform_times

SAMPLERS = [DPMSolverPP2S(), DPMSolverPP2S(1.0), DPMSolverPP2S(0.3), DPMSolverPP3M()]
STEPS = [20, 63, 200]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize(
    ("diffusion", "schedule", "start", "end"),
    [(gaussian_in_the_plane(), VE(), 3.0, 0.05), (mixture_on_the_line(), RectifiedFlow(), 0.75, 0.05)],
    ids=["gaussian, VE", "mixture, rectified flow"],
)
def test_measured_order_is_the_declared_one(
    sampler: Sampler, diffusion: ExactDiffusion, schedule: Schedule, start: float, end: float
):
    exact = diffusion.exact_end(schedule, start, end)

    def error(steps: int) -> float:
        return diffusion.endpoint_error(sampler, schedule, log_snr_times(schedule, start, end, steps), exact)

    assert abs(measured_order(error, STEPS).order - sampler.order) < 0.15


def third_order(denoiser: Denoiser, x: Tensor, times: Tensor, history: list[Tensor], factor: float) -> Tensor:
    """The multistep third-order formula in phi functions; `factor` multiplies phi_3 D2. `times` begin two earlier."""
    schedule = denoiser.schedule
    lam = schedule.lam(times).tolist()
    outputs = list(history)
    for k, (t, s) in enumerate(itertools.pairwise(times[2:])):
        outputs.append(denoiser(x, t))
        h = lam[k + 3] - lam[k + 2]
        r_0, r_1 = (lam[k + 2] - lam[k + 1]) / h, (lam[k + 1] - lam[k]) / h
        D1_0, D1_1 = (outputs[-1] - outputs[-2]) / r_0, (outputs[-2] - outputs[-3]) / r_1
        D1 = D1_0 + r_0 / (r_0 + r_1) * (D1_0 - D1_1)
        D2 = (D1_0 - D1_1) / (r_0 + r_1)
        phi_1 = math.expm1(-h)
        phi_2 = phi_1 / h + 1
        phi_3 = phi_2 / h - 0.5
        combined = -phi_1 * outputs[-1] + phi_2 * D1 - factor * phi_3 * D2
        x = schedule.sigma(s) / schedule.sigma(t) * x + schedule.alpha(s) * combined
    return x


@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()], ids=["VE", "VP", "rectified flow"])
def test_3m_is_the_phi_function_formula_with_the_factor_two(schedule: Schedule):
    diffusion = gaussian_in_the_plane()
    denoiser = ExactDenoiser(diffusion.distribution, schedule)
    start = float(schedule.time_of_noise_to_signal(4.0))
    times = karras_times(schedule, start, 0.02, 9)
    x = diffusion.start(schedule, start)
    states = [x, *(diffusion.flow(x, schedule, start, float(t)) for t in times[1:3])]
    past = [denoiser(x_t, t) for x_t, t in zip(states[:2], times[:2], strict=True)]
    before = zip(instants(schedule, times[:2]), states, past, strict=False)
    history = tuple(Evaluation(at, x_t, denoised) for at, x_t, denoised in before)
    for sampler in (DPMSolverPP3M(), DataAdamsBashforth(3, power=0.0)):
        ended = sample(sampler, denoiser, states[2], times[2:], history=history)
        expected = third_order(denoiser, states[2], times, past, factor=2.0)
        assert torch.allclose(ended, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("factor", "order"), [(2.0, 3), (1.0, 2)])
def test_without_the_factor_two_the_third_order_formula_has_order_two(factor: float, order: int):
    """From an exact history, so that the start has no error."""
    diffusion = mixture_on_the_line()
    denoiser = ExactDenoiser(diffusion.distribution, VE())
    exact = diffusion.exact_end(VE(), 3.0, 0.05)

    def error(steps: int) -> float:
        times = log_snr_times(VE(), 3.0, 0.05, steps)
        ratio = times[0] / times[1]
        earlier = torch.stack([3.0 * ratio**2, 3.0 * ratio])
        x = diffusion.start(VE(), 3.0)
        past = [denoiser(diffusion.flow(x, VE(), 3.0, float(t)), t) for t in earlier]
        ended = third_order(denoiser, x, torch.cat([earlier, times]), past, factor)
        return float((ended - exact).square().mean().sqrt())

    assert abs(measured_order(error, STEPS).order - order) < 0.2


@pytest.mark.parametrize("r", [0.5, 0.3, 1.0])
def test_2s_is_algorithm_one(r: float):
    """u at a share r of the step in lambda; in VE everything is sigma alone."""
    denoiser = ExactDenoiser(unequal_gaussian(), VE())
    t, s = 2.0, 0.7
    x = t * torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u = t ** (1 - r) * s**r
    D_t = denoiser(x, t)
    inside = u / t * x + (1 - u / t) * D_t
    D = (1 - 1 / (2 * r)) * D_t + 1 / (2 * r) * denoiser(inside, u)
    ended = sample(DPMSolverPP2S(r), denoiser, x, torch.tensor([t, s], dtype=torch.float64))
    assert torch.allclose(ended, s / t * x + (1 - s / t) * D, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_a_single_data_point_is_exact_from_no_signal_to_clean_data(sampler: Sampler):
    point = torch.tensor([0.7, -1.9], dtype=torch.float64)
    denoiser = ExactDenoiser(Gaussian.isotropic(point, 0.0), RectifiedFlow())
    noise = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for times in (uniform_times(1.0, 0.0, 7), torch.tensor([1.0, 0.05], dtype=torch.float64)):
        ended = sample(sampler, denoiser, noise, times)
        s = float(times[-1])
        assert torch.allclose(ended, (1 - s) * point + s * noise, rtol=1e-12, atol=1e-13)


def test_a_share_outside_the_step_raises():
    with pytest.raises(InputError, match="r: expected"):
        DPMSolverPP2S(0.0)

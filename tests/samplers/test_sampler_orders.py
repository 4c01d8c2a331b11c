"""Every sampler's declared order, measured on diffusions whose flow is known exactly."""

import itertools

import pytest
import torch
from conftest import measured_order
from exact_flows import ExactDiffusion, gaussian_in_the_plane, mixture_on_the_line
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.samplers import (
    DDIM,
    DDPM,
    DPMSolverPP2M,
    Euler,
    Evaluation,
    Heun,
    RungeKutta4,
    Sampler,
    State,
    instants,
    sample,
)
from diffuscope.schedules import VE, VP, Cosine, RectifiedFlow, Schedule
from diffuscope.times import karras_times, log_snr_times

DETERMINISTIC = [Euler(), Heun(), RungeKutta4(), DDIM(), DPMSolverPP2M()]
# schedule, start, end: from far above the data's scale to far below it, inside where log-SNR is finite
RANGES = [
    (VE(), 10.0, 0.02),
    (VP(), 0.95, 1e-3),
    (Cosine(), 0.95, 2e-3),
    (RectifiedFlow(), 0.95, 2e-3),
]
STEPS = [12, 38, 120]  # a decade

every_range = pytest.mark.parametrize(
    ("schedule", "start", "end"), RANGES, ids=[type(schedule).__name__ for schedule, _, _ in RANGES]
)


@every_range
@pytest.mark.parametrize("diffusion", [gaussian_in_the_plane(), mixture_on_the_line()], ids=["gaussian", "mixture"])
@pytest.mark.parametrize("sampler", DETERMINISTIC, ids=lambda sampler: type(sampler).__name__)
def test_deterministic_sampler_converges_at_its_declared_order(
    sampler: Sampler, diffusion: ExactDiffusion, schedule: Schedule, start: float, end: float
):
    def error(steps: int) -> float:
        return diffusion.endpoint_error(sampler, schedule, log_snr_times(schedule, start, end, steps), exact)

    exact = diffusion.exact_end(schedule, start, end)
    measured = measured_order(error, STEPS)
    assert abs(measured.order - sampler.order) < 0.15, measured


def test_heun_converges_at_order_two_on_edms_grid_and_range():
    diffusion = gaussian_in_the_plane()

    def error(steps: int) -> float:
        return diffusion.endpoint_error(Heun(), VE(), karras_times(VE(), 80.0, 0.002, steps), exact)

    exact = diffusion.exact_end(VE(), 80.0, 0.002)
    assert abs(measured_order(error, [18, 36, 72, 144]).order - 2) < 0.15


@pytest.mark.parametrize("warm", [False, True])
def test_a_warm_history_raises_the_first_multistep_step_to_second_order(warm: bool):
    """Local error: order 2 for a cold first step (DDIM), 3 with the evaluation before it."""
    diffusion, schedule = gaussian_in_the_plane(), VE()
    denoiser = ExactDenoiser(diffusion.distribution, schedule)
    x_t = diffusion.start(schedule, 1.0)

    def error(steps: int) -> float:
        before, t, s = instants(schedule, torch.tensor([2 ** (1 / steps), 1.0, 2 ** (-1 / steps)], dtype=torch.float64))
        x_before = diffusion.flow(x_t, schedule, 1.0, before.t)
        history = (Evaluation(before, x_before, denoiser(x_before, before.t)),) if warm else ()
        ended = DPMSolverPP2M().step(denoiser, State(t, x_t, history), s)
        return float((ended.x_t - diffusion.flow(x_t, schedule, 1.0, s.t)).abs().max())

    assert abs(measured_order(error, [8, 25, 80]).order - (3 if warm else 2)) < 0.15


def affine_step(denoiser: ExactDenoiser, t: Tensor, s: Tensor) -> tuple[float, float, float]:
    """(A, B, C) of a DDPM step x_s = A x_t + B + C xi, solved from rows whose noise the seed makes known.

    The least-squares residual certifies that the step is affine with exactly this noise.
    """
    x_t = torch.linspace(-3, 3, 12, dtype=torch.float64)[:, None]
    x_s = sample(DDPM(), denoiser, x_t, torch.stack([t, s]), noise=torch.Generator().manual_seed(3))
    noise = torch.randn(x_t.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    rows = torch.cat([x_t, torch.ones_like(x_t), noise], dim=1)
    solution = torch.linalg.lstsq(rows, x_s).solution
    assert float((rows @ solution - x_s).abs().max()) < 1e-12
    a, b, c = solution[:, 0].tolist()
    return a, b, c


@every_range
def test_ddpm_converges_weakly_at_order_one_on_gaussian_data(schedule: Schedule, start: float, end: float):
    """Mean and variance are propagated by the step's own affine recursion: no Monte-Carlo noise."""
    distribution = Gaussian.isotropic(torch.tensor([1.3], dtype=torch.float64), 0.25)
    denoiser = ExactDenoiser(distribution, schedule)

    def marginal(t: float) -> tuple[float, float]:
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        return 1.3 * alpha, 0.25 * alpha**2 + sigma**2

    def error(steps: int) -> float:
        times = log_snr_times(schedule, start, end, steps)
        mean, variance = marginal(start)
        for t, s in itertools.pairwise(times):
            a, b, c = affine_step(denoiser, t, s)
            mean, variance = a * mean + b, a**2 * variance + c**2
        exact_mean, exact_variance = marginal(end)
        return max(abs(mean - exact_mean), abs(variance - exact_variance))

    # the slope rises towards 1 from below, so the coarsest grids are left out
    assert abs(measured_order(error, [40, 125, 400]).order - 1) < 0.15

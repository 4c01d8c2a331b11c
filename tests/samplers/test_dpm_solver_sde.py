"""SDE-DPM-Solver++: the distribution of its states by exact moment recursion on Gaussian data, and exact special
cases.
"""

import itertools

import pytest
import torch
from affine import GaussianOnTheLine
from conftest import measured_order
from exact_flows import unequal_gaussian
from torch import Tensor

from diffuscope.denoisers import Batch, ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.samplers import (
    DPMSolverPP2M,
    Evaluation,
    Noise,
    ReverseBridge,
    Sampler,
    State,
    instants,
    sample,
    stochastic_until,
)
from diffuscope.samplers.dpm_solver_sde import SDEDPMSolverPP2M, SDEDPMSolverPP3M
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule
from diffuscope.times import log_snr_times, uniform_times

METHODS = [SDEDPMSolverPP2M, SDEDPMSolverPP3M]
every_method = pytest.mark.parametrize("method", METHODS, ids=["2M", "3M"])


class Prescribed(Noise):
    """A noise that is what the test says."""

    def __init__(self, xi: Tensor) -> None:
        self.xi = xi

    def increment(self, like: Batch, a: float, b: float) -> Batch:  # noqa: ARG002
        return self.xi


def moments(sampler: Sampler, schedule: Schedule, times: Tensor) -> tuple[float, float]:
    """Mean and variance of the last state, exactly: the step is affine in (x, the two evaluations before, noise).

    Its matrix is read off from one row per argument; mean and covariance of (x, evaluations) are then propagated.
    """
    grid = instants(schedule, times)
    denoiser = GaussianOnTheLine(schedule)
    alpha, sigma = grid[0].alpha, grid[0].sigma
    mean = torch.tensor([1.3 * alpha, 0.0, 0.0], dtype=torch.float64)
    covariance = torch.zeros(3, 3, dtype=torch.float64)
    covariance[0, 0] = 0.25 * alpha**2 + sigma**2
    x = torch.tensor([[0.0], [1.0], [0.0], [0.0], [0.0]], dtype=torch.float64)  # rows: 0, x, D_1, D_2, xi
    older, newer, xi = x.roll(2, 0), x.roll(1, 0), x.roll(3, 0)
    for i, (t, s) in enumerate(itertools.pairwise(grid)):
        past = ((grid[i - 2], older), (grid[i - 1], newer))[2 - min(i, 2) :] if i else ()
        state = State(t, x, tuple(Evaluation(at, x, denoised) for at, denoised in past))
        x_s = sampler.step(denoiser, state, s, Prescribed(xi)).x_t[:, 0]
        denoised = denoiser(x, t.t)[:, 0]
        zero = x_s[0] * 0
        matrix = torch.stack(
            [
                torch.stack([x_s[1] - x_s[0], x_s[2] - x_s[0], x_s[3] - x_s[0]]),
                torch.stack([denoised[1] - denoised[0], zero, zero]),  # the latest evaluation becomes the newer
                torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64),  # the newer the older
            ]
        )
        shift = torch.stack([x_s[0], denoised[0], zero])
        spread = torch.stack([x_s[4] - x_s[0], zero, zero])
        mean = matrix @ mean + shift
        covariance = matrix @ covariance @ matrix.T + torch.outer(spread, spread)
    return float(mean[0]), float(covariance[0, 0])


def law_error(sampler: Sampler, schedule: Schedule, start: float, end: float, steps: int) -> float:
    mean, variance = moments(sampler, schedule, log_snr_times(schedule, start, end, steps))
    alpha, sigma = float(schedule.alpha(end)), float(schedule.sigma(end))
    return max(abs(mean - 1.3 * alpha), abs(variance - 0.25 * alpha**2 - sigma**2))


@pytest.mark.parametrize(  # with little noise two terms of 3M's error change sign against each other
    ("method", "eta"),
    [(SDEDPMSolverPP2M, eta) for eta in (0.3, 1.0, 1.5)] + [(SDEDPMSolverPP3M, 1.0), (SDEDPMSolverPP3M, 1.5)],
)
@pytest.mark.parametrize(
    ("schedule", "start", "end"), [(VE(), 5.0, 0.1), (RectifiedFlow(), 0.8, 0.1)], ids=["VE", "rectified flow"]
)
def test_weak_order_is_two_at_any_eta(method: type, eta: float, schedule: Schedule, start: float, end: float):
    """No Monte Carlo: the moments are exact."""
    sampler = method(eta)
    order = measured_order(lambda n: law_error(sampler, schedule, start, end, n), [80, 160, 320]).order
    assert abs(order - sampler.order) < 0.2


@every_method
@pytest.mark.parametrize("eta", [0.0, 0.3])
def test_extrapolation_pays_at_small_eta(method: type, eta: float):
    """At 40 steps the distribution is 20 times nearer than with the denoiser frozen."""
    frozen = law_error(ReverseBridge(eta), VE(), 5.0, 0.1, 40)
    assert law_error(method(eta), VE(), 5.0, 0.1, 40) < frozen / 20


@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()], ids=["VE", "VP", "rectified flow"])
def test_without_noise_2m_is_the_deterministic_2m(schedule: Schedule):
    denoiser = ExactDenoiser(unequal_gaussian(), schedule)
    x_start = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    times = uniform_times(0.9, 0.0, 9)
    ended = sample(SDEDPMSolverPP2M(0.0), denoiser, x_start, times)
    assert torch.allclose(ended, sample(DPMSolverPP2M(), denoiser, x_start, times), rtol=1e-13, atol=1e-13)
    assert not SDEDPMSolverPP2M(0.0).stochastic


@every_method
def test_the_first_step_is_the_bridges(method: type):
    denoiser = ExactDenoiser(unequal_gaussian(), VP())
    x_start = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([0.8, 0.5], dtype=torch.float64)
    draws = [torch.Generator().manual_seed(4) for _ in range(2)]
    ended = sample(method(0.7), denoiser, x_start, times, noise=draws[0])
    bridge = sample(ReverseBridge(0.7), denoiser, x_start, times, noise=draws[1])
    assert torch.allclose(ended, bridge, rtol=1e-14, atol=1e-14)


@every_method
def test_on_a_single_data_point_every_state_is_the_bridges_and_clean_data_is_hit(method: type):
    """All evaluations agree, so nothing is extrapolated; the end of the flow carries no noise."""
    point = torch.tensor([0.7, -1.9], dtype=torch.float64)
    denoiser = ExactDenoiser(Gaussian.isotropic(point, 0.0), RectifiedFlow())
    x_start = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for end in (0.0, 0.1):
        times = uniform_times(1.0, end, 8)
        draws = [torch.Generator().manual_seed(4) for _ in range(2)]
        ended = sample(method(1.0), denoiser, x_start, times, noise=draws[0])
        bridge = sample(ReverseBridge(1.0), denoiser, x_start, times, noise=draws[1])
        assert torch.allclose(ended, bridge, rtol=1e-12, atol=1e-13)
    assert torch.allclose(
        sample(method(1.0), denoiser, x_start, uniform_times(1.0, 0.0, 8), noise=draws[0]), point.expand(4, 2)
    )


@every_method
def test_eta_that_ends_draws_no_noise_afterwards(method: type):
    """Below the level the step is deterministic: two noises give one state from a common one."""
    eta = stochastic_until(VE(), 1.0)
    denoiser = ExactDenoiser(unequal_gaussian(), VE())
    x_t = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([0.9, 0.5], dtype=torch.float64)
    first, second = (sample(method(eta), denoiser, x_t, times, noise=torch.Generator().manual_seed(k)) for k in (1, 2))
    assert method(eta).stochastic
    assert torch.equal(first, second)

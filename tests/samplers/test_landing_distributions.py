"""Finite data: the exact reverse transition, where SDE and ODE land, and how fast they come near the data.

The setting is ours: unequal weights, a start from N(0, I) that is not the marginal there. The SDE's posterior weights
are martingales, so it lands on y_i with probability E[w_i(x)] over the start; the ODE keeps quantiles.
"""

from dataclasses import dataclass

import pytest
import torch
from conftest import monte_carlo
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, ExactDenoiser
from diffuscope.exact import Empirical
from diffuscope.samplers import (
    EulerMaruyama,
    MixtureTransition,
    Noise,
    ReverseBridge,
    RungeKutta4,
    Sampler,
    State,
    instant,
    sample,
    trajectory,
)
from diffuscope.samplers.mixture_transition import posterior_draw
from diffuscope.schedules import VE, VP, Cosine, RectifiedFlow, Schedule, as_time
from diffuscope.times import log_snr_times, uniform_times
from numbers_in_tests import seeded

POINTS = torch.tensor([[-1.1], [0.1], [0.5], [1.7]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.4, 0.1, 0.2, 0.3], dtype=torch.float64)
LINE = Empirical(POINTS, WEIGHTS)
PLANE_POINTS = torch.tensor([[1.0, 0.2], [-0.4, 1.1], [-0.9, -0.7], [0.3, -0.2], [0.4, -0.1]], dtype=torch.float64)
PLANE = Empirical(PLANE_POINTS)


def posterior_weights(x: Tensor, points: Tensor, weights: Tensor, alpha: float, sigma: float) -> Tensor:
    """softmax of log w_i - |x - alpha y_i|^2 / 2 sigma^2, directly."""
    square = (x[:, None] - alpha * points).square().sum(-1)
    return (weights.log() - square / (2 * sigma**2)).softmax(1)


@dataclass(frozen=True)
class OnTheLine:
    """The denoiser of the four points, in one line: E[x_0 | x_t] = sum_i w_i y_i."""

    schedule: Schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        alpha, sigma = float(self.schedule.alpha(as_time(t))), float(self.schedule.sigma(as_time(t)))
        return posterior_weights(x_t, POINTS, WEIGHTS, alpha, sigma) @ POINTS


def start_time(schedule: Schedule) -> float:
    return float(schedule.time_of_noise_to_signal(1.2))


@pytest.mark.parametrize("sigma", [3.0, 0.3, 0.02])
@pytest.mark.parametrize("memory", [1, 2**27], ids=["many chunks", "one chunk"])
def test_points_are_drawn_by_their_posterior_weights(sigma: float, memory: int):
    """Midpoints of equal shares as the uniform numbers: frequencies are weights to one draw, no Monte Carlo."""
    points = torch.randn(100, 2, dtype=torch.float64, generator=seeded())
    weights = torch.rand(100, dtype=torch.float64, generator=seeded(1))
    weights[::7] = 0
    data = Empirical(points, weights, memory=memory)
    x = torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    at = instant(VE(), sigma)
    uniform = (torch.arange(5000, dtype=torch.float64) + 0.5) / 5000
    drawn = posterior_draw(data, x.expand(5000, 2), at, uniform)
    frequency = (drawn[:, None] == points).all(-1).double().mean(0)
    expected = posterior_weights(x, points, weights, 1.0, sigma)[0]
    assert torch.allclose(frequency, expected, atol=1.01 / 5000)


def test_in_a_batch_every_sample_is_drawn_from_its_own_weights():
    x = torch.linspace(-2, 2, 4000, dtype=torch.float64)[:, None]
    at = instant(Cosine(), 0.5)
    drawn = posterior_draw(LINE, x, at, torch.rand(4000, dtype=torch.float64, generator=seeded()))
    expected = posterior_weights(x, POINTS, WEIGHTS, at.alpha, at.sigma)
    for i in range(4):
        assert monte_carlo((drawn == POINTS[i]).double()[:, 0] - expected[:, i]).agrees_with(0.0)


@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()], ids=lambda schedule: type(schedule).__name__)
def test_the_transition_is_bayes_rule(schedule: Schedule):
    """x_s given x_t has density p(x_s) N(x_t; a x_s, b) / p(x_t): its distribution function by quadrature."""
    t, s = (instant(schedule, float(schedule.time_of_noise_to_signal(ratio))) for ratio in (1.2, 0.4))
    x_t = torch.full((40_000, 1), 0.6 * t.alpha, dtype=torch.float64)
    drawn = MixtureTransition(LINE).step(OnTheLine(schedule), State(t, x_t), s, Noise(seeded())).x_t[:, 0]
    a = t.alpha / s.alpha
    b = t.sigma**2 - a**2 * s.sigma**2
    grid = torch.linspace(-4, 4, 16_001, dtype=torch.float64) * s.alpha
    log_density = LINE.log_prob(grid[:, None], s.alpha, s.sigma) - (0.6 * t.alpha - a * grid) ** 2 / (2 * b)
    cumulative = log_density.softmax(0).cumsum(0)
    for quantile in (0.05, 0.3, 0.5, 0.7, 0.95):
        cut = int(torch.searchsorted(cumulative, quantile))
        assert monte_carlo((drawn <= grid[cut]).double()).agrees_with(float(cumulative[cut]), 4.1)


def landed(x: Tensor, points: Tensor) -> Tensor:
    nearest = (x[:, None] - points).square().sum(-1).argmin(1)
    return torch.nn.functional.one_hot(nearest, len(points)).double()


def sde_landing(points: Tensor, weights: Tensor, alpha: float, sigma: float) -> Tensor:
    """P_i = E[w_i(x)], x ~ N(0, I), on a grid in one or two dimensions (spectrally accurate)."""
    axis = torch.linspace(-9, 9, 301, dtype=torch.float64)
    x = torch.cartesian_prod(*[axis] * points.shape[1]).reshape(-1, points.shape[1])
    density = (-x.square().sum(1) / 2).softmax(0)
    return density @ posterior_weights(x, points, weights, alpha, sigma)


def ode_landing(alpha: float, sigma: float) -> Tensor:
    """P_i = F(b_i) - F(b_{i-1}) of the start, where b_i are the quantiles of the marginal at sum_{j <= i} w_j."""
    levels, low, high = WEIGHTS.cumsum(0)[:-1], torch.full((3,), -20.0).double(), torch.full((3,), 20.0).double()
    for _ in range(60):
        middle = (low + high) / 2
        below = torch.special.ndtr((middle[:, None] - alpha * POINTS[:, 0]) / sigma) @ WEIGHTS < levels
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    ends = torch.cat([torch.zeros(1).double(), torch.special.ndtr(low), torch.ones(1).double()])
    return ends.diff()


@pytest.mark.parametrize(
    ("sampler", "steps"),
    [(MixtureTransition(LINE), 1), (MixtureTransition(LINE), 5), (EulerMaruyama(), 250), (ReverseBridge(), 150)],
    ids=["mixture 1", "mixture 5", "euler-maruyama", "bridge"],
)
def test_the_sde_lands_on_the_line_with_the_averaged_posterior_weights(sampler: Sampler, steps: int):
    schedule = VP()
    t = instant(schedule, start_time(schedule))
    times = log_snr_times(schedule, t.t, float(schedule.time_of_noise_to_signal(1e-2)), steps)
    x_start = torch.randn(8000, 1, dtype=torch.float64, generator=seeded(5))
    denoiser = OnTheLine(schedule)
    reached = landed(sample(sampler, denoiser, x_start, times, noise=seeded(6)), POINTS)
    for i, probability in enumerate(sde_landing(POINTS, WEIGHTS, t.alpha, t.sigma).tolist()):
        assert monte_carlo(reached[:, i]).agrees_with(probability)


def test_the_ode_lands_with_other_probabilities_which_quantiles_tell():
    schedule = VP()
    t = instant(schedule, start_time(schedule))
    times = log_snr_times(schedule, t.t, float(schedule.time_of_noise_to_signal(1e-2)), 80)
    # midpoints of equal shares of N(0, 1): no Monte Carlo
    quantiles = torch.special.ndtri((torch.arange(4000, dtype=torch.float64) + 0.5) / 4000)[:, None]
    reached = landed(sample(RungeKutta4(), OnTheLine(schedule), quantiles, times), POINTS).mean(0)
    expected = ode_landing(t.alpha, t.sigma)
    assert torch.allclose(reached, expected, atol=5e-4)
    # further from the SDE's than its 4 standard errors above
    apart = (expected - sde_landing(POINTS, WEIGHTS, t.alpha, t.sigma)).abs()
    assert float(apart.max()) > 4 * 0.5 / 8000**0.5


def test_the_sde_lands_in_the_plane_with_the_averaged_posterior_weights():
    schedule, points = RectifiedFlow(), PLANE_POINTS
    t = instant(schedule, 0.45)
    x_start = torch.randn(20_000, 2, dtype=torch.float64, generator=seeded(7))
    times = torch.tensor([0.45, 0.3, 0.1, 0.0], dtype=torch.float64)
    ended = sample(MixtureTransition(PLANE), ExactDenoiser(PLANE, schedule), x_start, times, noise=seeded(8))
    assert bool((ended[:, None] == points).all(-1).any(1).all())  # on the data, to the last bit
    expected = sde_landing(points, PLANE.weights, t.alpha, t.sigma)
    assert float((expected - 0.2).abs().max()) > 0.02
    reached = landed(ended, points)
    for i in range(5):
        assert monte_carlo(reached[:, i]).agrees_with(float(expected[i]))


def test_along_the_sde_the_mean_posterior_weights_do_not_move():
    """E[w_i(x_t, t)] is a martingale: at every time the probability of landing on y_i from this start."""
    schedule = VP()
    t = instant(schedule, start_time(schedule))
    x_start = torch.randn(8000, 1, dtype=torch.float64, generator=seeded(9))
    times = log_snr_times(schedule, t.t, float(schedule.time_of_noise_to_signal(1e-2)), 5)
    expected = sde_landing(POINTS, WEIGHTS, t.alpha, t.sigma)
    for state in trajectory(MixtureTransition(LINE), OnTheLine(schedule), x_start, times, noise=seeded(10)):
        weights = posterior_weights(state.x_t, POINTS, WEIGHTS, state.at.alpha, state.at.sigma)
        for i in range(4):
            assert monte_carlo(weights[:, i]).agrees_with(float(expected[i]))


def test_from_pure_noise_one_step_to_clean_data_draws_from_the_data():
    denoiser = OnTheLine(RectifiedFlow())
    x_start = torch.randn(20_000, 1, dtype=torch.float64, generator=seeded())
    ended = sample(MixtureTransition(LINE), denoiser, x_start, uniform_times(1.0, 0.0, 1), noise=seeded(1))
    for i in range(4):
        assert monte_carlo((ended == POINTS[i]).double()).agrees_with(float(WEIGHTS[i]))


def nearest_distance(x: Tensor, alpha: float) -> Tensor:
    return (x[:, None] - alpha * POINTS).norm(dim=-1).amin(1)


def test_the_distance_of_the_sde_to_the_data_is_the_noise_itself():
    """rms distance / (sqrt(d) sigma_t) = 1, at every small level."""
    schedule = VP()
    for ratio in (1e-2, 1e-4):
        end = instant(schedule, float(schedule.time_of_noise_to_signal(ratio)))
        times = log_snr_times(schedule, start_time(schedule), end.t, 5)
        x_start = torch.randn(4000, 1, dtype=torch.float64, generator=seeded(2))
        ended = sample(MixtureTransition(LINE), OnTheLine(schedule), x_start, times, noise=seeded(3))
        assert monte_carlo((nearest_distance(ended, end.alpha) / end.sigma).square()).agrees_with(1.0)


def test_the_distance_of_the_ode_to_the_data_vanishes_in_proportion_to_the_noise():
    """max distance / sigma tends to a constant (slope 1 in sigma); after a last step to sigma = 0 it is zero."""
    schedule = RectifiedFlow()
    denoiser = OnTheLine(schedule)
    quantiles = torch.special.ndtri((torch.arange(400, dtype=torch.float64) + 0.5) / 400)[:, None]
    x_t, level, constants = quantiles, start_time(schedule), []
    for ratio in (1e-3, 1e-4, 1e-5):
        end = instant(schedule, float(schedule.time_of_noise_to_signal(ratio)))
        x_t = sample(RungeKutta4(), denoiser, x_t, log_snr_times(schedule, level, end.t, 120))
        level = end.t
        constants.append(float(nearest_distance(x_t, end.alpha).max()) / end.sigma)
    assert constants[1] == pytest.approx(constants[0], rel=0.02)
    assert constants[2] == pytest.approx(constants[1], rel=0.005)
    last = sample(RungeKutta4(), denoiser, x_t, torch.tensor([level, 0.0], dtype=torch.float64))
    assert float(nearest_distance(last, 1.0).max()) < 1e-15


def test_the_place_between_the_quantiles_decides_how_far_a_path_of_the_ode_stays():
    """x_t = alpha y_i + sigma z with Phi(z) the share of w_i below the start: the marginal's quantiles are kept."""
    schedule = VP()
    t, end = instant(schedule, start_time(schedule)), instant(schedule, float(schedule.time_of_noise_to_signal(1e-3)))
    starts = torch.special.ndtri((torch.arange(400, dtype=torch.float64) + 0.5) / 400)[:, None]
    quantile = torch.special.ndtr((starts - t.alpha * POINTS[:, 0]) / t.sigma) @ WEIGHTS
    above = WEIGHTS.cumsum(0)
    point = torch.searchsorted(above, quantile)
    z = torch.special.ndtri((quantile - (above - WEIGHTS)[point]) / WEIGHTS[point])
    ended = sample(RungeKutta4(), OnTheLine(schedule), starts, log_snr_times(schedule, t.t, end.t, 120))[:, 0]
    assert float(((ended - end.alpha * POINTS[point, 0]) / end.sigma - z).abs().max()) < 1e-4  # order 4 in 120 steps

"""DDPM's reverse variances: their bracket, their closed forms, and what the optimal one makes exact."""

import itertools

import pytest
import torch
from affine import GaussianOnTheLine, moment_error, propagated
from conftest import measured_order, monte_carlo
from exact_flows import mixture_on_the_line

from diffuscope.denoisers import Batch, ExactDenoiser
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.samplers import (
    DDPM,
    Noise,
    OptimalVariance,
    ReverseVariance,
    State,
    instant,
    instants,
    posterior_variance,
    sample,
    upper_variance,
)
from diffuscope.schedules import VE, VP, Cosine, DiscreteVP, RectifiedFlow, Schedule
from diffuscope.times import log_snr_times

SCHEDULES = [VE(), VP(), Cosine(), RectifiedFlow()]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
NOWHERE = torch.zeros(1, 1, dtype=torch.float64)


def line(variance: float) -> Gaussian:
    return Gaussian.isotropic(torch.tensor([1.3], dtype=torch.float64), variance)


def inside(schedule: Schedule, share: float) -> float:
    return schedule.t_min + share * (schedule.t_max - schedule.t_min)


@every_schedule
@pytest.mark.parametrize("data_variance", [0.0, 0.3, 1.0])
def test_the_optimal_variance_is_that_of_the_exact_reverse_transition(schedule: Schedule, data_variance: float):
    """For Gaussian data x_s given x_t is Gaussian: its variance by conditioning on the joint distribution of (x_s,
    x_t).
    """
    optimal = OptimalVariance(line(data_variance))
    for share_t, share_s in ((0.9, 0.1), (0.6, 0.5)):
        t, s = (instant(schedule, inside(schedule, share)) for share in (share_t, share_s))
        V_t, V_s = (at.alpha**2 * data_variance + at.sigma**2 for at in (t, s))
        conditional = V_s - (t.alpha / s.alpha * V_s) ** 2 / V_t
        value = float(optimal(NOWHERE, t, s))
        assert value == pytest.approx(conditional, rel=1e-10)
        least, most = posterior_variance(NOWHERE, t, s), upper_variance(NOWHERE, t, s)
        assert least * (1 - 1e-12) <= value <= most * (1 + 1e-12)
        assert (value == pytest.approx(least, rel=1e-10)) == (data_variance == 0)
        assert (value == pytest.approx(most, rel=1e-10)) == (data_variance == 1)


def test_the_upper_variance_is_the_beta_of_the_ddpm_paper():
    chain = DiscreteVP.linear()
    for k in (1, 10, 500, 1000):
        t, s = instants(chain, torch.tensor([k, k - 1], dtype=torch.float64))
        assert upper_variance(NOWHERE, t, s) == pytest.approx(chain.betas[k - 1], rel=1e-11)


@every_schedule
def test_with_the_optimal_variance_ten_steps_are_exact_on_gaussian_data(schedule: Schedule):
    start, end = inside(schedule, 0.95), inside(schedule, 0.01)
    denoiser = GaussianOnTheLine(schedule)
    times = log_snr_times(schedule, start, end, 10)
    moments = propagated(DDPM(OptimalVariance(line(denoiser.variance))), denoiser, times, *denoiser.marginal(start))
    assert moments == pytest.approx(denoiser.marginal(end), rel=1e-12)


@pytest.mark.parametrize("variance", [posterior_variance, upper_variance], ids=["posterior", "upper"])
def test_ddpm_converges_weakly_at_order_one_with_either_variance(variance: ReverseVariance):
    def error(steps: int) -> float:
        return moment_error(DDPM(variance), Cosine(), 0.95, 2e-3, steps)

    assert abs(measured_order(error, [60, 190, 600]).order - 1) < 0.15


def density_error(variance: ReverseVariance, steps: int) -> float:
    """The total variation between the distribution after `steps` steps and the exact one, on a grid: no Monte-Carlo
    noise.
    """
    distribution, schedule = mixture_on_the_line().distribution, VP()
    x = torch.linspace(-5, 5, 401, dtype=torch.float64)[:, None]
    width = float(x[1] - x[0])
    times = log_snr_times(schedule, 0.6, 0.2, steps)
    density = distribution.log_prob(x, schedule.alpha(0.6), schedule.sigma(0.6)).exp()

    class Still(Noise):
        def normal(self, like: Batch) -> Batch:
            return torch.zeros_like(like)

    for t, s in itertools.pairwise(instants(schedule, times)):
        mean = DDPM().step(ExactDenoiser(distribution, schedule), State(t, x), s, Still(torch.Generator())).x_t
        spread = torch.as_tensor(variance(x, t, s), dtype=torch.float64).sqrt().expand(len(x))
        kernel = torch.distributions.Normal(mean[:, 0], spread).log_prob(x).exp()  # rows: to, columns: from
        density = kernel @ density * width
    exact = distribution.log_prob(x, schedule.alpha(0.2), schedule.sigma(0.2)).exp()
    return float((density - exact).abs().sum()) * width / 2


def test_in_one_dimension_the_optimal_variance_raises_the_weak_order_to_two():
    """Two moments of each transition are then exact: the local error is h^3 on any data, here three modes."""
    optimal = OptimalVariance(mixture_on_the_line().distribution)
    assert abs(measured_order(lambda n: density_error(posterior_variance, n), [10, 30, 100]).order - 1) < 0.2
    assert abs(measured_order(lambda n: density_error(optimal, n), [10, 30, 100]).order - 2) < 0.2


def test_the_optimal_variance_differs_from_sample_to_sample_in_any_event_shape():
    """An image-shaped mixture: each sample gets the trace of its own posterior covariance over d."""
    means = torch.zeros(2, 2, 3, dtype=torch.float64)
    means[1] = 4.0
    distribution = GaussianMixture.isotropic(
        torch.tensor([0.5, 0.5], dtype=torch.float64), means, torch.tensor([0.01, 1.0], dtype=torch.float64)
    )
    t, s = instants(VE(), torch.tensor([1.0, 0.5], dtype=torch.float64))
    x_t = means.repeat(5000, 1, 1)
    variance = torch.as_tensor(OptimalVariance(distribution)(x_t, t, s))
    assert torch.equal(variance[:2], variance[2:4])
    ended = DDPM(OptimalVariance(distribution)).step(
        ExactDenoiser(distribution, VE()), State(t, x_t), s, Noise(torch.Generator())
    )
    spread = (ended.x_t - ended.x_t.reshape(5000, 2, 2, 3).mean(0).repeat(5000, 1, 1)).square()
    for which in (0, 1):
        truth = float(variance[which]) * (1 - 1 / 5000)
        assert monte_carlo(spread[which::2]).agrees_with(truth)


@pytest.mark.parametrize("variance", [posterior_variance, upper_variance, OptimalVariance(line(0.3))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_variance_goes_from_pure_noise_to_clean_data(variance: ReverseVariance, dtype: torch.dtype):
    schedule = RectifiedFlow()
    denoiser = ExactDenoiser(line(0.3), schedule)
    x_start = torch.randn(4, 1, dtype=dtype, generator=torch.Generator().manual_seed(1))
    times = torch.tensor([1.0, 0.5, 0.1, 0.0], dtype=torch.float64)
    ended = sample(DDPM(variance), denoiser, x_start, times, noise=torch.Generator().manual_seed(2))
    assert ended.dtype == dtype
    assert bool(torch.isfinite(ended).all())

"""The exact reverse bridge at any eta, Song's family beside it, and what they have in common."""

import math

import pytest
import torch
from affine import GaussianOnTheLine, affine_step, moment_error
from conftest import measured_order, monte_carlo
from exact_flows import unequal_gaussian

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import DDIM, DDPM, Instant, ReverseBridge, Sampler, StochasticDDIM, instant, sample
from diffuscope.schedules import VE, VP, Cosine, DiscreteVP, GeometricVE, Karras, RectifiedFlow, Schedule, Sigmoid
from diffuscope.times import uniform_times
from numbers_in_tests import seeded

SCHEDULES = [VE(), GeometricVE(), Karras(), VP(), DiscreteVP.linear(), Cosine(), Sigmoid(), RectifiedFlow()]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
ETAS = [0.0, 0.3, 1.0, 2.0]
POINT = 0.7


def inside(schedule: Schedule, share: float) -> Instant:
    return instant(schedule, schedule.t_min + share * (schedule.t_max - schedule.t_min))


def on_a_point(sampler: Sampler, schedule: Schedule, t: Instant, s: Instant) -> tuple[float, float, float]:
    return affine_step(sampler, GaussianOnTheLine(schedule, POINT, 0.0), t, s)


@every_schedule
def test_at_eta_one_its_mean_and_variance_are_the_posterior_by_bayes_rule(schedule: Schedule):
    for share_t, share_s in ((0.95, 0.1), (0.9, 0.6), (0.5, 0.3)):
        t, s = inside(schedule, share_t), inside(schedule, share_s)
        a = t.alpha / s.alpha
        forward = t.sigma**2 - a**2 * s.sigma**2  # Var(x_t | x_s)
        precision = 1 / s.sigma**2 + a**2 / forward
        for sampler in (ReverseBridge(1.0), StochasticDDIM(1.0), DDPM()):
            slope, offset, variance = on_a_point(sampler, schedule, t, s)
            assert slope == pytest.approx(a / forward / precision, rel=1e-13, abs=1e-15)
            assert offset == pytest.approx(s.alpha * POINT / s.sigma**2 / precision, rel=1e-13, abs=1e-13)
            assert variance == pytest.approx(1 / precision, rel=1e-13)


@every_schedule
@pytest.mark.parametrize("eta", ETAS)
def test_two_steps_are_one_step(eta: float, schedule: Schedule):
    """Chapman-Kolmogorov on a single data point: the transition is that of one process."""
    t, u, s = (inside(schedule, share) for share in (0.9, 0.5, 0.2))
    a, b, v = on_a_point(ReverseBridge(eta), schedule, t, s)
    a_1, b_1, v_1 = on_a_point(ReverseBridge(eta), schedule, t, u)
    a_2, b_2, v_2 = on_a_point(ReverseBridge(eta), schedule, u, s)
    assert a_1 * a_2 == pytest.approx(a, rel=1e-12, abs=1e-15)
    assert a_2 * b_1 + b_2 == pytest.approx(b, rel=1e-12, abs=1e-13)
    assert a_2**2 * v_1 + v_2 == pytest.approx(v, rel=1e-12, abs=1e-15)


@every_schedule
@pytest.mark.parametrize("eta", ETAS)
def test_a_step_of_any_size_from_one_start_has_the_explicit_mean_and_variance(eta: float, schedule: Schedule):
    """x_s = alpha_s x_0 + sigma_s [e^(-eta^2 h) eps_t + sqrt(1 - e^(-2 eta^2 h)) xi] on a single data point x_0."""
    t, s = inside(schedule, 0.95), inside(schedule, 0.1)
    h = s.lam - t.lam
    memory = math.exp(-(eta**2) * h) * s.sigma / t.sigma
    exact = (memory, s.alpha * POINT - memory * t.alpha * POINT, -(s.sigma**2) * math.expm1(-2 * eta**2 * h))
    assert on_a_point(ReverseBridge(eta), schedule, t, s) == pytest.approx(exact, rel=1e-12, abs=1e-14)
    if 0 < eta < 1:  # neither a nearby eta nor Song's has them
        for other in (ReverseBridge(1.001 * eta), StochasticDDIM(eta)):
            assert on_a_point(other, schedule, t, s) != pytest.approx(exact, rel=1e-12, abs=1e-14)


def test_ddpms_chain_is_the_ornstein_uhlenbeck_process_at_its_own_times():
    """dX = -X dt + sqrt 2 dB at the times where int 2 dt = -sum log(1 - beta).

    There U = x - alpha x_0 keeps sinh s / sinh t over a step and gains the variance 2 sinh s sinh(t - s) / sinh t.
    """
    chain, process = DiscreteVP.linear(), VP(2.0, 2.0)
    times = (-0.5 * torch.log1p(-torch.tensor(chain.betas, dtype=torch.float64)).cumsum(0)).tolist()
    for k in (2, 20, 101, 500, 1000):
        t, s = times[k - 1], times[k - 2]
        assert instant(process, t).alpha == pytest.approx(instant(chain, float(k)).alpha, rel=1e-13)
        kept = math.sinh(s) / math.sinh(t)
        exact = (kept, (math.exp(-s) - kept * math.exp(-t)) * POINT, 2 * kept * math.sinh(t - s))
        of_chain = on_a_point(DDPM(), chain, instant(chain, float(k)), instant(chain, float(k - 1)))
        of_process = on_a_point(ReverseBridge(1.0), process, instant(process, t), instant(process, s))
        for step in (of_chain, of_process):
            assert step == pytest.approx(exact, rel=0, abs=1e-13)  # rounding of times up to 5 in their exponentials


@every_schedule
@pytest.mark.parametrize("sampler", [*map(ReverseBridge, ETAS), StochasticDDIM(0.4), StochasticDDIM()], ids=repr)
def test_one_step_of_any_size_has_the_exact_distribution_on_a_single_data_point(sampler: Sampler, schedule: Schedule):
    """From N(alpha_t x_0, sigma_t^2) to N(alpha_s x_0, sigma_s^2)."""
    t, s = inside(schedule, 0.97), inside(schedule, 0.05)
    a, b, variance = on_a_point(sampler, schedule, t, s)
    assert a * t.alpha * POINT + b == pytest.approx(s.alpha * POINT, rel=1e-12)
    assert a**2 * t.sigma**2 + variance == pytest.approx(s.sigma**2, rel=1e-12)


@pytest.mark.parametrize("eta", [0.3, 0.8, 1.0])
def test_songs_eta_is_the_bridge_at_another_eta_that_depends_on_the_step(eta: float):
    """eta_DDIM^2 = (1 - e^(-2 eta^2 h)) / (1 - e^(-2h))."""
    schedule = Cosine()
    t, s = instant(schedule, 0.7), instant(schedule, 0.4)
    h = s.lam - t.lam
    song = math.sqrt(math.expm1(-2 * eta**2 * h) / math.expm1(-2 * h))
    here, there = (on_a_point(sampler, schedule, t, s) for sampler in (ReverseBridge(eta), StochasticDDIM(song)))
    assert here == pytest.approx(there, rel=1e-12)
    assert (song - eta < 1e-12) == (eta == 1)
    # a long step of DDIM at the same eta keeps more of the residual; for short ones the two agree at first order in h
    if eta < 1:
        assert math.sqrt(1 + eta**2 * math.expm1(-2 * h)) > math.exp(-(eta**2) * h)
        gaps = [math.expm1(-2 * eta**2 * short) / math.expm1(-2 * short) - eta**2 for short in (1e-2, 1e-3)]
        assert math.log10(gaps[0] / gaps[1]) == pytest.approx(1, abs=0.01)  # the next term, at h = 0.01


def test_at_eta_zero_both_are_ddim_to_the_last_bit():
    denoiser = ExactDenoiser(unequal_gaussian(), RectifiedFlow())
    x_start = torch.randn(5, 2, dtype=torch.float64, generator=seeded())
    times = uniform_times(1.0, 0.0, 9)
    exact = sample(DDIM(), denoiser, x_start, times)
    for sampler in (ReverseBridge(0.0), StochasticDDIM(0.0)):
        assert not sampler.stochastic
        assert torch.allclose(sample(sampler, denoiser, x_start, times), exact, rtol=1e-14, atol=1e-15)


@every_schedule
@pytest.mark.parametrize("sampler", [ReverseBridge(0.5), ReverseBridge(1.0), StochasticDDIM(0.5)], ids=repr)
def test_from_pure_noise_to_the_end_a_single_point_is_reached(sampler: Sampler, schedule: Schedule):
    """Exactly where the schedule ends without noise, within the noise that it ends with elsewhere."""
    point = torch.tensor([0.7, -1.9, 3.0], dtype=torch.float64)
    start = instant(schedule, schedule.t_max)
    x_start = start.sigma * torch.randn(400, 3, dtype=torch.float64, generator=seeded(2))
    times = uniform_times(schedule.t_max, 0.0, 6)
    ended = sample(sampler, ExactDenoiser(Gaussian.isotropic(point, 0.0), schedule), x_start, times, noise=seeded())
    end = instant(schedule, 0.0)
    assert (end.sigma > 0) == isinstance(schedule, GeometricVE | Karras)
    missed = (ended - end.alpha * point) / point
    if end.sigma == 0:
        assert float(missed.abs().max()) < 1e-12
    else:
        # the start is pure noise, not the noised point: e^-h of the difference is left, far below the end's own noise
        assert monte_carlo((missed * point / end.sigma) ** 2).agrees_with(1.0)


@pytest.mark.parametrize(
    ("sampler", "schedule", "start", "end"),
    [
        (ReverseBridge(1.0), VE(), 5.0, 0.05),
        (ReverseBridge(0.5), RectifiedFlow(), 0.95, 2e-3),
        (ReverseBridge(lambda t: 2 * t), VP(), 0.95, 1e-3),
        (StochasticDDIM(0.5), Cosine(), 0.95, 2e-3),
    ],
    ids=["bridge 1", "bridge 0.5", "bridge eta(t)", "ddim 0.5"],
)
def test_they_converge_weakly_at_order_one_on_gaussian_data(
    sampler: Sampler, schedule: Schedule, start: float, end: float
):
    measured = measured_order(lambda steps: moment_error(sampler, schedule, start, end, steps), [60, 190, 600])
    assert abs(measured.order - sampler.order) < 0.15, measured


def test_an_eta_outside_zero_to_one_raises():
    for eta in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match=r"eta: expected 0 \.\. 1"):
            StochasticDDIM(eta)

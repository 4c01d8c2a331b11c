"""Integrators of the reverse family: what they reduce to, their orders in distribution and along the path, the ends."""

import pytest
import torch
from affine import GaussianOnTheLine, affine_step, moment_error, propagated
from conftest import measured_order
from exact_flows import unequal_gaussian

from diffuscope.denoisers import ExactDenoiser
from diffuscope.densities import GaussianReverse
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import (
    Euler,
    EulerMaruyama,
    Heun,
    Noise,
    ReverseBridge,
    Sampler,
    State,
    StochasticHeun,
    StrongOrder15,
    instant,
    sample,
    stochastic_until,
)
from diffuscope.schedules import VE, VP, Cosine, RectifiedFlow, Schedule, Sigmoid
from diffuscope.times import log_snr_times, uniform_times
from numbers_in_tests import seeded

FAMILIES = [EulerMaruyama, StochasticHeun, StrongOrder15]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)


@pytest.mark.parametrize(
    ("stochastic", "deterministic"), [(EulerMaruyama(0.0), Euler()), (StochasticHeun(0.0), Heun())]
)
@pytest.mark.parametrize("schedule", [VE(), VP(), Cosine(), RectifiedFlow(), Sigmoid()], ids=lambda s: type(s).__name__)
def test_without_noise_they_are_the_ode_methods_to_the_last_bit(
    stochastic: Sampler, deterministic: Sampler, schedule: Schedule
):
    assert not stochastic.stochastic
    denoiser = ExactDenoiser(unequal_gaussian(), schedule)
    times = uniform_times(schedule.t_max, 0.0, 7)  # alpha = 0 and sigma = 0 included
    x_start = torch.randn(5, 2, dtype=torch.float64, generator=seeded())
    assert torch.equal(sample(stochastic, denoiser, x_start, times), sample(deterministic, denoiser, x_start, times))


VP_RANGE, COSINE_RANGE = (VP(), 0.95, 1e-3), (Cosine(), 0.95, 2e-3)
VE_RANGE, FLOW_RANGE = (VE(), 5.0, 0.05), (RectifiedFlow(), 0.95, 2e-3)


@pytest.mark.parametrize(
    ("sampler", "schedule", "start", "end"),
    [
        (EulerMaruyama(), *VP_RANGE),
        (EulerMaruyama(), *VE_RANGE),
        (EulerMaruyama(0.5), *COSINE_RANGE),
        (StochasticHeun(), *VP_RANGE),
        (StochasticHeun(), *COSINE_RANGE),
        (StochasticHeun(0.5), *FLOW_RANGE),
        (StrongOrder15(), *VP_RANGE),
        (StrongOrder15(), *VE_RANGE),
        (StrongOrder15(0.5), *FLOW_RANGE),
        (StrongOrder15(0.0), *VP_RANGE),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, float) else f"{value:g}",
)
def test_they_converge_weakly_at_their_declared_order_on_gaussian_data(
    sampler: Sampler, schedule: Schedule, start: float, end: float
):
    measured = measured_order(lambda steps: moment_error(sampler, schedule, start, end, steps), [30, 95, 300])
    assert abs(measured.order - sampler.order) < 0.15, measured


@every_family
def test_noise_that_stops_at_a_level_keeps_the_weak_order(family: type):
    """Stochastic early, deterministic late: any piecewise eta has the same marginals."""
    schedule = VP()
    switch = stochastic_until(schedule, 0.5, 1.0)
    assert float(schedule.noise_to_signal(switch.time)) == pytest.approx(0.5, rel=1e-12)
    assert (switch(switch.time), switch(switch.time + 1e-9)) == (0.0, 1.0)
    sampler = family(switch)
    measured = measured_order(lambda steps: moment_error(sampler, schedule, 0.95, 1e-3, steps), [40, 100, 250])
    assert abs(measured.order - sampler.order) < 0.2, measured


def test_from_a_wrong_start_noise_early_and_none_late_have_the_moments_of_the_closed_form():
    """Data N(1.3, 1/4) from N(0, 1): the densities' closed form by parts; second order, 400 steps a part."""
    schedule = VP(3.0, 3.0)
    denoiser, early = GaussianOnTheLine(schedule), GaussianReverse(schedule, 1.3, 0.25, 1.0, 0.0, 1.0, 1.0)
    late = GaussianReverse(schedule, 1.3, 0.25, 0.27, *early.distribution(0.27), 0.0)
    between = propagated(StochasticHeun(), denoiser, log_snr_times(schedule, 1.0, 0.27, 400), 0.0, 1.0)
    assert between == pytest.approx(early.distribution(0.27), abs=1e-4)
    ended = propagated(StochasticHeun(0.0), denoiser, log_snr_times(schedule, 0.27, 0.007, 400), *between)
    assert ended == pytest.approx(late.distribution(0.007), abs=1e-4)


@every_family
def test_a_late_deterministic_phase_draws_nothing(family: type):
    denoiser = ExactDenoiser(unequal_gaussian(), VP())
    x_start = torch.randn(4, 2, dtype=torch.float64, generator=seeded())
    t, s = instant(VP(), 0.3), instant(VP(), 0.2)
    sampler = family(stochastic_until(VP(), 2 * float(VP().noise_to_signal(0.3))))
    assert torch.equal(
        sampler.step(denoiser, State(t, x_start), s).x_t, family(0.0).step(denoiser, State(t, x_start), s).x_t
    )
    with pytest.raises(InputError, match=r"noise: .* draws noise"):
        family(1.0).step(denoiser, State(t, x_start), s)


def test_euler_maruyama_is_the_reverse_sde_written_with_its_score():
    """x + (s - t)[f x - (1 + eta^2)/2 g^2 score] + eta g sqrt(t - s) xi, term by term."""
    schedule, distribution, eta = Cosine(), unequal_gaussian(), 0.7
    x_t = torch.randn(6, 2, dtype=torch.float64, generator=seeded())
    t, s = 0.6, 0.55
    score = distribution.score(x_t, schedule.alpha(t), schedule.sigma(t))
    f, g2 = float(schedule.f(t)), float(schedule.g_squared(t))
    xi = Noise(seeded(1)).normal(x_t)
    expected = x_t + (s - t) * (f * x_t - (1 + eta**2) / 2 * g2 * score) + eta * (g2 * (t - s)) ** 0.5 * xi
    state = State(instant(schedule, t), x_t)
    ended = EulerMaruyama(eta).step(
        ExactDenoiser(distribution, schedule), state, instant(schedule, s), Noise(seeded(1))
    )
    assert torch.allclose(ended.x_t, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0, 2.0])
def test_on_a_single_data_point_the_integrators_tend_to_the_exact_bridge(eta: float):
    """Conditional mean and variance of x_s given x_t: the memory e^(-eta^2 h) and its variance, solved numerically."""
    schedule = VP()
    denoiser = GaussianOnTheLine(schedule, variance=0.0)
    a, b, variance = affine_step(ReverseBridge(eta), denoiser, instant(schedule, 0.5), instant(schedule, 0.3))
    times = log_snr_times(schedule, 0.5, 0.3, 60)
    at_zero, spread = propagated(StrongOrder15(eta), denoiser, times, 0.0, 0.0)
    at_one, _ = propagated(StrongOrder15(eta), denoiser, times, 1.0, 0.0)
    assert at_zero == pytest.approx(b, rel=1e-3)
    assert at_one - at_zero == pytest.approx(a, rel=1e-2)
    assert spread == pytest.approx(variance, rel=1e-3, abs=1e-14)


@every_family
@pytest.mark.parametrize("schedule", [RectifiedFlow(), Cosine(), Sigmoid()], ids=lambda s: type(s).__name__)
def test_from_pure_noise_to_clean_data_the_distribution_is_right_and_a_single_point_is_reached(
    family: type, schedule: Schedule
):
    point = torch.tensor([0.7, -1.9, 3.0], dtype=torch.float64)
    denoiser = ExactDenoiser(Gaussian.isotropic(point, 0.0), schedule)
    x_start = torch.randn(4, 3, dtype=torch.float64, generator=seeded(2))
    ended = sample(family(1.0), denoiser, x_start, uniform_times(1.0, 0.0, 10), noise=seeded())
    assert torch.allclose(ended, point.expand(4, 3), rtol=1e-12, atol=0)
    # leaving alpha = 0 the frozen transition forgets x_t: N(alpha_s D, sigma_s^2)
    t, s = instant(schedule, 1.0), instant(schedule, 0.9)
    a, _, variance = affine_step(family(1.0), GaussianOnTheLine(schedule), t, s)
    assert a == pytest.approx(0, abs=1e-15)
    assert variance == pytest.approx(s.sigma**2, rel=1e-13)


@pytest.mark.parametrize("eta", [-0.1, float("nan"), float("inf")])
def test_an_eta_out_of_range_raises(eta: float):
    state = State(instant(VP(), 0.5), torch.zeros(1, 2, dtype=torch.float64))
    for family in [*FAMILIES, ReverseBridge]:
        with pytest.raises(InputError, match="eta: expected"):
            family(lambda _: eta).step(ExactDenoiser(unequal_gaussian(), VP()), state, instant(VP(), 0.4))
    with pytest.raises(InputError, match="noise_to_signal: expected"):
        stochastic_until(VP(), 0.0)

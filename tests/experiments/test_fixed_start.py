"""The fixed start: every claim holds for another seed, and a planted fault makes the claim about it fail."""

import math
from functools import cache

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.experiments import fixed_start
from diffuscope.experiments.fixed_start import EXPERIMENT, POINT, START
from diffuscope.experiments.moments import GaussianDenoiser, apart, at_ratios, distribution_after
from diffuscope.findings import Line
from diffuscope.samplers import DDPM, Heun, ReverseBridge, StochasticDDIM, posterior_variance, sample, upper_variance
from diffuscope.schedules import Cosine
from diffuscope.times import log_snr_times

textbook_posterior, transition, moment_equations = (
    fixed_start.textbook_posterior,
    fixed_start.transition,
    fixed_start.moment_equations,
)
ALL = fixed_start.SCHEDULES
HERE = "diffuscope.experiments.fixed_start"


@pytest.fixture(autouse=True, scope="module")
def _integrated_once():
    """The moment equations of one schedule, integrated once for all faults: none of them is in the integrator."""
    with planted(f"{HERE}.moment_equations", cache(moment_equations)), planted(f"{HERE}.SCHEDULES", (Cosine(),)):
        yield


@pytest.fixture
def _quick(monkeypatch):
    """Fewer steps of every kind."""
    for name, value in {"LENGTHS": (1, 2), "STEPS": (40, 80), "EVERY": 99}.items():
        monkeypatch.setattr(fixed_start, name, value)


order_in_full = cache(lambda: answered(EXPERIMENT, "order"))


@pytest.mark.parametrize("part", [part.name for part in EXPERIMENT.parts if part.name != "order"])
@pytest.mark.usefixtures("_quick")
def test_every_claim_holds(part):
    answer = answered(EXPERIMENT, part)
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}


def test_every_claim_about_the_order_holds():
    assert {claim.name: claim.measured for claim in order_in_full().claims if not claim.holds} == {}


@pytest.mark.slow
@pytest.mark.parametrize("part", [part.name for part in EXPERIMENT.parts])
def test_every_claim_holds_in_four_schedules_and_in_full(part):
    with planted(f"{HERE}.SCHEDULES", ALL):
        assert failures(EXPERIMENT, part) == set()


def test_the_explicit_transition_is_bayes_rule_at_eta_one():
    """The product of N(x_s; alpha_s x_0, sigma_s^2) and N(x_t; a x_s, b), normalized."""
    for schedule in ALL:
        t, s = at_ratios(schedule, 4.0, 0.3)
        a = t.alpha / s.alpha
        b = t.sigma**2 - a**2 * s.sigma**2
        precision = 1 / s.sigma**2 + a**2 / b
        mean = (s.alpha * POINT / s.sigma**2 + a * START / b) / precision
        assert transition(t, s, 1.0) == pytest.approx((mean, 1 / precision), rel=1e-12)


def test_the_moment_equations_keep_the_marginal_of_the_forward_process():
    """Started from the noised distribution of the point, not from one state, every eta ends in it."""
    schedule = Cosine()
    t, s = at_ratios(schedule, 4.0, 0.5)
    center = t.alpha * POINT  # the residual is zero
    for (mean, variance), eta in zip(moment_equations(schedule, t, s, center), fixed_start.ETAS, strict=True):
        assert mean == pytest.approx(s.alpha * POINT, rel=1e-11)
        kept = math.exp(-(eta**2) * (s.lam - t.lam)) * s.sigma / t.sigma
        assert variance + kept**2 * t.sigma**2 == pytest.approx(s.sigma**2, rel=1e-10)


def standard_errors(x, mean, variance):
    """How far the mean and the variance of the draws are from these, in standard errors of each."""
    n = len(x)
    return abs(float(x.mean()) - mean) / (variance / n) ** 0.5, abs(float(x.var()) / variance - 1) / (2 / n) ** 0.5


def test_the_recursion_of_moments_is_what_particles_do():
    """Mean and variance of 100,000 particles of DDPM on Gaussian data, within 4 standard errors."""
    denoiser = GaussianDenoiser(Cosine(), 1.3, 0.25)
    times = log_snr_times(Cosine(), 0.9, 0.1, 6)
    mean, variance = distribution_after(DDPM(), denoiser, times, 0.4, 0.7)
    n, generator = 100_000, torch.Generator().manual_seed(0)
    x = 0.4 + 0.7**0.5 * torch.randn(n, 1, dtype=torch.float64, generator=generator)
    x = sample(DDPM(), denoiser, x, times, noise=generator)
    assert max(standard_errors(x, mean, variance)) < 4


@pytest.mark.parametrize("eta", [0.5, 1.0, 2.0])
def test_particles_have_the_explicit_mean_and_variance(eta, generator):
    """200,000 of them after five steps, within 4 standard errors; a standard deviation one percent too large is not."""
    t, s = at_ratios(fixed_start.OU, 4.0, 0.5)
    times, start = log_snr_times(fixed_start.OU, t.t, s.t, 5), torch.full((200_000, 1), START, dtype=torch.float64)
    x = sample(ReverseBridge(eta), GaussianDenoiser(fixed_start.OU, POINT), start, times, noise=generator)
    assert max(standard_errors(x, *transition(t, s, eta))) < 4
    assert max(standard_errors(x.mean() + 1.01 * (x - x.mean()), *transition(t, s, eta))) > 4


@pytest.mark.parametrize("eta", [0.5, 0.8])
def test_song_of_is_the_ddim_eta_of_a_single_step(eta):
    t, s = at_ratios(fixed_start.OU, 4.0, 0.05)
    of_step = float(fixed_start.song_of(torch.tensor(eta, dtype=torch.float64), s.lam - t.lam))
    step = fixed_start.from_the_start(StochasticDDIM(of_step), fixed_start.OU, t.t, s.t)
    assert apart(step, transition(t, s, eta)) <= 1e-13  # rounding
    step = fixed_start.from_the_start(StochasticDDIM(0.99 * of_step), fixed_start.OU, t.t, s.t)
    assert apart(step, transition(t, s, eta)) > 1e-4


def wrong_power(t, s, eta, start=START):
    """exp(-eta h) in place of exp(-eta^2 h)."""
    memory = math.exp(-eta * (s.lam - t.lam))
    residual = (start - t.alpha * POINT) / t.sigma
    return s.alpha * POINT + s.sigma * memory * residual, s.sigma**2 * (1 - memory**2)


def no_root(t, s, eta, start=START):
    """The variance loses its factor two in the exponent."""
    mean, _ = transition(t, s, eta, start)
    return mean, -(s.sigma**2) * math.expm1(-(eta**2) * (s.lam - t.lam))


def none_at_two(t, s, eta, start=START):
    """NaN for one of four values of eta."""
    return (math.nan, math.nan) if eta == 2 else transition(t, s, eta, start)


def skewed(sampler, denoiser, x, times, *, noise):
    """The correct mean and variance, another distribution: a centered exponential."""
    ended = sample(sampler, denoiser, x, times, noise=noise)
    drawn = -torch.rand(ended.shape, dtype=ended.dtype, generator=noise).log() - 1
    return ended.mean() + ended.std() * (drawn - drawn.mean()) / drawn.std()


def with_beta(betas):
    """The upper variance beta in place of the posterior's."""
    return [(mean, beta) for (mean, _), beta in zip(textbook_posterior(betas), betas[1:], strict=True)]


def twice(x_t, t, s):
    return 2 * upper_variance(x_t, t, s)


FAULTS = [
    ("explicit", "transition", wrong_power, "moment-equations"),
    ("explicit", "transition", no_root, "moment-equations"),
    ("explicit", "transition", none_at_two, "moment-equations"),
    ("particles", "sample", skewed, "particle-distribution"),
    ("particles", "ReverseBridge", lambda eta: StochasticDDIM(min(eta, 1.0)), "particle-distribution"),
    ("ddpm", "DDPM", lambda: DDPM(upper_variance), "ddpm-posterior"),
    ("ddpm", "ReverseBridge", lambda eta: ReverseBridge(eta * 1.001), "ddpm-posterior"),
    ("ddpm", "textbook_posterior", with_beta, "ddpm-posterior"),
    ("ddim", "DDIM", Heun, "ddim-euler"),
    ("song", "StochasticDDIM", lambda eta: ReverseBridge(min(eta, 0.5)), "memory-moves"),
    ("order", "DDIM", Heun, "order-0"),
    ("variance", "OptimalVariance", lambda _: posterior_variance, "exact-in-ten"),
    ("variance", "OptimalVariance", lambda _: twice, "exact-in-ten"),
]


@pytest.mark.parametrize(("part", "target", "mutant", "claim"), FAULTS, ids=[f"{f[0]}-{f[3]}" for f in FAULTS])
@pytest.mark.usefixtures("_quick")
def test_a_planted_fault_makes_its_claim_fail(part, target, mutant, claim):
    with planted(f"{HERE}.{target}", mutant):
        assert claim in failures(EXPERIMENT, part)


def test_at_eta_zero_the_power_of_eta_makes_no_difference():
    t, s = at_ratios(fixed_start.OU, 4.0, 0.3)
    assert wrong_power(t, s, 0.0) == transition(t, s, 0.0)


def test_the_orders_of_the_frozen_denoiser_are_the_published_ones():
    """DDIM 0.997 and DDPM 0.993 between 320 and 640 steps on a log-SNR grid, N(1.3, 1/4)."""
    claims = {claim.name: claim.value for claim in order_in_full().claims}
    assert claims["order-0"] == pytest.approx(0.997, abs=1e-3)
    assert claims["order-2"] == pytest.approx(0.993, abs=1e-3)


def test_the_curve_of_ddim_is_the_error_of_its_affine_map():
    """Of x/alpha - m each step of w = sigma/alpha to w' keeps (s^2 + w w') / (s^2 + w^2), on data N(m, s^2)."""
    curve = order_in_full().charts[0].panels[0].marks[0]
    assert isinstance(curve, Line)
    spread, expected = 0.5**2, []
    for count in fixed_start.STEPS:
        w = fixed_start.OU.noise_to_signal(log_snr_times(fixed_start.OU, 1.5, 1e-3, count)).double()
        kept = float(((spread + w[:-1] * w[1:]) / (spread + w[:-1] ** 2)).prod()) ** 2 * float(spread + w[0] ** 2)
        exact = spread + float(w[-1]) ** 2
        expected.append(abs(kept - exact) * math.exp(-2e-3))  # alpha^2 at t = 1e-3; the mean is exact
    assert list(curve.y) == pytest.approx(expected, rel=1e-9)

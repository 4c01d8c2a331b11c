"""The fixed start: every claim holds for another seed, and a planted fault makes the claim about it fail."""

import math
from functools import cache

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.experiments.fixed_start import FIXED_START, chain, explicit, frozen
from diffuscope.experiments.moments import GaussianDenoiser, at_ratios, law_after
from diffuscope.samplers import (
    DDPM,
    Heun,
    ReverseBridge,
    StochasticDDIM,
    instant,
    posterior_variance,
    sample,
    upper_variance,
)
from diffuscope.schedules import Cosine
from diffuscope.times import log_snr_times

chain_posterior, explicit_law, moment_ode = chain.textbook_posterior, explicit.explicit_law, explicit.moment_ode
TWO = (explicit.OU, Cosine())
HERE = "diffuscope.experiments.fixed_start"


@pytest.fixture(autouse=True, scope="module")
def _integrated_once():
    """The moment equations in two schedules, integrated once for all faults: none of them is in the integrator."""
    with planted(f"{HERE}.explicit.moment_ode", cache(moment_ode)), planted(f"{HERE}.explicit.SCHEDULES", TWO):
        yield


@pytest.mark.parametrize("part", [part.name for part in FIXED_START.parts])
def test_every_claim_holds(part):
    answer = answered(FIXED_START, part)
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}


def test_the_explicit_law_is_bayes_rule_at_eta_one():
    """The product of N(x_s; alpha_s x_0, sigma_s^2) and N(x_t; a x_s, b), normalized."""
    for schedule in explicit.SCHEDULES:
        t, s = at_ratios(schedule, 4.0, 0.3)
        a = t.alpha / s.alpha
        b = t.sigma**2 - a**2 * s.sigma**2
        precision = 1 / s.sigma**2 + a**2 / b
        mean = (s.alpha * explicit.POINT / s.sigma**2 + a * explicit.START / b) / precision
        assert explicit.explicit_law(t, s, 1.0) == pytest.approx((mean, 1 / precision), rel=1e-12)


def test_the_moment_equations_keep_the_marginal_of_the_forward_process():
    """Started from the noised law of the point, not from one state, every eta ends in the noised law."""
    schedule = Cosine()
    t, s = at_ratios(schedule, 4.0, 0.05)
    center = t.alpha * explicit.POINT  # the residual is zero
    for (mean, variance), eta in zip(moment_ode(schedule, t, s, center), explicit.ETAS, strict=True):
        assert mean == pytest.approx(s.alpha * explicit.POINT, rel=1e-11)
        kept = math.exp(-(eta**2) * (s.lam - t.lam)) * s.sigma / t.sigma
        assert variance + kept**2 * t.sigma**2 == pytest.approx(s.sigma**2, rel=1e-10)


def test_the_recursion_of_moments_is_what_particles_do():
    """Mean and variance of 100,000 particles of DDPM on Gaussian data, within 4 standard errors."""
    denoiser = GaussianDenoiser(Cosine(), 1.3, 0.25)
    times = log_snr_times(Cosine(), 0.9, 0.1, 6)
    mean, variance = law_after(DDPM(), denoiser, times, 0.4, 0.7)
    n, generator = 100_000, torch.Generator().manual_seed(0)
    x = 0.4 + 0.7**0.5 * torch.randn(n, 1, dtype=torch.float64, generator=generator)
    x = sample(DDPM(), denoiser, x, times, noise=generator)
    assert abs(float(x.mean()) - mean) < 4 * (variance / n) ** 0.5
    assert abs(float(x.var()) / variance - 1) < 4 * (2 / n) ** 0.5


def wrong_power(t, s, eta, start=explicit.START):
    """exp(-eta h) in place of exp(-eta^2 h)."""
    memory = math.exp(-eta * (s.lam - t.lam))
    residual = (start - t.alpha * explicit.POINT) / t.sigma
    return s.alpha * explicit.POINT + s.sigma * memory * residual, s.sigma**2 * (1 - memory**2)


def no_root(t, s, eta, start=explicit.START):
    """The variance loses its factor two in the exponent."""
    mean, _ = explicit_law(t, s, eta, start)
    return mean, -(s.sigma**2) * math.expm1(-(eta**2) * (s.lam - t.lam))


def none_at_two(t, s, eta, start=explicit.START):
    """No number at all for one of four values of eta."""
    return (math.nan, math.nan) if eta == 2 else explicit_law(t, s, eta, start)


def louder(sampler, denoiser, x, times, *, noise):
    """The right mean, a deviation that is one percent too large."""
    ended = sample(sampler, denoiser, x, times, noise=noise)
    return ended.mean() + 1.01 * (ended - ended.mean())


def skewed(sampler, denoiser, x, times, *, noise):
    """The right mean and variance, another law: a centered exponential."""
    ended = sample(sampler, denoiser, x, times, noise=noise)
    drawn = -torch.rand(ended.shape, dtype=ended.dtype, generator=noise).log() - 1
    return ended.mean() + ended.std() * (drawn - drawn.mean()) / drawn.std()


def with_beta(betas):
    """The upper variance beta in place of the posterior's."""
    return [(mean, beta) for (mean, _), beta in zip(chain_posterior(betas), betas[1:], strict=True)]


def twice(x_t, t, s):
    return 2 * upper_variance(x_t, t, s)


FAULTS = [
    ("explicit", f"{HERE}.explicit.explicit_law", wrong_power, "moment-equations"),
    ("explicit", f"{HERE}.explicit.explicit_law", no_root, "moment-equations"),
    ("explicit", f"{HERE}.explicit.explicit_law", none_at_two, "one-step"),
    ("explicit", f"{HERE}.explicit.ReverseBridge", lambda eta: StochasticDDIM(min(eta, 1.0)), "seven-steps"),
    ("explicit", f"{HERE}.explicit.ReverseBridge", lambda eta: ReverseBridge(eta * 1.001), "one-step"),
    ("particles", f"{HERE}.explicit.sample", louder, "particle-moments"),
    ("particles", f"{HERE}.explicit.sample", skewed, "particle-law"),
    ("ddpm", f"{HERE}.chain.DDPM", lambda: DDPM(upper_variance), "ddpm-posterior"),
    ("ddpm", f"{HERE}.chain.OU", Cosine(), "hyperbolic-form"),
    ("ddpm", f"{HERE}.chain.textbook_posterior", with_beta, "ou-chain"),
    ("ddim", f"{HERE}.chain.DDIM", Heun, "ddim-euler"),
    ("ddim", f"{HERE}.chain.explicit_law", wrong_power, None),  # at eta = 0 the two powers agree: nothing to find
    ("song", f"{HERE}.chain.song_of", lambda eta, _: 0.99 * eta, "song-converted"),
    ("song", f"{HERE}.chain.StochasticDDIM", lambda eta: ReverseBridge(min(eta, 0.5)), "memory-moves"),
    ("order", f"{HERE}.frozen.DDIM", Heun, "order-0"),
    ("variance", f"{HERE}.frozen.OptimalVariance", lambda _: posterior_variance, "exact-in-ten"),
    ("variance", f"{HERE}.frozen.OptimalVariance", lambda _: twice, "bracket"),
    ("variance", f"{HERE}.frozen.upper_variance", twice, "upper-is-beta"),
]


@pytest.mark.parametrize(("part", "target", "mutant", "claim"), FAULTS, ids=[f"{f[0]}-{f[3]}" for f in FAULTS])
def test_a_planted_fault_makes_its_claim_fail(part, target, mutant, claim):
    with planted(target, mutant):
        found = failures(FIXED_START, part)
    assert claim in found if claim else not found


def test_the_orders_of_the_frozen_denoiser_are_the_published_ones():
    """DDIM 0.997 and DDPM 0.993 between 320 and 640 steps on a log-SNR grid, N(1.3, 1/4)."""
    claims = {claim.name: claim.value for claim in frozen.frozen_order(torch.Generator()).claims}
    assert claims["order-0"] == pytest.approx(0.997, abs=1e-3)
    assert claims["order-2"] == pytest.approx(0.993, abs=1e-3)


def test_the_ornstein_uhlenbeck_times_of_the_chain_are_its_summed_betas():
    """int 2 dt = -sum log(1 - beta): alpha = e^-t is the chain's."""
    discrete = chain.DiscreteVP.linear()
    t = -0.5 * torch.log1p(-torch.tensor(discrete.betas, dtype=torch.float64)).cumsum(0)
    k = 500
    assert instant(chain.OU, float(t[k - 1])).alpha == pytest.approx(float(discrete.alpha(float(k))), rel=1e-13)

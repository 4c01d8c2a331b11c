"""The support theorem: every claim holds for another seed, and a planted fault makes the claim about it fail."""

import itertools
import math

import pytest
import torch
from answering import answered, failures, planted
from scipy.integrate import solve_ivp

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical, Gaussian, Ring
from diffuscope.experiments import support
from diffuscope.experiments.four_points import HORIZON, OU
from diffuscope.experiments.support import EXPERIMENT, starts
from diffuscope.experiments.support.starts import bayes_weight, gaussian, point, uniform
from diffuscope.samplers import DDPM, DPMSolverPP2M, SDEDPMSolverPP2M, instant, posterior_variance, sample
from diffuscope.times import log_snr_times

HERE = "diffuscope.experiments.support"
STARTS = [gaussian(0.3, 1.2), uniform(-3.0, -1.0), point(0.4)]
mean_on_circle, exact_weight, blurred = starts.mean_on_circle, bayes_weight, support.blurred


@pytest.fixture(autouse=True, scope="module")
def _smaller():
    """Fewer particles: the standard errors in the claims follow."""
    with (
        planted(f"{HERE}.BUMPS_PARTICLES", 10_000),
        planted(f"{HERE}.CIRCLE_PARTICLES", 5_000),
        planted(f"{HERE}.POINTS_PARTICLES", 3_000),
        planted(f"{HERE}.POINTS_STEPS", 50),
        planted(f"{HERE}.SIZES", (1e-3, 3e-2)),
        planted(f"{HERE}.SAMPLES", 40),
    ):
        yield


@pytest.mark.parametrize("part", [part.name for part in EXPERIMENT.parts])
def test_every_claim_holds(part):
    answer = answered(EXPERIMENT, part)
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.label)
def test_a_start_is_a_quadrature_of_what_it_draws(start):
    """Mean and second moment of the nodes, within 4 standard errors of 100,000 draws."""
    assert float(start.weights.sum()) == pytest.approx(1.0, rel=1e-13)
    drawn = start.draw(100_000, torch.Generator().manual_seed(0))[:, 0]
    for power in (1, 2):
        values = drawn**power
        error = float(values.std()) / math.sqrt(len(values)) + 1e-12
        assert abs(float(values.mean()) - float(start.weights @ start.nodes**power)) < 4 * error


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.label)
def test_the_generated_density_has_mass_one(start):
    """h rho_0 over 4,001 points of [-4, 4]: quadrature, spectrally accurate."""
    x, end = torch.linspace(-4, 4, 4001, dtype=torch.float64), instant(OU, support.BUMPS_END)
    data = support.BUMPS.log_prob(x[:, None], end.alpha, end.sigma).exp()
    mass = float(x[1] - x[0]) * float(
        (starts.bayes_weight(support.BUMPS, start, x, instant(OU, HORIZON), end) * data).sum()
    )
    assert mass == pytest.approx(1.0, abs=1e-10)


def test_the_right_start_ends_with_the_data():
    """nu = rho_T: h = 1 everywhere; here for one Gaussian, where rho_T is a start."""
    T = instant(OU, 0.7)
    data = Gaussian.isotropic(torch.tensor([0.5], dtype=torch.float64), 0.3)
    start = gaussian(0.5 * T.alpha, math.sqrt(T.alpha**2 * 0.3 + T.sigma**2))
    h = bayes_weight(data, start, torch.linspace(-1, 2, 31, dtype=torch.float64), T, instant(OU, 0.0))
    assert torch.allclose(h, torch.ones_like(h), rtol=1e-12, atol=0)


def by_bayes(mean, variance, start):
    """Mean and variance of q_0 for data N(mean, variance) and a start N(start): m + G (mu - alpha m) and so on."""
    T = instant(OU, HORIZON)
    gain = T.alpha * variance / (T.alpha**2 * variance + T.sigma**2)
    return mean + gain * (start[0] - T.alpha * mean), variance * (1 - T.alpha * gain) + gain**2 * start[1]


def test_on_gaussian_data_bayes_rule_has_the_moments_of_the_reverse_sde():
    """12 widths and starts; the integrator's relative tolerance is 1e-13."""
    m = 1.3

    def slope(tau, moments, variance):
        alpha = math.exp(tau - HORIZON)  # dX = -X dt + sqrt(2) dB
        V = alpha**2 * variance + 1 - alpha**2
        return [moments[0] + 2 * (alpha * m - moments[0]) / V, 2 * (1 - 2 / V) * moments[1] + 2]

    for variance, start in itertools.product((0.01, 0.25, 4.0), ((0.0, 1.0), (1.5, 0.09), (-3.0, 25.0), (0.4, 0.0))):
        solved = solve_ivp(slope, (0.0, HORIZON), start, "DOP853", rtol=1e-13, atol=1e-15, args=(variance,))
        assert solved.y[:, -1].tolist() == pytest.approx(by_bayes(m, variance, start), abs=1e-8)


def test_quadrature_and_closed_form_agree_on_gaussian_data():
    """Mean and variance of h rho_0 against Bayes' rule for Gaussians, three starts."""
    x = torch.linspace(-6, 8, 2801, dtype=torch.float64)
    data = Gaussian.isotropic(torch.tensor([1.3], dtype=torch.float64), 0.25)
    end = instant(OU, 1e-12)
    for mean, deviation in ((0.0, 1.0), (1.5, 0.3), (-3.0, 2.0)):
        h = bayes_weight(data, gaussian(mean, deviation), x, instant(OU, HORIZON), end)
        q = h * data.log_prob(x[:, None], end.alpha, end.sigma).exp()
        q = q / q.sum()
        center = float(q @ x)
        expected = by_bayes(1.3, 0.25, (mean, deviation**2))
        assert (center, float(q @ (x - center) ** 2)) == pytest.approx(expected, rel=1e-9)


def test_the_mean_on_the_circle_is_the_integral_of_the_angle_density():
    angles = torch.linspace(-math.pi, math.pi, 361, dtype=torch.float64)[:-1]
    T = instant(OU, support.CIRCLE_HORIZON)
    for place in support.CIRCLE_STARTS.values():
        density = starts.angle_density(place, T, angles) * (2 * math.pi / 360)
        assert float(density.sum()) == pytest.approx(1.0, rel=1e-9)
        mean = torch.stack([density @ angles.cos(), density @ angles.sin()])
        assert torch.allclose(mean, mean_on_circle(place, T), atol=2e-3)  # 100 against 300 places per axis


def off_the_circle(radius):
    """Root mean square distance to the unit circle over sigma, of 5,000 particles on their way to another one."""
    end = instant(OU, support.CIRCLE_END)
    start = torch.randn(5_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    times = log_snr_times(OU, support.CIRCLE_HORIZON, end.t, support.STEPS)
    noise = torch.Generator().manual_seed(2)
    ended = sample(SDEDPMSolverPP2M(), ExactDenoiser(Ring(radius), OU), start, times, noise=noise)
    return float((ended.norm(dim=1) - end.alpha).square().mean().sqrt()) / end.sigma


def test_before_the_last_denoising_the_distance_to_the_circle_is_the_noise():
    """4 standard errors, and the circle's curvature over sigma."""
    room = 4 / math.sqrt(2 * 5_000) + 4 * instant(OU, support.CIRCLE_END).sigma
    assert off_the_circle(1.0) == pytest.approx(1.0, abs=room)
    assert abs(off_the_circle(1.01) - 1.0) > room


def test_along_the_equations_the_state_is_off_by_its_noise():
    """DDPM on the digits: C x - alpha d has the standard deviation sigma, within 4 standard errors."""
    rows = support.some_digits()
    C, d = support.equations(rows)
    start = torch.randn(40, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    end, noise = instant(OU, 1e-6), torch.Generator().manual_seed(2)
    times = log_snr_times(OU, 1.5, end.t, 30)
    room = 4 / math.sqrt(2 * 40 * len(C))
    for sampler, alike in ((DDPM(), True), (with_half_the_noise(), False)):
        ended = sample(sampler, ExactDenoiser(Empirical(rows), OU), start, times, noise=noise)
        ratio = float((ended @ C.T - end.alpha * d).square().mean().sqrt()) / end.sigma
        assert (abs(ratio - 1.0) <= room) == alike


def test_the_equations_are_all_and_orthonormal():
    rows = support.some_digits()
    C, d = support.equations(rows)
    assert C.shape == (64 - (len(rows) - 1), 64)  # as many as affine independence leaves
    assert torch.allclose(C @ C.T, torch.eye(len(C), dtype=torch.float64), atol=1e-13)
    blank = (rows == rows[0]).all(0).nonzero()[:, 0]
    assert len(blank) >= 3  # pixels of the border, always alike: their unit vectors lie in the row space of C
    units = torch.eye(64, dtype=torch.float64)[blank]
    assert torch.allclose(units @ C.T @ C, units, atol=1e-12)
    assert torch.allclose(rows @ C.T, d.expand(len(rows), -1), atol=1e-13)


def deterministic(*_):
    return DPMSolverPP2M()


def with_half_the_noise(*_):
    return DDPM(lambda x_t, t, s: posterior_variance(x_t, t, s) / 2)


class Sloppy(Empirical):
    """Off by a millionth."""

    def denoise(self, x_t, alpha, sigma):
        return super().denoise(x_t, alpha, sigma) + 1e-6 * x_t.sin()


def doubled(*given):
    return 2 * exact_weight(*given)


FAULTS = [
    ("containment", f"{HERE}.ExactDenoiser", lambda _, s: ExactDenoiser(Ring(1.01), s), "on-circle"),
    ("containment", f"{HERE}.mean_on_circle", lambda *given: mean_on_circle(*given) + 0.1, "where"),
    ("containment", f"{HERE}.mean_on_circle", lambda *given: 0 * mean_on_circle(*given), "where"),  # the data's
    ("bayes", f"{HERE}.bayes_weight", doubled, "particles"),
    ("bayes", f"{HERE}.SDEDPMSolverPP2M", deterministic, "particles"),  # the ODE generates another distribution
    ("contraction", f"{HERE}.bayes_weight", doubled, "total-variation"),
    ("contraction", f"{HERE}.bayes_weight", doubled, "density-ratio"),
    ("constraint", f"{HERE}.Empirical", Sloppy, "denoiser-on-the-way"),
    ("leaving", f"{HERE}.MixtureTransition", with_half_the_noise, "stopped"),
    ("leaving", f"{HERE}.blurred", lambda delta: blurred(1.1 * delta), "blurred"),
    ("leaving", f"{HERE}.blurred", lambda delta: blurred(delta**0.9), "blurred"),
]


@pytest.mark.parametrize(("part", "target", "mutant", "claim"), FAULTS, ids=[f"{f[0]}-{f[3]}" for f in FAULTS])
def test_a_planted_fault_makes_its_claim_fail(part, target, mutant, claim):
    with planted(target, mutant):
        assert claim in failures(EXPERIMENT, part)

"""The support theorem: every claim holds for another seed, and a planted fault makes the claim about it fail."""

import math

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical, Gaussian, Ring
from diffuscope.experiments.support import SUPPORT, bayes, constraint, containment, leaving
from diffuscope.experiments.support.start_laws import bayes_weight, ended_density, gaussian, point, uniform
from diffuscope.samplers import DDPM, DPMSolverPP2M, instant, posterior_variance, sample

HERE = "diffuscope.experiments.support"
STARTS = [gaussian(0.3, 1.2), uniform(-3.0, -1.0), point(0.4)]
by_bayes, mean_by_bayes, exact_weight = bayes.by_bayes, containment.mean_by_bayes, bayes_weight
blurred = leaving.blurred


@pytest.fixture(autouse=True, scope="module")
def _smaller():
    """Fewer particles: the standard errors in the claims follow."""
    with (
        planted(f"{HERE}.bayes.PARTICLES", 10_000),
        planted(f"{HERE}.containment.PARTICLES", 5_000),
        planted(f"{HERE}.leaving.PARTICLES", 3_000),
        planted(f"{HERE}.leaving.SIZES", (1e-3, 3e-2)),
        planted(f"{HERE}.constraint.SAMPLES", 40),
    ):
        yield


@pytest.mark.parametrize("part", [part.name for part in SUPPORT.parts])
def test_every_claim_holds(part):
    answer = answered(SUPPORT, part)
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.label)
def test_a_start_law_is_a_quadrature_of_what_it_draws(start):
    """Mean and second moment of the nodes, within 4 standard errors of 100,000 draws."""
    assert float(start.weights.sum()) == pytest.approx(1.0, rel=1e-13)
    drawn = start.draw(100_000, torch.Generator().manual_seed(0))[:, 0]
    for power in (1, 2):
        values = drawn**power
        error = float(values.std()) / math.sqrt(len(values)) + 1e-12
        assert abs(float(values.mean()) - float(start.weights @ start.nodes**power)) < 4 * error


def test_the_right_start_ends_with_the_data():
    """nu = rho_T: h = 1 everywhere; here for one Gaussian, where rho_T is a start law."""
    T = instant(bayes.OU, 0.7)
    law = Gaussian.isotropic(torch.tensor([0.5], dtype=torch.float64), 0.3)
    start = gaussian(0.5 * T.alpha, math.sqrt(T.alpha**2 * 0.3 + T.sigma**2))
    x = torch.linspace(-1, 2, 31, dtype=torch.float64)
    h = bayes_weight(law, start, x, T, instant(bayes.OU, 0.0))
    assert torch.allclose(h, torch.ones_like(h), rtol=1e-12)


def test_quadrature_and_closed_form_agree_on_gaussian_data():
    """Mean and variance of h rho_0 against Bayes' rule for Gaussians, three starts."""
    x = torch.linspace(-6, 8, 2801, dtype=torch.float64)
    law = Gaussian.isotropic(torch.tensor([1.3], dtype=torch.float64), 0.25)
    end = instant(bayes.OU, 1e-12)
    for mean, deviation in ((0.0, 1.0), (1.5, 0.3), (-3.0, 2.0)):
        q = ended_density(law, gaussian(mean, deviation), x, instant(bayes.OU, bayes.HORIZON), end)
        q = q / q.sum()
        center = float(q @ x)
        expected = by_bayes(1.3, 0.25, (mean, deviation**2))
        assert (center, float(q @ (x - center) ** 2)) == pytest.approx(expected, rel=1e-9)


def test_the_mean_on_the_circle_is_the_integral_of_the_angle_density():
    angles = torch.linspace(-math.pi, math.pi, 361, dtype=torch.float64)[:-1]
    for start in containment.STARTS:
        density = containment.angle_density(start, angles) * (2 * math.pi / 360)
        assert float(density.sum()) == pytest.approx(1.0, rel=1e-9)
        mean = torch.stack([density @ angles.cos(), density @ angles.sin()])
        assert torch.allclose(mean, mean_by_bayes(start), atol=2e-3)  # 100 against 300 places per axis


def test_the_constraints_are_all_and_orthonormal():
    rows = constraint.some_digits()
    C, d = constraint.constraints(rows)
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


def without_the_last_step(sampler, denoiser, x, times, *, noise):
    return sample(sampler, denoiser, x, times[:-1] if float(times[-1]) == 0 else times, noise=noise)


class Sloppy(Empirical):
    """Off by a millionth."""

    def denoise(self, x_t, alpha, sigma):
        return super().denoise(x_t, alpha, sigma) + 1e-6 * x_t.sin()


def far_from_contracting(law, start, x, begin, end):
    return exact_weight(law, start, x, begin, end) * 2


FAULTS = [
    ("containment", f"{HERE}.containment.ExactDenoiser", lambda _, s: ExactDenoiser(Ring(1.01), s), "on-circle"),
    ("containment", f"{HERE}.containment.ExactDenoiser", lambda _, s: ExactDenoiser(Ring(1.01), s), "noise-off"),
    ("containment", f"{HERE}.containment.mean_by_bayes", lambda start: mean_by_bayes(start) + 0.1, "where"),
    ("containment", f"{HERE}.containment.mean_by_bayes", lambda start: 0 * mean_by_bayes(start), "containment-only"),
    ("bayes", f"{HERE}.bayes.by_bayes", lambda m, v, start: by_bayes(m, 1.001 * v, start), "gaussian-moments"),
    ("bayes", f"{HERE}.start_laws.bayes_weight", lambda *a: 1.001 * exact_weight(*a), "mass"),
    ("bayes", f"{HERE}.bayes.SDEDPMSolverPP2M", deterministic, "particles"),  # the ODE ends with another law
    ("contraction", f"{HERE}.bayes.bayes_weight", far_from_contracting, "total-variation"),
    ("contraction", f"{HERE}.bayes.bayes_weight", far_from_contracting, "density-ratio"),
    ("constraint", f"{HERE}.constraint.Empirical", Sloppy, "denoiser-anywhere"),
    ("constraint", f"{HERE}.constraint.Empirical", Sloppy, "denoiser-on-the-way"),
    ("constraint", f"{HERE}.constraint.DDPM", with_half_the_noise, "state-off"),
    ("leaving", f"{HERE}.leaving.sample", without_the_last_step, "landed"),
    ("leaving", f"{HERE}.leaving.MixtureTransition", with_half_the_noise, "stopped"),
    ("leaving", f"{HERE}.leaving.blurred", lambda delta: blurred(1.1 * delta), "blurred"),
    ("leaving", f"{HERE}.leaving.blurred", lambda delta: blurred(delta**0.9), "first-order"),
]


@pytest.mark.parametrize(("part", "target", "mutant", "claim"), FAULTS, ids=[f"{f[0]}-{f[3]}" for f in FAULTS])
def test_a_planted_fault_makes_its_claim_fail(part, target, mutant, claim):
    with planted(target, mutant):
        assert claim in failures(SUPPORT, part)

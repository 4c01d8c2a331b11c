"""Sequential Monte Carlo against posteriors in closed form, with errors that are neither too small nor too large."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian, GaussianMixture, two_moons
from diffuscope.physics import (
    DPS,
    CovarianceGuided,
    NonlinearObservation,
    Particles,
    at_nodes,
    log_evidence,
    log_likelihood,
    posterior,
    sequential_monte_carlo,
)
from diffuscope.physics.finite_prior import FiniteTwist, PointSet
from diffuscope.physics.grading.case import Case
from diffuscope.physics.grading.finite_set import darcy_cases
from diffuscope.physics.prior_chains import DDPMChain, ExactChain, guidance, moved_by, propose
from diffuscope.physics.twisting import PilotTwist
from diffuscope.physics.weighted_draws import systematic
from diffuscope.samplers import model_times
from diffuscope.samplers.noise import Noise
from diffuscope.samplers.schedule_values import instants
from diffuscope.schedules import VE, VP, RectifiedFlow
from numbers_in_tests import normal

F64 = torch.float64
SEEDS, REPLICAS = 24, 24
COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=F64)
PRIOR = ExactDenoiser(Gaussian.from_covariance(torch.tensor([0.5, -0.3]), COVARIANCE), VP())
FIRST, Y = at_nodes(torch.tensor([0]), (2,), noise=0.3), torch.tensor([1.5])


@dataclass(frozen=True)
class Plain:
    """A denoiser of which nothing is known: its chain is DDPM's."""

    exact: ExactDenoiser

    @property
    def schedule(self) -> VP | VE:
        return self.exact.schedule  # pyright: ignore[reportReturnType]

    def __call__(self, x_t: Tensor, t: float) -> Tensor:
        return self.exact(x_t, t)


def no_twist(x: Tensor, denoised: Tensor, t: float) -> Tensor:  # noqa: ARG001
    """psi = 1: everything that y says arrives with the last weight."""
    return torch.zeros(len(x), dtype=F64)


def zscores(found: Particles, mean: Tensor, variances: Tensor, log_evidence: float) -> Tensor:
    (m, m_error), (v, v_error) = found.mean(), found.variance()
    z = (found.log_evidence - log_evidence) / found.log_evidence_error
    return torch.cat([((m - mean) / m_error).flatten(), ((v - variances) / v_error).flatten(), torch.tensor([z])])


def require_honest(z: Tensor) -> None:
    """z of SEEDS runs: Student's t with R - 1 degrees of freedom, so that E z^2 = (R - 1)/(R - 3) and E z = 0.

    The mean of z^2 over SEEDS runs and three independent columns or more has a standard error of 0.17.
    """
    expected = (REPLICAS - 1) / (REPLICAS - 3)
    assert 0.5 < float(z.square().mean()) / expected < 1.7, z.square().mean(0)
    assert float(z.mean(0).abs().max()) < 4 * math.sqrt(expected / len(z)), z.mean(0)


def run(*args: object, **options: object) -> list[Particles]:
    """SEEDS runs of REPLICAS replicas, float64: parts of one, whose replicas are independent given the pilot's fit."""
    together = sequential_monte_carlo(*args, **{"replicas": SEEDS * REPLICAS, "dtype": F64} | options)  # type: ignore
    parts = torch.arange(SEEDS * REPLICAS).split(REPLICAS)
    return [
        Particles(together.x[k], together.log_weights[k], together.ess[:, k], together.resampled[:, k], together.nfe)
        for k in parts
    ]


PROPOSALS = {
    "twisted": {},
    "bootstrap": {"proposal": PRIOR},
    "importance": {"proposal": PRIOR, "twist": no_twist},  # without the last weight: the prior's mean
    "DPS": {"proposal": DPS(PRIOR, FIRST, Y, weight=0.1)},
    "covariance": {"proposal": CovarianceGuided(PRIOR, FIRST, Y)},
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind == "DPS" else ()) for kind in PROPOSALS]
)
def test_a_gaussian_posterior_is_met_within_the_stated_error(kind: str) -> None:
    mean = torch.tensor([0.5, -0.3], dtype=F64) + COVARIANCE[:, 0] * 1.0 / 1.09  # Bayes' rule for two numbers
    variances = COVARIANCE.diagonal() - COVARIANCE[:, 0] ** 2 / 1.09
    log_evidence = -1 / (2 * 1.09) - math.log(2 * math.pi * 1.09) / 2
    runs = run(PRIOR, FIRST, Y, particles=40, steps=6, **PROPOSALS[kind])
    require_honest(torch.stack([zscores(found, mean, variances, log_evidence) for found in runs]))
    upper = mean + variances.sqrt() * 0.5244005127080407  # the 0.7-quantile
    q, error = (torch.stack(part) for part in zip(*(found.quantile(0.7) for found in runs), strict=True))
    ratio = ((q - upper).square().mean(0) / error.square().mean(0)).mean()  # of 48 squares: to 4 standard errors
    assert abs(float(ratio) - 1) < 4 * math.sqrt(2 / 48)
    assert runs[0].ess.shape == (6 + 2, REPLICAS)  # every level, and the last by the likelihood


def test_a_mixture_posterior_is_met_within_the_stated_error() -> None:
    weights, means, variance = torch.tensor([0.3, 0.7]), torch.tensor([[-1.5], [1.0]]), 0.1
    prior = GaussianMixture.isotropic(weights, means.double(), torch.full((2,), variance))
    observation, y = NonlinearObservation(torch.square, (1,), 0.4), torch.tensor([1.6])  # both signs explain it
    grid = torch.linspace(-4, 4, 2_001, dtype=F64)[:, None]
    joint = (prior.log_prob(grid, 1.0, 1e-4) + log_likelihood(observation, grid, y)).exp()
    evidence = float(torch.trapezoid(joint, grid[:, 0]))
    m, second = (float(torch.trapezoid(joint * grid[:, 0] ** k, grid[:, 0])) / evidence for k in (1, 2))
    exact = torch.tensor([m], dtype=F64), torch.tensor([second - m**2], dtype=F64), math.log(evidence)
    denoiser = ExactDenoiser(prior, VP())
    runs = run(denoiser, observation, y, particles=24, steps=6)
    require_honest(torch.stack([zscores(found, *exact) for found in runs]))


@pytest.mark.parametrize("kind", ["twisted", "bootstrap"])
def test_the_evidence_is_unbiased_also_with_four_particles(kind: str) -> None:
    found = sequential_monte_carlo(
        PRIOR, FIRST, Y, particles=4, replicas=2000, steps=4, seed=1, dtype=F64, **PROPOSALS[kind]
    )
    assert float(found.resampled.double().mean()) > 0.05
    evidence = math.exp(-1 / (2 * 1.09)) / math.sqrt(2 * math.pi * 1.09)
    Z = found.log_evidences.exp()
    error = float(Z.std()) / math.sqrt(len(Z))
    assert abs(float(Z.mean()) - evidence) < 4 * error
    assert error < 0.05 * evidence
    assert found.log_evidence == pytest.approx(math.log(float(Z.mean())), abs=1e-12)
    assert found.log_evidence_error == pytest.approx(error / float(Z.mean()), rel=1e-9)


def test_a_constant_likelihood_leaves_all_particles_equal() -> None:
    constant = NonlinearObservation(lambda x: 0 * x[:, :1], (2,), 2.0)
    found = sequential_monte_carlo(PRIOR, constant, torch.tensor([1.0]), particles=16, replicas=3, steps=5)
    torch.testing.assert_close(found.ess, torch.full((7, 3), 16.0, dtype=F64), rtol=1e-12, atol=0)
    assert not bool(found.resampled.any())
    density = -1 / 8 - math.log(2) - math.log(2 * math.pi) / 2
    torch.testing.assert_close(found.log_weights, torch.full((3, 16), density, dtype=F64), rtol=1e-6, atol=1e-6)


def test_the_chain_of_a_mere_denoiser_has_its_own_prior() -> None:
    """With few steps DDPM's chain is far from the data: its variance follows from a recursion, and so the posterior."""
    mu, v, r, y = 1.0, 0.5, 0.5, 0.2
    exact = ExactDenoiser(Gaussian.isotropic(torch.tensor([mu], dtype=F64), v), VP())
    levels = instants(exact.schedule, torch.tensor([1.0, 0.5, 0.2, 0.05], dtype=F64))
    mean, variance = 0.0, levels[0].sigma ** 2
    gains = [at.alpha * v / (at.alpha**2 * v + at.sigma**2) for at in levels]  # D = mu + gain (x - alpha mu)
    for t, s, gain in zip(levels[:-1], levels[1:], gains[:-1], strict=True):
        e_h = s.sigma * t.alpha / (t.sigma * s.alpha)
        kept = e_h * s.sigma / t.sigma
        slope = kept + (s.alpha - kept * t.alpha) * gain
        mean = slope * mean + (s.alpha - kept * t.alpha) * (mu - gain * t.alpha * mu)
        variance = slope**2 * variance + s.sigma**2 * (1 - e_h**2)
    mean, variance = mu + gains[-1] * (mean - levels[-1].alpha * mu), gains[-1] ** 2 * variance
    assert abs(variance - v) > 0.2 * v
    total = variance + r**2
    posterior_mean, posterior_variance = mean + variance * (y - mean) / total, variance * r**2 / total
    log_evidence = -((y - mean) ** 2) / (2 * total) - math.log(2 * math.pi * total) / 2
    observation, times = at_nodes(torch.tensor([0]), (1,), noise=r), torch.tensor([1.0, 0.5, 0.2, 0.05], dtype=F64)
    runs = run(Plain(exact), observation, torch.tensor([y]), particles=40, times=times)
    m, v = torch.tensor([[posterior_mean], [posterior_variance]], dtype=F64)
    require_honest(torch.stack([zscores(found, m, v, log_evidence) for found in runs]))
    assert runs[0].nfe == 4 * (SEEDS * REPLICAS * 40 + 2 * 256)  # the pilot's own chain, and its noised levels


POINTS = torch.tensor([[0.0, 0.0], [1.0, 0.2], [-0.8, 1.1], [0.4, -1.3], [-1.2, -0.6]], dtype=F64)
SET = Empirical(POINTS, torch.tensor([0.1, 0.3, 0.2, 0.25, 0.15]))
PRODUCT = NonlinearObservation(lambda x: torch.sin(x[:, :1] * 2) + x[:, 1:], (2,), 0.8)


@pytest.mark.parametrize("twist", ["pilot", "exact"])
def test_the_weights_of_a_finite_set_agree_with_the_exact_posterior(twist: str) -> None:
    y = torch.tensor([0.2])
    joint = SET.weights * log_likelihood(PRODUCT, POINTS, y).exp()
    expected, z = joint / joint.sum(), []
    options = {}
    if twist == "pilot":
        levels, generator = model_times(ExactDenoiser(SET, VE()), 8), torch.Generator().manual_seed(0)
        chain, at = ExactChain(SET, VE()), instants(VE(), levels)
        options = {"twist": PilotTwist.measured(chain, PRODUCT, y, at, POINTS[:1], generator), "times": levels}
    for found in run(ExactDenoiser(SET, VE()), PRODUCT, y, particles=40, steps=8, **options):
        shares, errors = found.expectation(lambda x: (x[:, None] == POINTS).all(2).double())
        assert float(shares.sum()) == pytest.approx(1, abs=1e-12)  # every particle is a point
        evidence = (found.log_evidence - math.log(float(joint.sum()))) / found.log_evidence_error
        z.append(torch.cat([(shares - expected) / errors, torch.tensor([evidence])]))
    require_honest(torch.stack(z))


def test_a_finite_set_by_products_is_the_empirical_distribution() -> None:
    schedule, x = VP(), normal(6, 2, seed=2)
    fast, y = PointSet.of(SET), torch.tensor([0.6])
    for t in (0.05, 0.4, 1.0):
        (at,) = instants(schedule, torch.tensor([t], dtype=F64))
        torch.testing.assert_close(
            fast.denoise(x, at.alpha, at.sigma), SET.denoise(x, at.alpha, at.sigma), rtol=1e-9, atol=1e-9
        )
        torch.testing.assert_close(
            fast.log_prob(x, at.alpha, at.sigma), SET.log_prob(x, at.alpha, at.sigma), rtol=1e-9, atol=1e-9
        )
        given = posterior(SET, PRODUCT, y)  # p(y | x_t) = p(x_t | y) p(y) / p(x_t)
        evidence = (SET.weights * log_likelihood(PRODUCT, POINTS, y).exp()).sum().log()
        bayes = given.log_prob(x, at.alpha, at.sigma) + evidence - SET.log_prob(x, at.alpha, at.sigma)
        twist = FiniteTwist.of(SET, schedule, PRODUCT, y)
        torch.testing.assert_close(twist(x, x, t), bayes, rtol=1e-8, atol=1e-8)
    (at,) = instants(schedule, torch.tensor([0.4], dtype=F64))
    n = 20_000
    drawn = fast.posterior_draw(x[:1].expand(n, 2), at.alpha, at.sigma, Noise(torch.Generator().manual_seed(0)))
    shares = (drawn[:, None] == POINTS).all(2).double().mean(0)
    exact = fast.logits(x[:1], at.alpha, at.sigma)[0].softmax(1)[0]
    assert bool(((shares - exact).abs() <= 4 * (exact * (1 - exact) / n).sqrt() + 1e-12).all())


def test_the_weight_of_a_proposal_is_the_ratio_of_its_densities() -> None:
    (t, s), noise = instants(VP(), torch.tensor([0.7, 0.5])), Noise(torch.Generator().manual_seed(0))
    x_t, toward, v = normal(2000, 1, seed=3), normal(2000, 1, seed=4) + 1, 0.4
    denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(1, dtype=F64), v), VP())
    D = denoiser(x_t, 0.7)
    e_h = s.sigma * t.alpha / (t.sigma * s.alpha)
    kept, beta = e_h * s.sigma / t.sigma, s.sigma**2 * (1 - e_h**2)
    per_unit = s.alpha - kept * t.alpha
    mean, delta = kept * x_t + per_unit * D, per_unit * toward
    spread = v * t.sigma**2 / (t.alpha**2 * v + t.sigma**2)  # Var(x_0 | x_t)
    for chain, variance in (
        (DDPMChain(denoiser), beta),
        (ExactChain(denoiser.distribution, VP()), beta + per_unit**2 * spread),
    ):
        guided = torch.full((2000,), 0.9, dtype=F64)
        x_s, log_weight = moved_by(chain, x_t, D, delta, guided, t, s, noise)
        p, moved = ((-(a**2) / (2 * variance)).exp()[:, 0] for a in (x_s - mean, x_s - mean - delta))
        torch.testing.assert_close(log_weight, (p / (0.1 * p + 0.9 * moved)).log(), rtol=1e-8, atol=1e-8)
        assert float(log_weight.max()) <= math.log(10) + 1e-12
        standard = (x_s - mean)[:, 0] / math.sqrt(variance)
        weight = log_weight.exp()
        for moment, expected in ((weight, 1.0), (weight * standard, 0.0), (weight * standard**2, 1.0)):
            assert abs(float(moment.mean()) - expected) < 4 * float(moment.std()) / math.sqrt(2000)
        x_s, log_weight = propose(chain, x_t, D, toward, t, s, noise)
        standard, weight = (x_s - mean)[:, 0] / math.sqrt(variance), log_weight.exp()
        for moment, expected in ((weight, 1.0), (weight * standard, 0.0), (weight * standard**2, 1.0)):
            assert abs(float(moment.mean()) - expected) < 4 * float(moment.std()) / math.sqrt(2000)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0, 4.0])
def test_a_move_is_guided_where_the_chain_may_go(shift: float) -> None:
    """E g = 0.9 E min(1, e r), and log r = -shift (xi + shift/2) for a Gaussian transition."""
    (t, s), noise = instants(VP(), torch.tensor([0.7, 0.5])), Noise(torch.Generator().manual_seed(0))
    chain = DDPMChain(ExactDenoiser(Gaussian.isotropic(torch.zeros(1, dtype=F64), 0.4), VP()))
    x_t = torch.zeros(4000, 1, dtype=F64)
    e_h = s.sigma * t.alpha / (t.sigma * s.alpha)
    delta = torch.full_like(x_t, shift * s.sigma * math.sqrt(1 - e_h**2))
    g = guidance(chain.log_ratio(chain.step(x_t, x_t, t, s, noise), delta, x_t, x_t, t, s))
    z = torch.distributions.Normal(0.0, 1.0)
    a = (1 - shift**2 / 2) / max(shift, 1e-9)
    expected = 0.9 * float(z.cdf(torch.tensor(a)) + math.e * z.cdf(torch.tensor(-a - shift)))
    assert abs(float(g.mean()) - expected) <= 4 * float(g.std()) / math.sqrt(4000) + 1e-6


def test_systematic_resampling_keeps_every_weight_to_less_than_one_copy() -> None:
    log_weights = normal(50, 20, seed=5)
    counts = torch.zeros(50, 20).scatter_add_(
        1, systematic(log_weights, torch.Generator().manual_seed(0)), torch.ones(50, 20)
    )
    assert float((counts - 20 * log_weights.softmax(1)).abs().max()) < 1


def test_estimates_of_hand_made_particles() -> None:
    """Two replicas of two particles with Z = (4, 6)."""
    found = hand_made(2.0)
    assert found.log_evidences.exp().tolist() == pytest.approx([4, 6])
    assert found.log_evidence == pytest.approx(math.log(5))
    assert found.log_evidence_error == pytest.approx(math.sqrt((0.04 + 0.04) / 2))
    assert found.replica_ess == pytest.approx(100 / 52)
    mean, error = found.mean()
    assert float(mean) == pytest.approx((4 * 1.75 + 6 * 4) / 10)
    spread = (4 * (1.75 - float(mean))) ** 2 + (6 * (4 - float(mean))) ** 2
    assert float(error) == pytest.approx(math.sqrt(2 * spread / 100))
    assert found.weights.flatten().tolist() == pytest.approx([0.1, 0.3, 0.3, 0.3])
    assert [float(found.quantile(p)[0]) for p in (0.05, 0.2, 0.6, 0.75)] == [1, 2, 3, 5]
    drawn = found.draws(20, generator=torch.Generator().manual_seed(0)).flatten()
    assert [int((drawn == value).sum()) for value in (1, 2, 3, 5)] == [2, 6, 6, 6]


def hand_made(weight: float) -> Particles:
    """Fields 1, 2 of weights `weight` and 3 `weight`, fields 3, 5 of weights 6."""
    x = torch.tensor([[[1.0], [2.0]], [[3.0], [5.0]]])
    log_weights = torch.tensor([[weight, 3 * weight], [6.0, 6.0]], dtype=F64).log()
    return Particles(x, log_weights, torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.bool), 0)


def test_no_error_is_stated_where_the_replicas_disagree_on_the_evidence() -> None:
    """Z = (Z_1, 6): the standard error of log Z is |6 - Z_1| / (6 + Z_1), 0.25 at Z_1 = 3.6."""
    assert hand_made(1.81).trusted
    found = hand_made(1.79)
    assert not found.trusted
    for estimate, value in ((found.mean, 3.16), (found.variance, None), (lambda: found.quantile(0.2), 2.0)):
        with pytest.warns(RuntimeWarning, match="cannot tell the error, as 2 replicas count as 1.9"):
            got, error = estimate()
        assert bool(error.isinf().all())
        assert value is None or float(got) == pytest.approx(value, abs=0.01)


def cells(case: Case, count: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Cells of points of about equal posterior weight: their exact weights, and the function that says the cell."""
    order = case.masses.argsort(descending=True)
    cell = torch.empty_like(order)
    cell[order] = (case.masses[order].cumsum(0) * count).long().clamp_max(count - 1)
    one_hot = torch.nn.functional.one_hot(cell, count).double()
    one_hot = one_hot[:, one_hot.sum(0) > 0]
    points = case.reference.flatten(1)
    return case.masses @ one_hot, lambda x: one_hot[torch.cdist(x.double().flatten(1), points).argmin(1)]


@pytest.mark.parametrize(("fields", "particles"), [(300, 32), pytest.param(1000, 64, marks=pytest.mark.slow)])
def test_the_weights_agree_with_the_exact_posterior_of_darcy_fields(fields: int, particles: int) -> None:
    """With 32 replicas |z| < 4 has a probability of 0.9996 for each of six cells and for the evidence."""
    case = darcy_cases(1, 0, observed="nonlinear", fields=fields)[0]
    exact, in_cell = cells(case, 6)
    found = sequential_monte_carlo(case.denoiser, case.observation, case.y, particles=particles, replicas=32, steps=20)
    shares, errors = found.expectation(in_cell)
    log_p = log_evidence(case.denoiser.distribution, case.observation, case.y)  # pyright: ignore
    planted = case.masses.square() / case.masses.square().sum()  # the likelihood counted twice
    assert float(((shares - in_cell(case.reference).T @ planted) / errors).abs().max()) > 4
    assert float(((shares - exact) / errors).abs().max()) < 4
    assert abs(found.log_evidence - log_p) < 4 * found.log_evidence_error
    assert found.trusted


def test_a_chain_may_begin_at_alpha_zero() -> None:
    """The rectified flow's first state says nothing of the field, and no gradient leads from it."""
    prior = ExactDenoiser(PRIOR.distribution, RectifiedFlow())
    found = sequential_monte_carlo(prior, FIRST, Y, particles=64, steps=8, dtype=F64)
    mean, error = found.mean()
    exact = torch.tensor([0.5, -0.3], dtype=F64) + COVARIANCE[:, 0] * 1.0 / 1.09
    assert bool(((mean - exact).abs() < 5.4 * error).all())  # Student's with 7 degrees of freedom: 0.001
    assert float(error.max()) < 0.1


def test_bad_input_is_refused_in_one_line() -> None:
    hard = at_nodes(torch.tensor([0]), (2,))
    with pytest.raises(InputError, match="noise > 0"):
        sequential_monte_carlo(PRIOR, hard, Y)
    with pytest.raises(InputError, match="at least 2"):
        sequential_monte_carlo(PRIOR, FIRST, Y, particles=1)
    with pytest.raises(InputError, match="one observation"):
        sequential_monte_carlo(PRIOR, FIRST, torch.tensor([math.nan]))
    two = NonlinearObservation(lambda x: x**2, (2,), 0.3)
    for denoiser in (PRIOR, ExactDenoiser(SET, VP())):  # one number would broadcast over both
        with pytest.raises(InputError, match="y: expected shape"):
            sequential_monte_carlo(denoiser, two, Y)
    with pytest.raises(InputError, match="NaN or infinity at t"):
        sequential_monte_carlo(PRIOR, NonlinearObservation(torch.log, (2,), 0.3), torch.ones(2))
    with pytest.raises(InputError, match="positive weight"):
        sequential_monte_carlo(PRIOR, FIRST, Y, twist=lambda x, D, t: no_twist(x, D, t) - math.inf, proposal=PRIOR)
    with pytest.raises(InputError, match="a finite data set"):
        ExactChain(two_moons(), VP())


def test_the_pilot_measures_what_the_denoiser_leaves_open() -> None:
    """S_t = H C_t H^T and b_t = 0 for a linear h; b_t = C_t for a square: E x_0^2 - D^2."""
    v, r = 0.5, 0.3
    exact = ExactDenoiser(Gaussian.isotropic(torch.ones(1, dtype=F64), v), VP())
    levels = instants(VP(), torch.tensor([0.8, 0.3], dtype=F64))
    like, generator, n = torch.zeros(1, 1, dtype=F64), torch.Generator().manual_seed(0), 4000
    for h, power in ((at_nodes(torch.tensor([0]), (1,), noise=r), 1), (NonlinearObservation(torch.square, (1,), r), 2)):
        twist = PilotTwist.measured(
            ExactChain(exact.distribution, VP()), h, torch.tensor([0.4]), levels, like, generator, n
        )
        for at in levels:
            C = v * at.sigma**2 / (at.alpha**2 * v + at.sigma**2)
            S, b = float(twist.cholesky[at.t][0, 0]) ** 2, float(twist.bias[at.t])
            assert abs(b - (C if power == 2 else 0)) < 4 * math.sqrt(S / n)
            if power == 1:
                assert pytest.approx(C + r**2, rel=4 * math.sqrt(2 / n)) == S
        D = torch.tensor([[0.7]], dtype=F64)
        misfit = 0.4 - float(twist.bias[0.3]) - 0.7**power
        S = float(twist.cholesky[0.3][0, 0]) ** 2
        expected = -(misfit**2) / (2 * S) - math.log(2 * math.pi * S) / 2
        assert float(twist(D, D, 0.3)) == pytest.approx(expected, abs=1e-6)

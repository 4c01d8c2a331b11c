"""The exact denoiser of a Levy process against closed forms, enumeration, quadrature, Gibbs sampling; its Jacobian."""

import itertools
import math

import pytest
import torch
from scipy import stats

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.physics import LinearObservation, at_nodes
from diffuscope.physics.exact_posterior import posterior
from diffuscope.physics.gibbs import gibbs
from diffuscope.physics.gibbs_denoiser import GibbsDenoiser
from diffuscope.physics.lattice import LatticeLaw
from diffuscope.physics.levy import BernoulliGaussJumps, GaussianJumps, LaplaceJumps, LevyProcess, StudentJumps
from diffuscope.physics.levy_distribution import LevyDistribution, levy_denoiser
from diffuscope.physics.walk_posterior import pointwise, walk_posterior
from diffuscope.schedules import VE, VP
from numbers_in_tests import seeded

LAWS = [GaussianJumps(0.8), LaplaceJumps(0.6), StudentJumps(4.0, 0.8), BernoulliGaussJumps(0.3, 1.5)]
each_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)


def gaussian_posterior(process: LevyProcess, precision: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(gain, covariance) of x given factors exp(-p_i (x_i - c_i)^2 / 2)."""
    covariance = torch.linalg.inv(torch.linalg.inv(process.covariance()) + precision.diag())
    return covariance * precision, covariance


@pytest.mark.parametrize("sigma", [0.003, 0.5, 4.0, 60.0])
def test_brownian_motion_has_its_closed_form(sigma: float):
    process, g = LevyProcess(GaussianJumps(0.8), 64), torch.Generator().manual_seed(0)
    c = process.draw(3, generator=g) + sigma * torch.randn(3, 64, dtype=torch.float64, generator=g)
    precision = torch.full((64,), sigma**-2, dtype=torch.float64)
    gain, covariance = gaussian_posterior(process, precision)
    walk, spread = walk_posterior(process, precision, c), covariance.diag().sqrt()
    assert float(((walk.mean - c @ gain.T) / spread).abs().max()) < 1e-6
    assert float((walk.variance / covariance.diag() - 1).abs().max()) < 1e-5
    v = torch.randn(3, 64, dtype=torch.float64, generator=g)
    assert float((walk.covariance_times(v) - v @ covariance).abs().max()) < 2e-5 * float(covariance.diag().max())
    expected = c @ gain.T + spread * float(stats.norm.ppf(0.9))
    assert (
        float(((walk.quantiles((0.9,))[0] - expected) / spread).abs().max()) < 3e-3
    )  # order h^4, and h is half a spread at x_1
    assert walk.edge_mass < 1e-10
    cov = process.covariance() + sigma**2 * torch.eye(64)
    evidence = torch.distributions.MultivariateNormal(torch.zeros(64).double(), cov).log_prob(c).numpy()
    constant = 32 * math.log(2 * math.pi * sigma**2)
    assert (walk.log_evidence - constant).tolist() == pytest.approx(list(evidence), rel=1e-6, abs=1e-4)


def test_points_observed_with_gaps_have_the_closed_form_of_brownian_motion():
    process, y = LevyProcess(GaussianJumps(0.8), 12), torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    observation = at_nodes(torch.tensor([2, 6, 9]), (12,), 0.3)
    precision, center = pointwise(observation, y)
    gain, covariance = gaussian_posterior(process, precision)
    walk = walk_posterior(process, precision, center)
    torch.testing.assert_close(walk.mean, center @ gain.T, rtol=0, atol=1e-6)
    torch.testing.assert_close(walk.variance[0], covariance.diag(), rtol=1e-5, atol=0)
    doubled = LinearObservation(torch.cat([2 * observation.matrix, observation.matrix]), (12,), 0.3)
    twice = pointwise(doubled, torch.cat([2 * y, y], 1))
    torch.testing.assert_close(twice[0], 5 * precision)
    torch.testing.assert_close(twice[1], center)


def test_spike_and_slab_agrees_with_enumeration_of_its_indicators():
    law, n, sigma = BernoulliGaussJumps(0.3, 1.5), 6, 0.7
    c = torch.tensor([[0.1, 0.3, 1.9, 2.2, 1.8, 0.4]], dtype=torch.float64)
    L, means, covariances, logs = torch.ones(n, n, dtype=torch.float64).tril(), [], [], []
    for z in itertools.product([0.0, 1.0], repeat=n):
        P = law.scale**2 * (L * torch.tensor(z)) @ L.T
        S = P + sigma**2 * torch.eye(n)
        gain = torch.linalg.solve(S, P).T
        logs.append(float(torch.distributions.MultivariateNormal(torch.zeros(n).double(), S).log_prob(c[0]))
                    + sum(z) * math.log(0.3) + (n - sum(z)) * math.log(0.7))  # fmt: skip
        means.append(gain @ c[0])
        covariances.append(P - gain @ P)
    w, m = torch.tensor(logs, dtype=torch.float64).softmax(0), torch.stack(means)
    mean = w @ m
    covariance = torch.einsum("k,kij->ij", w, torch.stack(covariances)) + (m - mean).T @ (w[:, None] * (m - mean))
    walk = walk_posterior(LevyProcess(law, n), torch.full((n,), sigma**-2).double(), c)
    torch.testing.assert_close(walk.mean[0], mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(walk.variance[0], covariance.diag(), rtol=1e-6, atol=0)
    for row in range(n):
        unit = torch.eye(n, dtype=torch.float64)[row : row + 1]
        torch.testing.assert_close(walk.covariance_times(unit)[0], covariance[row], rtol=0, atol=1e-6)


@pytest.mark.parametrize("law", LAWS[1:3], ids=lambda law: type(law).__name__)
def test_two_jumps_agree_with_quadrature(law):
    process, sigma, c = LevyProcess(law, 2), 0.7, torch.tensor([[0.4, 2.0]], dtype=torch.float64)
    walk = walk_posterior(process, torch.full((2,), sigma**-2).double(), c, resolution=12)
    h = 0.02  # a node at every kink of the density (x_1 = 0, x_1 = x_2) but no correction: error of order h^2
    grid = torch.arange(-250, 351, dtype=torch.float64) * h
    x = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).flatten(0, 1)
    w = (process.log_density(x) - 0.5 * ((x - c) / sigma).square().sum(1)).softmax(0)
    mean = w @ x
    torch.testing.assert_close(walk.mean[0], mean, rtol=0, atol=5e-4)
    torch.testing.assert_close(walk.variance[0], w @ (x - mean).square(), rtol=5e-4, atol=0)
    other = w @ ((x - mean)[:, :1] * (x - mean))
    torch.testing.assert_close(walk.covariance_times(torch.tensor([[1.0, 0.0]]))[0], other, rtol=0, atol=5e-4)


@each_law
@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0, 10.0])
def test_by_default_the_denoiser_is_exact_to_5e_4_posterior_standard_deviations(law, sigma):
    """Against four times the resolution, whose own error is far below."""
    process, g = LevyProcess(law, 8), seeded()
    x_t = process.draw(8, generator=g) + sigma * torch.randn(8, 8, dtype=torch.float64, generator=g)
    fine = walk_posterior(process, torch.full((8,), sigma**-2).double(), x_t, resolution=8.0)
    error = (LevyDistribution(process).denoise(x_t, 1.0, sigma) - fine.mean) / fine.variance.sqrt()
    assert float(error.abs().max()) < 5e-4


def test_refinement_converges_at_order_six_for_laplace_jumps():
    process, g = LevyProcess(LaplaceJumps(0.6), 8), torch.Generator().manual_seed(1)
    c = process.draw(8, generator=g) + 2.0 * torch.randn(8, 8, dtype=torch.float64, generator=g)
    precision = torch.full((8,), 0.25, dtype=torch.float64)
    exact = walk_posterior(process, precision, c, resolution=12).mean
    errors = [float((walk_posterior(process, precision, c, resolution=r).mean - exact).norm()) for r in (1.5, 3.0)]
    assert errors[0] / errors[1] > 2**5
    assert errors[1] < 1e-5


@each_law
def test_the_lattice_law_has_the_variance_and_the_mass_of_the_jumps(law):
    for cells in (False, True):
        k, h = torch.arange(-6000, 6001), law.scale / 6
        w = LatticeLaw(law, h, 16, cells=cells).weights(k)
        assert float(w.sum()) == pytest.approx(1, abs=1e-6)
        # cells add the variance of a uniform law to the continuous part
        expected = law.variance + cells * (1 - law.atom) * h**2 / 12
        assert float(w @ (k.double() * h).square()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("law", LAWS[1:3], ids=lambda law: type(law).__name__)
def test_messages_and_gibbs_sampling_agree(law):
    process, g, schedule = LevyProcess(law, 12), torch.Generator().manual_seed(2), VP()
    t = 0.4
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    x_t = alpha * process.draw(2, generator=g) + sigma * torch.randn(2, 12, dtype=torch.float64, generator=g)
    sampled = GibbsDenoiser(process, schedule, sweeps=80, burn_in=20, chains=20)
    chains = sampled.posterior(x_t, t)
    exact = walk_posterior(process, torch.full((12,), (alpha / sigma) ** 2).double(), x_t / alpha)
    assert float(((chains.mean - exact.mean) / chains.mean_error).abs().max()) < 4
    assert float(((chains.variance - exact.variance) / chains.variance_error).abs().max()) < 4.5
    assert float((chains.mean_error / exact.variance.sqrt()).max()) < 0.1
    torch.testing.assert_close(sampled(x_t, t), chains.mean)


@each_law
def test_the_jacobian_is_the_posterior_covariance(law):
    process, schedule, t = LevyProcess(law, 6), VP(), 0.4
    denoiser = levy_denoiser(process, schedule, resolution=4.0)
    g = torch.Generator().manual_seed(3)
    x_t = torch.randn(2, 6, dtype=torch.float64, generator=g).requires_grad_()
    v, h = torch.randn(2, 6, dtype=torch.float64, generator=g), 1e-4
    (product,) = torch.autograd.grad((denoiser(x_t, t) * v).sum(), x_t)
    with torch.no_grad():
        numeric = torch.zeros(2, 6, dtype=torch.float64)
        for i in range(6):
            step = torch.zeros(6, dtype=torch.float64).index_fill_(0, torch.tensor(i), h)
            numeric[:, i] = ((denoiser(x_t + step, t) - denoiser(x_t - step, t)) * v).sum(1) / (2 * h)
    torch.testing.assert_close(product, numeric, rtol=1e-4, atol=1e-6)


def test_the_gibbs_denoiser_has_the_jacobian_of_its_chains():
    process, t = LevyProcess(GaussianJumps(0.8), 4), 0.8
    x_t = torch.ones(1, 4, dtype=torch.float64, requires_grad=True)
    denoiser = GibbsDenoiser(process, VE(), sweeps=4, burn_in=0)
    gain, _ = gaussian_posterior(process, torch.full((4,), 0.8**-2).double())
    v = torch.arange(4.0, dtype=torch.float64)[None]
    torch.testing.assert_close(denoiser(x_t, t), torch.ones(1, 4).double() @ gain.T)
    torch.testing.assert_close(torch.autograd.grad((denoiser(x_t, t) * v).sum(), x_t)[0], v @ gain)


def test_each_sample_has_its_own_time_and_pure_noise_gives_the_prior_mean():
    process, schedule = LevyProcess(LaplaceJumps(), 5), VP()
    denoiser = levy_denoiser(process, schedule)
    x_t = torch.linspace(-1, 1, 20).reshape(4, 5)
    times = torch.tensor([0.5, 0.2, 0.5, 0.9], dtype=torch.float64)
    together = denoiser(x_t, times)
    assert together.dtype == x_t.dtype
    alone = torch.cat([denoiser(x[None], float(t)) for x, t in zip(x_t, times, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)  # windows differ with the batch
    no_signal = walk_posterior(process, torch.zeros(5).double(), torch.zeros(1, 5).double())
    torch.testing.assert_close(no_signal.mean, torch.zeros(1, 5).double(), rtol=0, atol=1e-10)
    torch.testing.assert_close(no_signal.variance[0], torch.arange(1.0, 6).double(), rtol=1e-4, atol=0)


@each_law
def test_draws_have_the_moments_of_the_posterior(law):
    process, count = LevyProcess(law, 12), 2000
    precision, center = pointwise(at_nodes(torch.tensor([3, 11]), (12,), 0.3), torch.tensor([1.0, -0.5]))
    walk = walk_posterior(process, precision, center)
    x = walk.draws(count, generator=torch.Generator().manual_seed(4))
    assert float(((x.mean(0) - walk.mean[0]) / (walk.variance[0] / count).sqrt()).abs().max()) < 4
    squares = (x - walk.mean[0]).square()
    assert float(((squares.mean(0) - walk.variance[0]) / (squares.std(0) / math.sqrt(count))).abs().max()) < 4
    v = torch.ones(1, 12, dtype=torch.float64)
    projected = ((x - walk.mean[0]) * (x - walk.mean[0]).sum(1, keepdim=True)) - walk.covariance_times(v)[0]
    assert float((projected.mean(0) / (projected.std(0) / math.sqrt(count))).abs().max()) < 4
    if law.atom > 0:  # rest is exact, not approximate
        assert 0.3 < float((process.jumps(x) == 0).double().mean()) < 0.95


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS[1:3], ids=lambda law: type(law).__name__)
def test_sixty_four_points_of_a_blur_free_problem_agree_between_messages_and_gibbs_sampling(law):
    process, g = LevyProcess(law, 64), torch.Generator().manual_seed(5)
    observation = at_nodes(torch.arange(4, 64, 5), (64,), 0.4)
    x = process.draw(4, generator=g)
    y = observation(x) + 0.4 * torch.randn(4, 12, dtype=torch.float64, generator=g)
    chains = gibbs(process, observation, y, sweeps=800, burn_in=200, chains=8).require_mixed()
    walk = walk_posterior(process, *pointwise(observation, y))
    assert float(((chains.mean - walk.mean) / chains.mean_error).abs().max()) < 4.5
    assert float(((chains.variance - walk.variance) / chains.variance_error).abs().max()) < 4.5


def test_the_posterior_given_points_is_a_distribution_whose_diffusion_is_exact():
    process, g = LevyProcess(GaussianJumps(0.8), 6), torch.Generator().manual_seed(6)
    observation, y = at_nodes(torch.tensor([1, 4]), (6,), 0.4), torch.tensor([0.7, -0.6], dtype=torch.float64)
    found = posterior(LevyDistribution(process), observation, y)
    assert isinstance(found, LevyDistribution)
    C, H = process.covariance(), observation.matrix
    gain = C @ H.T @ torch.linalg.inv(H @ C @ H.T + 0.16 * torch.eye(2))
    expected = Gaussian.from_covariance(gain @ y, C - gain @ H @ C)
    x_t = torch.randn(3, 6, dtype=torch.float64, generator=g)
    for alpha, sigma in ((0.8, 0.6), (0.0, 1.0), (1.0, 7.0)):
        level = (x_t, alpha, sigma)
        torch.testing.assert_close(found.denoise(*level), expected.denoise(*level), rtol=0, atol=1e-5)
        torch.testing.assert_close(found.score(*level), expected.score(*level), rtol=0, atol=1e-4)
        torch.testing.assert_close(found.log_prob(*level), expected.log_prob(*level), rtol=0, atol=1e-5)
        covariance, reference = found.posterior_covariance(*level), expected.posterior_covariance(*level)
        torch.testing.assert_close(covariance.matvec(x_t), reference.matvec(x_t), rtol=0, atol=1e-4)
        torch.testing.assert_close(covariance.diagonal(), reference.diagonal(), rtol=1e-4, atol=0)
        torch.testing.assert_close(covariance.trace(), reference.trace(), rtol=1e-4, atol=0)
    x = found.sample(2000, generator=g)
    z = (x.mean(0) - gain @ y) / ((C - gain @ H @ C).diag() / 2000).sqrt()
    assert float(z.abs().max()) < 4


def test_a_jump_of_a_million_scales_costs_no_memory_and_is_followed_where_tails_allow_it():
    c = torch.tensor([[0.0, 1e6, 1e6]], dtype=torch.float64)
    precision = torch.full((3,), 25.0, dtype=torch.float64)
    mean = walk_posterior(LevyProcess(StudentJumps(4.0, 0.8), 3), precision, c).mean
    assert float((mean - c).abs().max()) < 0.5
    with pytest.raises(InputError, match="density is 0"):
        walk_posterior(LevyProcess(BernoulliGaussJumps(0.3, 1.5), 3), precision, c)


IMPOSSIBLE = {
    "far": (lambda d: walk_posterior(d.distribution.process, torch.ones(5).double(), torch.full((1, 5), 1e30).double()),
            "expected values within"),
    "shape": (lambda d: d(torch.ones(2, 4), 0.5), "x_t"),
    "nan": (lambda d: d(torch.full((1, 5), torch.nan), 0.5), "finite"),
    "blur": (lambda d: d.distribution.given(LinearObservation(torch.ones(1, 5), (5,), 0.1), torch.ones(1)), "single"),
    "no noise": (lambda d: d.distribution.given(at_nodes(torch.tensor([0]), (5,)), torch.ones(1)), "noise 0"),
    "other y": (lambda d: d.distribution.given(at_nodes(torch.tensor([0]), (5,), 0.1), torch.ones(2)), "y of"),
    "narrow": (
        lambda d: walk_posterior(
            d.distribution.process, torch.tensor([1e9, 0, 0, 0, 0]).double(), torch.zeros(1, 5).double()
        ),
        "16,384 nodes",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_what_the_lattice_cannot_do_is_an_input_error(call, message: str):
    with pytest.raises(InputError, match=message):
        call(levy_denoiser(LevyProcess(LaplaceJumps(), 5), VE()))

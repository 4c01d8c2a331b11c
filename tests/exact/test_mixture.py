"""Gaussian mixtures against closed forms, quadrature, autograd, the score PDE and scikit-learn's EM."""

import math

import pytest
import torch
from conftest import monte_carlo

from diffuscope.errors import InputError
from diffuscope.exact import (
    Distribution,
    Empirical,
    Gaussian,
    GaussianMixture,
    PosteriorCovariance,
    mixture,
)
from diffuscope.schedules import VE, VP, RectifiedFlow
from numbers_in_tests import normal, seeded

EVENT, D, K = (2, 2), 4, 3
LEVELS = [(1.0, 0.05), (1.0, 2.0), (1.0, 50.0), (0.6, 0.8)]


WEIGHTS = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
FACTORS = normal(K, D, D, seed=1)
COVARIANCES = 0.3 * FACTORS @ FACTORS.mT / D


def dense() -> GaussianMixture:
    return GaussianMixture.from_covariances(WEIGHTS, normal(K, *EVENT, seed=2), COVARIANCES)


def low_rank() -> GaussianMixture:
    return GaussianMixture.from_covariances(WEIGHTS, normal(K, *EVENT, seed=2), COVARIANCES, rank=2)


def isotropic() -> GaussianMixture:
    return GaussianMixture.isotropic(WEIGHTS, normal(K, *EVENT, seed=2), torch.tensor([0.5, 0.1, 0.0]))


LAWS = {"dense": dense, "low rank": low_rank, "isotropic": isotropic}
every_distribution = pytest.mark.parametrize("distribution", LAWS.values(), ids=LAWS.keys())


def noised(distribution: GaussianMixture, alpha: float, sigma: float, n: int = 5) -> torch.Tensor:
    x_0 = distribution.sample(n, generator=seeded(3))
    return alpha * x_0 + sigma * normal(*x_0.shape, seed=4)


def relative_error(value: torch.Tensor, truth: torch.Tensor) -> float:
    return ((value - truth).norm() / truth.norm()).item()


def answers(distribution: Distribution, x_t: torch.Tensor, alpha, sigma) -> dict[str, torch.Tensor]:
    """Everything a distribution says about a batch."""
    posterior = distribution.posterior_covariance(x_t, alpha, sigma)
    return {
        "denoise": distribution.denoise(x_t, alpha, sigma),
        "score": distribution.score(x_t, alpha, sigma),
        "log_prob": distribution.log_prob(x_t, alpha, sigma),
        "matvec": posterior.matvec(torch.ones_like(x_t)),
        "trace": posterior.trace(),
        "diagonal": posterior.diagonal(),
    }


# --- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.002), *LEVELS, (0.0, 1.0)])
@pytest.mark.parametrize("rank", [None, 2, 0])
def test_one_component_is_the_gaussian(rank, alpha, sigma):
    mean = normal(*EVENT, seed=2)
    gaussian = Gaussian.from_covariance(mean, COVARIANCES[0], rank)
    single = GaussianMixture.from_covariances(torch.ones(1), mean[None], COVARIANCES[:1], rank)
    x_t = alpha * gaussian.sample(5, generator=seeded()) + sigma * normal(5, *EVENT, seed=4)
    truth = answers(gaussian, x_t, alpha, sigma)
    for name, value in answers(single, x_t, alpha, sigma).items():
        assert relative_error(value, truth[name]) < 1e-12, name


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.1), (1.0, 3.0), (0.6, 0.8)])
@pytest.mark.parametrize("v", [0.0, 0.2])
def test_two_symmetric_components_denoise_by_a_hyperbolic_tangent(v, alpha, sigma):
    variances = torch.full((2,), v, dtype=torch.float64)
    distribution = GaussianMixture.isotropic(torch.full((2,), 0.5), torch.tensor([[-1.0], [1.0]]), variances)
    x = torch.linspace(-4, 4, 41, dtype=torch.float64)[:, None]
    spread = alpha**2 * v + sigma**2
    sign = torch.tanh(alpha * x / spread)
    torch.testing.assert_close(
        distribution.denoise(x, alpha, sigma), (alpha * v * x + sigma**2 * sign) / spread, rtol=0, atol=1e-12
    )
    variance = v * sigma**2 / spread + (sigma**2 / spread) ** 2 * (1 - sign**2)
    torch.testing.assert_close(
        distribution.posterior_covariance(x, alpha, sigma).diagonal(), variance, rtol=1e-9, atol=1e-12
    )
    density = ((x - alpha * sign.new_tensor([-1.0, 1.0])) ** 2 / (-2 * spread)).exp().mean(1) / (
        2 * math.pi * spread
    ) ** 0.5
    torch.testing.assert_close(distribution.log_prob(x, alpha, sigma).exp(), density, rtol=1e-11, atol=1e-300)


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.01), *LEVELS, (0.0, 1.0)])
def test_zero_variance_components_are_a_softmax_over_points(alpha, sigma):
    points, n = normal(20, D, seed=5), 20
    distribution = GaussianMixture.isotropic(torch.full((n,), 1 / n), points, torch.zeros(n))
    x_t = alpha * points[:6] + sigma * normal(6, D, seed=6)
    logits = -((x_t[:, None] - alpha * points) ** 2).sum(-1) / (2 * sigma**2)
    weights = logits.softmax(1)
    torch.testing.assert_close(distribution.responsibilities(x_t, alpha, sigma), weights, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(distribution.denoise(x_t, alpha, sigma), weights @ points, rtol=0, atol=1e-11)
    log_p = logits.logsumexp(1) - math.log(n) - D / 2 * math.log(2 * math.pi * sigma**2)
    torch.testing.assert_close(distribution.log_prob(x_t, alpha, sigma), log_p, rtol=1e-12, atol=1e-10)
    deviations = points - (weights @ points)[:, None]
    variance = (weights[..., None] * deviations**2).sum(1)
    torch.testing.assert_close(
        distribution.posterior_covariance(x_t, alpha, sigma).diagonal(), variance, rtol=0, atol=1e-11
    )


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.02), *LEVELS, (0.0, 1.0)])
def test_the_empirical_distribution_is_the_mixture_without_variance(alpha, sigma):
    points, weights = normal(30, *EVENT, seed=17), torch.rand(30, dtype=torch.float64, generator=seeded(18))
    spikes = GaussianMixture.isotropic(weights / weights.sum(), points.clone(), torch.zeros(30))
    x_t = alpha * points[:8] + sigma * normal(8, *EVENT, seed=19)
    truth = answers(spikes, x_t, alpha, sigma)
    for name, value in answers(Empirical(points, weights), x_t, alpha, sigma).items():
        torch.testing.assert_close(value, truth[name], rtol=1e-10, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


@every_distribution
def test_at_alpha_zero_the_denoiser_is_the_mean_and_the_posterior_is_the_data_distribution(distribution):
    distribution, sigma = distribution(), 1.3
    whole, x_t = distribution.as_gaussian(), noised(distribution, 0.0, sigma)
    torch.testing.assert_close(distribution.denoise(x_t, 0.0, sigma), whole.mean.expand_as(x_t), rtol=0, atol=1e-14)
    torch.testing.assert_close(distribution.score(x_t, 0.0, sigma), -x_t / sigma**2, rtol=0, atol=1e-14)
    trace = distribution.posterior_covariance(x_t, 0.0, sigma).trace()
    torch.testing.assert_close(trace, torch.full_like(trace, whole.trace), rtol=1e-13, atol=0)
    torch.testing.assert_close(
        distribution.responsibilities(x_t, 0.0, sigma), distribution.weights.expand(5, K), rtol=0, atol=1e-15
    )


# --- identities between the answers -----------------------------------------------------------------------------------


@every_distribution
@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_score_is_the_gradient_of_log_prob_and_gives_the_denoiser_by_tweedie(distribution, alpha, sigma):
    distribution = distribution()
    x_t = noised(distribution, alpha, sigma).requires_grad_()
    score = distribution.score(x_t, alpha, sigma)
    (gradient,) = torch.autograd.grad(distribution.log_prob(x_t, alpha, sigma).sum(), x_t)
    assert relative_error(score, gradient) < 1e-9
    assert relative_error(distribution.denoise(x_t, alpha, sigma), (x_t + sigma**2 * score) / alpha) < 1e-12


@every_distribution
@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.3), (1.0, 2.0), (0.6, 0.8)])
def test_posterior_covariance_is_the_scaled_jacobian_of_the_denoiser(distribution, alpha, sigma):
    distribution = distribution()
    x_t = noised(distribution, alpha, sigma, n=3)
    operator, v = distribution.posterior_covariance(x_t, alpha, sigma), normal(3, *EVENT, seed=8)
    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda x: distribution.denoise(x, alpha, sigma), x_t[i : i + 1])
        truth = torch.as_tensor(jacobian).reshape(D, D) * sigma**2 / alpha
        torch.testing.assert_close(operator.matvec(v)[i].flatten(), truth @ v[i].flatten(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(operator.trace()[i], truth.trace(), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(operator.diagonal()[i].flatten(), truth.diagonal(), rtol=1e-9, atol=1e-12)


@every_distribution
@pytest.mark.parametrize(
    ("schedule", "time"),
    [(s, t) for s, ts in [(VE(), (0.3, 4.0)), (VP(), (0.1, 0.4, 0.9)), (RectifiedFlow(), (0.2, 0.9))] for t in ts],
)
def test_log_density_solves_the_score_pde(distribution, schedule, time):
    # d_t log rho = -div f - f.s + g^2/2 (div s + |s|^2) with drift f x
    distribution = distribution()
    alpha, sigma = schedule.alpha(time), schedule.sigma(time)
    x_t = noised(distribution, float(alpha), float(sigma), n=1)
    t = torch.tensor(time, dtype=torch.float64, requires_grad=True)
    (rate,) = torch.autograd.grad(distribution.log_prob(x_t, schedule.alpha(t), schedule.sigma(t)).sum(), t)
    score = distribution.score(x_t, alpha, sigma)
    jacobian = torch.autograd.functional.jacobian(lambda x: distribution.score(x, alpha, sigma), x_t)
    divergence = torch.as_tensor(jacobian).reshape(D, D).trace()
    f, g_squared = schedule.f(time), schedule.g_squared(time)
    right = -f * D - f * (x_t * score).sum() + g_squared / 2 * (divergence + (score**2).sum())
    assert abs(float(rate - right)) < 1e-8 * max(1.0, abs(float(rate)))


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.2), (1.0, 2.0), (0.6, 0.8)])
def test_density_integrates_to_one_and_fisher_identities_hold_by_quadrature(alpha, sigma):
    distribution = GaussianMixture.isotropic(
        WEIGHTS, torch.tensor([[-1.0], [0.3], [2.0]]), torch.tensor([0.2, 0.05, 0.4])
    )
    # the trapezoidal rule is spectrally accurate for smooth densities that vanish at the ends
    x = torch.linspace(-30, 30, 20_001, dtype=torch.float64)[:, None]
    rho = distribution.log_prob(x, alpha, sigma).exp() * (x[1] - x[0])
    score = distribution.score(x, alpha, sigma)[:, 0]
    posterior = distribution.posterior_covariance(x, alpha, sigma).trace()
    slope = (alpha**2 * posterior / sigma**2 - 1) / sigma**2  # grad s = (alpha^2 Cov / sigma^2 - 1) / sigma^2
    assert abs(float(rho.sum()) - 1) < 1e-10
    assert abs(float(rho @ score)) < 1e-10
    assert abs(float(rho @ (x[:, 0] * score)) + 1) < 1e-10
    assert abs(float(rho @ score**2 + rho @ slope)) < 1e-10 * max(1.0, float(rho @ score**2))


@every_distribution
def test_levels_per_sample_equal_the_samples_one_by_one(distribution):
    distribution = distribution()
    x_t = noised(distribution, 1.0, 1.0, n=4)
    alphas = torch.tensor([1.0, 0.5, 0.0, 0.999], dtype=torch.float64)
    sigmas = torch.tensor([0.05, 0.7, 1.0, 40.0], dtype=torch.float64)
    together = answers(distribution, x_t, alphas, sigmas)
    for i in range(4):
        for name, one in answers(distribution, x_t[i : i + 1], float(alphas[i]), float(sigmas[i])).items():
            torch.testing.assert_close(together[name][i : i + 1], one, rtol=1e-11, atol=1e-12)


@every_distribution
def test_float32_input_is_answered_in_float32_with_float64_inside(distribution):
    distribution = distribution()
    x_t = noised(distribution, 1.0, 0.002).float()
    wide = answers(distribution, x_t.double(), 1.0, 0.002)
    for name, narrow in answers(distribution, x_t, 1.0, 0.002).items():
        assert narrow.dtype == torch.float32
        assert torch.equal(narrow, wide[name].float())


@every_distribution
def test_chunks_change_nothing(distribution, monkeypatch):
    distribution = distribution()
    x_t = noised(distribution, 1.0, 0.5, n=7)
    sigmas = torch.linspace(0.1, 3, 7, dtype=torch.float64)
    whole = answers(distribution, x_t, 1.0, sigmas)
    monkeypatch.setattr(mixture, "CHUNK_BYTES", 3000)  # two examples or so a chunk
    assert len(list(distribution._chunks(x_t, 1.0, sigmas))) > 1
    for name, value in answers(distribution, x_t, 1.0, sigmas).items():
        torch.testing.assert_close(value, whole[name], rtol=1e-12, atol=1e-13)


@every_distribution
def test_an_empty_batch_has_empty_answers(distribution):
    for value in answers(distribution(), torch.zeros(0, *EVENT), 1.0, 0.5).values():
        assert len(value) == 0


@every_distribution
@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_order_of_components_is_immaterial(distribution, alpha, sigma):
    distribution, order = distribution(), torch.tensor([2, 0, 1])
    shuffled = GaussianMixture(
        distribution.weights[order],
        distribution.means[order],
        distribution.eigenvectors[order],
        distribution.eigenvalues[order],
        distribution.tail_variances[order],
    )
    x_t = noised(distribution, alpha, sigma)
    truth = answers(distribution, x_t, alpha, sigma)
    for name, value in answers(shuffled, x_t, alpha, sigma).items():
        torch.testing.assert_close(value, truth[name], rtol=1e-12, atol=1e-12)


def test_a_component_of_weight_zero_is_absent():
    means, variances = normal(3, D), torch.tensor([0.1, 0.2, 0.3])
    two = GaussianMixture.isotropic(torch.tensor([0.4, 0.6]), means[:2], variances[:2])
    three = GaussianMixture.isotropic(torch.tensor([0.4, 0.6, 0.0]), means, variances)
    x_t = noised(two, 1.0, 0.5)
    truth = answers(two, x_t, 1.0, 0.5)
    for name, value in answers(three, x_t, 1.0, 0.5).items():
        torch.testing.assert_close(value, truth[name], rtol=1e-13, atol=1e-14)
    x_t.requires_grad_()
    (gradient,) = torch.autograd.grad(three.log_prob(x_t, 1.0, 0.5).sum(), x_t)
    assert relative_error(gradient, truth["score"]) < 1e-12


@every_distribution
def test_shifted_data_have_shifted_answers_where_logits_reach_a_million(distribution):
    distribution, alpha, sigma = distribution(), 1.0, 0.002
    far = 4.0 * normal(6, *EVENT, seed=9)
    c = 2.0**6  # adding it costs six bits
    shifted = GaussianMixture(
        distribution.weights,
        distribution.means + c,
        distribution.eigenvectors,
        distribution.eigenvalues,
        distribution.tail_variances,
    )
    joint = torch.cat([distribution._joint_log_prob(*chunk) for chunk in distribution._chunks(far, alpha, sigma)])
    if distribution.eigenvalues.numel() == 0:
        assert float(joint.abs().max()) > 1e6
    value, truth = answers(shifted, far + c, alpha, sigma), answers(distribution, far, alpha, sigma)
    assert all(bool(torch.isfinite(answer).all()) for answer in value.values())
    torch.testing.assert_close(value["denoise"] - c, truth["denoise"], rtol=0, atol=1e-9)
    assert relative_error(value["score"], truth["score"]) < 1e-9
    assert relative_error(value["log_prob"], truth["log_prob"]) < 1e-9


# --- moments ----------------------------------------------------------------------------------------------------------


@every_distribution
def test_as_gaussian_has_the_moments_of_the_mixture(distribution, generator):
    distribution, n = distribution(), 40_000
    whole = distribution.as_gaussian()
    mean = sum(w * m for w, m in zip(distribution.weights, distribution.means.flatten(1), strict=True))
    covariance = torch.zeros(D, D, dtype=torch.float64)
    for j in range(K):
        U = distribution.eigenvectors[j]
        projector = torch.eye(D, dtype=torch.float64) - U @ U.T
        within = (U * distribution.eigenvalues[j]) @ U.T + distribution.tail_variances[j] * projector
        deviation = distribution.means[j].flatten() - mean
        covariance += distribution.weights[j] * (within + torch.outer(deviation, deviation))
    U = whole.eigenvectors
    torch.testing.assert_close(whole.mean.flatten(), mean, rtol=0, atol=1e-14)
    torch.testing.assert_close((U * whole.eigenvalues) @ U.T, covariance, rtol=0, atol=1e-13)
    x_0 = distribution.sample(n, generator=generator)
    e = (x_0 - whole.mean).flatten(1)
    for i in range(D):
        assert monte_carlo(e[:, i]).agrees_with(0.0)
        for j in range(i + 1):
            assert monte_carlo(e[:, i] * e[:, j]).agrees_with(float(covariance[i, j]))


@every_distribution
def test_samples_come_from_the_components_in_proportion_and_denoise_to_the_least_square_error(distribution, generator):
    distribution, n, sigma = distribution(), 40_000, 0.7
    x_0 = distribution.sample(n, generator=generator)
    x_t = x_0 + sigma * torch.randn(x_0.shape, dtype=torch.float64, generator=generator)
    shares = distribution.responsibilities(x_t, 1.0, sigma)
    for j in range(K):
        assert monte_carlo(shares[:, j]).agrees_with(float(distribution.weights[j]))
    error = ((distribution.denoise(x_t, 1.0, sigma) - x_0) ** 2).flatten(1).sum(1)
    # paired: the squared error minus the posterior variance of the same x_t has mean zero
    assert monte_carlo(error - distribution.posterior_covariance(x_t, 1.0, sigma).trace()).agrees_with(0.0)


def test_wrong_arguments_are_named():
    distribution = dense()
    with pytest.raises(InputError, match=r"weights: expected .* sum to 1"):
        GaussianMixture.isotropic(torch.tensor([0.5, 0.6]), normal(2, D), torch.ones(2))
    with pytest.raises(InputError, match=r"weights: expected .* sum to 1"):
        GaussianMixture.isotropic(torch.tensor([1.5, -0.5]), normal(2, D), torch.ones(2))
    with pytest.raises(InputError, match="expected values >= 0"):
        GaussianMixture.isotropic(torch.tensor([0.5, 0.5]), normal(2, D), torch.tensor([1.0, -1.0]))
    with pytest.raises(InputError, match="expected values >= 0"):
        GaussianMixture.isotropic(torch.tensor([0.5, 0.5]), normal(2, D), torch.tensor([1.0, math.nan]))
    with pytest.raises(ValueError, match=r"x_t: expected shape \(batch, 2, 2\)"):
        distribution.denoise(normal(3, D), 1.0, 1.0)
    with pytest.raises(ValueError, match="sigma: expected values > 0"):
        distribution.log_prob(normal(3, *EVENT), 1.0, 0.0)


def test_mixture_fits_the_contracts():
    distribution = dense()
    assert isinstance(distribution, Distribution)
    assert isinstance(distribution.posterior_covariance(normal(2, *EVENT), 1.0, 1.0), PosteriorCovariance)

"""The Gaussian diffusion against integration, linear algebra, autograd and Monte Carlo."""

import pytest
import torch
from conftest import monte_carlo
from gaussians import EVENT, D, covariance, every_distribution, low_rank, noised, random_basis, relative_error

from diffuscope.data import load_data
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE

# --- the denoiser, the score and the density --------------------------------------------------------------------------


@every_distribution
@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.002), (1.0, 80.0), (0.6, 0.8), (1e-3, 1.0)])
def test_denoiser_score_and_density_equal_dense_linear_algebra(distribution, alpha, sigma):
    gaussian = distribution()
    x_t = noised(gaussian, alpha, sigma)
    e = (x_t - alpha * gaussian.mean).flatten(1)
    sigma_0 = covariance(gaussian)
    sigma_t = alpha**2 * sigma_0 + sigma**2 * torch.eye(D, dtype=torch.float64)
    precision_e = torch.linalg.solve(sigma_t, e.T).T
    D_t = gaussian.mean.flatten() + alpha * precision_e @ sigma_0
    log_p = -0.5 * ((e * precision_e).sum(1) + torch.linalg.slogdet(2 * torch.pi * sigma_t)[1])
    # the reference solves with condition number up to 9 / 0.002^2 = 2e6: digits beyond 1e-9 are its own error
    assert relative_error(gaussian.denoise(x_t, alpha, sigma).flatten(1), D_t) < 1e-9
    assert relative_error(gaussian.score(x_t, alpha, sigma).flatten(1), -precision_e) < 1e-9
    assert relative_error(gaussian.log_prob(x_t, alpha, sigma), log_p) < 1e-9


@every_distribution
@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.002), (1.0, 80.0), (0.6, 0.8)])
def test_score_is_the_gradient_of_log_prob_and_gives_the_denoiser_by_tweedie(distribution, alpha, sigma):
    gaussian = distribution()
    x_t = noised(gaussian, alpha, sigma).requires_grad_()
    score = gaussian.score(x_t, alpha, sigma)
    (gradient,) = torch.autograd.grad(gaussian.log_prob(x_t, alpha, sigma).sum(), x_t)
    assert relative_error(score, gradient) < 1e-9
    tweedie = (x_t + sigma**2 * score) / alpha
    assert relative_error(gaussian.denoise(x_t, alpha, sigma), tweedie) < 1e-12


@every_distribution
def test_at_alpha_zero_the_denoiser_is_the_mean_and_the_noised_distribution_is_the_noise(distribution):
    gaussian, sigma = distribution(), 1.7
    x_t = noised(gaussian, 0.0, sigma)
    assert torch.equal(gaussian.denoise(x_t, 0.0, sigma), gaussian.mean.expand_as(x_t))
    torch.testing.assert_close(gaussian.score(x_t, 0.0, sigma), -x_t / sigma**2, rtol=1e-14, atol=1e-14)
    noise = torch.distributions.Normal(torch.zeros(EVENT, dtype=torch.float64), sigma).log_prob(x_t).sum((1, 2))
    torch.testing.assert_close(gaussian.log_prob(x_t, 0.0, sigma), noise, rtol=1e-13, atol=1e-13)
    prior = gaussian.posterior_covariance(x_t, 0.0, sigma).trace()
    torch.testing.assert_close(prior, torch.full_like(prior, gaussian.trace), rtol=1e-14, atol=0)


@every_distribution
def test_levels_per_sample_equal_the_samples_one_by_one(distribution):
    gaussian = distribution()
    x_t = noised(gaussian, 1.0, 1.0)
    alphas = torch.tensor([1.0, 0.5, 0.0, 0.999], dtype=torch.float64)
    sigmas = torch.tensor([0.01, 0.7, 1.0, 40.0], dtype=torch.float64)
    together = [
        gaussian.denoise(x_t, alphas, sigmas),
        gaussian.score(x_t, alphas, sigmas),
        gaussian.log_prob(x_t, alphas, sigmas),
        gaussian.posterior_covariance(x_t, alphas, sigmas).matvec(x_t),
        gaussian.posterior_covariance(x_t, alphas, sigmas).trace(),
        gaussian.posterior_covariance(x_t, alphas, sigmas).diagonal(),
    ]
    for i in range(len(x_t)):
        x, level = x_t[i : i + 1], (float(alphas[i]), float(sigmas[i]))
        alone = [
            gaussian.denoise(x, *level),
            gaussian.score(x, *level),
            gaussian.log_prob(x, *level),
            gaussian.posterior_covariance(x, *level).matvec(x),
            gaussian.posterior_covariance(x, *level).trace(),
            gaussian.posterior_covariance(x, *level).diagonal(),
        ]
        for many, one in zip(together, alone, strict=True):
            torch.testing.assert_close(many[i : i + 1], one, rtol=1e-12, atol=1e-13)


@every_distribution
def test_float32_input_is_answered_in_float32_with_float64_inside(distribution):
    gaussian = distribution()
    x_t = noised(gaussian, 1.0, 0.002).float()
    exact = x_t.double()
    schedule = VE()
    for narrow, wide in [
        (gaussian.denoise(x_t, 1.0, 0.002), gaussian.denoise(exact, 1.0, 0.002)),
        (gaussian.score(x_t, 1.0, 0.002), gaussian.score(exact, 1.0, 0.002)),
        (gaussian.log_prob(x_t, 1.0, 0.002), gaussian.log_prob(exact, 1.0, 0.002)),
        (gaussian.flow(x_t, schedule, 0.002, 80.0), gaussian.flow(exact, schedule, 0.002, 80.0)),
        (
            gaussian.posterior_covariance(x_t, 1.0, 0.002).matvec(x_t),
            gaussian.posterior_covariance(exact, 1.0, 0.002).matvec(exact),
        ),
    ]:
        assert narrow.dtype == torch.float32
        assert torch.equal(narrow, wide.float())


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.002), (1.0, 10.0), (0.3, 0.9)])
def test_low_rank_with_tail_equals_the_dense_distribution_with_equal_tail_eigenvalues(alpha, sigma):
    low = low_rank()
    full = Gaussian(
        low.mean, random_basis(D), torch.cat([low.eigenvalues, torch.full((D - 2,), 0.3, dtype=torch.float64)])
    )
    x_t = noised(low, alpha, sigma)
    for name in ("denoise", "score", "log_prob"):
        assert relative_error(getattr(low, name)(x_t, alpha, sigma), getattr(full, name)(x_t, alpha, sigma)) < 1e-12
    thin, wide = low.posterior_covariance(x_t, alpha, sigma), full.posterior_covariance(x_t, alpha, sigma)
    assert relative_error(thin.matvec(x_t), wide.matvec(x_t)) < 1e-12
    assert relative_error(thin.diagonal(), wide.diagonal()) < 1e-12
    assert relative_error(thin.trace(), wide.trace()) < 1e-12
    schedule = VE()
    for s in (0.002, 80.0):
        assert relative_error(low.flow(x_t, schedule, sigma, s), full.flow(x_t, schedule, sigma, s)) < 1e-12


@every_distribution
@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.05), (1.0, 30.0), (0.6, 0.8)])
def test_posterior_covariance_is_the_scaled_jacobian_of_the_denoiser(distribution, alpha, sigma):
    gaussian = distribution()
    x_t = noised(gaussian, alpha, sigma, n=2)
    operator = gaussian.posterior_covariance(x_t, alpha, sigma)
    v = torch.randn(x_t.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    for i in range(len(x_t)):
        jacobian = torch.autograd.functional.jacobian(lambda x: gaussian.denoise(x, alpha, sigma), x_t[i : i + 1])
        truth = torch.as_tensor(jacobian).reshape(D, D) * sigma**2 / alpha
        torch.testing.assert_close(operator.matvec(v)[i].flatten(), truth @ v[i].flatten(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(operator.trace()[i], truth.trace(), rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(operator.diagonal()[i].flatten(), truth.diagonal(), rtol=1e-9, atol=1e-12)


# --- Monte Carlo ------------------------------------------------------------------------------------------------------


@every_distribution
def test_samples_have_the_mean_and_covariance_of_the_distribution(distribution, generator):
    gaussian, n = distribution(), 20_000
    e = (gaussian.sample(n, generator=generator) - gaussian.mean).flatten(1)
    truth = covariance(gaussian)
    # 1e-12: in a direction without variance the standard error is zero
    assert bool((e.mean(0).abs() <= 4 * (truth.diagonal() / n).sqrt() + 1e-12).all())
    variance_of_product = truth**2 + torch.outer(truth.diagonal(), truth.diagonal())
    assert bool(((e.T @ e / n - truth).abs() <= 4 * (variance_of_product / n).sqrt() + 1e-12).all())


@every_distribution
@pytest.mark.parametrize("sigma", [0.3, 3.0])
def test_mean_square_of_denoiser_score_and_error_are_their_spectral_sums(distribution, sigma, generator):
    gaussian, n = distribution(), 20_000
    values = torch.linalg.eigvalsh(covariance(gaussian)).clamp(min=0)
    x_0 = gaussian.sample(n, generator=generator)
    x_t = x_0 + sigma * torch.randn(x_0.shape, dtype=torch.float64, generator=generator)
    D_t = gaussian.denoise(x_t, 1.0, sigma)
    square = float((gaussian.mean**2).sum() + (values**2 / (values + sigma**2)).sum())
    assert monte_carlo((D_t**2).sum((1, 2))).agrees_with(square)
    assert monte_carlo((gaussian.score(x_t, 1.0, sigma) ** 2).sum((1, 2))).agrees_with(
        float((1 / (values + sigma**2)).sum())
    )
    irreducible = float(gaussian.posterior_covariance(x_t[:1], 1.0, sigma).trace())
    assert monte_carlo(((x_0 - D_t) ** 2).sum((1, 2))).agrees_with(irreducible)


@pytest.mark.slow
def test_cifar10_moments_are_the_published_ones(cifar_data, monkeypatch):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(cifar_data))
    images = load_data("cifar10").train
    gaussian = Gaussian.fit(part.double() / 127.5 - 1 for part in images.split(1000))
    values = gaussian.eigenvalues
    assert gaussian.count == 50_000
    # the published table's |mu|^2; our specification's trace and leading eigenvalues
    assert abs(float((gaussian.mean**2).sum()) - 24.784126) < 1e-4
    assert abs(gaussian.trace - 761.604) < 1e-2
    torch.testing.assert_close(
        values[:5], torch.tensor([221.45, 85.70, 50.98, 28.00, 27.49], dtype=torch.float64), rtol=0, atol=0.006
    )
    for sigma, square in [(1.0, 2947.0), (5.0, 122.3), (20.0, 7.68), (40.0, 1.92)]:
        assert abs(float((1 / (values + sigma**2)).sum()) / square - 1) < 3e-3
    for sigma, square in [(5.0, 417.8), (10.0, 264.0), (20.0, 133.6)]:
        denoised = float((gaussian.mean**2).sum() + (values**2 / (values + sigma**2)).sum())
        assert abs(denoised / square - 1) < 2e-2

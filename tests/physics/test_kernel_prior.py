"""The kernel density of fields against dense Gaussian mixtures, with and without observations."""

import math

import pytest
import torch

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Gaussian, GaussianMixture
from diffuscope.physics import LinearObservation, at_nodes, log_evidence, posterior
from diffuscope.physics.kernel_prior import KernelPrior
from diffuscope.schedules import VE

A, N, D, R = 0.8, 7, 5, 0.3


@pytest.fixture
def fields():
    generator = torch.Generator().manual_seed(3)
    mixing = torch.randn(D, D, dtype=torch.float64, generator=generator)
    return torch.randn(N, D, dtype=torch.float64, generator=generator) @ mixing + 1.0


@pytest.fixture
def observed():
    generator = torch.Generator().manual_seed(4)
    H = torch.randn(2, D, dtype=torch.float64, generator=generator)
    return LinearObservation(H, (D,), R), torch.tensor([1.0, -2.0], dtype=torch.float64)


def dense(fields, a=A):
    """The same density as a mixture with N covariances."""
    mean = fields.mean(0)
    sigma = (fields - mean).T @ (fields - mean) / N
    weights = torch.full((N,), 1 / N, dtype=torch.float64)
    return GaussianMixture.from_covariances(
        weights, mean + a * (fields - mean), ((1 - a**2) * sigma).expand(N, D, D).clone()
    )


def dense_posterior(fields, observation, y, a=A):
    """Bayes' rule component by component, with dense matrices."""
    mean, H = fields.mean(0), observation.matrix
    C = (1 - a**2) * (fields - mean).T @ (fields - mean) / N
    means, B = mean + a * (fields - mean), H @ C @ H.T + R**2 * torch.eye(2, dtype=torch.float64)
    likelihood = torch.distributions.MultivariateNormal(means @ H.T, B)
    logits = likelihood.log_prob(y) - math.log(N)
    K = C @ H.T @ B.inverse()
    after = means + (y - means @ H.T) @ K.T
    mixture = GaussianMixture.from_covariances(logits.softmax(0), after, (C - K @ H @ C).expand(N, D, D).clone())
    return mixture, float(logits.logsumexp(0))


def points(generator):
    return 2 * torch.randn(4, D, dtype=torch.float64, generator=generator)


LEVELS = [(1.0, 0.7), (0.6, 0.05), (0.0, 2.0), (1.0, 30.0)]


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_it_is_the_mixture_of_its_bumps(fields, generator, alpha, sigma):
    x, prior, mixture = points(generator), KernelPrior(fields, A), dense(fields)
    for name in ("denoise", "score", "log_prob"):
        ours, known = (getattr(each, name)(x, alpha, sigma) for each in (prior, mixture))
        torch.testing.assert_close(ours, known, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_with_observations_it_is_bayes_rule_component_by_component(fields, observed, generator, alpha, sigma):
    x, posterior = points(generator), KernelPrior(fields, A).given(*observed)
    mixture, evidence = dense_posterior(fields, *observed)
    for name in ("denoise", "score", "log_prob"):
        ours, known = (getattr(each, name)(x, alpha, sigma) for each in (posterior, mixture))
        torch.testing.assert_close(ours, known, rtol=1e-8, atol=1e-8)
    assert posterior.log_evidence == pytest.approx(evidence, abs=1e-10)


def test_it_is_known_to_posterior_and_conditioned_on_one_observation_after_another(fields, observed):
    """Two observations of noise R, of which one is told in other units, are the rows of one."""
    observation, y = observed
    prior, (first, second) = KernelPrior(fields, A), observation.matrix
    once = posterior(prior, LinearObservation(first[None], (D,), R), y[:1])
    twice = posterior(once, LinearObservation(2 * second[None], (D,), 2 * R), 2 * y[None, 1:])
    known = prior.given(observation, y)
    torch.testing.assert_close(twice.mean, known.mean)
    torch.testing.assert_close(twice.variance, known.variance)
    assert twice.log_evidence == pytest.approx(known.log_evidence)
    with pytest.raises(InputError, match=r"all with noise or all without, got noise 0.3 and 0.0"):
        posterior(once, LinearObservation(second[None], (D,)), y[1:])
    with pytest.raises(InputError, match=r"y: expected shape"):
        once.given(observation, y[:1])


def test_the_evidence_of_one_observation_after_another_is_that_of_the_mixture(fields, observed):
    more, z = at_nodes(torch.tensor([1, 3]), (D,), noise=0.7), torch.tensor([0.4, 1.2])
    prior, mixture = KernelPrior(fields, A), dense(fields)
    assert log_evidence(prior, *observed) == pytest.approx(log_evidence(mixture, *observed), abs=1e-9)
    expected = log_evidence(posterior(mixture, *observed), more, z)  # in units of its own noise, 0.7, not of the first
    assert log_evidence(posterior(prior, *observed), more, z) == pytest.approx(expected, abs=1e-9)


def test_levels_of_their_own_give_what_one_level_gives(fields, observed, generator):
    x, posterior = points(generator), KernelPrior(fields, A).given(*observed)
    alphas, sigmas = torch.tensor([1.0, 0.5, 1.0, 0.5]), torch.tensor([0.1, 2.0, 0.3, 2.0])
    together = posterior.denoise(x, alphas, sigmas)
    alone = torch.cat([posterior.denoise(x[k : k + 1], float(alphas[k]), float(sigmas[k])) for k in range(4)])
    torch.testing.assert_close(together, alone)


def test_moments_given_y_are_those_of_the_mixture(fields, observed):
    posterior, known = KernelPrior(fields, A).given(*observed), dense_posterior(fields, *observed)[0].as_gaussian()
    torch.testing.assert_close(posterior.mean, known.mean)
    diagonal = (known.eigenvectors**2 * known.eigenvalues).sum(1)
    torch.testing.assert_close(posterior.variance, diagonal)


@pytest.mark.parametrize("a", [0.0, 0.5, 0.99])
def test_mean_and_covariance_are_those_of_the_fields_for_every_pull(fields, a):
    prior = KernelPrior(fields, a)
    torch.testing.assert_close(prior.mean, fields.mean(0))
    torch.testing.assert_close(prior.variance, fields.var(0, correction=0))


def test_without_pull_it_is_gaussian_process_regression(fields, observed):
    gaussian, (observation, y) = Gaussian.fit([fields]), observed
    covariance = (gaussian.eigenvectors * gaussian.eigenvalues) @ gaussian.eigenvectors.T
    H = observation.matrix
    gain = covariance @ H.T @ (H @ covariance @ H.T + R**2 * torch.eye(2, dtype=torch.float64)).inverse()
    posterior = KernelPrior(fields, 0.0).given(observation, y)
    torch.testing.assert_close(posterior.mean, gaussian.mean + gain @ (y - H @ gaussian.mean))


def test_its_covariance_is_the_derivative_of_its_denoiser(fields, observed, generator):
    x, (alpha, sigma) = points(generator), (0.7, 0.5)
    posterior = KernelPrior(fields, A).given(*observed)
    jacobian = torch.stack(
        [torch.func.jacrev(lambda row: posterior.denoise(row[None], alpha, sigma)[0])(row) for row in x]  # pyright: ignore
    )
    covariance = posterior.posterior_covariance(x, alpha, sigma)
    v = torch.randn(4, D, dtype=torch.float64, generator=generator)
    scaled = sigma**2 / alpha * jacobian
    torch.testing.assert_close(covariance.matvec(v), torch.einsum("bij,bj->bi", scaled, v), rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(covariance.diagonal(), scaled.diagonal(dim1=1, dim2=2), rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(covariance.trace(), scaled.diagonal(dim1=1, dim2=2).sum(1), rtol=1e-8, atol=1e-9)


def test_draws_have_the_posteriors_mean_and_variance_within_four_standard_errors(fields, observed, generator):
    posterior, n = KernelPrior(fields, A).given(*observed), 40_000
    draws = posterior.sample(n, generator=generator)
    assert float(((draws.mean(0) - posterior.mean) / (draws.std(0) / n**0.5)).abs().max()) < 4
    squares = (draws - posterior.mean).square()
    assert float(((squares.mean(0) - posterior.variance) / (squares.std(0) / n**0.5)).abs().max()) < 4


def test_fewer_fields_than_values_leave_the_mean_outside_their_span(fields):
    wide = torch.cat([fields, torch.full((N, 20), 2.0, dtype=torch.float64)], 1).reshape(N, 5, 5)
    prior = KernelPrior(wide, A)
    x = wide[:2] + 1.0
    denoised = prior.denoise(x, 1.0, 0.5)
    torch.testing.assert_close(denoised.flatten(1)[:, 5:], torch.full((2, 20), 2.0, dtype=torch.float64))
    outside = torch.distributions.Normal(2.0, 0.5).log_prob(torch.tensor(3.0).double()) * 20
    inside = KernelPrior(fields, A).log_prob(x.flatten(1)[:, :5], 1.0, 0.5)
    torch.testing.assert_close(prior.log_prob(x, 1.0, 0.5), inside + outside)


def test_exact_values_are_kept_without_noise(fields):
    observation = at_nodes(torch.tensor([1, 3]), (D,))
    y = torch.tensor([0.5, 2.0], dtype=torch.float64)
    draws = KernelPrior(fields, A).given(observation, y).sample(10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws[:, [1, 3]], y.expand(10, 2), rtol=0, atol=1e-11)


def test_it_is_a_distribution_for_any_schedule_and_float32(fields):
    prior = KernelPrior(fields, A)
    assert isinstance(prior, Distribution)
    x = torch.ones(2, D)
    assert ExactDenoiser(prior, VE())(x, 0.5).dtype == torch.float32


def test_mistakes(fields, observed):
    observation, y = observed
    with pytest.raises(InputError, match="at least 2"):
        KernelPrior(fields[:1], A)
    with pytest.raises(InputError, match="0 <= a < 1"):
        KernelPrior(fields, 1.0)
    with pytest.raises(InputError, match=r"y: expected shape \(2,\)"):
        KernelPrior(fields, A).given(observation, y[:1])
    with pytest.raises(InputError, match="y: expected finite values"):
        KernelPrior(fields, A).given(observation, y * torch.nan)
    with pytest.raises(InputError, match="fields of shape"):
        KernelPrior(fields, A).given(at_nodes(torch.tensor([0, 1]), (D + 1,), R), y)
    twice = at_nodes(torch.tensor([1, 1]), (D,))
    with pytest.raises(InputError, match="expected noise"):
        _ = KernelPrior(fields, A).given(twice, y).mean

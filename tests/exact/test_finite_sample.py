"""The denoiser of a fitted Gaussian over many samples, against random-matrix theory; shrinkage against scikit-learn.

The theory is for large n and D. Its own error, of order 1/n, is stated beside each tolerance.
"""

import math
from functools import partial

import pytest
import torch
from sklearn.covariance import oas

from diffuscope.errors import InputError
from diffuscope.exact import (
    Gaussian,
    denoised_variance,
    effective_variance,
    expected_denoised,
    inflation,
    reliable_from,
    shrinkage,
    shrunk,
    too_few_examples,
)


def population(D: int, seed: int = 0) -> Gaussian:
    """Variances from 10 to 0.01 in equal ratios."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(D, D, dtype=torch.float64, generator=generator))[0]
    mean = torch.randn(D, dtype=torch.float64, generator=generator)
    return Gaussian(mean, basis, torch.logspace(1, -2, D, dtype=torch.float64))


def fitted_denoisers(
    gaussian: Gaussian, n: int, y: torch.Tensor, variance: float, draws: int, *, known_mean: bool = False
) -> torch.Tensor:
    """The denoised y of Gaussians fitted to `draws` samples of n, by a linear solve; (draws, D)."""
    generator, D = torch.Generator().manual_seed(1), gaussian.dimension
    x = gaussian.sample(draws * n, generator=generator).reshape(draws, n, D)
    mean = gaussian.mean.expand(draws, D) if known_mean else x.mean(1)
    e = x - mean[:, None]
    noised = e.transpose(1, 2) @ e / n + variance * torch.eye(D, dtype=torch.float64)
    return y - variance * torch.linalg.solve(noised, (y - mean)[..., None])[..., 0]


def test_the_specified_example_has_kappa_0_469():
    """D = 200, n = 100, sigma^2 = 0.05, the mean known; our specification's number."""
    assert abs(effective_variance(population(200), 100, 0.05, known_mean=True) - 0.469) < 5e-4


@pytest.mark.parametrize("known_mean", [True, False])
def test_kappa_solves_its_equation(known_mean):
    gaussian, n, variance = Gaussian.isotropic(torch.zeros(40), 2.0), 30, 0.3
    kappa = effective_variance(gaussian, n, variance, known_mean=known_mean)
    free = n if known_mean else n - 1
    assert abs(kappa * (free - 40 * 2 / (2 + kappa)) / (n * variance) - 1) < 1e-9


def test_the_mean_of_fitted_denoisers_is_the_denoiser_at_kappa():
    gaussian, n, variance, draws = population(60), 30, 0.05, 400
    generator = torch.Generator().manual_seed(2)
    y = gaussian.sample(1, generator=generator)[0]
    found = fitted_denoisers(gaussian, n, y, variance, draws)
    theory = expected_denoised(gaussian, n, y[None], variance**0.5)[0]
    naive = gaussian.denoise(y[None], 1.0, variance**0.5)[0]
    standard_error = found.std(0) / draws**0.5
    # the largest of 60 |z| is 3.4 in one run of 20; the theory is off by 0.3 standard errors here
    assert float(((found.mean(0) - theory) / standard_error).abs().max()) < 4
    assert float(((found.mean(0) - naive) / standard_error).abs().max()) > 15


def test_the_variance_of_fitted_denoisers_is_the_predicted_one_also_along_the_point():
    """Along y - mu the variance is twice that of the formula without the last term."""
    gaussian, n, variance, draws = population(40), 60, 0.05, 500
    generator = torch.Generator().manual_seed(2)
    y = gaussian.sample(1, generator=generator)
    v = torch.cat([y - gaussian.mean, torch.randn(3, 40, dtype=torch.float64, generator=generator)])
    measured = (fitted_denoisers(gaussian, n, y[0], variance, draws) @ v.T).var(0)
    theory = denoised_variance(gaussian, n, v, y.expand(4, -1), variance**0.5)
    # four standard errors of a variance, 0.25, and 8 % for n = 60
    assert float((measured / theory - 1).abs().max()) < 4 * (2 / draws) ** 0.5 + 0.08


def test_of_a_known_mean_denoisers_differ_as_predicted_and_at_the_mean_not_at_all():
    """At y = mu the fitted denoiser is mu, whatever the covariance: only a fitted mean varies there."""
    gaussian, n, variance, draws = population(40), 60, 0.05, 500
    generator = torch.Generator().manual_seed(4)
    y, v = gaussian.sample(1, generator=generator), torch.randn(1, 40, dtype=torch.float64, generator=generator)
    predicted = partial(denoised_variance, gaussian, n, v, noise_to_signal=variance**0.5)
    assert predicted(gaussian.mean[None], known_mean=True).item() == 0.0
    assert predicted(gaussian.mean[None]).item() > 1e-3
    measured = (fitted_denoisers(gaussian, n, y[0], variance, draws, known_mean=True) @ v[0]).var()
    # four standard errors of a variance, 0.25, and 8 % for n = 60
    assert abs(float(measured / predicted(y, known_mean=True)) - 1) < 4 * (2 / draws) ** 0.5 + 0.08


def test_kappa_is_known_from_the_sample_alone():
    gaussian, n, variance = population(60), 30, 0.05
    generator = torch.Generator().manual_seed(3)
    found = torch.tensor(
        [1 + inflation(Gaussian.fit([gaussian.sample(n, generator=generator)]), variance**0.5) for _ in range(100)]
    )
    truth = effective_variance(gaussian, n, variance) / variance
    # the theory's own error is 3 % at n = 30
    assert abs(float(found.mean()) / truth - 1) < 0.03 + 4 * float(found.std()) / 10 / truth


def test_a_level_is_reliable_exactly_from_where_the_inflation_is_a_tenth():
    gaussian = Gaussian.fit([population(60).sample(50, generator=torch.Generator().manual_seed(0))])
    level = reliable_from(gaussian)
    assert abs(inflation(gaussian, level) - 0.1) < 1e-8
    assert inflation(gaussian, 1.01 * level) < 0.1 < inflation(gaussian, 0.99 * level)
    assert too_few_examples(gaussian, 1.01 * level) is None
    assert f"use it from noise {level:.3g} on" in str(too_few_examples(gaussian, level / 2))


def test_enough_examples_are_enough_at_every_level_and_eleven_at_none():
    gaussian = population(5)
    generator = torch.Generator().manual_seed(0)
    many, few = (Gaussian.fit([gaussian.sample(n, generator=generator)]) for n in (1000, 11))
    assert reliable_from(many) == 0.0
    assert too_few_examples(many) is None
    assert reliable_from(few) == math.inf
    assert "no level is high enough" in str(too_few_examples(few))


def test_low_rank_does_not_pretend_to_more_degrees_of_freedom_than_examples():
    data = population(60).sample(20, generator=torch.Generator().manual_seed(0))
    full = Gaussian.fit([data])
    for rank in (0, 5, 19):
        low = full.truncate(rank)
        # a tail spread over the n - 1 - k eigenvalues that are there is an upper bound, by concavity
        assert inflation(full, 0.3) <= inflation(low, 0.3) * (1 + 1e-12) < inflation(full, 1e-6)
    assert inflation(full.truncate(19), 0.3) == pytest.approx(inflation(full, 0.3), rel=1e-9)
    assert inflation(full, 1e-12) == math.inf or inflation(full, 1e-12) > 1e20


def test_shrinkage_is_that_of_scikit_learn_up_to_two_over_the_dimension():
    """scikit-learn leaves out the terms 2/D of the published formula, 2 % of a coefficient here."""
    data = population(100).sample(40, generator=torch.Generator().manual_seed(0))
    theirs, rho = oas(data.numpy())
    fitted = Gaussian.fit([data])
    assert abs(shrinkage(fitted) / rho - 1) < 0.03
    same = shrunk(fitted, rho)
    dense = (same.eigenvectors * same.eigenvalues) @ same.eigenvectors.T
    torch.testing.assert_close(dense, torch.from_numpy(theirs), rtol=0, atol=1e-12)
    assert abs(shrunk(fitted).trace / fitted.trace - 1) < 1e-12
    assert shrinkage(Gaussian.fit([torch.eye(3, dtype=torch.float64)]).truncate(0)) == 1.0


def test_shrinkage_brings_the_covariance_of_a_small_sample_nearer_to_the_truth():
    gaussian = population(60)
    truth = (gaussian.eigenvectors * gaussian.eigenvalues) @ gaussian.eigenvectors.T
    generator, losses = torch.Generator().manual_seed(0), []
    for _ in range(20):
        fitted = Gaussian.fit([gaussian.sample(15, generator=generator)])
        pair = [(one.eigenvectors * one.eigenvalues) @ one.eigenvectors.T for one in (fitted, shrunk(fitted))]
        losses.append([float((one - truth).norm()) for one in pair])
    plain, better = torch.tensor(losses).T
    assert bool((better < plain).all())


def test_what_was_not_fitted_and_levels_without_noise_are_refused():
    with pytest.raises(InputError, match="fitted: expected a Gaussian fitted to examples"):
        reliable_from(population(3))
    with pytest.raises(InputError, match="n, variance: expected at least 2 examples"):
        effective_variance(population(3), 1, 0.1)
    with pytest.raises(InputError, match="n, variance: expected"):
        inflation(Gaussian.fit([torch.randn(5, 2, generator=torch.Generator().manual_seed(0))]), 0.0)
    with pytest.raises(InputError, match=r"rho: expected 0 \.\. 1, got 2"):
        shrunk(population(3), 2.0)

"""The noise of linear denoisers: closed forms (bins, least squares), the published kernel, and trained models."""

import math
from dataclasses import dataclass, replace

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian
from diffuscope.schedules import VP
from diffuscope.theory.variance import (
    Affine,
    Bins,
    Constant,
    Features,
    GaussianBumps,
    LinearFeatures,
    Population,
    Products,
    Quenched,
    linear_features,
    train_linear,
)
from numbers_in_tests import seeded

SCHEDULE = VP(0.2, 39.8)
THREE = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
TWO = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
BUMPS = Products((GaussianBumps(-1.5, 1.5, 5),), GaussianBumps(0.1, 1.0, 3))
TIMES = (0.1, 1.0)
POPULATION = Population.of(THREE, SCHEDULE, TIMES, time_nodes=32, nodes=128)


@dataclass(frozen=True)
class Opaque:
    """The same features, without their factors."""

    features: Features

    @property
    def number(self) -> int:
        return self.features.number

    def __call__(self, x, t):
        return self.features(x, t)


def test_noise_within_a_bin_is_its_variance_over_its_examples_and_bins_are_independent():
    t, P = 0.3, 1000
    bins = Products((Bins(-1.6, 1.6, 4),))
    population = Population.of(TWO, SCHEDULE, (t, t), nodes=2**13)
    kernel = LinearFeatures.of(population, bins, samples=P)
    alpha, sigma = float(SCHEDULE.alpha(t)), float(SCHEDULE.sigma(t))
    edges = torch.tensor([-math.inf, -0.8, 0.0, 0.8, math.inf], dtype=torch.float64)
    below = torch.special.ndtr((edges[:, None] - alpha * TWO[:, 0]) / sigma).diff(dim=0) / 2  # by bin and data point
    p, mean = below.sum(1), below @ TWO[:, 0] / below.sum(1)
    expected = torch.diag((1 - mean**2) / (P * p))  # x_0 is -1 or 1, so that its variance in a bin is 1 - mean^2
    # the trapezoidal rule misplaces an edge by half a cell at most, a thousandth of the mass of a bin
    assert torch.allclose(kernel.weight_covariance[0, 0], expected, atol=4e-3 * float(expected.max()))
    at = torch.tensor([[-1.2], [-0.4], [0.4], [1.2]], dtype=torch.float64)
    scores = kernel.covariance(at, t, at, t)[:, 0, 0] * sigma**4 / alpha**2
    assert torch.allclose(scores, expected.diagonal(), rtol=4e-3, atol=0)
    assert float(kernel.covariance(at[:2], t, at[2:], t).abs().max()) < 1e-12


@pytest.mark.parametrize("dimension", [1, 2])
def test_least_squares_on_gaussian_data_has_the_textbook_variance(dimension):
    r"""Cov s = (C/n)(1 + (x - mu)^T Sigma^-1 (x - mu)) with the target's covariance C; its mean is C (1 + D) / n."""
    t, n = 0.2, 500
    covariance = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=torch.float64)[:dimension, :dimension]
    mu = torch.tensor([0.5, -0.2], dtype=torch.float64)[:dimension]
    data = Gaussian.from_covariance(mu, covariance)
    kernel = linear_features(data, SCHEDULE, Affine(dimension), samples=n, times=(t, t))
    alpha, sigma = float(SCHEDULE.alpha(t)), float(SCHEDULE.sigma(t))
    Sigma = alpha**2 * covariance + sigma**2 * torch.eye(dimension, dtype=torch.float64)
    C = torch.eye(dimension, dtype=torch.float64) / sigma**2 - torch.linalg.inv(Sigma)  # S^-1 + Hessian of log p
    x = torch.randn(7, dimension, dtype=torch.float64, generator=seeded())
    e = x - alpha * mu
    distance = (e @ torch.linalg.inv(Sigma) * e).sum(1)
    expected = C * (1 + distance)[:, None, None] / n
    assert torch.allclose(kernel.covariance(x, t, x, t), expected, rtol=1e-6, atol=0)
    assert kernel.mean_variance == pytest.approx(sigma**2 * float(C.trace()) * (1 + dimension) / n, rel=1e-6)
    assert torch.allclose(kernel.score(x, t), -e @ torch.linalg.inv(Sigma), atol=1e-6)  # no misfit: the exact score


def test_monte_carlo_in_five_dimensions_is_within_its_stated_error_of_the_textbook_variance():
    t, n, D = 0.2, 500, 5
    population = Population.of(
        Gaussian.isotropic(torch.zeros(D, dtype=torch.float64), 1.0), SCHEDULE, (t, t), nodes=4096, generator=seeded()
    )
    kernel = LinearFeatures.of(population, Affine(D), samples=n)
    sigma = float(SCHEDULE.sigma(t))
    expected = sigma**2 * D * (1 / sigma**2 - 1) * (1 + D) / n  # a variance-preserving schedule: p_t = N(0, I)
    halved = LinearFeatures.of(replace(population, slices=population.coarse), Affine(D), samples=n)
    root = torch.linalg.cholesky(kernel.moments.sigma).mT  # Sigma = R^T R, so that tr Sigma A Sigma A^T = |R A R^T|^2
    change = root @ (kernel.weight_covariance - halved.weight_covariance) @ root.mT
    size = root @ kernel.weight_covariance @ root.mT
    assert kernel.quadrature_error() == pytest.approx(float(change.norm() / size.norm()), rel=1e-9)
    assert 0 < kernel.quadrature_error() < 0.2
    # the mean over the drawn points is C (1 + D) / n whatever the points, as C is the same everywhere
    assert kernel.mean_variance == pytest.approx(expected, rel=1e-6)
    x = torch.zeros(1, D, dtype=torch.float64)
    at_center = float(kernel.covariance(x, t, x, t)[0].trace()) * n / (D * (1 / sigma**2 - 1))
    assert abs(at_center - 1) < 4 * D / 4096  # 1 + |mean of the draws|^2, whose mean is D / draws


def test_a_single_example_has_no_noise():
    population = Population.of(THREE[2:], SCHEDULE, TIMES, time_nodes=8, nodes=32)
    kernel = LinearFeatures.of(population, Products((Constant(),)), samples=10)
    x = torch.tensor([[0.3], [-2.0]], dtype=torch.float64)
    assert float(kernel.covariance(x, 0.1, x, 0.5).abs().max()) < 1e-20
    fields = kernel.draw(3, generator=seeded())(x.expand(3, -1, -1), 0.1)
    alpha, sigma = SCHEDULE.alpha(0.1), SCHEDULE.sigma(0.1)
    assert torch.allclose(fields, ((alpha - x) / sigma**2).expand_as(fields), atol=1e-9)


def test_the_factors_of_products_change_nothing():
    two = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-1.0, -0.5]], dtype=torch.float64)
    features = Products((GaussianBumps(-1.5, 1.5, 3), GaussianBumps(-1, 1, 2)), GaussianBumps(0.1, 1.0, 2))
    population = Population.of(two, SCHEDULE, (0.1, 1.0), time_nodes=4, nodes=8)
    fast = LinearFeatures.of(population, features, samples=50, ridge=0.1)
    plain = LinearFeatures.of(population, Opaque(features), samples=50, ridge=0.1)
    assert torch.allclose(fast.weight_covariance, plain.weight_covariance, rtol=1e-10, atol=1e-14)
    assert torch.allclose(fast.moments.mean, plain.moments.mean, rtol=1e-10, atol=1e-13)
    symmetric = fast.weight_covariance - fast.weight_covariance.permute(1, 0, 3, 2)
    assert float(symmetric.abs().max()) < 1e-14


def test_moments_do_not_depend_on_how_many_nodes_are_held_at_once(monkeypatch):
    whole = LinearFeatures.of(POPULATION, BUMPS, samples=50, ridge=0.1).weight_covariance
    monkeypatch.setattr("diffuscope.theory.variance.feature_moments.ROWS", 50 * 5)  # of 128 nodes
    parts = LinearFeatures.of(POPULATION, BUMPS, samples=50, ridge=0.1).weight_covariance
    assert torch.allclose(parts, whole, rtol=1e-9, atol=1e-12 * float(whole.max()))


def test_the_noise_is_the_covariance_of_what_single_examples_add():
    """In the plane, with a ridge: of lambda (x_0 - W phi) phi^T over nodes and posterior weights, term by term."""
    data = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-1.0, -0.5]], dtype=torch.float64)
    features = Products((GaussianBumps(-1.5, 1.5, 3), GaussianBumps(-1, 1, 2)), GaussianBumps(0.1, 1.0, 2))
    population = Population.of(data, SCHEDULE, (0.1, 1.0), time_nodes=4, nodes=8)
    kernel = LinearFeatures.of(population, features, samples=50, ridge=0.1)
    first, second, ell = torch.zeros(2, 12).double(), torch.zeros(2, 2, 12, 12).double(), torch.zeros(2).double()
    for each in population.slices:
        alpha, sigma = SCHEDULE.alpha(each.t), SCHEDULE.sigma(each.t)
        posterior = torch.softmax(-(each.x[:, None] - alpha * data).square().sum(2) / (2 * sigma**2), 1)
        phi, p = features(each.x, each.t), each.probability[:, None] * posterior
        residual = data - (phi @ kernel.moments.mean.mT)[:, None]
        term = each.weight * residual[..., None] * phi[:, None, None, :]
        first += torch.einsum("nk,nkaf->af", p, term)
        second += torch.einsum("nk,nkaf,nkbg->abfg", p, term, term)
        leverage = each.weight * ((phi @ kernel.moments.inverse) * phi).sum(1)
        ell += torch.stack([each.probability @ leverage, each.probability @ leverage**2])
    G = kernel.moments.inverse
    expected = G @ (second - first[:, None, :, None] * first[None, :, None, :]) @ G / 50
    assert torch.allclose(kernel.weight_covariance, expected, rtol=1e-8, atol=1e-10 * float(expected.max()))
    assert kernel.moments.effective_features == pytest.approx(float(ell[1] / ell[0]), rel=1e-10)


def test_without_ridge_and_misfit_the_noise_is_the_published_kernel():
    """Cov s = (F/P) F E[sigma^4 k(x, z) C(z) k(z, y)]; k = psi^T Sigma^-1 psi / F, psi = alpha phi / sigma^2."""
    kernel = LinearFeatures.of(POPULATION, BUMPS, samples=300, ridge=0.1).expressive
    F, P = BUMPS.number, 300
    x, t, y, u = torch.tensor([[0.4]]).double(), 0.2, torch.tensor([[-0.3]]).double(), 0.5
    inverse = torch.linalg.inv(kernel.moments.sigma)

    def psi(points, time):
        return BUMPS(points, time) * SCHEDULE.alpha(time) / SCHEDULE.sigma(time) ** 2

    total = 0.0
    for each in POPULATION.slices:
        alpha, sigma = float(SCHEDULE.alpha(each.t)), float(SCHEDULE.sigma(each.t))
        C = each.covariance[:, 0, 0] * alpha**2 / sigma**4
        z = psi(each.x, each.t)
        left, right = z @ inverse @ psi(x, t)[0] / F, z @ inverse @ psi(y, u)[0] / F
        total += float((each.probability * sigma**4 * left * C * right).sum())
    assert float(kernel.covariance(x, t, y, u)) == pytest.approx(F / P * F * total, rel=1e-8)


def test_under_a_huge_ridge_the_noise_is_the_variance_of_a_mean_of_independent_terms():
    """W -> A / rho, so that P rho^2 Cov W = E[lambda^2 x_0^2 phi phi^T] - E[lambda x_0 phi] E[lambda x_0 phi]^T."""
    rho = 1e9
    kernel = LinearFeatures.of(POPULATION, BUMPS, samples=1, ridge=rho)
    second, first = torch.zeros(15, 15).double(), torch.zeros(15).double()
    for each in POPULATION.slices:
        phi = BUMPS(each.x, each.t)
        squares = each.covariance[:, 0, 0] + each.mean[:, 0] ** 2
        second += phi.mT @ ((each.probability * each.weight**2 * squares)[:, None] * phi)
        first += phi.mT @ (each.probability * each.weight * each.mean[:, 0])
    expected = second - first[:, None] * first
    assert torch.allclose(rho**2 * kernel.weight_covariance[0, 0], expected, rtol=1e-6, atol=1e-6 * float(second.max()))


def test_theory_predicts_the_variance_of_trained_models_within_five_percent_at_64_examples_per_feature():
    """Median over 18 points of 2,000 models: each ratio has the standard error sqrt(2/2000) = 3.2%, the median less."""
    P, models = 64 * BUMPS.number, 2000
    kernel = LinearFeatures.of(POPULATION, BUMPS, samples=P, ridge=0.1)
    schedule = replace(SCHEDULE, epsilon=TIMES[0])
    ensemble = train_linear(Empirical(THREE), schedule, BUMPS, samples=P, models=models, generator=seeded())
    x = torch.linspace(-1.25, 1.25, 6, dtype=torch.float64)[:, None]
    no_misfit = replace(kernel, moments=replace(kernel.moments, misfit=torch.zeros_like(kernel.moments.misfit)))
    ratios, without_misfit, expressive, means = [], [], [], []
    for t in (0.15, 0.3, 0.45):
        fields = ensemble(x.expand(models, -1, -1), t)[..., 0]
        variance = fields.var(0)
        ratios.append(variance / kernel.covariance(x, t, x, t)[:, 0, 0])
        without_misfit.append(variance / no_misfit.covariance(x, t, x, t)[:, 0, 0])
        expressive.append(variance / kernel.expressive.covariance(x, t, x, t)[:, 0, 0])
        means.append((fields.mean(0) - kernel.score(x, t)[:, 0]) / variance.sqrt())
    ratio = torch.cat(ratios)
    assert kernel.trusted
    assert abs(float(ratio.median()) - 1) < 0.05
    assert float((ratio - 1).abs().max()) < 4 * math.sqrt(2 / models) + kernel.second_order
    assert float(torch.cat(without_misfit).median()) > 1.05  # the misfit is a part of the noise
    assert float(torch.cat(without_misfit).max()) > 2
    assert float(torch.cat(expressive).max()) < 0.9  # and the ridge takes more away: neither can be dropped
    # the bias of the mean is O(1/P), its standard deviation O(P^-1/2), and 0.022 the standard error
    assert float(torch.cat(means).abs().max()) < 0.2


def test_drawn_fields_have_the_mean_and_the_covariance_of_the_kernel():
    """Of two components at two points and two times; four standard errors of n draws."""
    n, d = 4000, 2
    square = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -0.5]], dtype=torch.float64)
    features = Products((GaussianBumps(-1.5, 1.5, 3), GaussianBumps(-1, 1, 2)), GaussianBumps(0.1, 1.0, 2))
    population = Population.of(square, SCHEDULE, (0.1, 1.0), time_nodes=8, nodes=32)
    kernel = LinearFeatures.of(population, features, samples=200, ridge=0.1)
    assert isinstance(kernel, Quenched)
    x, t, y, u = torch.tensor([[0.2, -0.4]]).double(), 0.2, torch.tensor([[0.5, 0.3]]).double(), 0.4
    fields = kernel.draw(n, generator=seeded())
    one, other = fields(x.expand(n, 1, d), t)[:, 0], fields(y.expand(n, 1, d), u)[:, 0]
    within, across = kernel.covariance(x, t, x, t)[0], kernel.covariance(x, t, y, u)[0]
    sizes = within.diagonal().sqrt()
    assert float(((one.mean(0) - kernel.score(x, t)[0]) / sizes).abs().max()) < 4 / math.sqrt(n)
    sizes = sizes[:, None] * kernel.covariance(y, u, y, u)[0].diagonal().sqrt()
    measured = (one - one.mean(0)).mT @ (other - other.mean(0)) / (n - 1)
    assert float(((measured - across) / sizes).abs().max()) < 4 * math.sqrt(2 / n)
    assert float((across / sizes).abs().max()) > 0.2  # the field is one function: far points are correlated
    assert torch.allclose(across, kernel.covariance(y, u, x, t)[0].mT, rtol=1e-9, atol=0)


def test_half_the_nodes_change_little_and_the_statement_knows_the_first_order_from_less():
    kernel = LinearFeatures.of(POPULATION, BUMPS, samples=64 * 15, ridge=0.1)
    assert kernel.quadrature_error() < 1e-4
    assert "is trusted" in kernel.statement
    assert not replace(kernel, samples=8 * 15).trusted
    assert "not trusted" in replace(kernel, samples=8 * 15).statement
    assert kernel.degrees_of_freedom < kernel.moments.effective_features  # examples of unequal leverage
    # P >= 16 F does not suffice where few examples carry the weight: here sigma falls to 0.0006
    early = Population.of(THREE, replace(SCHEDULE, beta_min=1e-3), (1e-4, 1.0), time_nodes=16, nodes=64)
    heavy = LinearFeatures.of(early, Products((GaussianBumps(-1.5, 1.5, 3),)), samples=16 * 3, ridge=0.1)
    assert heavy.samples_per_feature == 16
    assert not heavy.trusted


def test_noise_falls_as_one_over_the_examples():
    kernel = LinearFeatures.of(POPULATION, BUMPS, samples=100, ridge=0.1)
    x = torch.tensor([[0.3]], dtype=torch.float64)
    more = replace(kernel, samples=400)
    assert torch.allclose(4 * more.covariance(x, 0.2, x, 0.2), kernel.covariance(x, 0.2, x, 0.2), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LinearFeatures.of(POPULATION, BUMPS, samples=0), "samples"),
        (lambda: LinearFeatures.of(POPULATION, BUMPS, samples=9, ridge=-1.0), "ridge"),
        (lambda: LinearFeatures.of(POPULATION, BUMPS, samples=9, ridge=math.nan), "ridge"),
        (lambda: LinearFeatures.of(POPULATION, BUMPS, samples=9).draw(0, generator=seeded()), "fields"),
        (lambda: LinearFeatures.of(POPULATION, Products((Bins(90, 99, 2),)), samples=9), "ridge"),  # a bin without x
        (lambda: Population.of(THREE, SCHEDULE, (0.5, 0.1)), "times"),
        (lambda: Population.of(THREE, SCHEDULE, (0.0, 1.0)), "times"),
        (lambda: Population.of(THREE, SCHEDULE, (math.nan, 1.0)), "times"),
        (lambda: Population.of(THREE[:0], SCHEDULE, (0.1, 1.0)), "data"),
        (lambda: Population.of(THREE * math.nan, SCHEDULE, (0.1, 1.0)), "points"),
        (lambda: Population.of(THREE, SCHEDULE, (0.1, 1.0), nodes=1), "nodes"),
        (lambda: Population.of(torch.zeros(4, 3).double(), SCHEDULE, (0.1, 1.0)), "generator"),
        (lambda: Population.of(1e9 * THREE, SCHEDULE, (0.1, 0.1)), "times"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(InputError, match=f"^{message}"):
        call()

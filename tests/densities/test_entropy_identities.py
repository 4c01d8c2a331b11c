"""Entropy along a diffusion: de Bruijn, dissipation, the bounds of the Fisher information, and Girsanov's."""

import math

import pytest
import torch
from conftest import measured_order

from diffuscope.denoisers import ExactDenoiser
from diffuscope.densities.entropy import (
    entropy_rate,
    gaussian_entropy,
    gaussian_fisher_information,
    gaussian_relative_entropy,
    gaussian_relative_fisher,
    relative_entropy_rate,
)
from diffuscope.densities.grid import Grid
from diffuscope.densities.grid_integrals import (
    entropy,
    expectation,
    fisher_information,
    relative_entropy,
    relative_fisher,
)
from diffuscope.densities.score_information import fisher_information as estimated_fisher_information
from diffuscope.densities.score_information import integrated, path_relative_entropy
from diffuscope.densities.score_information import relative_fisher as estimated_relative_fisher
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian, GaussianMixture
from diffuscope.schedules import VE, VP, RectifiedFlow
from diffuscope.times import log_snr_times

MIXTURE = GaussianMixture.isotropic(
    torch.tensor([0.3, 0.5, 0.2]), torch.tensor([[-1.6], [0.4], [2.0]]), torch.tensor([0.25, 0.1, 0.4])
)
OTHER = GaussianMixture.isotropic(torch.tensor([0.6, 0.4]), torch.tensor([[-1.0], [1.5]]), torch.tensor([0.5, 0.3]))
LINE = Grid.line(-100, 100, 20_000)  # cells of 0.01 resolve every sigma >= 0.05 to rounding
SCHEDULES = [VP(), VE(), RectifiedFlow()]


def by_name(schedule):
    return type(schedule).__name__


def derivative(function, t, step):
    """The eighth-order central difference."""
    weights = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
    return sum(w * (function(t + k * step) - function(t - k * step)) for k, w in enumerate(weights, 1)) / step


def level(schedule, t) -> tuple[float, float]:
    return float(schedule.alpha(t)), float(schedule.sigma(t))


def ornstein_uhlenbeck(t):
    """dX = -X dt + sqrt(2) dB."""
    return math.exp(-t), math.sqrt(-math.expm1(-2 * t))


def gaussians(seed=0, rank=None):
    generator = torch.Generator().manual_seed(seed)
    roots = torch.randn(2, 4, 4, generator=generator, dtype=torch.float64)
    means = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    return tuple(
        Gaussian.from_covariance(m, A @ A.T / 4 + 0.1 * torch.eye(4), rank) for m, A in zip(means, roots, strict=True)
    )


@pytest.mark.parametrize("schedule", SCHEDULES, ids=by_name)
@pytest.mark.parametrize("ratio", [0.3, 1.0, 4.0])
def test_entropy_changes_at_the_rate_of_de_bruijn(schedule, ratio):
    t = float(schedule.time_of_noise_to_signal(ratio))
    rate = entropy_rate(schedule, t, fisher_information(MIXTURE, *level(schedule, t), LINE), 1)
    value = derivative(lambda s: entropy(MIXTURE, *level(schedule, s), LINE), t, 0.01 * min(t, 1 - t if t < 1 else t))
    assert value == pytest.approx(rate, rel=1e-10)


def test_heat_flow_raises_the_entropy_by_d_times_the_fisher_information():
    """u_t = D u_xx is sigma^2 = 2 D t at alpha = 1."""
    D, t = 0.7, 0.4
    value = derivative(lambda s: entropy(MIXTURE, 1.0, math.sqrt(2 * D * s), LINE), t, 0.01)
    assert value == pytest.approx(D * fisher_information(MIXTURE, 1.0, math.sqrt(2 * D * t), LINE), rel=1e-10)


def test_the_published_rate_of_four_points_under_ornstein_uhlenbeck():
    """pde.md A5 states -0.16420723: both sides, for the four points of its section A4 at t = 0.3."""
    four = Empirical(torch.tensor([[-1.5], [-0.2], [0.4], [2.0]], dtype=torch.float64))
    line = Grid.line(-9, 9, 400)
    rate = -1 + fisher_information(four, *ornstein_uhlenbeck(0.3), line)
    value = derivative(lambda t: entropy(four, *ornstein_uhlenbeck(t), line), 0.3, 0.005)
    assert rate == pytest.approx(-0.16420723, abs=1e-8)
    assert value == pytest.approx(rate, abs=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=by_name)
def test_two_distributions_under_one_diffusion_approach_at_the_rate_of_their_relative_fisher_information(schedule):
    for ratio in (0.3, 1.0, 4.0):
        t = float(schedule.time_of_noise_to_signal(ratio))
        rate = relative_entropy_rate(schedule, t, relative_fisher(MIXTURE, OTHER, *level(schedule, t), LINE))
        value = derivative(
            lambda s: relative_entropy(MIXTURE, OTHER, *level(schedule, s), LINE), t, 0.01 * min(t, abs(1 - t) or t)
        )
        assert rate < 0
        assert value == pytest.approx(rate, rel=1e-9)


def test_relative_entropy_to_the_stationary_distribution_contracts_by_e_to_the_minus_2t():
    stationary = Gaussian.isotropic(torch.zeros(1), 1.0)
    start = relative_entropy(MIXTURE, stationary, 1.0, 1e-9, Grid.line(-8, 8, 20000))
    for t in (0.1, 0.5, 1.0, 2.0):
        later = relative_entropy(MIXTURE, stationary, *ornstein_uhlenbeck(t), LINE)
        assert 0 < later <= math.exp(-2 * t) * start


def test_fisher_information_lies_between_that_of_the_gaussian_and_d_over_sigma_squared():
    gaussian = MIXTURE.as_gaussian()
    for sigma in (0.05, 0.3, 1.0, 3.0):
        value = fisher_information(MIXTURE, 0.8, sigma, LINE)
        assert gaussian_fisher_information(gaussian, 0.8, sigma) < value < 1 / sigma**2
    # the loss floor of pde.md A4: d - sigma^2 J = (alpha/sigma)^2 E tr Cov
    floor = expectation(
        MIXTURE, 0.8, 0.5, LINE, lambda x: MIXTURE.posterior_covariance(x, 0.8, 0.5).trace() * (0.8 / 0.5) ** 2
    )
    assert float(floor) == pytest.approx(1 - 0.25 * fisher_information(MIXTURE, 0.8, 0.5, LINE), abs=1e-12)


def test_moments_of_the_score_in_two_dimensions():
    """E[s] = 0, E[x s^T] = -I, E[s s^T] = -E[grad s] = (I - alpha K)/sigma^2, by quadrature to 1e-10."""
    distribution = GaussianMixture.from_covariances(
        torch.tensor([0.6, 0.4]),
        torch.tensor([[-0.8, 0.3], [0.9, -0.5]]),
        torch.tensor([[[0.3, 0.1], [0.1, 0.2]], [[0.25, -0.05], [-0.05, 0.4]]]),
    )
    alpha, sigma, square = 0.9, 0.4, Grid.square(-9, 9, 300)

    def mean(function):
        return expectation(distribution, alpha, sigma, square, function)

    def score(x):
        return distribution.score(x, alpha, sigma)

    units = torch.eye(2, dtype=torch.float64)

    def slope(x):  # grad s = (alpha^2 Cov / sigma^2 - I) / sigma^2, column by column
        covariance = distribution.posterior_covariance(x, alpha, sigma)
        columns = [covariance.matvec(unit.expand_as(x)) for unit in units]
        return (alpha**2 / sigma**2 * torch.stack(columns, 2) - units) / sigma**2

    assert float(mean(score).abs().max()) < 1e-10
    assert torch.allclose(mean(lambda x: x[:, :, None] * score(x)[:, None]), -units, atol=1e-10)
    assert float(mean(lambda x: (x * score(x)).sum(1))) == pytest.approx(-2, abs=1e-10)
    assert torch.allclose(mean(lambda x: score(x)[:, :, None] * score(x)[:, None]), -mean(slope), atol=1e-10)


@pytest.mark.parametrize("rank", [None, 2, 0])
def test_gaussian_closed_forms_agree_with_dense_linear_algebra(rank):
    p, q = gaussians(rank=rank)
    alpha, sigma = 0.7, 0.6
    unit = torch.eye(4, dtype=torch.float64)

    def covariance(distribution):
        U, tail = distribution.eigenvectors, distribution.tail_variance if len(distribution.eigenvalues) < 4 else 0.0
        return alpha**2 * (U @ torch.diag(distribution.eigenvalues - tail) @ U.T + tail * unit) + sigma**2 * unit

    P, Q = covariance(p), covariance(q)
    shift = alpha * (p.mean - q.mean)
    gap = Q.inverse() - P.inverse()
    kl = (torch.trace(Q.inverse() @ P) - 4 + Q.logdet() - P.logdet() + shift @ Q.inverse() @ shift) / 2
    fisher = torch.trace(gap @ P @ gap) + (Q.inverse() @ shift).square().sum()
    levels = (alpha, sigma)
    assert gaussian_entropy(p, *levels) == pytest.approx(
        float(P.logdet()) / 2 + 2 * math.log(2 * math.pi * math.e), abs=1e-12
    )
    assert gaussian_fisher_information(p, *levels) == pytest.approx(float(torch.trace(P.inverse())), rel=1e-12)
    assert gaussian_relative_entropy(p, q, *levels) == pytest.approx(float(kl), rel=1e-12)
    assert gaussian_relative_fisher(p, q, *levels) == pytest.approx(float(fisher), rel=1e-12)
    assert gaussian_relative_entropy(p, p, *levels) == pytest.approx(0, abs=1e-12)
    assert gaussian_relative_fisher(p, p, *levels) == pytest.approx(0, abs=1e-12)


def test_quadrature_agrees_with_the_gaussian_closed_forms():
    p, q = Gaussian.isotropic(torch.tensor([1.3]), 0.25), Gaussian.isotropic(torch.tensor([-0.2]), 0.6)
    for pair, closed in ((entropy, gaussian_entropy), (fisher_information, gaussian_fisher_information)):
        assert pair(p, 0.8, 0.5, LINE) == pytest.approx(closed(p, 0.8, 0.5), abs=1e-12)
    for pair, closed in ((relative_entropy, gaussian_relative_entropy), (relative_fisher, gaussian_relative_fisher)):
        assert pair(p, q, 0.8, 0.5, LINE) == pytest.approx(closed(p, q, 0.8, 0.5), abs=1e-12)


def test_quadrature_of_a_mixture_does_not_depend_on_the_grid():
    """The bar is 1e-10: half and twice the cells, on another box."""
    for function in (entropy, fisher_information):
        values = [
            function(MIXTURE, 0.8, 0.3, grid) for grid in (LINE, Grid.line(-11, 12, 700), Grid.line(-20, 20, 9001))
        ]
        assert max(values) - min(values) < 1e-12


def test_dissipation_integrated_is_the_relative_entropy_lost():
    """KL(p_low||q_low) - KL(p_high||q_high) = int sigma^2 E|s_p - s_q|^2 d log(sigma/alpha), order 2 in the levels."""
    p, q = gaussians()
    schedule = VP()
    start, end = (float(schedule.time_of_noise_to_signal(r)) for r in (20.0, 0.05))
    lost = gaussian_relative_entropy(p, q, *level(schedule, end)) - gaussian_relative_entropy(
        p, q, *level(schedule, start)
    )

    def result(steps):
        times = log_snr_times(schedule, start, end, steps)
        rates = [float(schedule.sigma(t)) ** 2 * gaussian_relative_fisher(p, q, *level(schedule, t)) for t in times]
        return integrated(torch.tensor([rates, rates]).double(), schedule.noise_to_signal(times))

    order = measured_order(lambda n: abs(result(n).value - lost), [40, 80, 160, 320])
    assert order.order == pytest.approx(2, abs=0.05)
    for n in (40, 160):
        assert abs(result(n).value - lost) < 1.5 * result(n).quadrature_error
        assert result(n).quadrature_error < 3 * abs(result(n).value - lost)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=by_name)
def test_path_relative_entropy_of_a_diffusing_model_is_the_relative_entropy_lost(schedule):
    """Monte Carlo from 4000 draws of the data at 33 levels, within 4 standard errors and the quadrature error."""
    generator = torch.Generator().manual_seed(0)
    start, end = (float(schedule.time_of_noise_to_signal(r)) for r in (10.0, 0.1))
    times = log_snr_times(schedule, start, end, 32)
    x_0 = MIXTURE.sample(4000, generator=generator)
    value = path_relative_entropy(ExactDenoiser(OTHER, schedule), MIXTURE, x_0, times, generator=generator)
    low, high = (relative_entropy(MIXTURE, OTHER, *level(schedule, times[k]), LINE) for k in (-1, 0))
    assert abs(value.value - (low - high)) < 4 * value.standard_error + 2 * value.quadrature_error
    assert value.standard_error < 0.1 * value.value


def test_girsanov_bounds_the_relative_entropy_of_the_reverse_sde_with_a_wrong_score():
    """Gaussian data, model score -c(t) (x - m(t)): the reverse SDE stays Gaussian, both sides are plain equations.

    In the reverse clock its mean and variance obey M' = -f M - g^2 c (M - m) and V' = -(2 f + 2 g^2 c) V + g^2.
    """
    mean, variance, schedule, steps = 1.3, 0.25, VP(), 2000
    times = torch.linspace(1.0, 0.02, 2 * steps + 1, dtype=torch.float64)
    alpha, sigma, f, g2 = schedule.alpha(times), schedule.sigma(times), schedule.f(times), schedule.g_squared(times)
    spread, center = alpha**2 * variance + sigma**2, alpha * mean
    c, m = 1.3 / spread, 0.8 * center  # the score of no diffusing density

    def slopes(k, M, V):
        return -f[k] * M - g2[k] * c[k] * (M - m[k]), -(2 * f[k] + 2 * g2[k] * c[k]) * V + g2[k]

    def kl(mean_p, variance_p, mean_q, variance_q):
        ratio = variance_p / variance_q
        return float((ratio - 1 - math.log(ratio) + (mean_p - mean_q) ** 2 / variance_q) / 2)

    M, V, h = torch.zeros(()).double(), torch.ones(()).double(), 0.98 / steps
    for k in range(0, 2 * steps, 2):  # the midpoint rule: the half step's functions stand in between
        a, b = slopes(k, M, V)
        a, b = slopes(k + 1, M + h / 2 * a, V + h / 2 * b)
        M, V = M + h * a, V + h * b
    gap = (c - 1 / spread) ** 2 * spread + c**2 * (center - m) ** 2
    rates = (sigma**2 * gap).expand(2, -1)
    bound = integrated(rates, schedule.noise_to_signal(times)).value + kl(center[0], spread[0], 0.0, 1.0)
    reached = kl(center[-1], spread[-1], M, V)
    assert 0.05 < reached <= bound
    assert bound < 20 * reached  # the bound is not trivial


def test_estimates_from_samples_agree_with_quadrature():
    generator = torch.Generator().manual_seed(1)
    schedule, t = VP(), 0.35
    alpha, sigma = level(schedule, t)
    x_0 = MIXTURE.sample(20000, generator=generator)
    J = fisher_information(MIXTURE, alpha, sigma, LINE)
    exact = estimated_fisher_information(ExactDenoiser(MIXTURE, schedule), x_0, t, generator=generator)
    for mean in (exact.own, exact.shared, exact.bound):
        assert abs(mean.value - J) < 4 * mean.standard_error
        assert mean.standard_error < 0.05 * J
    # the wrong model: E|s^|^2, E[s^ . s], and a bound that falls short by E|s - s^|^2
    wrong = estimated_fisher_information(ExactDenoiser(OTHER, schedule), x_0, t, generator=generator)
    own = expectation(MIXTURE, alpha, sigma, LINE, lambda x: OTHER.score(x, alpha, sigma).square().sum(1))
    shared = expectation(
        MIXTURE, alpha, sigma, LINE, lambda x: (OTHER.score(x, alpha, sigma) * MIXTURE.score(x, alpha, sigma)).sum(1)
    )
    gap = relative_fisher(MIXTURE, OTHER, alpha, sigma, LINE)
    for mean, truth in ((wrong.own, float(own)), (wrong.shared, float(shared)), (wrong.bound, J - gap)):
        assert abs(mean.value - truth) < 4 * mean.standard_error
    assert wrong.bound.value < J
    value = estimated_relative_fisher(ExactDenoiser(OTHER, schedule), MIXTURE, x_0, t, generator=generator)
    assert abs(value.value - gap) < 4 * value.standard_error


def test_what_cannot_be_computed_is_refused():
    with pytest.raises(InputError, match="grid: expected one that holds and resolves"):
        entropy(MIXTURE, 1.0, 0.5, Grid.line(-2, 2, 1000))
    with pytest.raises(InputError, match="grid: expected one that holds and resolves"):
        entropy(MIXTURE, 0.0, 0.001, Grid.line(-10, 10, 101))
    with pytest.raises(InputError, match="distribution: expected vectors of the grid's dimension"):
        entropy(MIXTURE, 1.0, 0.5, Grid.square(-5, 5, 10))
    with pytest.raises(InputError, match="other: expected events of shape"):
        gaussian_relative_entropy(gaussians()[0], MIXTURE.as_gaussian(), 1.0, 1.0)
    with pytest.raises(InputError, match="alpha, sigma: expected"):
        gaussian_entropy(gaussians()[0], 1.0, 0.0)
    with pytest.raises(InputError, match="x_0: expected at least 2 points"):
        estimated_fisher_information(
            ExactDenoiser(MIXTURE, VE()), torch.zeros(1, 1).double(), 1.0, generator=torch.Generator()
        )
    with pytest.raises(InputError, match="rates: expected at least 2 points at 3 levels"):
        integrated(torch.zeros(5, 2), torch.tensor([1.0, 2.0]))
    with pytest.raises(InputError, match="ratios: expected positive"):
        integrated(torch.zeros(5, 3), torch.tensor([1.0, 3.0, 2.0]))

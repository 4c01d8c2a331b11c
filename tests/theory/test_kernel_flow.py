"""Kernel gradient flow on finite samples: its mean and covariance against exact solutions of trained flows."""

import math

import mpmath
import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP
from diffuscope.theory.variance import (
    FeatureKernel,
    KernelFlow,
    Population,
    Quenched,
    RBFKernel,
    quenched_sample,
    semiclassical_quenched,
)
from diffuscope.theory.variance.kernel_flow import divided_difference

PAIR = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
SCHEDULE, LEVEL = VE(0.01, 10.0), 0.5
P, RUNS = 1000, 300
ERROR = math.sqrt(2 / RUNS)  # relative standard error of a variance of Gaussian values over the runs
POINTS = torch.linspace(-1, 1, 21, dtype=torch.float64)[:, None]
AFFINE = FeatureKernel(lambda x, t: torch.cat([torch.ones_like(x[:, :1]), x], 1))  # noqa: ARG005


def taylor(x, length=0.5, terms=90):
    """Features whose inner products are the RBF kernel in one dimension, by the series of exp(x y / l^2)."""
    n, z = torch.arange(terms, dtype=torch.float64), x / length
    size = torch.exp(n * z.abs().clamp(min=1e-300).log() - torch.lgamma(n + 1) / 2 - z**2 / 2)
    return size * torch.where((z < 0) & (n % 2 == 1), -1.0, 1.0)


def trained(features, targets, at, times, weights=None, start=None):
    """Values at `at` of the flow on these features: the linear equation of its weights, solved by its eigenvectors."""
    weights = torch.ones(len(features), 1, dtype=torch.float64) if weights is None else weights
    A, b = features.T @ (weights * features) / len(features), features.T @ (weights * targets) / len(features)
    rates, V = torch.linalg.eigh(A)
    rates, onto, made = rates.clamp(min=0)[:, None], at @ V, []
    for time in times:
        gain = torch.where(rates > 1e-13, -torch.expm1(-rates * time) / rates, time)
        learned = gain * (V.T @ b)
        made.append(onto @ (learned if start is None else learned + torch.exp(-rates * time) * (V.T @ start)))
    return torch.stack(made)


def noisy(generator, data, sigma=LEVEL, samples=P):
    """Inputs and targets of one training set of noised examples."""
    x_0 = data[torch.randint(len(data), (samples,), generator=generator)]
    x = x_0 + sigma * torch.randn(x_0.shape, dtype=torch.float64, generator=generator)
    return x, (x_0 - x) / sigma**2


def runs_of(generator, times, weight=lambda x: torch.ones_like(x), start=False):
    """(time, run, point): scores of RUNS flows, each on a training set of its own."""
    at, made = taylor(POINTS), []
    for _ in range(RUNS):
        x, targets = noisy(generator, PAIR)
        features = taylor(x)
        first = torch.randn(at.shape[1], 1, dtype=torch.float64, generator=generator) if start else None
        made.append(trained(features, targets, at, times, weight(x), first)[..., 0])
    return torch.stack(made, 1)


@pytest.fixture(scope="module")
def population():
    return Population.of(PAIR, SCHEDULE, (LEVEL, LEVEL), nodes=80)


@pytest.fixture(scope="module")
def monte_carlo_runs():
    """Of the three training times, on the same training sets."""
    return runs_of(torch.Generator().manual_seed(0), (1.0, 5.0, 50.0))


@pytest.mark.parametrize(("place", "time", "without"), [(0, 1.0, 5.0), (1, 5.0, 3.5), (2, 50.0, 1.25)])
def test_the_covariance_is_that_of_trained_flows_and_without_the_misfit_it_is_not(
    population, monte_carlo_runs, place, time, without
):
    """Median ratio within 10%, every point within 3 standard errors; `without` is how far off the target term is."""
    flow, made = KernelFlow(population, RBFKernel(0.5), samples=P, time=time), monte_carlo_runs[place]
    terms = flow.contributions(POINTS, LEVEL, POINTS, LEVEL)
    variance = made.var(0)
    ratio = variance / terms.total[:, 0, 0]
    assert abs(float(ratio.median()) - 1) <= 0.1
    assert float((ratio - 1).abs().max()) <= 3 * ERROR
    assert float((variance / terms.target[:, 0, 0]).max()) >= without
    error = (made.mean(0) - flow.score(POINTS, LEVEL)[:, 0]) / (variance / RUNS).sqrt()
    assert float(error.abs().max()) <= 4


def test_the_covariance_of_two_points_is_that_of_trained_flows(population, monte_carlo_runs):
    """All 210 pairs within 4.5 standard errors of a covariance, sqrt((v_x v_y + c^2) / runs)."""
    flow = KernelFlow(population, RBFKernel(0.5), samples=P, time=5.0)
    i, j = torch.triu_indices(len(POINTS), len(POINTS), 1)
    c = flow.covariance(POINTS[i], LEVEL, POINTS[j], LEVEL)[:, 0, 0]
    v = flow.covariance(POINTS, LEVEL, POINTS, LEVEL)[:, 0, 0]
    measured = torch.cov(monte_carlo_runs[1].T)[i, j]
    assert float(((measured - c) / ((v[i] * v[j] + c**2) / RUNS).sqrt()).abs().max()) <= 4.5


def test_weights_and_a_random_start_are_those_of_trained_flows():
    """lambda = 3 at the one level, K_0 = K: every point within 3.5 standard errors, the median within 10%."""
    population = Population.of(PAIR, SCHEDULE, (LEVEL, LEVEL), nodes=80)
    made = runs_of(torch.Generator().manual_seed(5), (2.0,), lambda x: 3.0 * torch.ones_like(x), start=True)[0]
    kernel = RBFKernel(0.5)
    flow = KernelFlow(population, kernel, samples=P, time=2.0, weight=lambda t: 3 * torch.ones_like(t), initial=kernel)
    terms = flow.contributions(POINTS, LEVEL, POINTS, LEVEL)
    ratio = made.var(0) / terms.total[:, 0, 0]
    assert abs(float(ratio.median()) - 1) <= 0.1
    assert float((ratio - 1).abs().max()) <= 3.5 * ERROR
    assert float((terms.initial / terms.total).min()) > 0.2


def test_a_constant_weight_is_a_longer_training_time(population):
    """lambda = 3 for the time tau is lambda = 1 for 3 tau."""
    kernel = RBFKernel(0.5)
    weighted = KernelFlow(population, kernel, samples=P, time=2.0, weight=lambda t: 3 * torch.ones_like(t))
    longer = KernelFlow(population, kernel, samples=P, time=6.0)
    assert torch.allclose(weighted.score(POINTS, LEVEL), longer.score(POINTS, LEVEL), rtol=1e-11, atol=1e-13)
    pairs = (POINTS, LEVEL, POINTS.flip(0), LEVEL)
    assert torch.allclose(weighted.covariance(*pairs), longer.covariance(*pairs), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("d", [1, 2])
def test_an_affine_model_that_is_trained_to_the_end_has_the_covariance_of_least_squares(d, generator):
    """Gaussian data: s is affine and C constant, so that Cov s = C/n (1 + (x - mu)^T Sigma^-1 (x - mu)), exactly."""
    mean = torch.randn(d, dtype=torch.float64, generator=generator)
    A = torch.randn(d, d, dtype=torch.float64, generator=generator)
    covariance = A @ A.T / 4 + 0.1 * torch.eye(d, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(covariance)
    data, n, sigma = Gaussian(mean, vectors, values), 5000, 0.7
    population = Population.of(data, SCHEDULE, (sigma, sigma), nodes=60)
    flow = KernelFlow(population, AFFINE, samples=n, time=math.inf)
    x = mean + torch.randn(30, d, dtype=torch.float64, generator=generator)
    Sigma = covariance + sigma**2 * torch.eye(d, dtype=torch.float64)
    C = torch.eye(d, dtype=torch.float64) / sigma**2 - torch.linalg.inv(Sigma)  # S^-1 + the Hessian of log p
    leverage = 1 + torch.einsum("na,ab,nb->n", x - mean, torch.linalg.inv(Sigma), x - mean)
    assert torch.allclose(flow.covariance(x, sigma, x, sigma), C / n * leverage[:, None, None], rtol=1e-7, atol=1e-15)
    assert torch.allclose(flow.score(x, sigma), -(x - mean) @ torch.linalg.inv(Sigma), rtol=1e-7, atol=1e-9)
    assert flow.learned == pytest.approx(d + 1, abs=1e-9)


@pytest.mark.parametrize("time", [0.3, 2.0, math.inf])
def test_one_feature_has_the_variance_of_its_two_moments(time):
    """s = w x of data -1, 1: w = b (1 - e^{-m tau}) / m with b = mean(x target), m = mean(x^2), by the delta method.

    With x = x_0 + sigma e: Var x^2 = 4 sigma^2 + 2 sigma^4, Var(x target) = sigma^-2 + 2, Cov = -2 - 2 sigma^2.
    """
    s2 = LEVEL**2
    m, b, decay = 1 + s2, -1.0, math.exp(-(1 + s2) * time)
    by_b = (1 - decay) / m
    by_m = b * ((time * decay * m if decay else 0.0) - (1 - decay)) / m**2
    variance = by_m**2 * (4 * s2 + 2 * s2**2) + by_b**2 * (1 / s2 + 2) - 2 * by_m * by_b * (2 + 2 * s2)
    population = Population.of(PAIR, SCHEDULE, (LEVEL, LEVEL), nodes=80)
    flow = KernelFlow(population, FeatureKernel(lambda x, t: x), samples=P, time=time)  # noqa: ARG005
    found = flow.covariance(POINTS, LEVEL, 2 * POINTS, LEVEL)[:, 0, 0]
    assert torch.allclose(found, 2 * POINTS[:, 0] ** 2 * variance / P, rtol=1e-8, atol=1e-14)
    assert torch.allclose(flow.score(POINTS, LEVEL), b * by_b * POINTS, rtol=1e-8, atol=1e-12)


def test_what_no_feature_can_express_stays_in_the_covariance_forever(population):
    """White 1980: Cov W = M^-1 E[(C + r^2) phi phi^T] M^-1 / n with M = E phi phi^T and r the residual of the fit."""
    flow = KernelFlow(population, AFFINE, samples=P, time=math.inf)
    w, phi = population.nodes.weights, torch.cat([torch.ones_like(population.nodes.points), population.nodes.points], 1)
    M = phi.T @ (w[:, None] * phi)
    W = torch.linalg.solve(M, phi.T @ (w[:, None] * population.nodes.score))
    noise = population.nodes.covariance[:, 0, 0] + (population.nodes.score - phi @ W)[:, 0].square()
    covariance = torch.linalg.inv(M) @ (phi.T @ ((w * noise)[:, None] * phi)) @ torch.linalg.inv(M) / P
    at = torch.cat([torch.ones_like(POINTS), POINTS], 1)
    found = flow.covariance(POINTS, LEVEL, POINTS, LEVEL)[:, 0, 0]
    assert torch.allclose(found, ((at @ covariance) * at).sum(1), rtol=1e-9, atol=0)
    assert float((flow.contributions(POINTS, LEVEL, POINTS, LEVEL).misfit[:, 0, 0] / found).min()) > 0.1


def test_a_single_example_has_only_misfit(generator):
    """Its target is a function of x: nothing is random but what is not fitted yet."""
    population = Population.of(torch.tensor([[0.3]], dtype=torch.float64), SCHEDULE, (LEVEL, LEVEL), nodes=64)
    x = torch.randn(20, 1, dtype=torch.float64, generator=generator)
    early = KernelFlow(population, AFFINE, samples=50, time=1.0).contributions(x, LEVEL, x, LEVEL)
    late = KernelFlow(population, AFFINE, samples=50, time=math.inf).contributions(x, LEVEL, x, LEVEL)
    assert float(early.misfit[:, 0, 0].min()) > 1e-3
    for nothing in (early.target, late.target, late.misfit):
        assert float(nothing.abs().max()) <= 1e-12


def test_the_average_score_solves_the_flow_on_the_population(population):
    """d s / d tau = -E'' K (s - s_true), by a central difference in tau of order 2."""
    kernel, tau, h = RBFKernel(0.5), 3.0, 1e-4
    before, now, after = (KernelFlow(population, kernel, samples=P, time=tau + k * h) for k in (-1, 0, 1))
    slope = (after.score(POINTS, LEVEL) - before.score(POINTS, LEVEL)) / (2 * h)
    residual = now.score(population.nodes.points, LEVEL) - population.nodes.score
    t = torch.full((len(POINTS),), LEVEL, dtype=torch.float64)
    K = kernel(POINTS, t, population.nodes.points, population.nodes.times)
    assert torch.allclose(slope, -K @ (population.nodes.weights[:, None] * residual), atol=1e-8)


def test_the_nodes_integrate_the_moments_of_the_noised_data(population):
    """E x^2 = 1 + sigma^2, E s = 0 and E(s^2 + C) = 1 / sigma^2, the variance of the target."""
    w, x, s = population.nodes.weights, population.nodes.points[:, 0], population.nodes.score[:, 0]
    assert float(w @ x**2) == pytest.approx(1 + LEVEL**2, rel=1e-9)
    assert float(w @ s) == pytest.approx(0, abs=1e-12)
    assert float(w @ (s**2 + population.nodes.covariance[:, 0, 0])) == pytest.approx(1 / LEVEL**2, rel=1e-9)


def test_a_finer_rule_gives_the_same_covariance(population):
    fine = Population.of(PAIR, SCHEDULE, (LEVEL, LEVEL), nodes=120)
    pairs = (POINTS, LEVEL, POINTS.flip(0), LEVEL)
    coarse, finer = (KernelFlow(each, RBFKernel(0.5), samples=P, time=50.0) for each in (population, fine))
    assert torch.allclose(coarse.covariance(*pairs), finer.covariance(*pairs), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("time", [1e-3, 1.0, 1e3])
def test_the_divided_difference_does_not_cancel(time):
    """Against 60 digits, for pairs that are equal, nearly equal and far from each other: 1e-13."""
    rho = torch.tensor([2.0, 1.0 + 1e-15, 1.0 + 1e-9, 1.0, 1e-3, 1e-12], dtype=torch.float64)
    found = divided_difference(rho, time)
    with mpmath.workdps(60):
        for k in range(len(rho)):
            for j in range(len(rho)):
                a, b, tau = mpmath.mpf(float(rho[k])), mpmath.mpf(float(rho[j])), mpmath.mpf(time)
                exact = (
                    tau * mpmath.exp(-a * tau) if a == b else (mpmath.exp(-b * tau) - mpmath.exp(-a * tau)) / (a - b)
                )
                assert float(abs(found[k, j] - float(exact))) <= 1e-12 * abs(float(exact)) + 1e-300


def test_fields_have_the_mean_and_the_covariance(population):
    """4,000 fields with a random start: means within 4.5 standard errors, covariances within 4.5."""
    kernel, fields = RBFKernel(0.5), 4000
    flow = KernelFlow(population, kernel, samples=P, time=2.0, initial=RBFKernel(0.7))
    x = POINTS[::4]
    drawn = flow.draw(fields, generator=torch.Generator().manual_seed(2))(x.expand(fields, -1, -1), LEVEL)[..., 0]
    i, j = torch.triu_indices(len(x), len(x))
    c = flow.covariance(x[i], LEVEL, x[j], LEVEL)[:, 0, 0]
    v = flow.covariance(x, LEVEL, x, LEVEL)[:, 0, 0]
    assert float(((drawn.mean(0) - flow.score(x, LEVEL)[:, 0]) / (v / fields).sqrt()).abs().max()) <= 4.5
    error = (torch.cov(drawn.T)[i, j] - c) / ((v[i] * v[j] + c**2) / fields).sqrt()
    assert float(error.abs().max()) <= 4.5
    assert isinstance(flow, Quenched)


def test_points_and_fields_are_followed_in_blocks(population, monkeypatch):
    flow = KernelFlow(population, RBFKernel(0.5), samples=P, time=2.0, initial=RBFKernel(0.7))
    x = POINTS[:6].reshape(3, 2, 1)

    def answers():
        return flow.score(POINTS, LEVEL), flow.draw(3, generator=torch.Generator().manual_seed(4))(x, LEVEL)

    whole = answers()
    monkeypatch.setattr("diffuscope.theory.variance.kernel_flow.PAIRS", 1)
    for one, other in zip(whole, answers(), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-10)


def test_over_many_times_the_covariance_is_that_of_trained_flows():
    """Times uniform in .3 .. .9 in the plane, weights sigma^2, VP: 300 models with six features in x and t."""
    schedule, runs, samples = VP(), 300, 2000

    def features(x, t):
        return torch.stack([t**0, t, x[:, 0], x[:, 0] * t, torch.tanh(x[:, 0]), x[:, 1]], 1)

    data = torch.tensor([[-1.0, 0.2], [1.0, -0.4], [0.3, 0.8]], dtype=torch.float64)
    population = Population.of(data, schedule, (0.3, 0.9), nodes=28, time_nodes=6)
    flow = KernelFlow(
        population, FeatureKernel(features), samples=samples, time=4.0, weight=lambda t: schedule.sigma(t) ** 2
    )
    generator = torch.Generator().manual_seed(3)
    at = data.repeat(3, 1)
    times = torch.tensor([0.35, 0.6, 0.85], dtype=torch.float64).repeat_interleave(3)
    made = []
    for _ in range(runs):
        t = 0.3 + 0.6 * torch.rand(samples, dtype=torch.float64, generator=generator)
        x_0 = data[torch.randint(3, (samples,), generator=generator)]
        alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        x = alpha * x_0 + sigma * torch.randn(x_0.shape, dtype=torch.float64, generator=generator)
        targets = (alpha * x_0 - x) / sigma**2
        made.append(trained(features(x, t), targets, features(at, times), (4.0,), sigma**2)[0])
    variance = torch.stack(made).var(0)
    blocks = [at[times == t] for t in times.unique()]
    exact = torch.cat([flow.covariance(x, float(t), x, float(t)) for x, t in zip(blocks, times.unique(), strict=True)])
    ratio = variance / exact.diagonal(dim1=1, dim2=2)
    assert abs(float(ratio.median()) - 1) <= 0.1
    assert float((ratio - 1).abs().max()) <= 3.5 * math.sqrt(2 / runs)


def difference(x, t, y, u):
    """Of positive diagonal, but not positive."""
    return 2 * torch.exp(-x.square()) * torch.exp(-y[:, 0].square()) - RBFKernel(0.5)(x, t, y, u)


def one_sided(x, t, y, u):
    return RBFKernel(0.5)(x, t, y, u) * (1 + 0.1 * torch.tanh(x))


def test_samples_of_fields_spread_as_the_semiclassical_ends():
    """Little noise, 600 fields that one trajectory each follows from one start: the variance within 4.5 errors."""
    fields, schedule = 600, VE(0.01, 10.0)
    population = Population.of(PAIR, schedule, (0.4, 1.0), nodes=48, time_nodes=6)
    flow = KernelFlow(population, RBFKernel(1.0, 1.0), samples=10**6, time=30.0)
    times, x = torch.linspace(1.0, 0.4, 7, dtype=torch.float64), torch.tensor([[0.2], [1.0]], dtype=torch.float64)
    theory = semiclassical_quenched(flow, x, times).covariance[:, 0, 0]
    drawn = flow.draw(fields, generator=torch.Generator().manual_seed(8))
    ends = quenched_sample(drawn, schedule, x.expand(fields, -1, -1), times)[..., 0]
    assert float((ends.var(0) / theory - 1).abs().max()) <= 4.5 * math.sqrt(2 / fields)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda i: KernelFlow(i, RBFKernel(0.5), samples=0, time=1.0),
            r"^samples: expected at least 1, got 0$",
        ),
        (lambda i: KernelFlow(i, RBFKernel(0.5), samples=5, time=math.nan), r"^time: expected a training time >= 0"),
        (lambda i: KernelFlow(i, RBFKernel(0.5), samples=5, time=math.inf), r"^time: expected at most .*, got inf$"),
        (lambda i: KernelFlow(i, RBFKernel(0.5), samples=5, time=1.0, weight=lambda t: 0 * t), r"^weight: expected"),
        (lambda i: KernelFlow(i, difference, samples=5, time=1.0), r"^kernel: expected a positive semidefinite"),
        (lambda i: KernelFlow(i, one_sided, samples=5, time=1.0), r"^kernel: expected a symmetric kernel"),
        (lambda i: RBFKernel(-1.0), r"^length: expected a number > 0, got -1.0$"),  # noqa: ARG005
        (
            lambda i: KernelFlow(i, RBFKernel(0.5), samples=5, time=1.0).score(POINTS, 0.6),
            r"^t: expected a time of the training, 0.5 .. 0.5, got 0.6$",
        ),
        (
            lambda i: KernelFlow(i, RBFKernel(0.5), samples=5, time=1.0).score(POINTS * math.nan, LEVEL),
            r"^x: expected finite points",
        ),
    ],
)
def test_mistakes_are_refused_in_one_line(population, make, message):
    with pytest.raises(InputError, match=message):
        make(population)

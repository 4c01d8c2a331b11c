"""The exact diffusion of a finite data set, against direct sums and closed forms."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import measured_order, monte_carlo, tensors_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.functional import jacobian

from diffuscope.errors import InputError
from diffuscope.exact import (
    Blurred,
    Distribution,
    Empirical,
    GaussianMixture,
    PosteriorCovariance,
    ShardedEmpirical,
)


def direct_log_joint(points: Tensor, weights: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """log w_i - |x - alpha y_i|^2 / 2 sigma^2 by explicit differences, one sample after the other."""
    flat, x = points.flatten(1), x.flatten(1)
    squares = torch.stack([(x[b] - alpha[b] * flat).square().sum(1) for b in range(len(x))])
    return weights.log() - squares / (2 * sigma[:, None] ** 2)


def direct_mean(points: Tensor, weights: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return (direct_log_joint(points, weights, x, alpha, sigma).softmax(1) @ points.flatten(1)).reshape(x.shape)


def rational_moments(
    points: Tensor, weights: Tensor, x: Tensor, alpha: float, sigma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, log sum_i w_i exp(-|x - alpha y_i|^2 / 2 sigma^2) and posterior variance by the direct sum.

    The exponents are rational numbers: at |logit| = 1e10 a float64 sum would be wrong by 1e-6 itself.
    """
    y, w = points.flatten(1).double().numpy(), weights.numpy()
    signal = [[Fraction(alpha) * Fraction(value) for value in row] for row in y.tolist()]
    means, evidences, variances = [], [], []
    for b in x.flatten(1).double().tolist():
        exact = [Fraction(value) for value in b]
        squares = [sum((u - v) ** 2 for u, v in zip(exact, row, strict=True)) for row in signal]
        least = min(square for square, weight in zip(squares, w, strict=True) if weight > 0)
        exponents = [float((least - square) / (2 * Fraction(sigma) ** 2)) for square in squares]
        joint = w * np.exp(exponents)
        mean = y[0] + joint @ (y - y[0]) / joint.sum()
        means.append(mean)
        evidences.append(float(np.log(joint.sum())) - float(least / (2 * Fraction(sigma) ** 2)))
        variances.append(float(joint @ ((y - mean) ** 2).sum(1) / joint.sum()))
    tensors = (torch.tensor(np.array(values), dtype=torch.float64) for values in (means, evidences, variances))
    mean, evidence, variance = tensors
    return mean.reshape(x.shape), evidence, variance


def levels(x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
    return torch.full((len(x),), alpha, dtype=torch.float64), torch.full((len(x),), sigma, dtype=torch.float64)


def equal_weights(points: Tensor) -> Tensor:
    return torch.full((len(points),), 1 / len(points), dtype=torch.float64)


def relative_error(value: Tensor, exact: Tensor) -> Tensor:
    return (value.double() - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 90),
    event=st.sampled_from([(1,), (2,), (3, 2), (5,)]),
    alpha=st.sampled_from([0.0, 0.03, 0.7, 1.0]),
    sigma=st.sampled_from([0.003, 0.1, 1.0, 30.0]),
    scale=st.sampled_from([0.01, 1.0, 100.0]),
    weighted=st.booleans(),
    precision=st.sampled_from([(torch.float32, 1e-4), (torch.float64, 1e-10)]),
)
@settings(max_examples=100, deadline=None)
def test_denoiser_and_its_variance_are_the_direct_sums_and_the_reported_error_bounds_the_true_one(
    seed, n, event, alpha, sigma, scale, weighted, precision
):
    dtype, tolerance = precision
    generator = torch.Generator().manual_seed(seed)
    points = scale * torch.randn(n, *event, generator=generator, dtype=dtype)
    weights = torch.rand(n, generator=generator, dtype=torch.float64) if weighted else equal_weights(points)
    x = alpha * points[torch.randint(n, (4,), generator=generator)] + sigma * torch.randn(
        4, *event, generator=generator, dtype=dtype
    )
    x[3] = alpha * (points[0] + points[-1]) / 2
    distribution = Empirical(points, weights)
    exact, log_evidence, variance = rational_moments(points, weights / weights.sum(), x, alpha, sigma)

    denoised = distribution.denoise_with_error(x, alpha, sigma)
    # a mean that nearly vanishes has no relative error: measure against the size of the points too
    norm = exact.flatten(1).norm(dim=1)
    error = (denoised.value.double() - exact).flatten(1).norm(dim=1)
    assert bool((error <= tolerance * norm.clamp_min(1e-3 * scale)).all())
    assert bool((error <= denoised.relative_error * denoised.value.double().flatten(1).norm(dim=1)).all())

    log_prob = log_evidence - math.prod(event) / 2 * math.log(2 * math.pi * sigma**2)
    near = tolerance * 0.1
    torch.testing.assert_close(distribution.log_prob(x, alpha, sigma).double(), log_prob, rtol=near, atol=near)
    trace = distribution.posterior_covariance(x, alpha, sigma).trace().double()
    torch.testing.assert_close(trace, variance, rtol=tolerance, atol=1e-12 * scale**2)


def test_every_sample_may_have_its_own_level(generator):
    points = torch.randn(70, 2, 3, generator=generator, dtype=torch.float64)
    x = torch.randn(5, 2, 3, generator=generator, dtype=torch.float64)
    alpha, sigma = torch.tensor([0.0, 0.2, 0.5, 1.0, 1.0]).double(), torch.tensor([1.0, 0.9, 0.3, 0.01, 40.0]).double()
    distribution = Empirical(points)
    exact = direct_mean(points, equal_weights(points), x, alpha, sigma)
    torch.testing.assert_close(distribution.denoise(x, alpha, sigma), exact, rtol=1e-11, atol=1e-12)
    single = Empirical(points.float()).denoise(x.float(), alpha, sigma)
    exact = direct_mean(points.float().double(), equal_weights(points), x.float().double(), alpha, sigma)
    assert float(relative_error(single, exact).max()) < 1e-4


def test_two_points_on_a_line_give_a_hyperbolic_tangent():
    distribution = Empirical(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    for alpha, sigma in [(1.0, 0.5), (0.3, 0.9), (1.0, 3.0), (0.0, 1.0)]:
        mean = torch.tanh(alpha * x / sigma**2)
        torch.testing.assert_close(distribution.denoise(x, alpha, sigma), mean, rtol=1e-13, atol=1e-15)
        covariance = distribution.posterior_covariance(x, alpha, sigma)
        assert isinstance(covariance, PosteriorCovariance)
        torch.testing.assert_close(
            covariance.trace(), 1 / torch.cosh(alpha * x[:, 0] / sigma**2) ** 2, rtol=1e-12, atol=0
        )


def test_one_point_is_a_dirac():
    point = torch.tensor([[0.3, -2.0]], dtype=torch.float64)
    distribution = Empirical(point)
    assert isinstance(distribution, Distribution)
    x = torch.tensor([[5.0, 1.0], [-100.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(distribution.denoise(x, 0.7, 0.2), point.expand(2, 2), rtol=0, atol=0)
    torch.testing.assert_close(distribution.score(x, 0.7, 0.2), (0.7 * point - x) / 0.04, rtol=1e-14, atol=0)
    normal = -(x - 0.7 * point).square().sum(1) / 0.08 - math.log(2 * math.pi * 0.04)
    torch.testing.assert_close(distribution.log_prob(x, 0.7, 0.2), normal, rtol=1e-14, atol=0)
    covariance = distribution.posterior_covariance(x, 0.7, 0.2)
    assert float(covariance.trace().abs().max()) == 0
    assert float(covariance.matvec(x).abs().max()) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_signal_the_denoiser_is_the_weighted_mean(dtype, generator):
    points = torch.randn(100, 4, generator=generator, dtype=dtype)
    weights = torch.rand(100, generator=generator)
    distribution = Empirical(points, weights)
    x = torch.randn(3, 4, generator=generator, dtype=dtype)
    mean = (weights.double() / weights.double().sum()) @ points.double()
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(
        distribution.denoise(x, 0.0, 1.0).double(), mean.expand(3, 4), rtol=tolerance, atol=tolerance
    )
    evidence = distribution.nearest(x, 0.0, 1.0, k=2)
    torch.testing.assert_close(
        evidence.weights.double(), (weights.double() / weights.double().sum()).topk(2).values.expand(3, 2)
    )


def test_duplicates_are_weights_and_zero_weight_is_absence(generator):
    points = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    copies = torch.randint(0, 4, (40,), generator=generator)
    x = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    repeated = Empirical(points.repeat_interleave(copies, 0))
    weighted = Empirical(points, 7.5 * copies)  # integers, any sum
    for sigma in (0.01, 0.4, 5.0):
        for answer in ("denoise", "score", "log_prob"):
            ours, theirs = getattr(weighted, answer)(x, 0.8, sigma), getattr(repeated, answer)(x, 0.8, sigma)
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    value = weighted.nearest(x, 0.8, 0.4, k=int((copies > 0).sum()))
    assert bool((copies[value.indices] > 0).all())
    assert set(value.indices[0].tolist()) == set(copies.nonzero()[:, 0].tolist())
    torch.testing.assert_close(value.weights.sum(1), torch.ones(6, dtype=torch.float64), rtol=1e-12, atol=0)


def test_order_of_the_points_does_not_matter(generator):
    points = torch.randn(500, 6, generator=generator)
    x = torch.randn(5, 6, generator=generator)
    order = torch.randperm(500, generator=generator)
    for sigma in (0.01, 0.3, 3.0):
        a, b = Empirical(points).denoise(x, 1.0, sigma), Empirical(points[order]).denoise(x, 1.0, sigma)
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_logits_of_a_million_are_stable(generator):
    # |x - y|^2 / 2 sigma^2 is about 1e6 for every point; only differences of order one matter
    points = torch.randn(200, 8, generator=generator, dtype=torch.float64)
    x = torch.full((1, 8), 3e4, dtype=torch.float64)
    sigma = 3e4 * math.sqrt(8) / math.sqrt(2e6)
    distribution = Empirical(points)
    exact = direct_mean(points, equal_weights(points), x, *levels(x, 1.0, sigma))
    torch.testing.assert_close(
        distribution.denoise(x, 1.0, sigma), exact, rtol=1e-8, atol=0
    )  # the direct sum has 1e6 u
    single = Empirical(points.float()).denoise_with_error(x.float(), 1.0, sigma)
    assert bool((relative_error(single.value, exact) < 1e-4).all())


def test_moving_data_and_sample_together_moves_the_mean(generator):
    points = torch.randint(-64, 64, (300, 5), generator=generator).double() / 64  # exact after the shift
    x = points[:4] + 0.1 * torch.randn(4, 5, generator=generator, dtype=torch.float64)
    x = (x * 2**20).round() / 2**20
    shift = 1024.0
    here, there = Empirical(points), Empirical(points + shift)
    for sigma in (0.05, 0.3, 2.0):
        a, b = here.denoise(x, 1.0, sigma), there.denoise(x + shift, 1.0, sigma) - shift
        torch.testing.assert_close(a, b, rtol=0, atol=1e-8)
        a, b = (
            distribution.posterior_covariance(y, 1.0, sigma).trace()
            for distribution, y in ((here, x), (there, x + shift))
        )
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.05, 0.4, 3.0])
def test_score_is_the_gradient_of_log_prob(sigma, generator):
    points = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    distribution = Empirical(points, torch.rand(60, generator=generator))
    x = (0.6 * points[:5] + sigma * torch.randn(5, 4, generator=generator, dtype=torch.float64)).requires_grad_()
    alpha, sigmas = levels(x, 0.6, sigma)
    log_joint = direct_log_joint(points, distribution.weights, x, alpha, sigmas)
    (direct,) = torch.autograd.grad(log_joint.logsumexp(1).sum(), x)
    score = distribution.score(x, 0.6, sigma)
    torch.testing.assert_close(score.detach(), direct, rtol=1e-9, atol=1e-9)
    (gradient,) = torch.autograd.grad(distribution.log_prob(x, 0.6, sigma).sum(), x)
    torch.testing.assert_close(gradient, score.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
def test_every_derivative_equals_finite_differences(sigma, generator):
    points = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    distribution = Empirical(points)
    x = torch.randn(3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    for answer in (distribution.denoise, distribution.score, distribution.log_prob):
        assert torch.autograd.gradcheck(lambda x, answer=answer: answer(x, 0.8, sigma), (x,), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("n", [20, 400])  # every point heavy; most of them light
@pytest.mark.parametrize("sigma", [0.1, 0.5, 5.0])
def test_posterior_covariance_is_the_jacobian_of_the_denoiser(n, sigma, generator):
    points = torch.randn(n, 2, 2, generator=generator, dtype=torch.float64)
    x = 0.5 * (points[:3] + points[3:6]) * 0.9 + sigma * torch.randn(3, 2, 2, generator=generator, dtype=torch.float64)
    covariance = Empirical(points).posterior_covariance(x, 0.9, sigma)
    v = torch.randn(3, 2, 2, generator=generator, dtype=torch.float64)
    for b in range(3):

        def mean(y: Tensor) -> Tensor:
            return direct_mean(points, equal_weights(points), y[None], *levels(y[None], 0.9, sigma))[0]

        gradient = jacobian(mean, x[b])
        assert isinstance(gradient, Tensor)
        exact = sigma**2 / 0.9 * gradient.reshape(4, 4)
        ours = (covariance.matvec(v)[b].flatten(), covariance.trace()[b], covariance.diagonal()[b].flatten())
        theirs = (exact @ v[b].flatten(), exact.trace(), exact.diagonal())
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("memory", [2**14, 128 * 2**20])  # many chunks, the last of them short; all at once
def test_moments_over_many_chunks_are_the_direct_sums(memory, generator):
    points = torch.randn(9001, 3, generator=generator, dtype=torch.float64)
    distribution, x = Empirical(points, memory=memory), torch.randn(4, 3, generator=generator, dtype=torch.float64)
    v = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    covariance = distribution.posterior_covariance(x, 0.8, 0.7)
    weights = direct_log_joint(points, equal_weights(points), x, *levels(x, 0.8, 0.7)).softmax(1)
    mean = weights @ points
    centered = points - mean[:, None]
    exact = torch.einsum("bn,bni,bnj->bij", weights, centered, centered)
    torch.testing.assert_close(distribution.denoise(x, 0.8, 0.7), mean, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(covariance.matvec(v), torch.einsum("bij,bj->bi", exact, v), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(covariance.diagonal(), exact.diagonal(dim1=1, dim2=2), rtol=1e-11, atol=0)
    torch.testing.assert_close(covariance.trace(), exact.diagonal(dim1=1, dim2=2).sum(1), rtol=1e-11, atol=0)


@pytest.mark.parametrize("kind", [Empirical, ShardedEmpirical])
@pytest.mark.parametrize("event", [(3,), ()])
def test_what_is_not_differentiable_carries_no_graph(kind, event, generator):
    """The data are constants; errors, covariances and neighbors are plain numbers without a graph."""
    points = torch.randn(20, *event, generator=generator, dtype=torch.float64)
    weights = torch.rand(20, generator=generator, dtype=torch.float64)
    distribution = kind(points, weights)
    learned = kind(points.clone().requires_grad_(), weights.clone().requires_grad_())
    x = torch.randn(4, *event, generator=generator, dtype=torch.float64)
    leaf, v = x.clone().requires_grad_(), torch.randn(4, *event, generator=generator, dtype=torch.float64)
    covariance = learned.posterior_covariance(leaf, 0.8, 0.5)
    for value, expected in (
        (learned.denoise_with_error(leaf, 0.8, 0.5), distribution.denoise_with_error(x, 0.8, 0.5)),
        (learned.nearest(leaf, 0.8, 0.5, 3), distribution.nearest(x, 0.8, 0.5, 3)),
        (covariance.matvec(v.requires_grad_()), distribution.posterior_covariance(x, 0.8, 0.5).matvec(v.detach())),
        (covariance.trace(), distribution.posterior_covariance(x, 0.8, 0.5).trace()),
        (covariance.diagonal(), distribution.posterior_covariance(x, 0.8, 0.5).diagonal()),
        (learned.weights, distribution.weights),
        (learned.points, distribution.points),
        (covariance.x_t, x),
        (learned.denoise(x, 0.8, 0.5), distribution.denoise(x, 0.8, 0.5)),
        (
            learned.sample(5, generator=torch.Generator().manual_seed(0)),
            distribution.sample(5, generator=torch.Generator().manual_seed(0)),
        ),
    ):
        assert not any(tensor.requires_grad for tensor in tensors_of(value))
        assert all(torch.equal(a, b) for a, b in zip(tensors_of(value), tensors_of(expected), strict=True))


def test_posterior_variance_does_not_cancel_when_one_point_has_nearly_all_the_weight():
    # weights 1 - p and p: the variance is p (1 - p) |y_1 - y_2|^2, here down to 1e-40 beside |y|^2 = 2e6
    points = torch.tensor([[1000.0, 1000.0], [1000.5, 1000.0]])
    distribution = Empirical(points)
    sigma = 0.05
    for x_0 in (1000.2, 1000.1, 1000.0):
        x = torch.tensor([[x_0, 1000.0]])
        log_odds = (float(x[0, 0]) - 1000.25) * 0.5 / sigma**2
        exact = 0.25 / (2 + math.exp(log_odds) + math.exp(-log_odds))
        assert float(distribution.posterior_covariance(x, 1.0, sigma).trace()[0]) == pytest.approx(exact, rel=1e-6)


def test_log_prob_is_a_normalised_density():
    distribution = Empirical(
        torch.tensor([[-1.0], [0.2], [0.25], [3.0]], dtype=torch.float64), torch.tensor([1.0, 2.0, 0.5, 3.0])
    )
    for alpha, sigma in [(1.0, 0.05), (0.4, 0.9), (0.0, 2.0)]:
        x = torch.linspace(-20, 20, 4001, dtype=torch.float64)[:, None]
        mass = (
            distribution.log_prob(x, alpha, sigma).exp().sum() * 1e-2
        )  # the trapezoidal rule is spectrally accurate here
        assert float(mass) == pytest.approx(1, abs=1e-12)


def test_linear_equations_of_the_points_hold_for_the_denoiser_near_and_far(generator):
    """C x = d on the data implies C E[x_0 | x_t] = d everywhere: an average stays in an affine subspace."""
    plane, normal = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))[0].split([4, 2], 1)
    points = torch.randn(30, 4, generator=generator, dtype=torch.float64) @ plane.mT + normal.sum(1)
    for sigma in (1e-3, 0.1, 1.0, 10.0, 100.0):
        alpha = 1 / math.hypot(1.0, sigma)
        for spread in (1.0, 10.0):
            x = spread * torch.randn(50, 6, generator=generator, dtype=torch.float64)
            value = Empirical(points).denoise(x, alpha, sigma * alpha) @ normal
            torch.testing.assert_close(value, torch.ones_like(value), rtol=0, atol=1e-12)  # rounding of the weights


def test_at_small_noise_the_density_is_that_of_the_nearest_point_alone(generator):
    """log p = -d/2 log(2 pi sigma^2) - log N - |x - nearest|^2 / 2 sigma^2: beyond bounds on the data, and off them."""
    points = torch.randn(20, 8, generator=generator, dtype=torch.float64)
    x = torch.cat([points, points + 0.3 * torch.randn(20, 8, generator=generator, dtype=torch.float64)])
    square, sigma = torch.cdist(x, points).amin(1).square(), 0.02
    expected = -4 * math.log(2 * math.pi * sigma**2) - math.log(20) - square / (2 * sigma**2)
    torch.testing.assert_close(Empirical(points).log_prob(x, 1.0, sigma), expected, rtol=1e-12, atol=1e-12)


def test_blurred_points_are_a_mixture_of_gaussians(generator):
    points = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    x = torch.randn(20, 5, generator=generator, dtype=torch.float64)
    mixture = GaussianMixture.isotropic(equal_weights(points), points, torch.full((7,), 0.3**2, dtype=torch.float64))
    for sigma in (0.02, 0.5, 3.0):
        value = Blurred(Empirical(points), 0.3).denoise(x, 1.0, sigma)
        torch.testing.assert_close(value, mixture.denoise(x, 1.0, sigma), rtol=0, atol=1e-12)


def test_far_from_the_data_the_gaussian_explains_skewed_points_at_order_two_and_symmetric_ones_at_order_three():
    """Centered error of D against the Gaussian denoiser of the same mean and variance: sigma^-1, sigma^-2 more."""
    z = torch.linspace(-3, 3, 61, dtype=torch.float64)[:, None]
    skewed = torch.tensor([[0.0], [0.0], [0.0], [1.0]], dtype=torch.float64)
    for points, order in ((skewed, 1), (torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 2)):
        distribution, mean, variance = Empirical(points), points.mean(), points.var(correction=0)

        def error(sigma: int, distribution=distribution, mean=mean, variance=variance) -> float:
            x = mean + sigma * z
            gaussian = mean + variance / (variance + sigma**2) * (x - mean)
            return float((distribution.denoise(x, 1.0, float(sigma)) - gaussian).norm() / (gaussian - mean).norm())

        assert measured_order(error, [20, 40, 80, 160]).order == pytest.approx(order, abs=0.05)


def test_samples_have_the_weights_as_frequencies(generator):
    points = torch.tensor([[0.0], [1.0], [2.0]])
    drawn = Empirical(points, torch.tensor([0.2, 0.0, 0.8])).sample(20_000, generator=generator)
    assert drawn.dtype == torch.float32
    assert monte_carlo(drawn[:, 0] == 2.0).agrees_with(0.8)
    assert not bool((drawn == 1.0).any())


def test_a_uniform_number_draws_the_point_whose_share_holds_it_from_its_lower_end_on(monkeypatch):
    points = torch.tensor([[2.0], [3.0], [5.0], [7.0]], dtype=torch.float64)
    uniform = torch.tensor([0.0, 0.24, 0.25, 0.74, 0.75, 1 - 2.0**-53], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: uniform)
    drawn = Empirical(points, torch.tensor([1.0, 0.0, 2.0, 1.0])).sample(6, generator=torch.Generator())
    assert drawn.flatten().tolist() == [2, 2, 5, 5, 7, 7]


def test_score_equals_the_marginal_average_of_the_conditional_score(generator):
    """E[score(x_t)] = 0 under the noised distribution, coordinate by coordinate, within four standard errors."""
    distribution = Empirical(torch.randn(50, 2, generator=generator, dtype=torch.float64))
    x = 0.8 * distribution.sample(4000, generator=generator) + 0.5 * torch.randn(
        4000, 2, generator=generator, dtype=torch.float64
    )
    score = distribution.score(x, 0.8, 0.5)
    assert monte_carlo(score[:, 0]).agrees_with(0)
    assert monte_carlo(score[:, 1]).agrees_with(0)


def test_evidence_is_the_nearest_points_with_their_posterior_weights(generator):
    points = torch.randn(300, 5, generator=generator)
    x = 0.7 * points[:6] + 0.8 * torch.randn(6, 5, generator=generator)
    evidence = Empirical(points).nearest(x, 0.7, 0.8, k=7)
    alpha, sigma = levels(x, 0.7, 0.8)
    weights = direct_log_joint(points.double(), equal_weights(points), x.double(), alpha, sigma).softmax(1)
    exact, indices = weights.topk(7)
    assert torch.equal(evidence.indices, indices)
    torch.testing.assert_close(evidence.weights, exact, rtol=1e-5, atol=0)
    distances = (x.double()[:, None] - 0.7 * points.double()[indices]).norm(dim=2)
    torch.testing.assert_close(evidence.distances, distances, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("points", "weights", "named"),
    [
        (torch.zeros(4, 3, dtype=torch.uint8), None, "points: expected floating-point"),
        (torch.zeros(0, 3), None, "points: expected at least one"),
        (torch.tensor([[0.0, torch.nan]]), None, "points: expected finite"),
        (torch.tensor([[0.0, torch.inf], [1.0, -torch.inf]]), None, "points: expected finite"),
        (torch.zeros(4, 3), torch.ones(3), "weights: expected one per point"),
        (torch.zeros(2, 3), torch.tensor([1.0, -1.0]), "weights: expected finite values >= 0"),
        (torch.zeros(2, 3), torch.tensor([1.0, torch.nan]), "weights: expected finite values >= 0"),
        (torch.zeros(2, 3), torch.zeros(2), "weights: expected a positive sum"),
    ],
)
def test_bad_data_is_refused_with_the_argument_named(points, weights, named):
    with pytest.raises(InputError, match=named):
        Empirical(points, weights)


def test_a_wrong_shape_or_k_is_refused_with_the_argument_named():
    distribution = Empirical(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="x_t"):
        distribution.denoise(torch.zeros(2, 4), 1.0, 1.0)
    with pytest.raises(InputError, match="k: expected 1"):
        distribution.nearest(torch.zeros(2, 3), 1.0, 1.0, k=5)

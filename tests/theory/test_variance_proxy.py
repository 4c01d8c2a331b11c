"""The covariance of the proxy score: identities to rounding, closed forms, and published grid means of the boundary."""

import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian, GaussianMixture
from diffuscope.schedules import VE, VP, RectifiedFlow
from diffuscope.theory.variance import ProxyScore
from diffuscope.theory.variance.proxy import FEW_VALUES

DRAW = torch.Generator().manual_seed(0)
POINTS = torch.randn(9, 3, dtype=torch.float64, generator=DRAW)
X = torch.randn(40, 3, dtype=torch.float64, generator=DRAW)
T = 0.2 + 0.7 * torch.rand(40, dtype=torch.float64, generator=DRAW)
MIXTURE = GaussianMixture.isotropic(
    torch.tensor([0.4, 0.6], dtype=torch.float64), POINTS[:2], torch.tensor([0.5, 0.1], dtype=torch.float64)
)
DATA = {"points": POINTS, "distribution": MIXTURE, "Gaussian": Gaussian.isotropic(POINTS[0], 0.3)}
SCHEDULES = [VE(), VP(), RectifiedFlow()]


def log_prob(data, schedule, x, t):
    """log p_t of one point up to a constant, written out."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    if isinstance(data, torch.Tensor):
        return torch.logsumexp(-(x - alpha * data).square().sum(1) / (2 * sigma**2), 0)
    return data.log_prob(x[None], alpha, sigma)[0]


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_covariance_is_the_identity_over_sigma_squared_plus_the_hessian(name, schedule):
    """Hessians by autograd in float64, a time for every point; 1e-12 in units of sigma^-4, the scale of C."""
    data = DATA[name]
    C = ProxyScore(data, schedule).covariance(X, T).dense()
    hessians = [
        torch.autograd.functional.hessian(lambda y, t=t: log_prob(data, schedule, y, t), x)
        for x, t in zip(X, T, strict=True)
    ]
    expected = torch.eye(3, dtype=torch.float64) / schedule.sigma(T)[:, None, None] ** 2 + torch.stack(hessians)  # pyright: ignore[reportArgumentType]
    assert float((C - expected).abs().max()) < 1e-12 * float(schedule.sigma(T).min()) ** -4


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_proxy_score_is_right_on_average(schedule):
    """Its mean over the posterior weights of the examples is the gradient of log p; rounding: 1e-12."""
    alpha, sigma = schedule.alpha(T)[:, None, None], schedule.sigma(T)[:, None, None]
    proxies = (alpha * POINTS - X[:, None]) / sigma**2
    weights = torch.softmax(-(X[:, None] - alpha * POINTS).square().sum(2) / (2 * sigma[..., 0] ** 2), 1)
    mean = torch.einsum("bn,bnd->bd", weights, proxies)
    proxy = ProxyScore(POINTS, schedule)
    assert float((proxy.score(X, T) - mean).abs().max()) < 1e-12 * float(sigma.min()) ** -2
    off = proxies - mean[:, None]
    C = torch.einsum("bn,bnd,bne->bde", weights, off, off)
    assert float((proxy.covariance(X, T).dense() - C).abs().max()) < 1e-12 * float(sigma.min()) ** -4


def test_a_single_example_has_no_noise():
    proxy = ProxyScore(POINTS[:1], VE())
    C = proxy.covariance(X, 0.3)
    assert bool((C.trace() == 0).all() & (C.diagonal() == 0).all() & (C.matvec(X) == 0).all())
    assert bool((C.draw(generator=torch.Generator().manual_seed(0)) == 0).all())
    assert bool((proxy.boundary_fraction(X, 0.3) == 0).all())
    assert bool((proxy.boundary_fraction(POINTS[:1], 0.3) == 0).all())  # where the score vanishes too


@pytest.mark.parametrize("schedule", [VE(), VP()])
def test_two_examples_have_a_hyperbolic_score_and_covariance(schedule):
    """Data -1 and 1: s = (a tanh(a x / sigma^2) - x) / sigma^2 and C = (a / sigma^2)^2 sech^2(a x / sigma^2)."""
    x = torch.linspace(-3, 3, 61, dtype=torch.float64)[:, None]
    proxy = ProxyScore(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), schedule)
    for t in (0.2, 0.5, 0.9):
        a, s2 = float(schedule.alpha(t)), float(schedule.sigma(t)) ** 2
        score = (a * torch.tanh(a * x / s2) - x) / s2
        C = a**2 / s2**2 / torch.cosh(a * x / s2).square()
        assert torch.allclose(proxy.score(x, t), score, rtol=1e-12, atol=1e-12 / s2)
        assert torch.allclose(proxy.covariance(x, t).diagonal(), C, rtol=1e-11, atol=0)
        share = (C / (C + score.square()))[:, 0]
        assert torch.allclose(proxy.boundary_fraction(x, t), share, rtol=1e-10, atol=0)


def test_the_operator_is_one_matrix():
    C = ProxyScore(POINTS, VP()).covariance(X, T)
    dense = C.dense()
    v = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(C.matvec(v), torch.einsum("bij,bj->bi", dense, v), rtol=1e-12, atol=0)
    assert torch.allclose(C.diagonal(), dense.diagonal(dim1=1, dim2=2), rtol=1e-12, atol=0)
    assert torch.allclose(C.trace(), dense.diagonal(dim1=1, dim2=2).sum(1), rtol=1e-12, atol=0)
    assert torch.allclose(C.scaled(torch.tensor(3.0)).trace(), 9 * C.trace(), rtol=1e-12, atol=0)


def test_large_data_sets_and_small_ones_have_one_covariance():
    """The same examples, once as they are and once screened by `Empirical`; images too."""
    images = torch.randn(30, 1, 3, 3, dtype=torch.float64, generator=DRAW)
    x = torch.randn(8, 1, 3, 3, dtype=torch.float64, generator=DRAW)
    assert images.numel() <= FEW_VALUES
    small, large = ProxyScore(images, VP()), ProxyScore(Empirical(images), VP())
    assert isinstance(ProxyScore(images.repeat(20, 1, 1, 1), VP()).distribution, Empirical)
    for t in (0.05, 0.4):
        assert torch.allclose(small.score(x, t), large.score(x, t), rtol=1e-10, atol=0)
        assert torch.allclose(small.covariance(x, t).trace(), large.covariance(x, t).trace(), rtol=1e-9, atol=0)
        assert torch.allclose(small.covariance(x, t).matvec(x), large.covariance(x, t).matvec(x), rtol=1e-9, atol=1e-9)


def test_sampled_proxy_scores_have_the_mean_and_covariance():
    """20,000 draws at one point, within 4.5 standard errors."""
    proxy, n = ProxyScore(POINTS, VP()), 20_000
    x = X[:1].expand(n, -1)
    drawn = proxy.sample(x, 0.3, generator=torch.Generator().manual_seed(2))
    off = drawn - proxy.score(X[:1], 0.3)
    products = off[:, :, None] * off[:, None, :]
    error = products.std(0) / math.sqrt(n)
    assert bool((off.mean(0).abs() < 4.5 * off.std(0) / math.sqrt(n)).all())
    assert bool(((products.mean(0) - proxy.covariance(X[:1], 0.3).dense()[0]).abs() < 4.5 * error).all())


def test_what_cannot_be_right_is_refused():
    proxy = ProxyScore(POINTS, VE())
    with pytest.raises(InputError, match=r"t: expected finite times at which sigma > 0, got 0 \.\. 0"):
        proxy.score(X, 0.0)
    with pytest.raises(InputError, match="t: expected a number or one per point"):
        proxy.covariance(X, T[:7])
    with pytest.raises(InputError, match="t: expected finite times"):
        proxy.boundary_fraction(X, math.nan)
    with pytest.raises(InputError, match="x_t: expected shape"):
        proxy.score(X[:, :2], 0.5)
    with pytest.raises(InputError, match="points"):
        ProxyScore(torch.tensor([[math.nan, 0.0]]), VE())
    with pytest.raises(InputError, match="points"):
        ProxyScore(torch.zeros(0, 2), VE())

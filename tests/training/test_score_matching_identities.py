"""Explicit, implicit, sliced and denoising score matching are one objective up to constants: by quadrature.

The model is s(x) = tanh(theta x) - x at theta = 1, the distribution p = N(+-1.6, .41)/2, which is N(+-1.6, .25)/2
noised by sigma = .4. All integrands are analytic in a strip and fall like a Gaussian, where equally spaced points
converge geometrically: one level of refinement changes nothing above 1e-12.
"""

import math

import pytest
import torch
from torch import nn

from diffuscope.denoisers import ExactDenoiser, denoised_to_score
from diffuscope.densities import HutchinsonDivergence, JacobianDivergence
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.schedules import VE, VP, Cosine, RectifiedFlow
from diffuscope.training import (
    Implicit,
    ImplicitByProbe,
    Sliced,
    explicit_losses,
    implicit_losses,
    implicit_losses_by_probe,
    signs,
    sliced_losses,
    squared_errors,
)

SIGMA = 0.4
LAW = GaussianMixture.isotropic(
    torch.tensor([0.5, 0.5], dtype=torch.float64),
    torch.tensor([[-1.6], [1.6]], dtype=torch.float64),
    torch.tensor([0.25, 0.25], dtype=torch.float64),
)
PLANE = GaussianMixture.isotropic(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0, 0.5], [0.8, -0.4]], dtype=torch.float64),
    torch.tensor([0.3, 0.2], dtype=torch.float64),
)


class Model(nn.Module):
    """s(x) = tanh(theta x) - x, coordinate by coordinate; in the plane the coordinates are mixed first."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = x if x.shape[1] == 1 else x @ torch.tensor([[1.0, 0.6], [-0.3, 0.8]], dtype=x.dtype)
        return torch.tanh(self.theta * mixed) - x


def axis(n: int, end: float = 8.0) -> tuple[torch.Tensor, float]:
    """n equally spaced points on [-end, end] and their spacing."""
    return torch.linspace(-end, end, n, dtype=torch.float64), 2 * end / (n - 1)


def line(n: int = 401) -> tuple[torch.Tensor, torch.Tensor]:
    """Points x and weights p_sigma(x) dx of the noised distribution."""
    x, spacing = axis(n)
    return x[:, None], LAW.log_prob(x[:, None], 1.0, SIGMA).exp() * spacing


def plane(n: int = 121) -> tuple[torch.Tensor, torch.Tensor]:
    x, spacing = axis(n, 6.0)
    points = torch.cartesian_prod(x, x)
    return points, PLANE.log_prob(points, 1.0, SIGMA).exp() * spacing**2


def denoising(model: nn.Module, n: int = 241) -> torch.Tensor:
    """E |s(x_0 + sigma eps) + eps/sigma|^2 / 2 over x_0 and eps, both on a grid."""
    x_0, spacing = axis(n, 6.0)
    eps, spacing_eps = axis(n, 9.0)
    # the distribution of x_0, from that of no noise at all (1e-9 of its deviation)
    p = LAW.log_prob(x_0[:, None], 1.0, 1e-9).exp() * spacing
    q = torch.exp(-(eps**2) / 2) / math.sqrt(2 * math.pi) * spacing_eps
    x = (x_0[:, None] + SIGMA * eps).reshape(-1, 1)
    losses = explicit_losses(model, x, (-eps / SIGMA).expand(n, n).reshape(-1, 1))
    return (p[:, None] * q).flatten() @ losses


def score_of(distribution: GaussianMixture, x: torch.Tensor) -> torch.Tensor:
    return distribution.score(x, 1.0, SIGMA)


def value(loss: torch.Tensor) -> float:
    return float(loss.detach())


def fisher(distribution: GaussianMixture, x: torch.Tensor, p: torch.Tensor) -> float:
    return float(p @ score_of(distribution, x).square().sum(1))


def all_signs(n: int) -> list[torch.Tensor]:
    """The two directions (1, 1) and (1, -1): with equal weights E[v v^T] = I exactly."""
    return [torch.tensor(v, dtype=torch.float64).expand(n, 2) for v in ([1.0, 1.0], [1.0, -1.0])]


@pytest.mark.parametrize(("distribution", "grid"), [(LAW, line), (PLANE, plane)], ids=["line", "plane"])
def test_the_implicit_loss_is_the_explicit_one_less_half_the_fisher_information(distribution, grid):
    model, (x, p) = Model(), grid()
    explicit = p @ explicit_losses(model, x, score_of(distribution, x))
    implicit = p @ implicit_losses(model, x)
    assert value(implicit) == pytest.approx(value(explicit) - fisher(distribution, x, p) / 2, abs=1e-10)


def test_the_denoising_loss_is_the_explicit_one_plus_its_floor():
    """DSM = ESM of the noised distribution + (d/sigma^2 - J)/2; twice the floor is the 4.1006 of the specification."""
    model, (x, p) = Model(), line()
    floor = (1 / SIGMA**2 - fisher(LAW, x, p)) / 2
    assert 2 * floor == pytest.approx(4.1006, abs=5e-5)
    explicit = p @ explicit_losses(model, x, score_of(LAW, x))
    assert value(denoising(model)) == pytest.approx(value(explicit) + floor, abs=1e-10)
    # and the true score reaches the floor
    assert value(denoising(ScoreOf(LAW))) == pytest.approx(floor, abs=1e-10)


class ScoreOf(nn.Module):
    def __init__(self, distribution: GaussianMixture) -> None:
        super().__init__()
        self.distribution = distribution

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return score_of(self.distribution, x)


@pytest.mark.parametrize("losses", [sliced_losses, implicit_losses_by_probe], ids=["sliced", "probe"])
def test_over_directions_of_unit_second_moment_the_sliced_loss_and_the_probes_are_the_implicit_loss(losses):
    """At every point, not only in the mean: the two sign vectors of the plane have E[v v^T] = I exactly."""
    model, (x, _) = Model(), plane(15)
    mean = torch.stack([losses(model, x, v) for v in all_signs(len(x))]).mean(0)
    torch.testing.assert_close(mean, implicit_losses(model, x), rtol=1e-13, atol=1e-13)


def test_all_objectives_have_the_same_gradient_in_the_parameter():
    x, p = line()

    def slope(loss, model: Model) -> float:
        return float(torch.autograd.grad(loss, model.theta)[0])

    model = Model()
    explicit = slope(p @ explicit_losses(model, x, score_of(LAW, x)), model)
    one = torch.ones_like(x)  # on the line v = +-1
    others = {
        "implicit": p @ implicit_losses(model, x),
        "probe": p @ implicit_losses_by_probe(model, x, one),
        "sliced": p @ sliced_losses(model, x, -one),
        "denoising": denoising(model),
    }
    assert abs(explicit) > 0.1
    for name, loss in others.items():
        assert slope(loss, model) == pytest.approx(explicit, abs=1e-10), name


def directed(losses):
    """The loss with a fixed direction, another one at every point."""
    return lambda model, x: losses(model, x, 1 + x.detach().sin())


@pytest.mark.parametrize(
    "losses",
    [implicit_losses, directed(implicit_losses_by_probe), directed(sliced_losses)],
    ids=["implicit", "probe", "sliced"],
)
def test_a_loss_without_a_target_carries_the_graph_of_the_score_and_not_of_its_points(losses):
    model, x = Model(), line(11)[0].requires_grad_()
    found = losses(model, x)
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert x.grad is None
    with torch.no_grad():  # the derivative in x is taken whether or not the caller asks for gradients
        torch.testing.assert_close(losses(model, x), found.detach(), rtol=0, atol=0)


def test_the_gradients_agree_in_the_plane_too():
    x, p = plane()
    model = Model()
    losses = [
        explicit_losses(model, x, score_of(PLANE, x)),
        implicit_losses(model, x),
        torch.stack([sliced_losses(model, x, v) for v in all_signs(len(x))]).mean(0),
        torch.stack([implicit_losses_by_probe(model, x, v) for v in all_signs(len(x))]).mean(0),
    ]
    slopes = torch.stack([torch.autograd.grad(p @ loss, model.theta)[0] for loss in losses])
    assert float(slopes[0].abs()) > 0.1
    torch.testing.assert_close(slopes, slopes[:1].expand(4), rtol=0, atol=1e-10)


class Mixing(nn.Module):
    """A denoiser in the plane whose Jacobian is neither symmetric nor constant."""

    def __init__(self, schedule) -> None:
        super().__init__()
        self.schedule, self.model = schedule, Model()

    def forward(self, x_t, t):
        del t
        return 0.5 * x_t + self.model(x_t).sin()


def test_the_divergence_in_the_implicit_loss_is_that_of_the_densities(generator):
    """Exact and by the same probe: div s = (alpha div D - d) / sigma^2."""
    denoiser, t = Mixing(VP()), 0.4
    x = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    alpha, sigma = VP().alpha(t), VP().sigma(t)

    def score(x):
        return denoised_to_score(x, denoiser(x, t), VP(), t)

    half_square = score(x).square().sum(1) / 2
    exact = JacobianDivergence()(denoiser, x, t).divergence[:, 0]
    torch.testing.assert_close(implicit_losses(score, x), half_square + (alpha * exact - 2) / sigma**2)
    probes = HutchinsonDivergence.rademacher(x, 2, generator=generator)
    estimates = probes(denoiser, x, t).divergence
    for v, estimate in zip(probes.probes, estimates.unbind(1), strict=True):
        expected = half_square + (alpha * estimate - 2) / sigma**2
        torch.testing.assert_close(implicit_losses_by_probe(score, x, v), expected)


@pytest.mark.parametrize("schedule", [VE(), VP(), Cosine(), RectifiedFlow()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("objective", [Implicit(), ImplicitByProbe(), Sliced()], ids=lambda o: type(o).__name__)
def test_objectives_without_x_0_estimate_the_denoising_error_without_bias(objective, schedule):
    """Stein: on N(0, v) with D = a x both sides are E|a x_t - x_0|^2 = (a alpha - 1)^2 v + a^2 sigma^2, by quadrature.

    On the line every sign is a direction of E v^2 = 1, so that all three are the same integral.
    """
    v, a, t = 1.7, 0.3, 0.6
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    distribution = Gaussian.isotropic(torch.zeros(1, dtype=torch.float64), v)
    x, spacing = axis(801, 12 * math.sqrt(alpha**2 * v + sigma**2))

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.schedule = schedule

        def forward(self, x_t, t):
            del t
            return a * x_t

    # the objective makes x_t = alpha x_0 + sigma noise: with no noise, x_0 = x_t / alpha
    generator = torch.Generator().manual_seed(0)
    errors = objective.on(x[:, None], torch.device("cpu"))(
        Linear(), x[:, None] / alpha, torch.full((801,), t, dtype=torch.float64), torch.zeros(801, 1).double(),
        generator=generator,
    )  # fmt: skip
    p = distribution.log_prob(x[:, None], alpha, sigma).exp() * spacing
    assert value(p @ errors) == pytest.approx((a * alpha - 1) ** 2 * v + a**2 * sigma**2, rel=1e-12)


def test_the_exact_denoiser_has_the_least_implicit_error_namely_the_posterior_variance(generator):
    """In the plane, where the directions are random: the mean over 40,000 samples within 4 standard errors."""
    t, n = 0.5, 40_000
    exact = ExactDenoiser(PLANE, VE())
    x_0 = PLANE.sample(n, generator=generator)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    times = torch.full((n,), t, dtype=torch.float64)
    truth = squared_errors(exact, x_0, times, noise)
    for objective in (Implicit(), ImplicitByProbe(), Sliced()):
        errors = objective.on(x_0, torch.device("cpu"))(exact, x_0, times, noise, generator=generator)
        gap = (errors - truth).detach()
        assert abs(float(gap.mean())) < 4 * float(gap.std()) / math.sqrt(n)


def test_a_sign_vector_has_unit_second_moment(generator):
    v = signs(torch.zeros(40_000, 3, dtype=torch.float64), generator=generator)
    second = v.T @ v / len(v)
    assert bool((second.diagonal() == 1).all())
    assert float((second - torch.eye(3)).abs().max()) < 4 / math.sqrt(len(v))


def test_bad_input_is_refused_in_one_line(generator):
    x = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    with pytest.raises(InputError, match=r"true_score: expected the shape of x \(4, 2\), got \(3, 2\)"):
        explicit_losses(Model(), x, x[:3])
    with pytest.raises(InputError, match=r"v: expected one direction per sample, shape \(4, 2\), got \(1, 2\)"):
        sliced_losses(Model(), x, x[:1])
    with pytest.raises(InputError, match=r"score: expected an answer of shape \(4, 2\), got \(4, 1\)"):
        implicit_losses(lambda x: x[:, :1], x)
    with pytest.raises(InputError, match="score: expected an answer that torch can differentiate"):
        implicit_losses(lambda x: x.detach(), x)
    errors, no_signal = Implicit().on(x, torch.device("cpu")), torch.ones(4).double()
    with pytest.raises(InputError, match="noise: expected times with alpha > 0"):
        errors(Mixing(RectifiedFlow()), x, no_signal, x, generator=generator)

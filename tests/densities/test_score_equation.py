"""The score equation holds for exact distributions under every schedule, and its residual is the derived one where it
fails.
"""

import math

import pytest
import torch
from conftest import monte_carlo
from torch import Tensor, nn

from diffuscope.denoisers import MLP, DataPredictor, ExactDenoiser, Preconditioned, Rescheduled, UNet
from diffuscope.densities.denoiser_derivatives import divergence_gradient, push_and_pull
from diffuscope.densities.equation_residual import relative_residual, score_equation, score_equation_by_probes
from diffuscope.densities.level_derivative import (
    noise_derivative,
    noise_derivative_by_autograd,
    noise_derivative_by_differences,
)
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian, GaussianMixture
from diffuscope.schedules import VE, VP, Cosine, DiscreteVP, RectifiedFlow

SCHEDULES = [VP(), VE(), RectifiedFlow(), Cosine()]


def by_name(schedule):
    return type(schedule).__name__


def mixture(d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    roots = torch.randn(3, d, d, generator=generator, dtype=torch.float64)
    covariances = 0.2 * roots @ roots.mT / d + 0.05 * torch.eye(d)
    means = 1.5 * torch.randn(3, d, generator=generator, dtype=torch.float64)
    return GaussianMixture.from_covariances(torch.tensor([0.5, 0.3, 0.2]), means, covariances)


def noised(distribution, schedule, ratio, n=40, seed=1):
    """A time of noise sigma/alpha = ratio, and n points of the noised distribution."""
    generator = torch.Generator().manual_seed(seed)
    t = float(schedule.time_of_noise_to_signal(ratio))
    clean = distribution.sample(n, generator=generator)
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    return schedule.alpha(t) * clean + schedule.sigma(t) * noise, t


class Drifting:
    """The score of a mixture of isotropic Gaussians whose weights drift with lambda: at each t that of a density, but
    not of one that diffuses."""

    def __init__(self, schedule, drift):
        self.schedule, self.drift = schedule, drift
        self.means = torch.tensor([[-1.0, 0.5], [1.2, 0.0], [0.3, -1.4]], dtype=torch.float64)
        self.variances = torch.tensor([0.3, 0.2, 0.5], dtype=torch.float64)

    def log_prob(self, x, t):
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        spread = alpha**2 * self.variances + sigma**2
        centered = x[:, None] - alpha * self.means
        weights = (self.drift * self.schedule.lam(t) * torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)).log_softmax(
            0
        )
        gauss = -centered.square().sum(-1) / 2 / spread - (2 * math.pi * spread).log()
        return (weights + gauss).logsumexp(1)

    def __call__(self, x_t, t):
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        spread = alpha**2 * self.variances + sigma**2
        centered = x_t[:, None] - alpha * self.means
        weights = (self.drift * self.schedule.lam(t) * torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)).log_softmax(
            0
        )
        gauss = -centered.square().sum(-1) / 2 / spread - (2 * math.pi * spread).log()
        score = -((weights + gauss).softmax(1)[..., None] * centered / spread[:, None]).sum(1)
        return (x_t + sigma**2 * score) / alpha


class FromScore:
    """The denoiser whose score is `score(x, t)`."""

    def __init__(self, schedule, score):
        self.schedule, self.score = schedule, score

    def __call__(self, x_t, t):
        return (x_t + self.schedule.sigma(t) ** 2 * self.score(x_t, t)) / self.schedule.alpha(t)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=by_name)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_residual_of_an_exact_mixture_is_rounding(schedule, d):
    for ratio in (0.03, 0.1, 0.5, 1.0, 3.0, 20.0):
        x, t = noised(mixture(d), schedule, ratio)
        equation = score_equation(ExactDenoiser(mixture(d), schedule), x, t)
        # the bar is 1e-8; at sigma = 0.03 one term is a difference of nearly equal numbers
        assert float(equation.relative.max()) < (1e-9 if ratio < 0.1 else 1e-11)
        assert float(equation.rate_error.max()) < 1e-12 * (1 + float(x.abs().max()))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=by_name)
def test_residual_is_that_of_the_log_density_equation(schedule):
    """grad [d/dt L + d f + f x.s - g^2/2 (div s + |s|^2)] = lambda' times the residual, for an L that fails."""
    denoiser = Drifting(schedule, 0.3)
    x, t = noised(mixture(2), schedule, 0.8, n=6)
    x.requires_grad_()
    time = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    lasting = []
    for point in x:  # one at a time: a derivative of each log-density in the one t
        value = denoiser.log_prob(point[None], time)[0]
        (rate,) = torch.autograd.grad(value, time, create_graph=True)
        (score,) = torch.autograd.grad(value, point, create_graph=True)
        divergence = sum(torch.autograd.grad(score[k], point, create_graph=True)[0][k] for k in range(2))
        f, g_squared = float(schedule.f(t)), float(schedule.g_squared(t))
        wrong = rate + 2 * f + f * (point @ score) - g_squared / 2 * (divergence + score @ score)
        lasting.append(torch.autograd.grad(wrong, point)[0])
    found = score_equation(denoiser, x.detach(), t)
    slope = schedule.alpha_dot(t) / schedule.alpha(t) - schedule.sigma_dot(t) / schedule.sigma(t)
    expected = torch.stack(lasting)
    assert float(expected.norm()) > 1e-2  # not trivially zero
    assert torch.allclose(float(slope) * found.score_residual, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("schedule", [VP(), VE(), RectifiedFlow()], ids=by_name)
def test_the_clean_score_used_at_all_times_is_found(schedule):
    """Score of the data at every t, as in a published figure: the terms do not cancel at all."""
    distribution = mixture(2)
    clean = FromScore(schedule, lambda x, _: distribution.score(x, 1.0, 1e-3))
    x, t = noised(distribution, schedule, 1.0)
    found, exact = score_equation(clean, x, t), score_equation(ExactDenoiser(distribution, schedule), x, t)
    assert float(found.relative.median()) > 1e10 * float(exact.relative.median())
    assert float(found.relative.median()) > 0.2


def test_drifting_weights_are_found_in_proportion_to_the_drift():
    x, t = noised(mixture(2), VP(), 0.8)
    sizes = [float(score_equation(Drifting(VP(), drift), x, t).residual.norm()) for drift in (0.0, 1e-6, 1e-4, 1e-2)]
    assert sizes[0] < 1e-13 * float(x.norm())
    assert sizes[2] / sizes[1] == pytest.approx(100, rel=1e-2)
    assert sizes[3] / sizes[2] == pytest.approx(100, rel=1e-1)
    assert sizes[1] > 1e6 * sizes[0]


def test_terms_do_not_change_when_the_denoiser_is_read_through_another_schedule():
    denoiser = Drifting(VE(), 0.3)
    outer = Rescheduled(denoiser, RectifiedFlow())
    x, t = noised(mixture(2), VE(), 0.7)
    s = float(RectifiedFlow().time_of_noise_to_signal(0.7))
    here, there = score_equation(denoiser, x, t), score_equation(outer, float(RectifiedFlow().alpha(s)) * x, s)
    for term in ("rate", "spread", "pull"):
        assert torch.allclose(getattr(here, term), getattr(there, term), rtol=1e-10, atol=1e-11)


def test_the_gaussian_terms_are_the_closed_forms():
    """k = v/(v + sigma^2): rate 2 k (1 - k) (x - mu) = -pull, spread 0."""
    distribution = Gaussian.isotropic(torch.tensor([1.0, -2.0, 0.5]), 0.7)
    x, t = noised(distribution, VE(), 0.9)
    equation = score_equation(ExactDenoiser(distribution, VE()), x, t)
    k = 0.7 / (0.7 + 0.81)
    assert torch.allclose(equation.rate, 2 * k * (1 - k) * (x - distribution.mean), rtol=1e-12, atol=1e-13)
    assert torch.allclose(equation.pull, -equation.rate, rtol=1e-12, atol=1e-13)
    assert float(equation.spread.abs().max()) == 0


def test_gradient_of_the_divergence_and_both_products_of_a_cubic_map():
    """D_i = x_i^3 + (x^T B)_i |x|^2/2 differentiated by hand, in blocks of rows that do not divide the batch."""
    B = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    class Cubic:
        schedule = VE()

        def __call__(self, x_t, t):
            del t
            return x_t**3 + (x_t @ B) * x_t.square().sum(1, keepdim=True) / 2

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(77, 4, generator=generator, dtype=torch.float64)
    v = torch.randn(77, 4, generator=generator, dtype=torch.float64)
    # div = 3|x|^2 + tr B |x|^2/2 + x.Bx, and J = 3 diag(x^2) + B^T |x|^2/2 + (B^T x) x^T
    expected = 6 * x + B.diagonal().sum() * x + x @ (B + B.T)
    assert torch.allclose(divergence_gradient(Cubic(), x, 1.0), expected, rtol=1e-12, atol=1e-12)
    J = 3 * torch.diag_embed(x**2) + B.T * x.square().sum(1)[:, None, None] / 2 + (x @ B)[:, :, None] * x[:, None]
    pushed, pulled = push_and_pull(Cubic(), x, 1.0, v)
    assert torch.allclose(pushed, torch.einsum("bij,bj->bi", J, v), rtol=1e-12, atol=1e-12)
    assert torch.allclose(pulled, torch.einsum("bji,bj->bi", J, v), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", [*SCHEDULES, DiscreteVP.linear()], ids=by_name)
def test_differences_in_lambda_err_by_less_than_they_say(schedule):
    distribution = mixture(3)
    denoiser = ExactDenoiser(distribution, schedule)
    for ratio in (0.1, 1.0, 10.0):
        x, t = noised(distribution, schedule, ratio)
        exact, found = noise_derivative_by_autograd(denoiser, x, t), noise_derivative_by_differences(denoiser, x, t)
        error = (exact.value - found.value).norm(dim=1)
        assert not found.by_autograd
        assert bool((error <= 2 * found.error).all())
        assert float(found.error.max()) < 1e-6
        assert noise_derivative(denoiser, x, t).by_autograd


@pytest.mark.parametrize("schedule", [VP(), VE(), RectifiedFlow()], ids=by_name)
def test_differences_stay_within_the_levels_of_the_schedule(schedule):
    distribution, asked = mixture(2), []

    class Watched(ExactDenoiser):
        def __call__(self, x_t, t):
            asked.append(float(t))
            return super().__call__(x_t, t)

    for t in (schedule.t_min, 0.9 * schedule.t_max):
        x = distribution.sample(10, generator=torch.Generator().manual_seed(0))
        found = noise_derivative_by_differences(Watched(distribution, schedule), x, t)
        exact = noise_derivative_by_autograd(ExactDenoiser(distribution, schedule), x, t)
        assert bool(((exact.value - found.value).norm(dim=1) <= 2 * found.error).all())
    assert min(asked) > 0.999999 * schedule.t_min
    assert max(asked) <= schedule.t_max


def test_a_table_of_steps_is_differentiated_across_its_own_steps():
    """A network that knows steps 1..1000 only: autograd is refused, differences err by less than they say."""
    distribution, schedule = mixture(2), DiscreteVP.linear()

    class Table(nn.Module):
        def forward(self, x, index):
            t = (index[0] + 1).double()
            return distribution.denoise(x, schedule.alpha(t), schedule.sigma(t))

    denoiser = DataPredictor(Table(), schedule, event_shape=(2,), data_range=(-5.0, 5.0))
    for step in (30, 300, 700, 999):
        x = distribution.sample(20, generator=torch.Generator().manual_seed(2)) * float(schedule.alpha(step))
        with pytest.raises(InputError, match="table of steps"):
            noise_derivative_by_autograd(denoiser, x, step)
        found = noise_derivative(denoiser, x, step)
        exact = noise_derivative_by_autograd(ExactDenoiser(distribution, schedule), x, step)
        assert not found.by_autograd
        assert bool(((exact.value - found.value).norm(dim=1) <= 2 * found.error).all())
        assert float(found.error.max()) < 1e-3 * float(exact.value.norm(dim=1).max())


def test_a_time_that_torch_sees_only_in_part_is_noticed():
    """alpha(t) inside the graph, sigma(t) outside: autograd is wrong silently, and is not used."""
    distribution, schedule = mixture(2), VP()

    class Partly:
        def __init__(self):
            self.schedule = schedule

        def __call__(self, x_t, t):
            t = torch.as_tensor(t)
            return distribution.denoise(x_t, schedule.alpha(t), schedule.sigma(t.detach()))

    x, t = noised(distribution, schedule, 0.7)
    exact = noise_derivative_by_autograd(ExactDenoiser(distribution, schedule), x, t)
    wrong = noise_derivative_by_autograd(Partly(), x, t)
    assert float((wrong.value - exact.value).norm()) > 0.1 * float(exact.value.norm())
    found = noise_derivative(Partly(), x, t)
    assert not found.by_autograd
    assert torch.allclose(found.value, exact.value, atol=1e-6)


@pytest.mark.parametrize(("drift", "probes"), [(0.0, 2), (0.3, 2), (0.3, 4)])
def test_probed_squares_are_unbiased(drift, probes):
    """1000 independent sets of probes at each of three points, against the exact squares (4 standard errors)."""
    denoiser = Drifting(VP(), drift)
    x, t = noised(mixture(2), VP(), 0.8, n=3)
    exact = score_equation(denoiser, x, t)
    for k in range(3):
        many = score_equation_by_probes(
            denoiser, x[k].expand(1000, 2).clone(), t, probes=probes, generator=torch.Generator().manual_seed(k)
        )
        assert monte_carlo(many.squared_residual).agrees_with(float(exact.residual[k].square().sum()))
        assert monte_carlo(many.squared_spread).agrees_with(float(exact.spread[k].square().sum()))
        assert monte_carlo(many.spread[:, 0]).agrees_with(float(exact.spread[k, 0]))
        # the square of the probes' standard error is unbiased for the variance of their mean
        stated = monte_carlo(many.spread_error[:, 0] ** 2)
        assert stated.agrees_with(float((many.spread[:, 0] - exact.spread[k, 0]).square().mean()), 5.0)
        assert monte_carlo(many.spread_error[:, 1] ** 2).agrees_with(
            float((many.spread[:, 1] - exact.spread[k, 1]).square().mean()), 5.0
        )


@pytest.mark.parametrize("probes", [2, 3, 7])
def test_on_the_line_every_probe_says_the_same_and_the_error_is_zero(probes):
    """v^2 = 1: the probes differ by rounding only, which must not put a negative number under a root."""
    x, t = noised(mixture(1), VP(), 0.8, n=50)
    exact = score_equation(ExactDenoiser(mixture(1), VP()), x, t)
    found = score_equation_by_probes(
        ExactDenoiser(mixture(1), VP()), x, t, probes=probes, generator=torch.Generator().manual_seed(0)
    )
    assert torch.allclose(found.spread, exact.spread, rtol=1e-12, atol=1e-14)
    assert float(found.spread_error.max()) < 1e-7 * (1 + float(exact.spread.abs().max()))
    assert torch.allclose(found.squared_spread, exact.spread.square().sum(1), rtol=1e-10, atol=1e-13)


def test_pooled_relative_residual_is_zero_for_the_distribution_and_one_without_cancellation():
    assert float(relative_residual(torch.tensor([9.0, 1.0, 1.0, 1.0]))) == pytest.approx(1.0)
    assert float(relative_residual(torch.tensor([-1e-9, 1.0, 0.0, 1.0]))) == 0
    assert relative_residual(torch.zeros(5, 4)).tolist() == [0.0] * 5


def test_a_network_in_float32_is_measured_and_untrained_it_is_an_exact_gaussian():
    """The last layer of an untrained network is zero: the exact denoiser of N(0, 1), up to rounding."""
    for network, shape in ((MLP((6,), width=32), (6,)), (UNet((1, 6, 6), channels=(8, 16)), (1, 6, 6))):
        denoiser = Preconditioned(network, VE(), 1.0, event_shape=shape, data_range=(-1.0, 1.0))
        x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
        equation = score_equation_by_probes(denoiser, x, 0.7, generator=torch.Generator().manual_seed(1))
        assert equation.spread.dtype == torch.float32
        assert float(relative_residual(equation.squares.mean(0))) < 1e-6
        # any weights at all: attention, normalization and activations are differentiated twice
        torch.nn.init.normal_(list(denoiser.parameters())[-2], generator=torch.Generator().manual_seed(2))
        trained = score_equation_by_probes(denoiser, x, 0.7, generator=torch.Generator().manual_seed(1))
        assert float(relative_residual(trained.squares.mean(0))) > 1e-2


def plain(answer):
    class Model:
        schedule = VE()

        def __call__(self, x_t, t) -> Tensor:
            del t
            return answer(x_t)

    return Model()


POINTS = torch.zeros(3, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("denoiser", "x", "t", "message"),
    [
        (plain(lambda x: x.detach() + 1), POINTS, 1.0, "denoiser: expected an answer that depends on x_t through"),
        (plain(lambda x: x[:, :1]), POINTS, 1.0, "denoiser: expected an answer of shape"),
        (plain(lambda x: x.sqrt()), POINTS, 1.0, "denoiser: expected finite derivatives"),
        (ExactDenoiser(Empirical(POINTS + 1), VE()), POINTS, 1.0, "denoiser: expected an answer that torch can"),
        (ExactDenoiser(mixture(2), RectifiedFlow()), POINTS, 1.0, "t: expected alpha > 0 and sigma > 0"),
        (plain(lambda x: x), POINTS[:0], 1.0, "x_t: expected a batch of at least one point"),
        (plain(lambda x: x), POINTS * float("nan"), 1.0, "x_t: expected finite"),
        (plain(lambda x: x), POINTS, float("nan"), "t: expected one finite time"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(denoiser, x, t, message):
    with pytest.raises(InputError, match=message) as raised:
        score_equation(denoiser, x, t)
    assert "\n" not in str(raised.value)


def test_a_single_probe_has_no_error_and_is_refused():
    with pytest.raises(InputError, match="probes: expected at least 2"):
        score_equation_by_probes(plain(lambda x: x), POINTS, 1.0, probes=1, generator=torch.Generator())

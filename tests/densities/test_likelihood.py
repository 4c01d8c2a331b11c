"""The stated error of a log-likelihood, the distribution at the end, tables of steps, and bits of integers."""

import math
from dataclasses import dataclass

import pytest
import torch
from conftest import measured_order
from torch import Tensor

from diffuscope.certify import mixture
from diffuscope.denoisers import MLP, Batch, BatchTime, DataPredictor, Denoiser, ExactDenoiser
from diffuscope.densities.between_steps import BetweenSteps
from diffuscope.densities.divergence import ExactDivergence, HutchinsonDivergence, JacobianDivergence
from diffuscope.densities.likelihood import bits_per_dimension, dequantize, estimated_log_density, log_likelihood
from diffuscope.densities.terminal import terminal_gaussian
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Gaussian, GaussianMixture
from diffuscope.schedules import VE, VP, DiscreteVP, RectifiedFlow, Schedule


def unequal_gaussian() -> Gaussian:
    rotation = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    return Gaussian(
        torch.tensor([1.3, -0.4], dtype=torch.float64), rotation, torch.tensor([2.25, 0.16], dtype=torch.float64)
    )


def points(distribution: Distribution, schedule: Schedule, t: float, count: int = 6) -> tuple[Tensor, Tensor]:
    """Points of the noised distribution, and their exact log-density."""
    draw = torch.Generator().manual_seed(2)
    x_0 = distribution.sample(count, generator=draw)
    x_t = schedule.alpha(t) * x_0 + schedule.sigma(t) * torch.randn(x_0.shape, dtype=torch.float64, generator=draw)
    return x_t, distribution.log_prob(x_t, schedule.alpha(t), schedule.sigma(t))


@dataclass(frozen=True)
class Opaque:
    """A denoiser of unknown distribution; a table of steps when `steps_only`."""

    inner: Denoiser
    steps_only: bool = False

    @property
    def schedule(self) -> Schedule:
        return self.inner.schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        times = torch.as_tensor(t, dtype=torch.float64)
        assert not self.steps_only or bool((times == times.round()).all() & (times >= 1).all())
        return self.inner(x_t, t)


@pytest.mark.parametrize("dimension", [2, 64])
@pytest.mark.parametrize("draw", [HutchinsonDivergence.rademacher, HutchinsonDivergence.normal])
def test_random_probes_are_within_four_of_their_standard_errors(dimension: int, draw, generator: torch.Generator):
    """Six samples and 32 probes; their mean is unbiased too."""
    distribution, schedule = mixture(dimension).distribution, VP()
    t = float(schedule.time_of_noise_to_signal(0.3))
    x_t, exact = points(distribution, schedule, t)
    likelihood = log_likelihood(
        ExactDenoiser(distribution, schedule),
        x_t,
        t,
        divergence=draw(x_t, 32, generator=generator),
        terminal=distribution,
        tolerance=1e-5,
    )
    off = (likelihood.log_prob - exact) / likelihood.standard_error
    assert float(off.abs().max()) < 4
    assert abs(float(off.mean())) < 4 / len(off) ** 0.5
    assert float(likelihood.standard_error.min()) > 0


def test_the_standard_error_is_that_of_the_flows_own_matrix(generator: torch.Generator):
    """A Gaussian's determinants are those of v^T L v with L = U diag(log(V_s/V_t)/2) U^T: variance 2 sum_{i!=j} L_ij^2.

    2,000 samples of 8 probes; their mean square error of the mean within 4 standard errors of it.
    """
    distribution, schedule, t, probes = unequal_gaussian(), VP(), 0.1, 8
    x_t = points(distribution, schedule, t, 1)[0].expand(2000, 2)
    likelihood = log_likelihood(
        ExactDenoiser(distribution, schedule),
        x_t,
        t,
        divergence=HutchinsonDivergence.rademacher(x_t, probes, generator=generator),
        tolerance=1e-5,
    )
    spreads = [schedule.alpha(at) ** 2 * distribution.eigenvalues + schedule.sigma(at) ** 2 for at in (t, 1.0)]
    matrix = distribution.eigenvectors @ torch.diag((spreads[1] / spreads[0]).log() / 2) @ distribution.eigenvectors.T
    variance = 4 * float(matrix[0, 1]) ** 2 / probes
    squares = likelihood.standard_error.square()
    assert abs(float(squares.mean()) - variance) < 4 * float(squares.std()) / 2000**0.5
    assert float(squares.std()) / 2000**0.5 < 0.02 * variance
    # and what it promises: the spread of the estimates themselves
    assert float(likelihood.log_prob.var()) == pytest.approx(variance, rel=0.15)


@pytest.mark.parametrize("schedule", [VP(), VE()], ids=lambda schedule: type(schedule).__name__)
def test_the_gaussian_that_a_denoiser_shows_is_exact_for_a_gaussian(schedule: Schedule):
    distribution = unequal_gaussian()
    x_t, exact = points(distribution, schedule, schedule.t_max)
    shown = terminal_gaussian(
        Opaque(ExactDenoiser(distribution, schedule)), x_t, schedule.t_max, divergence=JacobianDivergence()
    )
    assert torch.allclose(shown.signal.mean, schedule.alpha(schedule.t_max) * distribution.mean, rtol=1e-10, atol=1e-13)
    assert torch.allclose(shown.log_prob(x_t), exact, rtol=0, atol=1e-12)
    assert float(shown.gap(x_t).abs().max()) < 1e-12


def test_a_network_ends_in_pure_noise_unless_it_is_trusted_to_show_a_gaussian():
    """Pure noise is off by what the signal left at t_max adds; both are stated to the bit."""
    distribution, schedule = unequal_gaussian(), VP()
    x_t, exact = points(distribution, schedule, 0.5)
    network = Opaque(ExactDenoiser(distribution, schedule))
    plain, noise, shown = (
        log_likelihood(network, x_t, 0.5, terminal=terminal, tolerance=1e-7)
        for terminal in (
            None,
            Gaussian.isotropic(torch.zeros(2).double(), 0.0),
            terminal_gaussian(network, x_t, 1.0, divergence=JacobianDivergence()),
        )
    )
    assert torch.equal(plain.log_prob, noise.log_prob)
    assert torch.allclose(shown.log_prob, exact, rtol=0, atol=1e-6)
    end = distribution.flow(x_t, schedule, 0.5, 1.0)
    levels = schedule.alpha(1.0), schedule.sigma(1.0)
    missing = torch.distributions.Normal(0.0, levels[1]).log_prob(end).sum(1) - distribution.log_prob(end, *levels)
    assert torch.allclose(plain.log_prob - exact, missing, rtol=0, atol=1e-6)
    assert float(missing.abs().max()) > 1e-3
    early = terminal_gaussian(network, x_t, 0.9, divergence=JacobianDivergence())
    with pytest.raises(InputError, match=r"terminal: expected the distribution at t_max = 1, got t = 0.9"):
        log_likelihood(network, x_t, 0.5, terminal=early)


@pytest.mark.parametrize("ratio", [80.0, 20.0])
def test_at_the_end_of_a_mixture_what_is_left_is_a_fourth_order_constant_below_the_gap(ratio: float):
    """The gap is of third order in alpha/sigma, and corrects the error up to one constant."""
    distribution, left, gaps = mixture(2).distribution, [], []
    for sigma_max in (ratio, 2 * ratio):
        schedule = VE(sigma_max=sigma_max)
        x_t, exact = points(distribution, schedule, sigma_max, 200)
        shown = terminal_gaussian(ExactDenoiser(distribution, schedule), x_t, sigma_max, divergence=ExactDivergence())
        error = exact - shown.log_prob(x_t) - shown.gap(x_t)
        assert float(error.std()) < 1e-3 * float(error.abs().mean())
        gaps.append(float(shown.gap(x_t).square().mean().sqrt()))
        left.append(float(error.abs().mean()))
        assert left[-1] < 0.1 * gaps[-1]
    assert math.log2(gaps[0] / gaps[1]) == pytest.approx(3, abs=0.2)
    assert math.log2(left[0] / left[1]) == pytest.approx(4, abs=0.2)


def test_beyond_a_thousand_dimensions_the_end_is_isotropic_and_its_gap_says_at_what_cost(generator: torch.Generator):
    """Error of the constant: a quarter of the sum of squared relative differences, half of the gap's variance."""
    d = 1500
    vectors = torch.linalg.qr(torch.randn(d, 3, dtype=torch.float64, generator=generator))[0]
    distribution = Gaussian(torch.zeros(d).double(), vectors, torch.tensor([400.0, 200.0, 50.0]).double(), 0.1)
    schedule = VE()
    x_t, exact = points(distribution, schedule, schedule.t_max, 2000)
    denoiser, divergence = ExactDenoiser(distribution, schedule), ExactDivergence()
    shown = terminal_gaussian(denoiser, x_t, schedule.t_max, divergence=divergence)
    gap = shown.gap(x_t)
    assert float((exact - shown.log_prob(x_t)).std()) == pytest.approx(float(gap.std()), rel=1e-6)
    left = exact - shown.log_prob(x_t) - gap
    assert float(left.std()) < 1e-9
    relative = torch.tensor([400.0, 200.0, 50.0]) / 6400
    assert float(left.mean().abs()) == pytest.approx(float(relative.square().sum()) / 4, rel=0.1)
    assert float(left.mean().abs()) == pytest.approx(float(gap.var()) / 2, rel=0.2)


def test_the_density_of_any_network_integrates_to_one():
    """Exact or not, a flow carries probability: trapezoids on the line, from pure noise."""
    network, draw = MLP((1,), width=16, depth=1).double(), torch.Generator().manual_seed(0)
    for parameter in network.parameters():  # its last layer starts at zero
        torch.nn.init.normal_(parameter, std=0.3, generator=draw)
    denoiser = DataPredictor(network, RectifiedFlow(), event_shape=(1,), data_range=(-1.0, 1.0))
    x = torch.linspace(-6, 6, 241, dtype=torch.float64)[:, None]
    t = float(denoiser.schedule.time_of_noise_to_signal(0.3))
    density = log_likelihood(denoiser, x, t, tolerance=1e-6).log_prob.exp()
    assert float(torch.trapezoid(density, x[:, 0])) == pytest.approx(1, abs=1e-5)
    assert not torch.allclose(density, density.flip(0), rtol=0.1, atol=1e-8)  # it is no normal density


def test_a_table_of_steps_is_read_between_them_with_an_error_of_order_two():
    distribution = unequal_gaussian()

    def error(steps: int) -> float:
        schedule = DiscreteVP.linear(0.1 / steps, 20 / steps, steps)
        t = float(schedule.time_of_noise_to_signal(0.3))
        x_t, exact = points(distribution, schedule, t)
        table = BetweenSteps(Opaque(ExactDenoiser(distribution, schedule), steps_only=True))
        likelihood = log_likelihood(table, x_t, t, terminal=distribution, tolerance=1e-5)
        return float((likelihood.log_prob - exact).square().mean().sqrt())

    assert measured_order(error, [50, 100, 200]).order == pytest.approx(2, abs=0.3)
    with pytest.raises(InputError, match="denoiser: expected a DiscreteVP schedule"):
        BetweenSteps(ExactDenoiser(distribution, VP()))


def test_a_generator_settles_an_estimate():
    distribution, schedule = mixture(2).distribution, VP()
    x_t, _ = points(distribution, schedule, 0.5)
    denoiser = ExactDenoiser(distribution, schedule)
    first, again, other = (
        estimated_log_density(denoiser, x_t, 0.5, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_uniform_density_over_256_levels_is_eight_bits():
    width = 2 / 255
    log_prob = torch.full((3,), -7 * math.log(256 * width), dtype=torch.float64)  # seven dimensions
    assert torch.allclose(bits_per_dimension(log_prob, 7, width), torch.tensor(8.0).double(), rtol=1e-14, atol=0)


def test_bits_bound_the_entropy_of_the_integers_by_a_twenty_fourth_of_the_squared_score(generator: torch.Generator):
    """Jensen's gap of a smooth density, w^2 E|score|^2 / 24 nats: a normal cut into 12 levels, by its own density."""
    width, sigma, count = 2 / 11, 0.3, 12
    edges = -1 + width * (torch.arange(count + 1, dtype=torch.float64) - 0.5)
    probability = torch.special.ndtr(edges / sigma).diff()
    probability = probability / probability.sum()
    entropy = -float((probability * probability.log2()).sum())
    levels = torch.multinomial(probability, 400_000, replacement=True, generator=generator)[:, None]
    x = dequantize(levels, count, generator=generator)
    log_prob = torch.distributions.Normal(0.0, sigma).log_prob(x)[:, 0]
    bits = bits_per_dimension(log_prob, 1, width)
    standard_error = float(bits.std()) / len(bits) ** 0.5
    expected = entropy + width**2 / sigma**2 / 24 / math.log(2)
    assert abs(float(bits.mean()) - expected) < 4 * standard_error + 1e-3
    assert expected - entropy > 4 * standard_error + 1e-3


def test_dequantized_levels_are_where_the_model_saw_them_give_or_take_half_a_spacing(generator: torch.Generator):
    levels = torch.randint(0, 256, (500, 3), generator=generator).to(torch.uint8)
    x = dequantize(levels, generator=generator)
    off = (x - (levels.double() / 127.5 - 1)) / (2 / 255)
    assert float(off.abs().max()) <= 0.5
    assert abs(float(off.mean())) < 4 * (1 / 12 / off.numel()) ** 0.5
    for line, bad, count in (("levels: expected integers 0 .. 9", levels, 10), ("count, data_range", levels, 1)):
        with pytest.raises(InputError, match=line):
            dequantize(bad, count, generator=generator)
    with pytest.raises(InputError, match="count, data_range"):
        dequantize(levels, data_range=(1.0, 1.0), generator=generator)
    for dimension, width in ((0, 0.1), (3, 0.0), (3, math.inf), (3, math.nan)):
        with pytest.raises(InputError, match="dimension, bin_width"):
            bits_per_dimension(x[:, 0], dimension, width)


def test_a_distribution_of_another_shape_and_an_end_that_is_no_gaussian_are_one_clear_line():
    distribution, schedule = mixture(2).distribution, VP()
    x_t, _ = points(distribution, schedule, 0.5)
    with pytest.raises(InputError, match=r"terminal: expected events of shape \(2,\), got \(64,\)"):
        log_likelihood(ExactDenoiser(distribution, schedule), x_t, 0.5, terminal=mixture(64).distribution)

    separated = GaussianMixture.isotropic(
        torch.full((2,), 0.5), torch.tensor([[-3.0], [3.0]], dtype=torch.float64), torch.full((2,), 0.1)
    )
    short = VE(sigma_max=1.0)
    with pytest.raises(InputError, match="terminal: at t = 1 the denoiser shows no Gaussian"):
        log_likelihood(ExactDenoiser(separated, short), torch.zeros(1, 1, dtype=torch.float64), 0.5)

"""Measurements carry no graph, whatever the points and the model require; evolved densities carry that of the start.

A graph that leaves a measurement keeps a model's activations in memory for as long as the number is kept.
"""

from dataclasses import dataclass, field

import pytest
import torch
from conftest import tensors_of
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, ExactDenoiser
from diffuscope.densities import (
    BackwardEuler,
    BetweenSteps,
    Grid,
    HutchinsonDivergence,
    JacobianDivergence,
    PotentialDiffusion,
    equal_steps,
    evolve,
    generator_matrix,
    ito_equation,
    log_likelihood,
    reverse_equation,
    terminal_gaussian,
    transport,
    variational_bound,
)
from diffuscope.densities.denoiser_derivatives import (
    divergence_gradient,
    divergence_gradient_along,
    pull_back,
    push_and_pull,
)
from diffuscope.densities.density import Density
from diffuscope.densities.divergence import jacobian
from diffuscope.densities.equation_residual import score_equation, score_equation_by_probes
from diffuscope.densities.jacobian_symmetry import curl, curl_by_probes
from diffuscope.densities.level_derivative import (
    noise_derivative,
    noise_derivative_by_autograd,
    noise_derivative_by_differences,
)
from diffuscope.densities.resolution import mass_outside, unresolved
from diffuscope.densities.score_information import fisher_information, path_relative_entropy, relative_fisher
from diffuscope.densities.semigroup import Transition
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.schedules import VP, DiscreteVP, Schedule

LAW = GaussianMixture.isotropic(
    torch.tensor([0.4, 0.6]), torch.tensor([[-0.8, 0.3], [0.7, -0.2]]), torch.tensor([0.2, 0.4])
)


@dataclass(frozen=True)
class Learning:
    """An exact denoiser times a parameter that is being learned."""

    schedule: Schedule = field(default_factory=VP)
    weight: Tensor = field(default_factory=lambda: torch.ones((), dtype=torch.float64, requires_grad=True))

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        return self.weight * LAW.denoise(x_t, self.schedule.alpha(t), self.schedule.sigma(t))


def points() -> Tensor:
    drawn = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return drawn.requires_grad_()


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


TIMES = torch.tensor([0.6, 0.4, 0.2], dtype=torch.float64)
MEASUREMENTS = {
    "pull_back": lambda d, x: pull_back(d, x, 0.4, x),
    "push_and_pull": lambda d, x: push_and_pull(d, x, 0.4, x),
    "divergence_gradient": lambda d, x: divergence_gradient(d, x, 0.4),
    "divergence_gradient_along": lambda d, x: divergence_gradient_along(d, x, 0.4, x),
    "noise_derivative": lambda d, x: noise_derivative(d, x, 0.4),
    "noise_derivative_by_autograd": lambda d, x: noise_derivative_by_autograd(d, x, 0.4),
    "noise_derivative_by_differences": lambda d, x: noise_derivative_by_differences(d, x, 0.4),
    "score_equation": lambda d, x: score_equation(d, x, 0.4),
    "score_equation_by_probes": lambda d, x: score_equation_by_probes(d, x, 0.4, generator=seeded()),
    "curl": lambda d, x: curl(d, x, 0.4),
    "curl_by_probes": lambda d, x: curl_by_probes(d, x, 0.4, generator=seeded()),
    "jacobian": lambda d, x: jacobian(d, x, 0.4),
    "JacobianDivergence": lambda d, x: JacobianDivergence()(d, x, 0.4),
    "HutchinsonDivergence": lambda d, x: HutchinsonDivergence.normal(x, 2, generator=seeded())(d, x, 0.4),
    "transport": lambda d, x: transport(d, x, 0.4, 0.5, divergence=JacobianDivergence(), tolerance=1e-3),
    "log_likelihood": lambda d, x: log_likelihood(d, x, 0.6, tolerance=1e-3),
    "terminal_gaussian": lambda d, x: terminal_gaussian(d, x, 1.0, divergence=JacobianDivergence()),
    "TerminalGaussian.gap": lambda d, x: terminal_gaussian(d, x, 1.0, divergence=JacobianDivergence()).gap(x),
    "variational_bound": lambda d, x: variational_bound(d, x, generator=seeded(), levels=2, repeats=2),
}


@pytest.mark.parametrize("measure", MEASUREMENTS.values(), ids=MEASUREMENTS)
def test_a_measurement_carries_no_graph_of_its_points_nor_of_the_model(measure):
    denoiser = Learning()
    # the denoiser and its parameter, where an answer keeps them, are not part of the measurement
    found = [tensor for tensor in tensors_of(measure(denoiser, points())) if tensor is not denoiser.weight]
    assert found
    assert not any(tensor.requires_grad for tensor in found)
    assert denoiser.weight.grad is None


@pytest.mark.parametrize(
    "measure",
    [
        lambda d, x: fisher_information(d, x, 0.4, generator=seeded()),
        lambda d, x: relative_fisher(d, LAW, x, 0.4, generator=seeded()),
        lambda d, x: path_relative_entropy(d, LAW, x, TIMES, generator=seeded()),
    ],
    ids=["fisher_information", "relative_fisher", "path_relative_entropy"],
)
def test_an_estimate_in_numbers_is_the_same_of_points_and_a_model_that_require_gradients(measure):
    """Torch warns of a number read from a graph, and a warning is an error here."""
    assert measure(Learning(), points()) == measure(ExactDenoiser(LAW, VP()), points().detach())


@dataclass(frozen=True)
class Recording(Learning):
    """A learning denoiser that remembers of every call whether its graph is recorded."""

    recorded: list[bool] = field(default_factory=list)

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        answer = super().__call__(x_t, t)
        self.recorded.append(answer.requires_grad)
        return answer


WITHOUT = {
    "noise_derivative_by_differences": MEASUREMENTS["noise_derivative_by_differences"],
    "variational_bound": MEASUREMENTS["variational_bound"],
    "fisher_information": lambda d, x: fisher_information(d, x, 0.4, generator=seeded()),
    "relative_fisher": lambda d, x: relative_fisher(d, LAW, x, 0.4, generator=seeded()),
    "path_relative_entropy": lambda d, x: path_relative_entropy(d, LAW, x, TIMES, generator=seeded()),
}


@pytest.mark.parametrize("measure", WITHOUT.values(), ids=WITHOUT)
def test_what_needs_no_derivative_records_no_graph(measure):
    denoiser = Recording()
    measure(denoiser, points())
    assert denoiser.recorded
    assert not any(denoiser.recorded)


@pytest.mark.parametrize(
    "name", ["score_equation", "JacobianDivergence", "terminal_gaussian", "score_equation_by_probes"]
)
def test_the_value_beside_a_derivative_is_read_without_a_graph(name):
    """A graph of every call would double the memory."""
    denoiser = Recording()
    MEASUREMENTS[name](denoiser, points())
    assert any(denoiser.recorded)
    assert not all(denoiser.recorded)


@dataclass(frozen=True)
class Counting(Learning):
    """A learning denoiser that remembers of every recorded graph whether a derivative was taken through it."""

    used: list[bool] = field(default_factory=list)

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        answer = super().__call__(x_t, t)
        if answer.requires_grad:
            number = len(self.used)
            self.used.append(False)
            answer.register_hook(lambda _: self.used.__setitem__(number, True))
        return answer


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_every_graph_that_is_recorded_is_differentiated(name):
    denoiser = Counting()
    MEASUREMENTS[name](denoiser, points())
    assert all(denoiser.used)


def bump(grid: Grid, width: float = 1.0) -> Density:
    values = torch.exp(-(grid.points() ** 2).sum(-1) / (2 * width))
    return Density(grid, (values / (values.sum() * grid.volume)).requires_grad_())


def test_the_numbers_of_a_density_are_read_without_its_graph():
    """Each is a plain number of the values; a graph would make torch warn, which is an error here."""
    grid = Grid.line(-6, 6, 64)
    p, q = bump(grid), bump(grid, 1.2)
    plain_p, plain_q = (Density(grid, density.values.detach()) for density in (p, q))
    assert p.mass() == plain_p.mass()
    assert p.lowest() == plain_p.lowest()
    assert p.entropy() == plain_p.entropy()
    assert p.relative_entropy(q) == plain_p.relative_entropy(plain_q)
    assert p.l1_distance(q) == plain_p.l1_distance(plain_q)
    assert unresolved(p) == unresolved(plain_p)
    assert mass_outside(p, grid, variance=1.0) == mass_outside(plain_p, grid, variance=1.0)
    assert torch.equal(p.sample(5, generator=seeded()), plain_p.sample(5, generator=seeded()))


def test_the_moments_of_a_density_carry_its_graph():
    p = bump(Grid.line(-6, 6, 64))
    assert p.mean().requires_grad
    assert p.covariance().requires_grad


def test_the_generated_density_carries_the_graph_of_its_start_and_not_that_of_the_model():
    denoiser, grid, times = Learning(), Grid.square(-3, 3, 8), equal_steps(0.0, 0.1, 2)
    equation = reverse_equation(denoiser, grid, 0.5)
    ended = evolve(equation, bump(grid), times, BackwardEuler())
    ended.values.square().sum().backward()
    assert denoiser.weight.grad is None
    start = Density(grid, bump(grid).values.detach())
    assert not evolve(equation, start, times, BackwardEuler()).values.requires_grad


def test_the_rates_of_a_drift_that_is_being_learned_are_plain_numbers():
    """u/h = 2 from the left cell to the right one."""
    speed = torch.ones((), dtype=torch.float64, requires_grad=True)
    equation = ito_equation(Grid.line(0, 1, 2), lambda x, _: speed * torch.ones_like(x), 0.0)
    assert generator_matrix(equation).toarray().tolist() == [[-2.0, 0.0], [2.0, 0.0]]


def test_a_transition_passes_the_graph_of_its_start_on_and_reads_what_leaves_the_target_without_it():
    grid = Grid.line(-6, 6, 64)
    start = bump(grid)
    moved = Transition(grid, grid, 0.5, 0.75)(start)
    (slope,) = torch.autograd.grad(moved.values.sum() * grid.volume, start.values)
    # the mass is kept wherever it starts, but for the cells that reach the edge
    assert torch.allclose(slope[16:48], torch.full_like(slope[16:48], grid.volume), rtol=1e-9, atol=0)


def test_a_potential_with_a_parameter_is_diagonalized_without_its_graph_and_evolves_with_the_densitys():
    stiffness, grid = torch.ones((), dtype=torch.float64, requires_grad=True), Grid.line(-7, 7, 64)
    diffusion = PotentialDiffusion.diagonalize(lambda x: stiffness * x.square().sum(1) / 2, grid)
    assert not any(tensor.requires_grad for tensor in (diffusion.rates, diffusion.modes, diffusion.root))
    # the start is the stationary density: it evolves into itself
    start = bump(grid)
    assert isinstance(diffusion.error_estimate(start, 0.3), float)
    ended = diffusion.evolve(start, 0.3)
    assert ended.values.requires_grad
    assert torch.allclose(ended.values, start.values, rtol=0, atol=1e-7)


def test_a_denoiser_between_steps_is_differentiable_as_the_one_it_reads():
    denoiser = Learning(DiscreteVP.linear(steps=10))
    x = points()
    between = BetweenSteps(denoiser)(x, 3.5)
    between.sum().backward()
    expected = (LAW.denoise(x.detach(), denoiser.schedule.alpha(k), denoiser.schedule.sigma(k)).sum() for k in (3, 4))
    assert denoiser.weight.grad is not None
    assert float(denoiser.weight.grad) == pytest.approx(float(sum(expected)) / 2, rel=1e-12)
    assert x.grad is not None


def test_the_gaussian_at_the_end_is_differentiable_in_the_point():
    x = points()
    distribution = Gaussian.isotropic(torch.zeros(2), 1.0)
    terminal = terminal_gaussian(ExactDenoiser(distribution, VP()), x, 1.0, divergence=JacobianDivergence())
    (slope,) = torch.autograd.grad(terminal.log_prob(x).sum(), x)
    # alpha^2 + sigma^2 = 1: the noised distribution is standard normal
    assert torch.allclose(slope, -x.detach(), rtol=1e-9, atol=0)

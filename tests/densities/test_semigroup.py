"""The exact semigroup against analytic mixtures, Hermite eigenfunctions, itself, and what it refuses."""

import math

import pytest
import torch
from numpy.polynomial.hermite_e import hermeval

from diffuscope.densities import Density, Grid
from diffuscope.densities.heat import heat_flow
from diffuscope.densities.resolution import mass_outside, unresolved
from diffuscope.densities.semigroup import Transition, ornstein_uhlenbeck, transition
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.schedules import VE, VP, Cosine, DiscreteVP, RectifiedFlow, Schedule, Sigmoid

BAR = 1e-12
STEPS = [
    (VP(), 0.01, 0.3),
    (VP(), 0.02, 1.0),
    (DiscreteVP.linear(), 20, 400),
    (VE(), 0.1, 1.5),
    (RectifiedFlow(), 0.1, 0.6),
    (RectifiedFlow(), 0.1, 1.0),  # alpha = 0: all of the data is forgotten
    (Cosine(), 0.01, 0.999),
    (Cosine(), 0.01, 1.0),
    (Sigmoid(), 0.02, 1.0),
]
every_step = pytest.mark.parametrize(("schedule", "s", "t"), STEPS, ids=lambda part: str(part).partition("(")[0])


def mixture(dimensions: int) -> GaussianMixture:
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    means = torch.tensor([[2.0, -1.0, 0.5], [-1.5, 0.5, -0.7]], dtype=torch.float64)
    return GaussianMixture.isotropic(weights, means[:, :dimensions], torch.tensor([0.25, 0.4]))


def at(distribution: GaussianMixture | Gaussian, grid: Grid, alpha: float, sigma: float) -> Density:
    return Density(grid, grid.evaluate(lambda x: distribution.log_prob(x, alpha, sigma)))


def at_time(distribution: GaussianMixture | Gaussian, grid: Grid, schedule: Schedule, t: float) -> Density:
    return at(distribution, grid, float(schedule.alpha(t)), float(schedule.sigma(t)))


def box(half: float, cells: int, dimensions: int = 1) -> Grid:
    """Slightly off center and of another shape along each axis: nothing cancels by symmetry."""
    low = tuple(-half - 0.11 * k for k in range(1, dimensions + 1))
    high = tuple(half + 0.07 * k for k in range(1, dimensions + 1))
    return Grid(low, high, tuple(cells + 3 * k for k in range(dimensions)))


def largest_error(found: Density, exact: Density) -> float:
    return float((found.values - exact.values).abs().max() / exact.values.max())


# against closed forms


@every_step
@pytest.mark.parametrize(("dimensions", "cells"), [(1, 128), (2, 92), (3, 62)])
def test_a_mixture_becomes_the_analytic_mixture_of_any_schedule(schedule, s, t, dimensions, cells):
    distribution, source = mixture(dimensions), box(7.0, cells, dimensions)
    target = box(17.0 if isinstance(schedule, VE) else 9.0, cells + 11, dimensions)
    found = transition(schedule, s, t, source, target)(at_time(distribution, source, schedule, s))
    assert largest_error(found, at_time(distribution, target, schedule, t)) <= BAR
    assert found.mass() == pytest.approx(1, abs=1e-13)


def test_a_correlated_gaussian_stays_gaussian():
    distribution = Gaussian.from_covariance(
        torch.tensor([0.5, -0.3], dtype=torch.float64), torch.tensor([[0.8, 0.3], [0.3, 0.5]], dtype=torch.float64)
    )
    grid = box(9.0, 90, 2)
    found = ornstein_uhlenbeck(0.7, grid, theta=1.5, diffusivity=0.6)(at(distribution, grid, 1.0, 1e-9))
    a = math.exp(-1.05)
    assert largest_error(found, at(distribution, grid, a, math.sqrt(0.4 * (1 - a**2)))) <= BAR


def test_at_alpha_zero_every_density_becomes_the_same_noise(generator):
    source, target = Grid.line(-3, 4, 41), Grid.line(-9, 9, 64)
    values = torch.rand(41, dtype=torch.float64, generator=generator)
    found = transition(RectifiedFlow(), 0.2, 1.0, source, target).apply(values / (values.sum() * source.volume))
    torch.testing.assert_close(
        found, target.evaluate(lambda x: -(x[:, 0] ** 2) / 2 - 0.5 * math.log(2 * math.pi)), rtol=0, atol=1e-14
    )


def test_a_shrinking_density_is_seen_on_a_box_that_shrinks_with_it():
    distribution, source = mixture(1), Grid.line(-7, 7, 96)
    for scale in (0.5, 0.01, 1e-6):
        target = Grid.line(-7 * scale, 7 * scale, 96)
        found = Transition(source, target, scale, 0.0)(at(distribution, source, 1.0, 0.2))
        assert largest_error(found, at(distribution, target, scale, 0.2 * scale)) <= BAR


def test_a_growing_density_of_an_unstable_process():
    distribution, source, target = mixture(1), Grid.line(-7, 7, 128), Grid.line(-20, 20, 120)
    found = ornstein_uhlenbeck(0.8, source, target, theta=-1.0, diffusivity=0.5)(at(distribution, source, 1.0, 0.2))
    variance = (math.exp(1.6) - 1) / 2 + math.exp(1.6) * 0.04
    assert largest_error(found, at(distribution, target, math.exp(0.8), math.sqrt(variance))) <= BAR


@pytest.mark.parametrize("n", range(9))
def test_hermite_functions_are_eigenfunctions_that_decay_like_exp_minus_n_t(n):
    grid = Grid.line(-11, 11, 128)
    x = grid.centers()
    mode = torch.as_tensor(hermeval(x.numpy(), [0] * n + [1])) * torch.exp(-(x**2) / 2)
    for t in (0.1, 0.7, 3.0):
        found = ornstein_uhlenbeck(t, grid).apply(mode)
        assert float((found - math.exp(-n * t) * mode).abs().max() / mode.abs().max()) <= BAR


def test_products_of_hermite_functions_decay_at_the_sum_of_their_rates():
    grid = box(10.0, 64, 3)
    mode, theta, t = torch.ones(grid.cells, dtype=torch.float64), 0.8, 0.4
    for axis, n in enumerate((2, 0, 3)):
        x = grid.centers(axis) * math.sqrt(
            theta
        )  # the stationary distribution of theta = 0.8, D = 1 has variance 1/theta
        values = torch.as_tensor(hermeval(x.numpy(), [0] * n + [1])) * torch.exp(-(x**2) / 2)
        mode = mode * values.reshape([-1 if k == axis else 1 for k in range(3)])
    found = ornstein_uhlenbeck(t, grid, theta=theta).apply(mode)
    assert float((found - math.exp(-5 * theta * t) * mode).abs().max() / mode.abs().max()) <= BAR


# as a semigroup


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_two_transitions_in_a_row_are_one_even_through_another_grid(dimensions):
    cells = {1: 128, 2: 84, 3: 56}[dimensions]
    distribution, grid, between = mixture(dimensions), box(7.0, cells, dimensions), box(7.9, cells + 19, dimensions)
    start, schedule = at_time(distribution, grid, VP(), 0.1), VP()
    once = transition(schedule, 0.1, 0.6, grid)(start)
    twice = transition(schedule, 0.3, 0.6, between, grid)(transition(schedule, 0.1, 0.3, grid, between)(start))
    assert largest_error(twice, once) <= BAR


@pytest.mark.parametrize("cells", [(31,), (32,), (7, 8), (5, 6, 7)])
def test_no_time_at_all_is_the_identity_whatever_the_values(cells, generator):
    grid = Grid((-1.0, 0.0, 2.0)[: len(cells)], (2.0, 1.0, 3.0)[: len(cells)], cells)
    values = torch.randn(2, *cells, dtype=torch.float64, generator=generator)
    for step in (transition(VP(), 0.3, 0.3, grid), ornstein_uhlenbeck(0, grid)):
        torch.testing.assert_close(step.apply(values), values, rtol=0, atol=1e-13)


def test_without_drift_it_is_heat_flow():
    grid = box(8.0, 64, 2)
    start = at(mixture(2), grid, 1.0, 0.3)
    for t, theta in ((0.5, 0.0), (0.5, 1e-13), (0.5, -1e-13)):
        found = ornstein_uhlenbeck(t, grid, theta=theta, diffusivity=0.4)(start, tolerance=1e-3)
        torch.testing.assert_close(found.values, heat_flow(start, t, diffusivity=0.4).values, rtol=0, atol=1e-13)


def test_mass_is_kept_even_of_what_is_not_resolved(generator):
    grid = box(3.0, 20, 2)
    values = torch.rand(grid.cells, dtype=torch.float64, generator=generator)
    found = ornstein_uhlenbeck(0.4, grid, box(4.0, 31, 2)).apply(values)
    assert box(4.0, 31, 2).volume * float(found.sum()) == pytest.approx(grid.volume * float(values.sum()), rel=1e-13)


def test_relative_entropy_to_the_stationary_distribution_falls_at_twice_the_rate():
    grid, theta, D = Grid.line(-10, 10, 160), 0.7, 0.9
    start = at(mixture(1), grid, 1.0, 0.3)
    stationary = at(Gaussian.isotropic(torch.zeros(1), D / theta), grid, 1.0, 1e-9)
    divergence = start.relative_entropy(stationary)
    for t in (0.2, 0.5, 1.0, 2.0):
        now = ornstein_uhlenbeck(t, grid, theta=theta, diffusivity=D)(start).relative_entropy(stationary)
        assert now <= math.exp(-2 * theta * t) * divergence


# derivatives


def test_the_adjoint_is_the_conditional_expectation():
    source, target = Grid.line(-9, 9, 144), Grid.line(-12, 12, 160)
    step = ornstein_uhlenbeck(0.5, source, target)
    p = at(mixture(1), source, 1.0, 0.3).values.requires_grad_()
    x, inside = source.centers().numpy(), source.centers().abs() < 4
    for n in range(5):
        phi = torch.as_tensor(hermeval(target.centers().numpy(), [0] * n + [1]))
        (gradient,) = torch.autograd.grad(target.volume * (phi * step.apply(p)).sum(), p)
        exact = math.exp(-0.5 * n) * torch.as_tensor(hermeval(x, [0] * n + [1]))
        torch.testing.assert_close((gradient / source.volume)[inside], exact[inside], rtol=0, atol=1e-9)


def test_derivatives_in_the_scale_and_the_variance_are_those_of_the_gaussian():
    grid, mean, spread = Grid.line(-9, 9, 128), 1.2, 0.3
    start = at(Gaussian.isotropic(torch.tensor([mean], dtype=torch.float64), spread), grid, 1.0, 1e-9)
    a, v = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.7, 0.2))
    probe = torch.cos(grid.centers())  # E cos(a y + sqrt(v) xi) = cos(a m) exp(-(a^2 s^2 + v)/2)
    value = grid.volume * (probe * Transition(grid, grid, a, v)(start).values).sum()
    by_a, by_v = torch.autograd.grad(value, (a, v))
    decay = math.exp(-(0.49 * spread + 0.2) / 2)
    assert float(value.detach()) == pytest.approx(math.cos(0.84) * decay, abs=1e-13)
    assert float(by_a) == pytest.approx(-(mean * math.sin(0.84) + 0.7 * spread * math.cos(0.84)) * decay, abs=1e-12)
    assert float(by_v) == pytest.approx(-0.5 * math.cos(0.84) * decay, abs=1e-12)


# what is not resolved


@pytest.mark.parametrize("half", [3.0, 4.0, 5.0, 7.0])
@pytest.mark.parametrize("cells", [24, 32, 48, 64, 96])
def test_the_error_is_below_the_numbers_that_are_reported(half, cells):
    distribution, grid = mixture(1), Grid.line(-half, half + 0.1, cells)
    start = at(distribution, grid, 1.0, 0.05)
    # the step is not responsible for the mass outside the box at the start: compare the distribution inside
    step = Transition(grid, grid, 0.8, 0.05)
    found, exact = Density(grid, step.apply(start.values)), at(distribution, grid, 0.8, math.sqrt(0.64 * 0.0025 + 0.05))
    reported = unresolved(start) + unresolved(found) + mass_outside(start, grid, scale=0.8, variance=0.05)
    missing = 1 - start.mass() + mass_outside(at(distribution, Grid.line(-12, 12, 400), 1.0, 0.05), grid)
    assert largest_error(found, exact) <= 4 * (reported + abs(missing)) + 1e-13


def refusal(step: Transition, density: Density, **options: float) -> str:
    with pytest.raises(InputError) as refused:
        step(density, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_density_that_the_source_does_not_resolve_is_refused_with_the_number():
    grid = Grid.line(-7, 7, 32)
    start = at(mixture(1), grid, 1.0, 0.05)
    line = refusal(ornstein_uhlenbeck(0.5, grid), start)
    assert line.startswith("density: the source grid is too coarse")
    assert f"{unresolved(start):.1e}" in line
    assert ornstein_uhlenbeck(0.5, grid)(start, tolerance=math.inf).mass() == pytest.approx(1, abs=1e-9)


def test_a_density_that_leaves_the_target_is_refused_with_its_mass():
    grid, small = Grid.line(-7, 7, 96), Grid.line(-2.5, 2.5, 96)
    start = at(mixture(1), grid, 1.0, 0.05)
    line = refusal(ornstein_uhlenbeck(0.5, grid, small), start)
    fine, sigma = Grid.line(-8, 8, 8000), math.sqrt(1 - math.exp(-1) * (1 - 0.05**2))
    beyond = fine.centers().abs() > 2.5
    exact = fine.volume * float(at(mixture(1), fine, math.exp(-0.5), sigma).values[beyond].sum())
    assert line.startswith("target: the box is too small")
    assert float(line.split("a mass of ")[1].split()[0]) == pytest.approx(exact, rel=0.05)  # printed with two digits


def test_a_density_that_the_target_does_not_resolve_is_refused():
    grid, coarse = Grid.line(-7, 7, 96), Grid.line(-7, 7, 20)
    start = at(mixture(1), grid, 1.0, 0.05)
    assert refusal(Transition(grid, coarse, 0.5, 0.0), start).startswith("target: the grid is too coarse")


def test_a_tighter_tolerance_refuses_what_a_looser_one_accepts():
    grid = Grid.line(-7, 7, 64)
    start = at(mixture(1), grid, 1.0, 0.05)
    share = unresolved(start)
    step = ornstein_uhlenbeck(0.5, grid)
    assert step(start, tolerance=1.01 * share).mass() == pytest.approx(1, abs=1e-9)
    refusal(step, start, tolerance=0.99 * share)


# bad input


def test_what_cannot_be_a_transition_is_refused():
    line, square = Grid.line(-1, 1, 8), Grid.square(-1, 1, 8)
    for build, name in (
        (lambda: transition(VP(), 0.5, 0.4, line), "t"),
        (lambda: transition(VP(), 0.5, math.nan, line), "t"),
        (lambda: transition(RectifiedFlow(), 1.0, 1.0, line), "s"),
        (lambda: transition(VP(), 0.1, 0.5, line, square), "target"),
        (lambda: Transition(line, line, -0.5, 1.0), "scale"),
        (lambda: Transition(line, line, math.nan, 1.0), "scale"),
        (lambda: Transition(line, line, 1.0, -1e-3), "variance"),
        (lambda: Transition(line, line, 1.0, math.inf), "variance"),
        (lambda: ornstein_uhlenbeck(-1.0, line), "t"),
        (lambda: ornstein_uhlenbeck(1.0, line, diffusivity=-1.0), "t"),
        (lambda: ornstein_uhlenbeck(1e3, line, theta=-1.0), "scale"),
        (lambda: ornstein_uhlenbeck(1.0, line)(Density(Grid.line(-1, 1, 9), torch.ones(9))), "density"),
    ):
        with pytest.raises(InputError, match=rf"^{name}: "):
            build()

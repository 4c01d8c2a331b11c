"""Diffusion in a potential against exactly solvable wells, independent collocation of p, and its own error estimate."""

import itertools
import math

import pytest
import torch
from conftest import measured_order

from diffuscope.densities import Density, Grid
from diffuscope.densities.schroedinger import PotentialDiffusion
from diffuscope.densities.semigroup import ornstein_uhlenbeck
from diffuscope.errors import InputError

RELAXATION, STEEPNESS = 0.2, 4.0


def razavy(x: torch.Tensor, relaxation: float = RELAXATION) -> torch.Tensor:
    r"""A double well whose slowest mode is known for D = 1: tanh(x), at any rate below 2.

    f = tanh(x) has D f'' - U' f' = -relaxation f if U' = (f'' + relaxation f)/f' = -2 tanh x + relaxation/2 sinh 2x. It
    is odd and rises, so no rate lies between 0 and this one. (Razavy 1980, by its first excited state.)
    """
    return -2 * torch.log(torch.cosh(x)) + relaxation / 4 * torch.cosh(2 * x)


def razavy_density(x: torch.Tensor, t: float) -> torch.Tensor:
    """p_inf (1 + exp(-relaxation t) tanh x): an exact solution, at t = 0 almost all in the right well."""
    fine = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    total = torch.exp(-razavy(fine)).sum() * (fine[1] - fine[0])
    return torch.exp(-razavy(x)) / total * (1 + math.exp(-RELAXATION * t) * torch.tanh(x))


def quartic(steepness: float):
    return lambda x: steepness * (x[:, 0] ** 2 - 1) ** 2


def normal(x: torch.Tensor, mean: float, variance: float) -> torch.Tensor:
    return torch.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


def in_razavy_well(half: float, cells: int) -> tuple[PotentialDiffusion, Density]:
    grid = Grid.line(-half, half, cells)
    return PotentialDiffusion.diagonalize(lambda x: razavy(x[:, 0]), grid), Density(
        grid, razavy_density(grid.centers(), 0.0)
    )


class Collocation:
    """An independent solution: p itself, not p/sqrt(p_inf), by sinc collocation of (U'p)' + p'' and an exponential."""

    def __init__(self, steepness: float, half: float, cells: int, t: float) -> None:
        self.h = 2 * half / cells
        self.x = -half + (torch.arange(cells, dtype=torch.float64) + 0.5) * self.h
        lag = torch.arange(cells, dtype=torch.float64)[:, None] - torch.arange(cells, dtype=torch.float64)
        sign, away = torch.cos(math.pi * lag), torch.where(lag == 0, 1.0, lag)
        first = torch.where(lag == 0, 0.0, sign / away) / self.h
        second = torch.where(lag == 0, -(math.pi**2) / 3, -2 * sign / away**2) / self.h**2
        slope = 4 * steepness * self.x * (self.x**2 - 1)
        self.propagator = torch.linalg.matrix_exp(t * (second + first * slope))

    def __call__(self, x: torch.Tensor, mean: float, variance: float) -> torch.Tensor:
        p = self.propagator @ normal(self.x, mean, variance)
        return torch.sinc((x[:, None] - self.x) / self.h) @ p


# the rates


@pytest.mark.parametrize(("stiffness", "diffusivity"), [(1.0, 1.0), (2.5, 0.3)])
def test_the_rates_of_a_harmonic_well_are_multiples_of_its_stiffness(stiffness, diffusivity):
    half = 14 * math.sqrt(diffusivity / stiffness)
    well = PotentialDiffusion.diagonalize(
        lambda x: stiffness * x[:, 0] ** 2 / 2, Grid.line(-half, half, 120), diffusivity=diffusivity
    )
    exact = stiffness * torch.arange(12, dtype=torch.float64)
    torch.testing.assert_close(well.rates[:12], exact, rtol=0, atol=1e-12)


def test_the_rates_of_an_anisotropic_harmonic_well_are_sums():
    well = PotentialDiffusion.diagonalize(
        lambda x: x[:, 0] ** 2 / 2 + 1.7 * x[:, 1] ** 2 / 2, Grid((-8.5, -7.0), (8.5, 7.0), (38, 40))
    )
    sums = torch.tensor([i + 1.7 * j for i in range(12) for j in range(8)], dtype=torch.float64).sort().values
    torch.testing.assert_close(well.rates[:8], sums[:8], rtol=0, atol=1e-8)  # 38 cells: what they resolve


def test_a_linear_potential_lifts_every_rate_of_the_box_by_its_squared_slope_over_four():
    flat, tilted = (
        PotentialDiffusion.diagonalize(lambda x, slope=slope: slope * x[:, 0], Grid.line(0, 1, 40)).rates
        for slope in (0.0, 3.0)
    )
    torch.testing.assert_close(tilted - flat, torch.full((40,), 9 / 4, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("relaxation", [0.02, 0.2, 1.0])
def test_the_slowest_rate_of_a_double_well_that_is_known_exactly(relaxation):
    half = math.acosh(240 / relaxation) / 2
    well = PotentialDiffusion.diagonalize(lambda x: razavy(x[:, 0], relaxation), Grid.line(-half, half, 110))
    assert float(well.rates[0]) == pytest.approx(0, abs=1e-12)
    assert float(well.rates[1]) == pytest.approx(relaxation, abs=1e-12)
    assert float(well.rates[2]) > 1


def test_the_escape_rate_approaches_kramers_formula_linearly_in_the_noise():
    def excess(inverse: int) -> float:
        D, U = 1 / inverse, quartic(1.0)
        well = PotentialDiffusion.diagonalize(U, Grid.line(-2, 2, 160), diffusivity=D)
        kramers = (
            2 * math.sqrt(8 * 4) / (2 * math.pi) * math.exp(-1 / D)
        )  # U'' = 8 in the wells, -4 on top; two ways out
        return abs(float(well.rates[1]) / kramers - 1)

    value = measured_order(excess, [10, 12, 14, 16])
    assert value.order == pytest.approx(1, abs=0.3)
    assert excess(16) < 0.06


# the densities


def test_the_exact_solution_of_a_double_well():
    well, start = in_razavy_well(4.2, 112)
    for t in (0.0, 0.1, 1.0, 10.0):
        exact = razavy_density(start.grid.centers(), t)
        torch.testing.assert_close(well.evolve(start, t).values, exact, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        well.stationary().values, razavy_density(start.grid.centers(), math.inf), rtol=0, atol=1e-13
    )


def test_a_double_well_in_the_plane_turned_against_its_grid_converges_spectrally():
    cosine, sine, stiffness = math.cos(0.5), math.sin(0.5), 4.0

    def turned(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return cosine * x[..., 0] + sine * x[..., 1], -sine * x[..., 0] + cosine * x[..., 1]

    def potential(x: torch.Tensor) -> torch.Tensor:
        along, across = turned(x)
        return razavy(along) + stiffness * across**2 / 2

    def density(grid: Grid, t: float) -> Density:
        along, across = turned(grid.points())
        return Density(grid, razavy_density(along, t) * normal(across, 0.0, 1 / stiffness))

    errors = []
    for cells in (28, 40):
        grid = Grid((-4.6, -4.0), (4.6, 4.0), (cells, cells))
        well = PotentialDiffusion.diagonalize(potential, grid)
        value = well.evolve(density(grid, 0.0), 1.0, tolerance=0.1)
        errors.append(float((value.values - density(grid, 1.0).values).abs().max()))
        assert value.mass() == pytest.approx(1, abs=10 * errors[-1])
        assert float(well.rates[1]) == pytest.approx(RELAXATION, abs=10 * errors[-1])
    assert errors[1] <= 1e-6
    assert math.log(errors[0] / errors[1]) / math.log(40 / 28) > 10  # orders


def test_in_a_harmonic_well_it_is_the_ornstein_uhlenbeck_semigroup():
    theta, D = 1.4, 0.6
    grid = Grid.line(-5.5, 5.5, 96)
    well = PotentialDiffusion.diagonalize(lambda x: theta * x[:, 0] ** 2 / 2, grid, diffusivity=D)
    start = Density(grid, 0.4 * normal(grid.centers(), 0.8, 0.1) + 0.6 * normal(grid.centers(), -0.5, 0.2))
    for t in (0.05, 0.5, 2.0):
        other = ornstein_uhlenbeck(t, grid, theta=theta, diffusivity=D)(start)
        torch.testing.assert_close(well.evolve(start, t).values, other.values, rtol=0, atol=1e-12)


def test_a_quartic_well_against_collocation_of_the_density_itself():
    other = Collocation(steepness=1.0, half=4.2, cells=300, t=0.3)
    grid = Grid.line(-3, 3, 80)
    well = PotentialDiffusion.diagonalize(quartic(1.0), grid)
    for mean, variance in ((0.5, 0.03), (1.0, 0.05), (0.0, 0.1)):
        value = well.evolve(Density(grid, normal(grid.centers(), mean, variance)), 0.3)
        torch.testing.assert_close(value.values, other(grid.centers(), mean, variance), rtol=0, atol=5e-11)


def test_the_error_falls_faster_than_any_power_of_the_number_of_cells():
    cells, errors = (24, 32, 48, 64), []
    for n in cells:
        well, start = in_razavy_well(4.2, n)
        exact = razavy_density(start.grid.centers(), 1.0)
        errors.append(float((well.evolve(start, 1.0, tolerance=math.inf).values - exact).abs().max()))
    assert errors[1] < 1e-4
    assert errors[3] < 1e-9
    coarser, finer = zip(*itertools.pairwise(zip(cells, errors, strict=True)), strict=True)
    orders = [math.log(a / b) / math.log(m / n) for (n, a), (m, b) in zip(coarser, finer, strict=True)]
    assert orders == sorted(orders)
    assert orders[-1] > 15


def test_evolutions_compose_keep_mass_and_leave_the_stationary_distribution_alone():
    grid = Grid.line(-2.8, 2.8, 90)
    well = PotentialDiffusion.diagonalize(quartic(1.0), grid)
    start = Density(grid, normal(grid.centers(), 0.3, 0.04))
    once, twice = well.evolve(start, 0.7), well.evolve(well.evolve(start, 0.3), 0.4)
    torch.testing.assert_close(twice.values, once.values, rtol=0, atol=1e-11)
    assert once.mass() == pytest.approx(start.mass(), abs=1e-11)
    stationary = well.stationary()
    torch.testing.assert_close(well.evolve(stationary, 5.0).values, stationary.values, rtol=0, atol=1e-11)
    torch.testing.assert_close(well.evolve(start, 200.0).values, stationary.values, rtol=0, atol=1e-11)


def test_forward_and_backward_are_dual():
    # <g, p_t> = <u_t, p_0>, where u_t = (g p_inf)_t / p_inf: detailed balance
    grid = Grid.line(-2.8, 2.8, 90)
    well = PotentialDiffusion.diagonalize(quartic(1.0), grid)
    start, g = Density(grid, normal(grid.centers(), 0.3, 0.04)), torch.cos(grid.centers()) + grid.centers()
    p_inf = well.stationary().values
    backward = well.evolve(Density(grid, g * p_inf), 0.7).values / p_inf
    forward = grid.volume * float((g * well.evolve(start, 0.7).values).sum())
    assert grid.volume * float((backward * start.values).sum()) == pytest.approx(forward, abs=1e-12)


def test_relative_entropy_to_the_stationary_distribution_falls():
    well, start = in_razavy_well(4.2, 112)
    stationary = well.stationary()
    flow = [well.evolve(start, t).relative_entropy(stationary) for t in (0.0, 0.5, 1.0, 3.0, 8.0, 15.0)]
    assert flow == sorted(flow, reverse=True)
    # in the end only the slowest mode is left: KL = exp(-2 rate t) E[tanh^2]/2
    grid = start.grid
    last = grid.volume * float((stationary.values * torch.tanh(grid.centers()) ** 2).sum()) / 2
    assert flow[-1] == pytest.approx(math.exp(-2 * RELAXATION * 15) * last, rel=0.01)


def test_the_derivative_in_the_start_is_the_backward_solution():
    well, start = in_razavy_well(4.2, 112)
    p = start.values.clone().requires_grad_()
    x, inside = start.grid.centers(), start.grid.centers().abs() < 2
    (gradient,) = torch.autograd.grad((torch.tanh(x) * well.evolve(Density(start.grid, p), 2.0).values).sum(), p)
    torch.testing.assert_close(gradient[inside], math.exp(-0.4) * torch.tanh(x)[inside], rtol=0, atol=1e-9)


# the guard


def test_the_error_estimate_bounds_the_error_over_thirty_orders_of_magnitude_and_wastes_four_of_them_at_most():
    t, steepness = 0.3, 4.0
    other = Collocation(steepness, half=3.6, cells=300, t=t)  # itself good to 1e-10
    errors, estimates = [], []
    for half in (1.8, 2.0, 2.2, 2.4, 2.6, 2.8, 3.0):
        for cells in (64, 96, 160):
            grid = Grid.line(-half, half, cells)
            well = PotentialDiffusion.diagonalize(quartic(steepness), grid)
            for mean, variance in ((0.5, 0.03), (0.5, 0.06), (1.0, 0.05), (0.0, 0.1), (0.0, 0.2)):
                start = Density(grid, normal(grid.centers(), mean, variance))
                value = well.evolve(start, t, tolerance=math.inf).values
                error = float((value - other(grid.centers(), mean, variance)).abs().max())
                errors.append(error / float(well.stationary().values.max()))
                estimates.append(well.error_estimate(start, t))
                try:
                    well.evolve(start, t)
                    assert errors[-1] <= 1e-6
                except InputError:
                    assert errors[-1] >= 1e-10 or "too coarse" in refusal(well, start, t)
    ratio = [error / estimate for error, estimate in zip(errors, estimates, strict=True) if error > 1e-9]
    assert max(errors) > 1e20
    assert max(ratio) <= 1
    assert min(ratio) >= 1e-4


def refusal(well: PotentialDiffusion, start: Density, t: float, **options: float) -> str:
    with pytest.raises(InputError) as refused:
        well.evolve(start, t, **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_density_with_heavier_tails_than_the_well_is_refused_with_the_bound_and_the_place():
    narrow, wide = Grid.line(-2.2, 2.2, 64), Grid.line(-3, 3, 64)
    start = [Density(grid, normal(grid.centers(), 0.0, 0.1)) for grid in (narrow, wide)]
    wells = [PotentialDiffusion.diagonalize(quartic(4.0), grid) for grid in (narrow, wide)]
    other = Collocation(4.0, half=3.6, cells=300, t=0.5)
    value = wells[0].evolve(start[0], 0.5)
    torch.testing.assert_close(value.values, other(narrow.centers(), 0.0, 0.1), rtol=0, atol=1e-6)
    line = refusal(wells[1], start[1], 0.5)
    assert f"{wells[1].error_estimate(start[1], 0.5):.1e}" in line
    assert "x = (-2.95)" in line or "x = (2.95)" in line
    nonsense = wells[1].evolve(start[1], 0.5, tolerance=math.inf).values
    assert float(nonsense.abs().max()) > 1e6


def test_a_density_that_is_cut_off_by_the_box_is_refused():
    grid = Grid.line(-2.5, 2.5, 64)
    well = PotentialDiffusion.diagonalize(quartic(1.0), grid)
    line = refusal(well, Density(grid, normal(grid.centers(), 0.5, 0.5)), 0.3)
    assert "edge" in line


def test_a_density_that_the_grid_does_not_resolve_is_refused():
    grid = Grid.line(-2.5, 2.5, 32)
    well = PotentialDiffusion.diagonalize(quartic(1.0), grid)
    assert "too coarse" in refusal(well, Density(grid, normal(grid.centers(), 0.5, 0.005)), 0.3)


def test_where_the_stationary_distribution_underflows_the_estimate_is_infinite():
    grid = Grid.line(-9, 9, 128)
    well = PotentialDiffusion.diagonalize(quartic(1.0), grid)
    start = Density(grid, normal(grid.centers(), 0.0, 0.1))
    assert well.error_estimate(start, 0.3) == math.inf
    assert "inf" in refusal(well, start, 0.3)
    inside = Density(grid, torch.where(grid.centers().abs() < 2, start.values, 0.0))
    assert well.error_estimate(inside, 0.3) < 1  # zero where p_inf is: nothing is divided


# bad input


def test_what_cannot_be_diagonalized_is_refused():
    for build, name in (
        (lambda: PotentialDiffusion.diagonalize(quartic(1.0), Grid.square(-1, 1, 65)), "grid"),
        (lambda: PotentialDiffusion.diagonalize(quartic(1.0), Grid.line(-1, 1, 8), diffusivity=0), "diffusivity"),
        (
            lambda: PotentialDiffusion.diagonalize(quartic(1.0), Grid.line(-1, 1, 8), diffusivity=math.nan),
            "diffusivity",
        ),
        (lambda: PotentialDiffusion.diagonalize(lambda x: x[:, 0].abs().log(), Grid.line(-1, 1, 7)), "potential"),
        (lambda: PotentialDiffusion.diagonalize(lambda x: x[:, 0].sqrt(), Grid.line(-1, 1, 8)), "potential"),
    ):
        with pytest.raises(InputError, match=rf"^{name}: "):
            build()


@pytest.mark.parametrize("t", [-0.1, math.nan, math.inf])
def test_a_time_that_is_negative_or_not_finite_is_refused(t):
    well, start = in_razavy_well(4.2, 40)
    assert refusal(well, start, t).startswith("t: ")


def test_a_density_on_another_grid_is_refused():
    well, _ = in_razavy_well(4.2, 40)
    assert refusal(well, in_razavy_well(4.2, 41)[1], 1.0).startswith("density: expected one on")

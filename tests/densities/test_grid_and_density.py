"""Grids and densities against quadrature theorems, closed-form moments and entropies, and the statistics of draws."""

import math

import numpy as np
import pytest
import torch
from conftest import measured_order, monte_carlo
from scipy.stats import kstest

from diffuscope.densities import Density, Grid, histogram
from diffuscope.errors import InputError

COVARIANCE = torch.tensor([[0.8, 0.3], [0.3, 0.5]], dtype=torch.float64)
MEAN = torch.tensor([0.4, -0.2], dtype=torch.float64)
BOX = Grid((-8.0, -7.0), (8.0, 7.0), (96, 90))


def gaussian(mean: torch.Tensor, covariance: torch.Tensor):
    return torch.distributions.MultivariateNormal(mean, covariance).log_prob


def line_gaussian(mean: float, variance: float):
    return torch.distributions.Normal(torch.tensor(mean, dtype=torch.float64), math.sqrt(variance)).log_prob


def on_line(grid: Grid, mean: float, variance: float) -> Density:
    return Density(grid, grid.evaluate(lambda x: line_gaussian(mean, variance)(x[:, 0])))


def upper(x: float) -> float:
    return math.erfc(x / math.sqrt(2)) / 2


# the grid


def test_cells_tile_the_box_and_centers_are_the_middles_of_faces():
    grid = Grid((-1.0, 2.0, 0.0), (2.0, 2.5, 0.7), (7, 4, 3))
    for axis in range(3):
        faces = grid.faces(axis)
        assert faces[0] == grid.low[axis]
        assert faces[-1] == pytest.approx(grid.high[axis], abs=1e-15)
        torch.testing.assert_close(grid.centers(axis), (faces[1:] + faces[:-1]) / 2, rtol=0, atol=1e-15)
        halves = grid.face_points(axis)
        torch.testing.assert_close(
            (halves.narrow(axis, 1, grid.cells[axis]) + halves.narrow(axis, 0, grid.cells[axis])) / 2,
            grid.points(),
            rtol=0,
            atol=1e-15,
        )
    assert math.prod(grid.cells) * grid.volume == pytest.approx(3 * 0.5 * 0.7, rel=1e-15)


def test_cell_averages_are_exact_for_polynomials_of_degree_twice_the_nodes_minus_one():
    grid = Grid((1.0, 1.0), (2.0, 3.0), (3, 2))
    for nodes in (1, 2, 5):
        n = 2 * nodes - 1
        averages = grid.averages(lambda x, n=n: n * x.log().sum(1), nodes=nodes)
        exact = [torch.diff(grid.faces(axis) ** (n + 1)) / (n + 1) / grid.widths[axis] for axis in (0, 1)]
        torch.testing.assert_close(averages, exact[0][:, None] * exact[1], rtol=1e-13, atol=0)


def test_cell_averages_converge_at_order_twice_the_nodes():
    def error(cells: int) -> float:
        grid = Grid.line(-1, 3, cells)
        exact = torch.diff(torch.special.ndtr(grid.faces())) / grid.widths[0]
        return float((grid.averages(lambda x: line_gaussian(0.0, 1.0)(x[:, 0]), nodes=2) - exact).abs().max())

    value = measured_order(error, [16, 32, 64, 128])
    assert value.order == pytest.approx(4, abs=0.1)


def test_cell_averages_of_a_gaussian_are_differences_of_its_distribution_function():
    grid = Grid.line(-9, 9, 60)
    averages = grid.averages(lambda x: line_gaussian(0.0, 1.0)(x[:, 0]))
    torch.testing.assert_close(
        averages, torch.diff(torch.special.ndtr(grid.faces())) / grid.widths[0], rtol=0, atol=1e-14
    )


def test_center_values_differ_from_cell_averages_at_order_two():
    def error(cells: int) -> float:
        grid = Grid.line(-8, 8, cells)
        density = line_gaussian(0.0, 1.0)
        return float(
            (grid.evaluate(lambda x: density(x[:, 0])) - grid.averages(lambda x: density(x[:, 0]))).abs().max()
        )

    assert measured_order(error, [32, 64, 128, 256]).order == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize(
    ("low", "high", "cells"),
    [
        ((0.0,), (0.0,), (4,)),
        ((1.0,), (0.0,), (4,)),
        ((math.nan,), (1.0,), (4,)),
        ((0.0,), (math.inf,), (4,)),
        ((0.0,), (1.0,), (1,)),
        ((0.0,), (1.0,), (0,)),
        ((0.0, 0.0), (1.0,), (4, 4)),
        ((), (), ()),
        ((0.0,) * 4, (1.0,) * 4, (2,) * 4),
        ((0.0,) * 3, (1.0,) * 3, (2**10,) * 3),
    ],
)
def test_an_impossible_grid_is_refused_in_one_line(low, high, cells):
    with pytest.raises(InputError) as refusal:
        Grid(low, high, cells)
    assert "\n" not in str(refusal.value)


# the density and its numbers


def test_mass_and_moments_of_a_correlated_gaussian():
    density = Density(BOX, BOX.evaluate(gaussian(MEAN, COVARIANCE)))
    assert density.mass() == pytest.approx(1, abs=1e-13)
    torch.testing.assert_close(density.mean(), MEAN, rtol=0, atol=1e-13)
    torch.testing.assert_close(density.covariance(), COVARIANCE, rtol=0, atol=1e-13)


def test_moments_do_not_depend_on_the_mass():
    density = Density(BOX, 3 * BOX.evaluate(gaussian(MEAN, COVARIANCE)))
    torch.testing.assert_close(density.mean(), MEAN, rtol=0, atol=1e-13)
    torch.testing.assert_close(density.covariance(), COVARIANCE, rtol=0, atol=1e-13)


def test_entropy_of_a_gaussian_is_half_the_log_determinant():
    density = Density(BOX, BOX.evaluate(gaussian(MEAN, COVARIANCE)))
    assert density.entropy() == pytest.approx(0.5 * float(torch.logdet(2 * math.pi * math.e * COVARIANCE)), abs=1e-13)


def test_entropy_of_a_uniform_density_is_the_log_of_its_volume():
    grid = Grid.square(0, 2, 5, dimensions=3)
    assert Density(grid, torch.full(grid.cells, 1 / 8)).entropy() == pytest.approx(math.log(8), abs=1e-14)


def test_relative_entropy_of_two_gaussians():
    p, q = (
        Density(BOX, BOX.evaluate(gaussian(m, C)))
        for m, C in ((MEAN, COVARIANCE), (torch.zeros(2).double(), torch.eye(2).double()))
    )
    exact = 0.5 * float(COVARIANCE.trace() - 2 + MEAN @ MEAN - torch.logdet(COVARIANCE))
    assert p.relative_entropy(q) == pytest.approx(exact, abs=1e-12)
    assert p.relative_entropy(p) == 0
    assert q.relative_entropy(p) != pytest.approx(exact, rel=0.01, abs=1e-12)


def test_relative_entropy_is_infinite_exactly_where_the_other_is_empty():
    grid = Grid.line(0, 4, 4)
    left, all_over = Density(grid, torch.tensor([0.5, 0.5, 0.0, 0.0])), Density(grid, torch.full((4,), 0.25))
    assert left.relative_entropy(all_over) == pytest.approx(math.log(2), abs=1e-15)
    assert all_over.relative_entropy(left) == math.inf


def test_l1_distance_of_shifted_gaussians_is_twice_their_total_variation():
    grid = Grid.line(-10, 10, 50)  # the densities cross at 0, a face
    p, q = (Density(grid, grid.averages(lambda x, m=m: line_gaussian(m, 1.0)(x[:, 0]))) for m in (-0.7, 0.7))
    assert p.l1_distance(q) == pytest.approx(2 * (1 - 2 * upper(0.7)), abs=1e-13)
    assert p.l1_distance(q) ** 2 <= 2 * p.relative_entropy(q)  # Pinsker


def test_what_is_negative_within_rounding_counts_as_empty():
    grid = Grid.line(-8, 8, 128)
    exact = on_line(grid, 0.3, 0.25)
    noisy = Density(grid, exact.values + 1e-15 * torch.cos(40 * grid.centers()))
    assert noisy.lowest() < 0
    assert noisy.entropy() == pytest.approx(exact.entropy(), abs=1e-12)
    assert noisy.relative_entropy(on_line(grid, 0.0, 1.0)) == pytest.approx(
        exact.relative_entropy(on_line(grid, 0.0, 1.0)), abs=1e-12
    )
    assert math.isfinite(exact.relative_entropy(noisy))


def test_what_is_negative_beyond_rounding_is_refused_where_a_density_is_needed(generator):
    grid = Grid.line(0, 4, 4)
    bad, good = Density(grid, torch.tensor([1.0, -0.1, 0.0, 0.1])), Density(grid, torch.full((4,), 0.25))
    assert bad.lowest() == pytest.approx(-0.1)
    assert bad.mass() == pytest.approx(1, abs=1e-7)  # given in float32
    for use in (
        bad.entropy,
        lambda: bad.relative_entropy(good),
        lambda: good.relative_entropy(bad),
        lambda: bad.sample(3, generator=generator),
    ):
        with pytest.raises(InputError, match=r"got -0\.1"):
            use()


def test_densities_on_different_grids_are_not_compared():
    a, b = (Density(Grid.line(0, 1, n), torch.ones(n)) for n in (4, 5))
    for compare in (a.relative_entropy, a.l1_distance):
        with pytest.raises(InputError, match="same grid"):
            compare(b)


@pytest.mark.parametrize(
    "values",
    [torch.ones(3), torch.ones(4, 1), torch.tensor([1.0, math.nan, 1.0, 1.0]), torch.tensor([1.0, math.inf, 1.0, 1.0])],
)
def test_values_that_do_not_fit_the_grid_are_refused(values):
    with pytest.raises(InputError, match="values"):
        Density(Grid.line(0, 1, 4), values)


# draws and histograms


def test_draws_follow_the_density(generator):
    grid = Grid.line(-5, 5, 400)
    density = Density(grid, grid.averages(lambda x: line_gaussian(0.4, 0.7)(x[:, 0])))
    draws = density.sample(20_000, generator=generator)[:, 0]
    assert monte_carlo(draws).agrees_with(0.4)
    # within a cell the density is constant: what the interpolated distribution function says, to (h/s)^2/24 < 1e-4
    exact = torch.distributions.Normal(0.4, math.sqrt(0.7)).cdf
    assert kstest(draws.numpy(), lambda x: exact(torch.as_tensor(x)).numpy()).pvalue > 1e-4


def test_draws_in_three_dimensions_fall_in_each_cell_as_often_as_its_mass_says(generator):
    grid = Grid((0.0, -1.0, 2.0), (1.0, 1.0, 3.0), (2, 3, 2))
    values = torch.tensor(np.random.default_rng(0).uniform(0, 1, grid.cells))
    values[1, 1, 0] = 0
    density, n = Density(grid, values), 40_000
    drawn = density.sample(n, generator=generator)
    share = values / values.sum()
    value = histogram(drawn, grid).values * grid.volume
    assert bool(((value - share).abs() <= 4.5 * (share * (1 - share) / n).sqrt()).all())  # 12 cells
    assert value[1, 1, 0] == 0


def test_a_histogram_counts_each_point_in_its_half_open_cell():
    grid = Grid((0.0, 0.0), (2.0, 2.0), (2, 2))
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 1.0], [1.999, 1.999]])
    torch.testing.assert_close(histogram(points, grid).values, torch.full((2, 2), 0.25, dtype=torch.float64))


def test_points_outside_the_box_are_missing_from_the_mass():
    points = torch.tensor([[-0.1], [0.1], [0.9], [1.0], [1.1]])
    assert histogram(points, Grid.line(0, 1, 3)).mass() == pytest.approx(2 / 5, abs=1e-15)


def test_the_histogram_of_draws_approaches_the_density_like_one_over_the_root_of_their_number():
    grid = Grid.square(-4, 4, 12)
    density = Density(grid, grid.averages(gaussian(MEAN, COVARIANCE)))

    def error(n: int) -> float:  # a mean over draws: its noise is a few percent
        source = torch.Generator().manual_seed(n)
        return float(
            np.mean([histogram(density.sample(n, generator=source), grid).l1_distance(density) for _ in range(20)])
        )

    assert measured_order(error, [2_000, 8_000, 32_000]).order == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    "points",
    [torch.zeros(0, 1), torch.zeros(3, 2), torch.tensor([[math.nan]]), torch.tensor([[math.inf]])],
)
def test_points_that_are_not_a_batch_on_the_grid_are_refused(points):
    with pytest.raises(InputError, match="points"):
        histogram(points, Grid.line(0, 1, 3))


def test_a_density_without_mass_has_no_moments_and_no_draws(generator):
    empty = Density(Grid.line(0, 1, 8), torch.zeros(8, dtype=torch.float64))
    for call in (empty.mean, empty.covariance, lambda: empty.sample(3, generator=generator)):
        with pytest.raises(InputError, match="density: expected one with mass"):
            call()


def test_numbers_of_a_density_that_carries_a_graph_are_those_of_its_values():
    p, q = on_line(Grid.line(-6, 6, 96), 0.3, 0.5), on_line(Grid.line(-6, 6, 96), 0.0, 1.0)
    traced = Density(p.grid, p.values.clone().requires_grad_())
    assert traced.mass() == p.mass()
    assert traced.entropy() == p.entropy()
    assert traced.relative_entropy(q) == p.relative_entropy(q)
    assert traced.l1_distance(q) == p.l1_distance(q)
    (slope,) = torch.autograd.grad(traced.mean()[0], traced.values)  # d mean / d p_i = (x_i - mean) / sum p
    expected = (p.grid.centers() - p.mean()[0]) / p.values.sum()
    torch.testing.assert_close(slope, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cell", [0, 3, 6])
def test_draws_of_a_density_in_one_cell_lie_in_that_cell(cell: int):
    grid = Grid.line(-2.0, 5.0, 7)  # cells of width 1
    values = torch.zeros(7, dtype=torch.float64)
    values[cell] = 1.0
    drawn = Density(grid, values).sample(200, generator=torch.Generator().manual_seed(0))
    assert bool(((drawn > cell - 2.0) & (drawn < cell - 1.0)).all())
    assert float(drawn.max() - drawn.min()) > 0.9  # 200 draws fill it


def test_a_uniform_number_draws_the_cell_whose_share_holds_it_from_its_lower_end_on(monkeypatch: pytest.MonkeyPatch):
    """Shares 1/4, 0, 1/2, 1/4; a cell without mass is never drawn."""
    grid = Grid.line(0.0, 4.0, 4)
    uniform = torch.tensor([0.0, 0.24, 0.25, 0.74, 0.75, 1 - 2.0**-53], dtype=torch.float64)
    density = Density(grid, torch.tensor([0.25, 0.0, 0.5, 0.25], dtype=torch.float64))
    real = torch.rand
    monkeypatch.setattr(torch, "rand", lambda *shape, **given: uniform if shape == (6,) else real(*shape, **given))
    drawn = density.sample(6, generator=torch.Generator().manual_seed(0))
    assert drawn.flatten().floor().tolist() == [0, 0, 2, 2, 3, 3]

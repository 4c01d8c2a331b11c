"""Pieces of the densities: interpolation weights, quadrature points, neighbors of a level, generators, and defaults."""

import math

import pytest
import torch

from diffuscope.denoisers import ExactDenoiser, StepIndex
from diffuscope.densities import (
    Density,
    Grid,
    dequantize,
    forward_equation,
    generator_matrix,
    heat_flow,
    heat_flows,
    heat_kernel,
    ito_equation,
    log_likelihood,
    mass_outside,
    ornstein_uhlenbeck,
    periodic_heat_kernel,
    relaxation_rates,
    reverse_equation,
    transport,
    variational_bound,
)
from diffuscope.densities.flow_map import COARSE, FINE
from diffuscope.densities.level_derivative import _best_polynomial, _nodes, _weights
from diffuscope.densities.relaxation import alternating
from diffuscope.densities.resolution import leaving_probability
from diffuscope.densities.semigroup import TOLERANCE
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP, DiscreteVP
from numbers_in_tests import double
from stated_numbers import default

NORMAL = Gaussian.isotropic(torch.zeros(1), 1.0)


class OfSteps(ExactDenoiser):
    """An exact denoiser that answers at the steps of its table alone."""

    clock = StepIndex(1000)


def test_weights_of_a_derivative_differentiate_polynomials_of_their_degree():
    offsets = double(-0.4, 0.7, -0.1, 0.05)
    for power in (1, 2, 3, 4):
        slope = float(_weights(offsets) @ offsets**power)
        assert slope == pytest.approx(float(power == 1), abs=1e-13)
    assert float(_weights(offsets) @ offsets**5) != pytest.approx(0, abs=1e-6)
    assert _weights(double(-0.5, 0.25)).tolist() == pytest.approx([-0.25 / 0.75 / 0.5, 0.5 / 0.75 / 0.25])


def test_the_best_polynomial_is_that_whose_neighbors_agree_and_its_error_is_how_far_they_do_or_the_rounding():
    offsets = double(-0.4, 0.4, -0.2, 0.2, -0.1, 0.1)
    times = [torch.tensor(float(k)) for k in range(6)]

    def run(power: int, rounding: float) -> tuple[float, float]:
        def change(time: torch.Tensor) -> torch.Tensor:
            x = offsets[int(time)]
            return torch.stack([3 * x + x**power, 3 * x + x**power])[None, :]

        value, error = _best_polynomial(offsets, times, change, double(rounding))
        assert value.shape == (1, 2)
        return float(value[0, 1]), float(error)

    # without rounding: three pairs agree with two on the slope of a cubic
    value, error = run(3, 0.0)
    assert value == pytest.approx(3, abs=1e-12)
    assert error < 3e-12
    value, error = run(3, 1.0)
    # by rounding: the runs of two pairs weigh the changes least where they are farthest
    weights = [float(_weights(offsets[part]).abs().sum()) for part in (slice(0, 4), slice(2, 6), slice(0, 6))]
    assert error == pytest.approx(min(weights), rel=1e-12)
    assert value == pytest.approx(3, abs=1e-12)


@pytest.mark.parametrize("t", [0.0021, 1.0, 79.0])
def test_neighbors_of_a_level_halve_from_two_fifths_and_turn_round_at_the_ends(t: float):
    """Beyond an end, one and a half times as far on the other side: all levels are within the schedule."""
    denoiser = ExactDenoiser(NORMAL, VE())
    lam = -math.log(t)
    ends = -math.log(80.0), -math.log(0.002)
    expected = []
    for k in range(6):
        h = 0.4 / 2**k
        expected += [h if lam + h <= ends[1] else -1.5 * h, -h if lam - h >= ends[0] else 1.5 * h]
    nodes = _nodes(denoiser, t)
    assert sorted(offset for offset, _ in nodes) == pytest.approx(sorted(expected), rel=1e-9)
    sizes = [abs(offset) for offset, _ in nodes]
    assert sizes == sorted(sizes, reverse=True)
    assert all(float(time) * (1 + 1e-12) >= 0.002 and float(time) <= 80 * (1 + 1e-12) for _, time in nodes)


def test_neighbors_of_a_step_are_steps_in_even_number_and_a_table_too_coarse_is_refused():
    chain = DiscreteVP.linear()
    nodes = _nodes(OfSteps(NORMAL, chain), 500.0)
    assert len(nodes) % 2 == 0
    assert all(float(time) == round(float(time)) != 500 for _, time in nodes)
    for offset, time in nodes:
        assert offset == pytest.approx(float(chain.lam(time) - chain.lam(500.0)), rel=1e-12)
    coarse = ExactDenoiser(NORMAL, DiscreteVP((0.3, 0.3, 0.3, 0.3)))
    coarse_steps = type("OfFour", (ExactDenoiser,), {"clock": StepIndex(4)})(NORMAL, coarse.schedule)
    with pytest.raises(InputError, match="t: expected at least 4 other noise levels near t = 2, got 3"):
        _nodes(coarse_steps, 2.0)


def test_averages_over_unequal_cells_are_exact_for_polynomials_of_twice_the_nodes():
    """Means of x^3 and of y over cells of sides 1/2 and 3."""
    grid = Grid((1.0, -3.0), (2.0, 6.0), (2, 3))
    found = grid.averages(lambda p: (p[:, 0] ** 3 * (p[:, 1] + 5)).log(), nodes=2)
    cubes = double((1.5**4 - 1) / 4 / 0.5, (2.0**4 - 1.5**4) / 4 / 0.5)
    torch.testing.assert_close(found, cubes[:, None] * double(3.5, 6.5, 9.5), rtol=1e-13, atol=0)


def test_the_generator_is_that_of_the_time_given_and_by_default_of_the_start():
    grid = Grid.line(0.0, 3.0, 3)  # cells of width 1
    equation = ito_equation(grid, lambda x, t: torch.full_like(x, 2.0 + t), 0.0)
    for given, t in (((), 0.0), ((0.5,), 0.5)):
        u = 2.0 + t
        assert generator_matrix(equation, *given).toarray().tolist() == [[-u, 0, 0], [u, -u, 0], [0, u, 0]]
    # the cells of a plane in the order of its values
    along_y = torch.tensor([0.0, 1.0], dtype=torch.float64)
    plane = ito_equation(Grid((0.0, 0.0), (2.0, 3.0), (2, 3)), lambda x, t: along_y.expand_as(x), 0.0)  # noqa: ARG005
    rates = generator_matrix(plane).toarray()
    assert {(int(i), int(j)): rates[i, j] for i, j in zip(*rates.nonzero(), strict=True)} == {
        (0, 0): -1, (1, 0): 1, (1, 1): -1, (2, 1): 1, (3, 3): -1, (4, 3): 1, (4, 4): -1, (5, 4): 1,
    }  # fmt: skip


def test_a_mode_alternates_where_differences_exceed_sums_along_some_axis():
    modes = torch.tensor([[[1.0, 2.0], [3.0, 5.0]], [[1.0, -2.0], [3.0, -5.0]], [[1.0, 2.0], [-3.0, -5.0]]])
    assert alternating(modes).tolist() == [False, True, True]
    assert alternating(torch.tensor([[1.0, 0.0, 2.0]])).tolist() == [False]  # equal: it is the same
    assert alternating(torch.tensor([[1j, -1j, 1j]])).tolist() == [True]


def test_counts_of_rates_are_bounded_by_the_cells():
    equation = ito_equation(Grid.line(0.0, 3.0, 6), lambda x, t: 0 * x, 0.5, steady=True)  # noqa: ARG005
    exact = [4 * (1 - math.cos(math.pi * k / 6)) for k in (1, 2, 3)]
    assert relaxation_rates(equation, 3).tolist() == pytest.approx(exact, rel=1e-9)
    assert relaxation_rates(equation).tolist() == pytest.approx(exact[:1], rel=1e-9)
    for count in (0, 4):
        with pytest.raises(InputError, match=f"count: expected 1 to 3 rates on 6 cells, got {count}"):
            relaxation_rates(equation, count)
    with pytest.raises(InputError, match=r"shift: expected a number > 0, got 0\.0"):
        relaxation_rates(equation, shift=0.0)


def test_diffusivities_scales_and_rates_are_one_and_variances_zero_by_default():
    """du/dt = the Laplacian: the kernel is normal with variance 2 t; dX = -X dt + sqrt(2) dB."""
    x, t = double(0.3, -0.8), 0.7
    normal = (-(x**2) / (4 * t)).exp() / math.sqrt(4 * math.pi * t)
    torch.testing.assert_close(heat_kernel(x, t), normal, rtol=1e-13, atol=0)
    periodic = sum((-((x + 5 * k) ** 2) / (4 * t)).exp() / math.sqrt(4 * math.pi * t) for k in range(-9, 10))
    torch.testing.assert_close(periodic_heat_kernel(x, t, length=5.0), periodic, rtol=1e-12, atol=0)
    grid = Grid.line(-6.0, 6.0, 96)
    bump = Density(grid, grid.evaluate(lambda p: NORMAL.log_prob(p, 1.0, 1e-9)))
    assert float(heat_flow(bump, t).covariance()) == pytest.approx(1 + 2 * t, rel=1e-2)
    torch.testing.assert_close(
        heat_flows(bump.values, grid, double(t))[0], heat_flow(bump, t).values, rtol=0, atol=1e-14
    )
    relaxing = ornstein_uhlenbeck(t, grid)
    assert float(relaxing.scale) == pytest.approx(math.exp(-t), rel=1e-14)
    assert float(relaxing.variance) == pytest.approx(1 - math.exp(-2 * t), rel=1e-14)
    inside = Grid.line(-6.0, 3.0, 4)
    beyond = float(bump.values[grid.centers() > 3].sum() * grid.volume)
    assert mass_outside(bump, inside) == pytest.approx(beyond, rel=1e-12)
    assert torch.equal(leaving_probability(grid, inside), (grid.centers() > 3).double())
    # eta = 1 is Anderson's reverse SDE, with the diffusion of the forward one
    reverse = reverse_equation(ExactDenoiser(NORMAL, VP()), grid, 0.5)
    forward = forward_equation(grid, VP()).generator(0, 0.5).upper
    torch.testing.assert_close(reverse.generator(0, 0.0).upper.sum(), forward.sum(), rtol=0.05, atol=0)


def test_tolerances_and_numbers_are_those_of_their_pages():
    assert (FINE, COARSE, TOLERANCE) == (1e-9, 1e-5, 1e-6)
    assert [default(function, "max_evaluations") for function in (transport, log_likelihood)] == [10_000, 10_000]
    assert (default(variational_bound, "levels"), default(variational_bound, "repeats")) == (64, 8)
    assert (default(dequantize, "count"), default(dequantize, "data_range")) == (256, (-1.0, 1.0))
    assert default(relaxation_rates, "shift") == 1e-6


def test_dequantized_levels_are_uniform_in_their_bin():
    levels = torch.full((4000, 1), 3)
    values = dequantize(levels, 5, data_range=(-2.0, 6.0), generator=torch.Generator().manual_seed(0))
    # bins of width 2 about -2, 0, 2, 4, 6
    assert float(values.min()) > 3
    assert float(values.max()) < 5
    assert float(values.mean()) == pytest.approx(4, abs=4 * 2 / 12**0.5 / 4000**0.5)
    assert float(values.var()) == pytest.approx(4 / 12, rel=0.1)

"""The finite-volume Fokker-Planck equation: orders, conservation, positivity, its stationary distribution, its
faults.
"""

import math

import pytest
import torch
from conftest import measured_order
from jaxtyping import TypeCheckError

from diffuscope.densities.density import Density
from diffuscope.densities.fokker_planck import (
    FokkerPlanck,
    bernoulli,
    forward_equation,
    gradient_equation,
    ito_equation,
)
from diffuscope.densities.grid import Grid
from diffuscope.densities.stepping import BackwardEuler, CrankNicolson, PeacemanRachford, equal_steps, evolution, evolve
from diffuscope.densities.tridiagonal import Tridiagonal
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.schedules import VE, VP

F64 = torch.float64
PAIR = GaussianMixture.isotropic(
    torch.tensor([0.5, 0.5], dtype=F64), torch.tensor([[-2.0], [2.0]], dtype=F64), torch.tensor([0.25, 0.25], dtype=F64)
)
DECAY = math.exp(-0.5)  # of dX = -X/2 dt + dB over a unit of time


def distribution(grid, distribution, alpha, sigma, nodes=8):
    return Density(grid, grid.averages(lambda x: distribution.log_prob(x, alpha, sigma), nodes=nodes))


def relaxing(grid):
    return ito_equation(grid, lambda x, _: -0.5 * x, 0.5, steady=True)


def test_crank_nicolson_in_space_converges_at_order_two_in_l1():
    def error(cells):
        grid = Grid.line(-8, 8, cells)
        end = evolve(relaxing(grid), distribution(grid, PAIR, 1.0, 1e-9), equal_steps(0, 1, 200), CrankNicolson())
        return end.l1_distance(distribution(grid, PAIR, DECAY, math.sqrt(1 - DECAY**2)))

    assert abs(measured_order(error, [100, 200, 400]).order - 2) < 0.03
    assert error(100) < 3.6e-3  # the constant: 1.39e-2 at 50 cells, a quarter at 100


@pytest.mark.parametrize(("scheme", "order"), [(BackwardEuler(), 1), (CrankNicolson(), 2)])
def test_schemes_converge_in_time_at_their_order(scheme, order):
    # against the exact exponential of the same matrix, so that the error is of the time stepping alone
    grid = Grid.line(-8, 8, 160)
    start = distribution(grid, PAIR, 1.0, 1e-9)
    L = relaxing(grid).generator(0, 0.0)
    dense = L.apply(torch.eye(160, dtype=F64)).T
    exact = torch.linalg.matrix_exp(dense) @ start.values

    def error(n):
        return float((evolve(relaxing(grid), start, equal_steps(0, 1, n), scheme).values - exact).abs().max())

    assert abs(measured_order(error, [16, 32, 64, 128]).order - order) < 0.05


@pytest.mark.parametrize(("scheme", "order"), [(BackwardEuler(), 1), (CrankNicolson(), 2)])
def test_a_time_dependent_drift_keeps_the_order(scheme, order):
    # VP with beta from 0.1 to 8: the exact distribution at t = 0.6 is another Gaussian
    schedule, data = VP(beta_max=8.0), Gaussian.isotropic(torch.tensor([1.0], dtype=F64), 0.3)
    grid = Grid.line(-7, 7, 1400)
    start = distribution(grid, data, float(schedule.alpha(0.05)), float(schedule.sigma(0.05)))
    end = distribution(grid, data, float(schedule.alpha(0.6)), float(schedule.sigma(0.6)))

    def error(n):
        return evolve(forward_equation(grid, schedule), start, equal_steps(0.05, 0.6, n), scheme).l1_distance(end)

    floor = 2e-5  # of the grid: h^2 times the second derivatives
    assert error(512) < 40 * floor
    assert abs(measured_order(error, [8, 16, 32]).order - order) < 0.12


@pytest.mark.parametrize("boundary", ["no-flux", "periodic"])
@pytest.mark.parametrize("scheme", [BackwardEuler(), CrankNicolson()])
def test_mass_is_conserved_to_rounding_over_a_thousand_steps(scheme, boundary):
    grid = Grid.line(-4, 4, 200)
    equation = ito_equation(
        grid,
        lambda x, t: torch.sin(math.pi * x / 4) + t,
        lambda x, _: 1 + 0.5 * torch.cos(math.pi * x / 4),
        boundary=boundary,
    )
    end = evolve(equation, distribution(grid, PAIR, 1.0, 0.1), equal_steps(0, 2, 1000), scheme)
    assert abs(end.mass() - distribution(grid, PAIR, 1.0, 0.1).mass()) <= 1e-12


def test_mass_is_conserved_in_two_dimensions():
    grid = Grid.square(-5, 5, 40)
    equation = ito_equation(grid, lambda x, _: torch.stack([-x[:, 1], x[:, 0] - x[:, 1] ** 3], 1), 0.7, steady=True)
    start = Density(grid, torch.rand(40, 40, dtype=F64, generator=torch.Generator().manual_seed(0)))
    for scheme in (BackwardEuler(), PeacemanRachford()):
        assert abs(evolve(equation, start, equal_steps(0, 3, 1000), scheme).mass() / start.mass() - 1) <= 1e-12


def test_the_gibbs_distribution_is_stationary_to_rounding():
    grid = Grid.line(-3, 3, 200)

    def double_well(x):
        return (x[:, 0] ** 2 - 1) ** 2 + 0.3 * x[:, 0]

    gibbs = grid.evaluate(lambda x: -double_well(x) / 0.4)
    gibbs = gibbs / gibbs.sum() / grid.volume
    equation = gradient_equation(grid, double_well, 0.4)
    largest = float(equation.generator(0, 0.0).diagonal.abs().max())
    assert float(equation.rate(gibbs, 0.0).abs().max()) <= 1e-13 * largest
    end = evolve(equation, Density(grid, gibbs), equal_steps(0, 10, 1000), CrankNicolson())
    assert end.l1_distance(Density(grid, gibbs)) <= 1e-13 * 10


def test_the_residual_of_the_gibbs_distribution_is_below_1e_13():
    grid = Grid.line(-8, 8, 256)
    gibbs = grid.evaluate(lambda x: -0.5 * x[:, 0] ** 2)
    equation = gradient_equation(grid, lambda x: 0.25 * x[:, 0] ** 2, 0.5)
    assert float(equation.rate(gibbs / gibbs.sum() / grid.volume, 0.0).abs().max()) <= 1e-13


@pytest.mark.parametrize("tau", [1e-3, 0.1, 10.0, 1e4])
def test_backward_euler_is_never_negative(tau):
    grid = Grid.line(-3, 3, 120)
    equation = ito_equation(grid, lambda x, _: 20 * torch.sin(3 * x), 0.01, steady=True)
    spike = torch.zeros(120, dtype=F64)
    spike[40] = 1
    densities = list(evolution(equation, Density(grid, spike), equal_steps(0, 10 * tau, 10), BackwardEuler()))
    assert min(density.lowest() for density in densities) >= 0
    square = Grid.square(-3, 3, 30)
    equation = ito_equation(square, lambda x, _: 20 * torch.sin(3 * x), 0.01, steady=True)
    spike = torch.zeros(30, 30, dtype=F64)
    spike[10, 20] = 1
    densities = list(evolution(equation, Density(square, spike), equal_steps(0, 10 * tau, 10), BackwardEuler()))
    assert min(density.lowest() for density in densities) >= 0


def test_crank_nicolson_turns_negative_beyond_its_bound_and_not_below():
    grid = Grid.line(-3, 3, 120)
    equation = ito_equation(grid, lambda x, _: -x, 1.0, steady=True)
    bound = 2 / float(equation.generator(0, 0.0).diagonal.abs().max())
    spike = torch.zeros(120, dtype=F64)
    spike[60] = 1
    for tau, negative in ((0.99 * bound, False), (3 * bound, True)):
        assert (
            evolve(equation, Density(grid, spike), equal_steps(0, tau, 1), CrankNicolson()).lowest() < 0
        ) is negative


@pytest.mark.parametrize("scheme", [BackwardEuler(), CrankNicolson()])
def test_relative_entropy_to_the_stationary_distribution_never_grows(scheme):
    grid = Grid.line(-3, 3, 150)
    equation = gradient_equation(grid, lambda x: (x[:, 0] ** 2 - 1) ** 2, 0.4)
    gibbs = grid.evaluate(lambda x: -((x[:, 0] ** 2 - 1) ** 2) / 0.4)
    gibbs = Density(grid, gibbs / gibbs.sum() / grid.volume)
    start = distribution(grid, PAIR, 0.5, 0.2)
    start = Density(grid, start.values / start.mass())
    path = list(evolution(equation, start, equal_steps(0, 2, 4000), scheme))
    entropies = torch.tensor([density.relative_entropy(gibbs) for density in path[::10]])
    assert bool((entropies.diff() <= 1e-15).all())
    assert entropies[-1] < 0.6 * entropies[0]


def test_an_absorbing_interval_loses_its_first_mode_at_the_exact_rate():
    def error(cells):
        grid = Grid.line(0, 1, cells)
        equation = ito_equation(grid, lambda x, _: 0 * x, 1.0, boundary="absorbing", steady=True)
        mode = torch.sin(math.pi * grid.centers())
        end = evolve(equation, Density(grid, mode), equal_steps(0, 0.1, 400), CrankNicolson())
        return float((end.values - math.exp(-(math.pi**2) * 0.1) * mode).abs().max())

    assert abs(measured_order(error, [20, 40, 80]).order - 2) < 0.05


def test_the_exit_time_of_a_drifting_walker_is_the_closed_form():
    # dX = mu dt + sqrt(2) dB on (0, 1), absorbed: E[T | x] = x-dependent; from the survival, by linearity,
    # the mean exit time solves the stationary adjoint equation: T(x) = (1/mu) [(1 - e^{-mu x})/(1 - e^{-mu}) - x]
    mu = 3.0

    def error(cells):
        grid = Grid.line(0, 1, cells)
        equation = ito_equation(grid, lambda x, _: 0 * x + mu, 1.0, boundary="absorbing", steady=True)
        adjoint = equation.generator(0, 0.0).transposed()
        times = adjoint.solve(-torch.ones(cells, dtype=F64))
        x = grid.centers()
        exact = ((1 - torch.exp(-mu * x)) / (1 - math.exp(-mu)) - x) / mu
        return float((times - exact).abs().max())

    assert abs(measured_order(error, [20, 40, 80]).order - 2) < 0.05


def test_a_wave_goes_round_a_periodic_box_at_the_speed_of_its_drift():
    # p = 1 + e^{-A k^2 t} cos k (x - c t) / 2
    def error(cells):
        grid = Grid.line(0, 1, cells)
        equation = ito_equation(grid, lambda x, _: 0 * x + 1.3, 0.02, boundary="periodic", steady=True)
        x, k = grid.centers(), 2 * math.pi
        end = evolve(equation, Density(grid, 1 + torch.cos(k * x) / 2), equal_steps(0, 1, 1000), CrankNicolson())
        exact = 1 + math.exp(-0.02 * k**2) * torch.cos(k * (x - 1.3)) / 2
        return float((end.values - exact).abs().max())

    assert abs(measured_order(error, [40, 80, 160]).order - 2) < 0.1


def test_alternating_directions_follow_a_turning_gaussian_at_order_two():
    # dX = -(1 + i w) X dt + sqrt 2 dB in the plane as the complex numbers: the mean turns while it decays
    data = Gaussian.isotropic(torch.tensor([1.0, -0.5], dtype=F64), 0.3)
    end_time, w = 0.5, 2.0
    turn = torch.tensor(
        [
            [math.cos(w * end_time), -math.sin(w * end_time)],
            [math.sin(w * end_time), math.cos(w * end_time)],
        ],
        dtype=F64,
    )
    decay = math.exp(-end_time)
    exact = Gaussian.isotropic(decay * turn @ data.mean, 0.3 * decay**2 + 1 - decay**2)

    def error(cells):
        grid = Grid.square(-5, 5, cells)
        drift = torch.tensor([[-1.0, -w], [w, -1.0]], dtype=F64)
        equation = ito_equation(grid, lambda x, _: x @ drift.T, 1.0, steady=True)
        start = distribution(grid, data, 1.0, 1e-9, nodes=3)
        end = evolve(equation, start, equal_steps(0, end_time, cells // 2), PeacemanRachford())
        return end.l1_distance(distribution(grid, exact, 1.0, 1e-9, nodes=3))

    assert abs(measured_order(error, [32, 64, 128]).order - 2) < 0.1


def test_alternating_directions_converge_at_order_two_in_time():
    grid = Grid.square(-4, 4, 24)
    drift = torch.tensor([[-1.0, -2.0], [2.0, -1.0]], dtype=F64)
    equation = ito_equation(grid, lambda x, _: x @ drift.T, 0.5, steady=True)
    start = distribution(grid, Gaussian.isotropic(torch.tensor([1.0, -0.5], dtype=F64), 0.4), 1.0, 1e-9)
    columns = torch.eye(24 * 24, dtype=F64).reshape(-1, 24, 24)
    dense = torch.stack([equation.rate(column, 0.0).reshape(-1) for column in columns], 1)
    exact = (torch.linalg.matrix_exp(0.5 * dense) @ start.values.reshape(-1)).reshape(24, 24)

    def error(n):
        return float((evolve(equation, start, equal_steps(0, 0.5, n), PeacemanRachford()).values - exact).abs().max())

    assert abs(measured_order(error, [8, 16, 32, 64]).order - 2) < 0.05


def test_noise_that_depends_on_place_is_read_in_the_sense_of_ito():
    # dX = sqrt(2 A(X)) dB on a ring has the stationary distribution 1/A in Ito's sense (flat in the anti-Ito one)
    def error(cells):
        grid = Grid.line(0, 1, cells)
        equation = ito_equation(
            grid,
            lambda x, _: 0 * x,
            lambda x, _: 1 + 0.5 * torch.cos(2 * math.pi * x[:, 0]),
            boundary="periodic",
            steady=True,
        )
        flat = Density(grid, torch.ones(cells, dtype=F64))
        end = evolve(equation, flat, equal_steps(0, 4, 100), BackwardEuler())
        stationary = 1 / (1 + 0.5 * torch.cos(2 * math.pi * grid.centers()))
        return end.l1_distance(Density(grid, stationary / stationary.mean()))

    assert abs(measured_order(error, [20, 40, 80]).order - 2) < 0.05


def test_without_diffusion_the_flux_is_upwind_and_keeps_mass_and_sign():
    grid = Grid.line(0, 1, 100)
    equation = ito_equation(grid, lambda x, _: torch.cos(3 * x), 0.0, boundary="no-flux", steady=True)
    spike = torch.zeros(100, dtype=F64)
    spike[20] = 100
    end = evolve(equation, Density(grid, spike), equal_steps(0, 0.2, 50), BackwardEuler())
    assert abs(end.mass() - 1) <= 1e-13
    assert end.lowest() >= 0
    # x' = cos 3x from x = 0.205: sin 3x = tanh(3 t + artanh sin 0.615), but for the scheme's own first-order spread
    followed = math.asin(math.tanh(0.6 + math.atanh(math.sin(0.615)))) / 3
    assert abs(float(end.mean()) - followed) < grid.widths[0]


def test_the_variance_exploding_forward_flow_is_the_heat_flow():
    grid = Grid.line(-12, 12, 600)
    start = distribution(grid, PAIR, 1.0, 0.5)
    end = evolve(forward_equation(grid, VE()), start, equal_steps(0.5, 1.5, 200), CrankNicolson())
    assert end.l1_distance(distribution(grid, PAIR, 1.0, 1.5)) < 4e-4  # 1.7e-4 x (h / 0.04)^2


def test_differencing_twice_is_caught():
    """The published script that differences (p U')' and then adds p U'' once more gains mass."""
    grid = Grid.line(-8, 8, 200)

    class Mutant(FokkerPlanck):
        def generator(self, axis, t):
            sound = super().generator(axis, t)
            return Tridiagonal(sound.lower, sound.diagonal + 0.5, sound.upper)  # U'' = 1/2

    sound = relaxing(grid)
    mutant = Mutant(sound.grid, sound.face_drift, sound.face_diffusion, steady=True)
    start = distribution(grid, PAIR, 1.0, 1e-9)
    exact = distribution(grid, PAIR, DECAY, math.sqrt(1 - DECAY**2))
    ends = {eq: evolve(eq, start, equal_steps(0, 1, 200), CrankNicolson()) for eq in (sound, mutant)}
    assert abs(ends[sound].mass() - 1) <= 1e-12
    assert ends[sound].l1_distance(exact) < 1e-3
    # the checks of this file catch it: mass grows as e^{t/2}, and so does the distance; the Gibbs density moves
    assert abs(ends[mutant].mass() - math.exp(0.5)) < 1e-5
    assert ends[mutant].l1_distance(exact) > 0.6
    gibbs = grid.evaluate(lambda x: -0.5 * x[:, 0] ** 2)
    assert float(mutant.rate(gibbs, 0.0).abs().max()) == pytest.approx(0.5, rel=0.01)


def test_the_end_is_differentiable_in_a_parameter_of_the_drift():
    grid = Grid.line(-4, 4, 60)
    start = distribution(grid, PAIR, 0.5, 0.4)

    def mean_square(theta):
        equation = ito_equation(grid, lambda x, _: -theta * x, 0.5, steady=True)
        return (evolve(equation, start, equal_steps(0, 0.5, 8), CrankNicolson()).values * grid.centers() ** 2).sum()

    assert torch.autograd.gradcheck(mean_square, (torch.tensor(0.8, dtype=F64, requires_grad=True),))


def test_the_bernoulli_function_is_smooth_where_its_two_formulas_meet():
    z = torch.tensor([0.01 - 1e-12, 0.01 + 1e-12, -0.01 + 1e-12, -0.01 - 1e-12], dtype=F64)
    values = bernoulli(z)
    assert abs(float(values[0] - values[1])) < 1e-11
    assert abs(float(values[2] - values[3])) < 1e-11
    far = bernoulli(torch.tensor([-800.0, 800.0, 0.0], dtype=F64))
    assert far.tolist() == [800.0, 0.0, 1.0]
    z = torch.linspace(-5, 5, 101, dtype=F64)
    torch.testing.assert_close(bernoulli(-z), z.exp() * bernoulli(z), rtol=1e-13, atol=0)


def test_bad_input_is_one_line():
    grid = Grid.line(0, 1, 10)
    flat = Density(grid, torch.ones(10, dtype=F64))
    sound = ito_equation(grid, lambda x, _: -x, 1.0)
    with pytest.raises(InputError, match=r"drift: expected shape \(11, 1\)"):
        ito_equation(grid, lambda x, _: x[:, 0], 1.0).generator(0, 0.0)
    with pytest.raises(InputError, match="diffusion: expected values >= 0"):
        ito_equation(grid, lambda x, _: x, -1.0).generator(0, 0.0)
    with pytest.raises(InputError, match="expected finite values on the grid"):
        ito_equation(grid, lambda x, _: x / 0, 1.0).generator(0, 0.0)
    with pytest.raises(InputError, match="diffusion: expected a number > 0"):
        gradient_equation(grid, lambda x: x[:, 0], 0.0)
    with pytest.raises(InputError, match="killing: expected one rate per point"):
        ito_equation(grid, lambda x, _: x, 1.0, killing=lambda x, _: x).generator(0, 0.0)
    with pytest.raises(InputError, match="increasing times"):
        evolve(sound, flat, torch.tensor([1.0, 0.5], dtype=F64), BackwardEuler())
    with pytest.raises(InputError, match="expected the grid of the equation"):
        evolve(sound, Density(Grid.line(0, 2, 10), flat.values), equal_steps(0, 1, 2), BackwardEuler())
    with pytest.raises(InputError, match="PeacemanRachford is for 2 dimensions"):
        evolve(sound, flat, equal_steps(0, 1, 2), PeacemanRachford())
    square = Grid.square(0, 1, 4)
    plane, even = ito_equation(square, lambda x, _: x, 1.0), Density(square, torch.ones(4, 4, dtype=F64))
    with pytest.raises(InputError, match="CrankNicolson is for 1 dimension, got 2"):
        evolve(plane, even, equal_steps(0, 1, 2), CrankNicolson())
    with pytest.raises(InputError, match="expected finite start < end"):
        equal_steps(1, 0, 3)


def test_a_boundary_of_another_name_is_refused():
    # an unknown name would close no end, and mass would leak silently
    with pytest.raises((InputError, TypeCheckError), match="boundary"):
        ito_equation(Grid.line(-1, 1, 8), lambda x, _: -x, 0.5, boundary="reflecting")  # pyright: ignore[reportArgumentType]


def test_the_bernoulli_function_has_its_derivative_on_both_sides_however_far():
    z = torch.tensor([-800.0, -30.0, -1.0, 0.5, 30.0, 300.0, 720.0, 1e6], dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(bernoulli(z).sum(), z)
    for point, found in zip(z.tolist(), slope.tolist(), strict=True):
        # B' = B (1 - B e^z) / z, with B e^z = B(-z)
        value, mirrored = (float(bernoulli(torch.tensor(s * point, dtype=F64))) for s in (1, -1))
        assert found == pytest.approx(value * (1 - mirrored) / point, rel=1e-12, abs=1e-300)


def test_drift_that_overwhelms_the_noise_in_a_cell_has_a_finite_gradient():
    grid = Grid.line(0, 1, 20)
    start = distribution(grid, Gaussian.isotropic(torch.tensor([0.5], dtype=F64), 0.01), 1.0, 1e-9)

    def mean(speed):  # u h / A = 5e4 speed
        equation = ito_equation(grid, lambda x, _: speed + 0 * x, 1e-6, steady=True)
        return evolve(equation, start, equal_steps(0, 0.1, 4), BackwardEuler()).mean()[0]

    speed = torch.tensor(1.0, dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(mean(speed), speed)
    with torch.no_grad():
        difference = (mean(1 + 1e-4) - mean(1 - 1e-4)) / 2e-4
    assert float(slope) == pytest.approx(float(difference), rel=1e-6)
    assert float(slope) == pytest.approx(
        0.1, rel=0.05
    )  # all of the mass moves for a time of 0.1, but what is at the end

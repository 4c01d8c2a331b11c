"""The backward equation: duality to rounding, closed forms of Feynman-Kac, Hermite eigenfunctions."""

import math
import weakref

import pytest
import torch
from conftest import measured_order, monte_carlo

from diffuscope.densities.backward import expectation, expectations, gaussian_expectation
from diffuscope.densities.density import Density
from diffuscope.densities.fokker_planck import ito_equation
from diffuscope.densities.grid import Grid
from diffuscope.densities.stepping import BackwardEuler, CrankNicolson, PeacemanRachford, equal_steps, evolution, evolve
from diffuscope.errors import InputError
from diffuscope.schedules import VE, VP, Cosine

F64 = torch.float64
ORNSTEIN_UHLENBECK = VP(2.0, 2.0)  # dX = -X dt + sqrt 2 dB, alpha = e^{-t}


def hermite(n, x):
    """He_n by its recurrence."""
    before, this = torch.ones_like(x), x
    if n == 0:
        return before
    for k in range(1, n):
        before, this = this, x * this - k * before
    return this


@pytest.mark.parametrize("boundary", ["no-flux", "absorbing", "periodic"])
@pytest.mark.parametrize("scheme", [BackwardEuler(), CrankNicolson()])
def test_the_pairing_of_forward_and_backward_is_constant_in_time(scheme, boundary, generator):
    grid, times = Grid.line(-2, 2, 90), equal_steps(0, 1, 40)
    equation = ito_equation(
        grid,
        lambda x, t: torch.sin(math.pi * x / 2) * (1 + t),
        lambda x, t: 0.3 + 0.2 * torch.cos(math.pi * x / 2) * t,
        boundary=boundary,
        killing=lambda x, t: x[:, 0] ** 2 + t,
    )
    start = Density(grid, torch.rand(90, dtype=F64, generator=generator))
    payoff = torch.randn(90, dtype=F64, generator=generator)
    forward = [density.values for density in evolution(equation, start, times, scheme)]
    backward = list(expectations(equation, payoff, times, scheme))[::-1]
    pairings = torch.stack([(u * p).sum() for u, p in zip(backward, forward, strict=True)])
    assert float((pairings - pairings[0]).abs().max()) <= 1e-12 * float(payoff.abs() @ forward[0])


def test_the_pairing_is_constant_in_two_dimensions(generator):
    grid, times = Grid.square(-2, 2, 24), equal_steps(0, 1, 30)
    equation = ito_equation(grid, lambda x, t: torch.stack([-x[:, 1] * t, x[:, 0] ** 2], 1), 0.4)
    p = Density(grid, torch.rand(24, 24, dtype=F64, generator=generator))
    payoff = torch.randn(24, 24, dtype=F64, generator=generator)
    for scheme in (BackwardEuler(), PeacemanRachford()):
        end = evolve(equation, p, times, scheme)
        u = expectation(equation, payoff, times, scheme)
        assert abs(float((u * p.values).sum() - (payoff * end.values).sum())) <= 1e-12 * 576


def test_feynman_kac_gives_the_closed_form_of_a_quadratic_potential_at_order_two():
    # E_x exp(-c^2/2 int_0^t B^2) = cosh(ct)^(-1/2) exp(-c x^2 tanh(ct) / 2)
    c, t = 1.3, 0.8

    def error(cells):
        grid = Grid.line(-9, 9, cells)
        equation = ito_equation(
            grid, lambda x, _: 0 * x, 0.5, killing=lambda x, _: 0.5 * c**2 * x[:, 0] ** 2, steady=True
        )
        u = expectation(equation, torch.ones(cells, dtype=F64), equal_steps(0, t, cells), CrankNicolson())
        x = grid.centers()
        exact = math.cosh(c * t) ** -0.5 * torch.exp(-0.5 * c * x**2 * math.tanh(c * t))
        return float((u - exact).abs().max())

    assert abs(measured_order(error, [90, 180, 360]).order - 2) < 0.05


def test_the_backward_equation_on_a_grid_approaches_the_exact_expectation_at_order_two():
    def error(cells):
        grid = Grid.line(-8, 8, cells)
        equation = ito_equation(grid, lambda x, _: -x, 1.0, steady=True)
        u = expectation(equation, torch.cos(grid.centers()), equal_steps(0, 0.5, cells), CrankNicolson())
        exact = gaussian_expectation(ORNSTEIN_UHLENBECK, lambda x: x[:, 0].cos(), grid.points(), 0.3, 0.8)
        middle = grid.centers().abs() < 3
        return float((u - exact)[middle].abs().max())

    assert abs(measured_order(error, [80, 160, 320]).order - 2) < 0.05


@pytest.mark.parametrize("n", range(7))
def test_hermite_polynomials_decay_at_their_degree(n):
    x = torch.linspace(-3, 3, 61, dtype=F64)[:, None]
    u = gaussian_expectation(ORNSTEIN_UHLENBECK, lambda y: hermite(n, y[:, 0]), x, 0.2, 0.9, nodes=16)
    exact = math.exp(-0.7 * n) * hermite(n, x[:, 0])
    assert float((u - exact).abs().max()) <= 1e-12 * max(1.0, float(exact.abs().max()))


def test_the_expectation_of_a_sine_is_its_closed_form():
    # X_t given x is N(a x, v): E sin X_t = e^(-v/2) sin(a x)
    x = torch.linspace(-12, 12, 49, dtype=F64)[:, None]
    a, v = math.exp(-0.7), -math.expm1(-1.4)
    u = gaussian_expectation(ORNSTEIN_UHLENBECK, lambda y: y[:, 0].sin(), x, 0.2, 0.9)
    torch.testing.assert_close(u, math.exp(-v / 2) * torch.sin(a * x[:, 0]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("scheme", [BackwardEuler(), CrankNicolson()])
def test_an_expectation_stays_between_the_bounds_of_its_payoff(scheme):
    """The maximum principle: an average of values between -1 and 1, for a payoff that the grid resolves."""
    grid = Grid.line(-12, 12, 256)
    equation = ito_equation(grid, lambda x, _: -0.5 * x, 0.5, steady=True)
    for u in expectations(equation, grid.centers().sin(), equal_steps(0, 1.35, 128), scheme):
        assert float(u.abs().max()) <= 1


def test_expectations_agree_with_samples_of_the_forward_process(generator):
    schedule = Cosine()
    s, t = 0.3, 0.7
    x = torch.tensor([[0.5, -1.0]], dtype=F64)
    a = float(schedule.alpha(t) / schedule.alpha(s))
    spread = math.sqrt(float(schedule.sigma(t)) ** 2 - (a * float(schedule.sigma(s))) ** 2)
    ends = a * x + spread * torch.randn(40_000, 2, dtype=F64, generator=generator)
    exact = float(gaussian_expectation(schedule, lambda y: (y[:, 0] * y[:, 1]).sin(), x, s, t, nodes=32))
    assert monte_carlo((ends[:, 0] * ends[:, 1]).sin()).agrees_with(exact)


def test_the_square_of_the_state_grows_as_the_heat_flow_says():
    x = torch.tensor([[0.0], [2.0]], dtype=F64)
    u = gaussian_expectation(VE(), lambda y: y[:, 0] ** 2, x, 1.0, 3.0)
    torch.testing.assert_close(u, x[:, 0] ** 2 + 8, rtol=1e-14, atol=1e-14)


def test_bad_input_is_refused():
    grid = Grid.line(0, 1, 10)
    equation = ito_equation(grid, lambda x, _: -x, 1.0)
    with pytest.raises(InputError, match=r"payoff: expected the grid's shape \(10,\), got \(9,\)"):
        list(expectations(equation, torch.ones(9, dtype=F64), equal_steps(0, 1, 3), BackwardEuler()))
    with pytest.raises(InputError, match="payoff: expected finite values"):
        list(expectations(equation, torch.full((10,), torch.nan, dtype=F64), equal_steps(0, 1, 3), BackwardEuler()))
    with pytest.raises(InputError, match="t: expected a time after"):
        gaussian_expectation(VE(), lambda y: y[:, 0], torch.zeros(1, 1, dtype=F64), 3.0, 1.0)


def test_the_backward_equation_holds_the_matrices_of_one_step_at_a_time():
    alive: list[weakref.ref] = []

    class Watched:
        order = 1

        def step(self, equation, t, s):
            assert sum(reference() is not None for reference in alive) <= 2
            made = BackwardEuler().step(equation, t, s)
            alive.append(weakref.ref(made.factors[0]))
            return made

    equation = ito_equation(Grid.line(-1, 1, 16), lambda x, t: -t * x, 0.5)
    expectation(equation, torch.ones(16, dtype=F64), equal_steps(0, 1, 20), Watched())
    assert len(alive) == 20


def test_the_probability_of_an_event_is_the_expectation_of_its_indicator():
    # P(X_t > -1) or P(X_t < 9) of a narrow distribution: either is 0 or 1 at every node of the quadrature
    x = torch.tensor([[0.0], [-3.0]], dtype=F64)
    found = gaussian_expectation(VE(), lambda y: y[:, 0] > -1, x, 0.01, 0.011)
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0], dtype=F64), rtol=0, atol=1e-14)

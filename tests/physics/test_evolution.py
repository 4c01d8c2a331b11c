"""Equations in time: manufactured and exact solutions, conservation, Jacobians."""

import math

import pytest
import torch
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.physics import Equation, Grid, Problem
from diffuscope.physics.operators import (
    AdvectionDiffusion,
    Burgers,
    Heat,
    ReactionDiffusion,
    allen_cahn,
    evolution,
    fisher,
    nagumo,
)
from diffuscope.physics.priors import gaussian_prior, joint_prior
from diffuscope.physics.random_fields import Matern, covariance_matrix


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def cole_hopf(x: Tensor, t: float, nu: float) -> Tensor:
    """Burgers from u(x, 0) = sin(2 pi x) by quadrature: u = integral of (x - s)/t e^(-G/2nu) / integral of e^(-G/2nu).

    G = (x - s)^2 / 2t + integral of u(., 0) from 0 to s. The trapezoidal rule converges exponentially here.
    """
    s = torch.linspace(-3, 4, 5_001, dtype=torch.float64)
    G = (x[:, None] - s) ** 2 / (2 * t) + (1 - torch.cos(2 * math.pi * s)) / (2 * math.pi)
    weights = torch.softmax(-G / (2 * nu), 1)
    return (weights * (x[:, None] - s) / t).sum(1)


def test_burgers_approaches_the_solution_of_cole_and_hopf_at_order_two() -> None:
    errors = []
    for n in (32, 64):
        burgers = Burgers(Grid((n // 2 + 1, n), (0.2, 1.0), (False, True)), 0.05)
        x = burgers.space.along(0)
        u = burgers.solve(torch.sin(2 * math.pi * x)[None])[0]
        errors.append(float((u[-1] - cole_hopf(x, 0.2, 0.05)).abs().max()))
    assert math.log2(errors[-2] / errors[-1]) == pytest.approx(2, abs=0.1)
    assert errors[-1] < 1e-3


def test_burgers_conserves_mass_and_loses_the_energy_that_viscosity_takes() -> None:
    burgers = Burgers(Grid((9, 16), (1.0, 2.0), (False, True)), 0.01)
    u = burgers.solve(4 * burgers.draw(3, generator=generator()))
    h, tau = 2 / 16, 1 / 8
    assert float((u - u[:, :1]).sum(-1).abs().max()) < 1e-13
    middle = (u[:, 1:] + u[:, :-1]) / 2
    lost = 0.01 * h * ((middle.roll(-1, -1) - middle) / h).square().sum(-1)
    assert torch.allclose(h * u.square().sum(-1).diff(dim=1) / (2 * tau), -lost, rtol=0, atol=1e-12)
    assert float(lost.max()) > 0.1


def boxes(boundary: str, shape: tuple[int, ...] = (5, 7)) -> tuple[Grid, str]:
    """A grid of time and space that is periodic in space where that is the boundary, and the other argument."""
    lengths = (0.5, 1.5, 0.8)[: len(shape)]
    around = (False, *[boundary == "periodic"] * (len(shape) - 1))
    return Grid(
        shape, lengths, around, (0.0, 0.4, -0.3)[: len(shape)]
    ), boundary if boundary != "periodic" else "dirichlet"


BOUNDARIES = ["dirichlet", "neumann", "periodic"]
MAKERS = {
    "heat": lambda grid, boundary, source=None: Heat(grid, 0.3, boundary, source),
    "advection": lambda grid, boundary, source=None: AdvectionDiffusion(
        grid, (0.7, -0.4)[: grid.axes - 1], 0.2, boundary, source
    ),
    "burgers": lambda grid, boundary, source=None: Burgers(grid, 0.2, boundary, source),
    "allen-cahn": lambda grid, boundary, source=None: ReactionDiffusion(grid, 0.3, allen_cahn(), boundary, source),
    "fisher": lambda grid, boundary, source=None: ReactionDiffusion(grid, 0.3, fisher(), boundary, source),
    "nagumo": lambda grid, boundary, source=None: ReactionDiffusion(grid, 0.3, nagumo(0.2), boundary, source),
}
SMALL = [MAKERS[name](*boxes(boundary)) for name in MAKERS for boundary in BOUNDARIES]
SMALL += [
    Heat(Grid((4, 4, 5), (0.5, 1.0, 2.0), (False, False, True)), 0.3),
    AdvectionDiffusion(Grid((4, 4, 5), (0.5, 1.0, 2.0), (False, True, False)), (0.7, -0.4), 0.3, "neumann"),
    ReactionDiffusion(Grid((4, 4, 5), (0.5, 1.0, 2.0)), 0.3, allen_cahn(), ("neumann", "dirichlet")),
    Burgers(Grid((4, 5)), 0.3, "neumann", torch.randn(4, 5, dtype=torch.float64, generator=generator())),
]


@pytest.mark.parametrize("equation", SMALL)
def test_the_reference_solution_has_no_residual_in_any_row(equation) -> None:
    assert isinstance(equation, Equation)
    given = equation.draw(3, generator=generator())
    u = equation.solve(given)
    rows = equation.residual(u, given).flatten(2).abs().amax((0, 2))
    assert rows[0] == 0
    assert float(rows.max()) < 1e-13 * float(u.abs().max()) / equation.grid.spacing[0]


@pytest.mark.parametrize("equation", SMALL)
def test_the_jacobian_is_that_of_autograd(equation) -> None:
    u = torch.randn(1, *equation.grid.shape, dtype=torch.float64, generator=generator())
    given = equation.draw(1, generator=generator())
    J = torch.autograd.functional.jacobian(
        lambda v: equation.residual(v.reshape(u.shape), given).flatten(), u.flatten()
    )
    by_hand = torch.from_numpy(equation.jacobian(u[0], given[0]).toarray())
    assert torch.allclose(J, by_hand, rtol=0, atol=1e-13 * float(J.abs().max()))


def test_the_residual_is_differentiable_in_what_is_given_and_keeps_the_type_of_numbers() -> None:
    for equation in SMALL[:3]:
        given = equation.draw(2, generator=generator()).requires_grad_()
        u = equation.solve(given)
        (slope,) = torch.autograd.grad(equation.residual(u, given).sum(), given)
        steps = len(u[0]) - 1
        held = equation.form.dirichlet.double().expand_as(given)
        assert torch.equal(slope, -1 - steps * held)  # in the first row, and at Dirichlet nodes in all others
        assert equation.residual(u.float(), given.float()).dtype == torch.float32


def manufactured(boundary: str, t: Tensor, x: Tensor) -> Tensor:
    """A smooth field that satisfies the boundary conditions on [0.4, 1.9], asymmetric in time and space."""
    z = (x - 0.4) / 1.5
    if boundary == "dirichlet":  # values at both ends that do not change in time
        return 0.5 - 0.3 * z + torch.cos(2 * t) * torch.sin(math.pi * z) * (1 + z)
    k = math.pi if boundary == "neumann" else 2 * math.pi
    even = 0.4 + torch.cos(2 * t) * torch.cos(k * z) + torch.sin(t) * torch.cos(2 * k * z) / 2
    return even if boundary == "neumann" else even + torch.exp(-t) * torch.sin(k * z)


def continuous_rate(name: str, u: Tensor, u_x: Tensor, u_xx: Tensor) -> Tensor:
    """The right-hand side of each equation, written out once more."""
    return {
        "heat": 0.3 * u_xx,
        "advection": -0.7 * u_x + 0.2 * u_xx,
        "burgers": -u * u_x + 0.2 * u_xx,
        "allen-cahn": 0.3 * u_xx + u - u**3,
    }[name]


def solved(name: str, boundary: str, steps: int, intervals: int) -> tuple[Tensor, Tensor]:
    """The discrete solution and the manufactured one at the last time."""
    nodes = intervals + (boundary != "periodic")
    grid, condition = boxes(boundary, (steps + 1, nodes))
    t, x = (c.requires_grad_() for c in grid.coordinates.unbind(-1))
    u = manufactured(boundary, t, x)
    u_t, u_x = torch.autograd.grad(u.sum(), (t, x), create_graph=True)
    (u_xx,) = torch.autograd.grad(u_x.sum(), x)
    u, u_t, u_x = u.detach(), u_t.detach(), u_x.detach()
    equation = MAKERS[name](grid, condition, u_t - continuous_rate(name, u, u_x, u_xx))
    return equation.solve(u[:1])[0, -1], u[-1]


def order(first: Tensor, second: Tensor) -> float:
    return math.log2(float(first.norm() / math.sqrt(len(first))) / float(second.norm() / math.sqrt(len(second))))


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("name", list(MAKERS)[:4])
def test_every_equation_converges_to_a_manufactured_solution_at_order_two(name, boundary) -> None:
    errors = [u - exact for n in (16, 32) for u, exact in [solved(name, boundary, n // 4, n)]]
    assert order(*errors) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("name", list(MAKERS)[:4])
def test_the_order_is_two_in_time_alone_and_in_space_alone(name, boundary) -> None:
    """Successive differences under refinement of one step, the other fixed."""
    a, b, c = (solved(name, boundary, steps, 8)[0] for steps in (3, 6, 12))
    assert order(a - b, b - c) == pytest.approx(2, abs=0.1)
    a, b, c = (solved(name, boundary, 2, n)[0][:: n // 16] for n in (16, 32, 64))
    assert order(a - b, b - c) == pytest.approx(2, abs=0.1)


def test_heat_multiplies_every_discrete_mode_by_its_factor() -> None:
    """On a box that is bounded with fixed values, bounded without flux, and periodic, along its three axes."""
    grid = Grid((4, 5, 6, 7), (0.3, 1.0, 1.5, 2.0), (False, False, False, True))
    heat = Heat(grid, 0.3, ("dirichlet", "neumann", "dirichlet"))
    x, y, z = heat.space.coordinates.unbind(-1)
    a = torch.sin(2 * math.pi * x) * torch.cos(3 * math.pi * y / 1.5) * torch.sin(4 * math.pi * z / 2 + 0.3)
    half_angles = [(1 / 4, 2 * math.pi / 8), (1.5 / 5, 3 * math.pi / 10), (2 / 7, 4 * math.pi / 14)]
    decay = 0.1 * 0.3 * sum(4 / h**2 * math.sin(angle) ** 2 for h, angle in half_angles)
    factor = (1 - decay / 2) / (1 + decay / 2)
    powers = torch.tensor([1, factor, factor**2, factor**3], dtype=torch.float64).reshape(4, 1, 1, 1)
    assert torch.allclose(heat.solve(a[None])[0], powers * a, rtol=0, atol=1e-14)


def test_equations_have_unit_coefficients_by_default() -> None:
    """A discrete mode at rest decays at the rate of the Laplacian alone."""
    grid = Grid((3, 8), (0.1, 1.0), (False, True))
    wave = torch.cos(2 * math.pi * grid.along(1))[None]
    decay = -4 * 64 * math.sin(math.pi / 8) ** 2
    for equation in (Heat(grid), AdvectionDiffusion(grid, (0.0,))):
        assert torch.allclose(equation.rate(wave), decay * wave, rtol=0, atol=1e-12)


def test_advection_multiplies_every_discrete_mode_by_its_complex_factor() -> None:
    grid = Grid((4, 8, 6), (0.3, 1.0, 1.5), (False, True, True))
    x, y = grid.coordinates[0, ..., 1:].unbind(-1)
    k, m = 2 * math.pi * 2, 2 * math.pi / 1.5
    advection = AdvectionDiffusion(grid, (0.7, -0.4), 0.2)
    rate = sum(-1j * c * math.sin(q * h) / h - 0.2 * 4 / h**2 * math.sin(q * h / 2) ** 2
               for c, q, h in ((0.7, k, 1 / 8), (-0.4, m, 1.5 / 6)))  # fmt: skip
    factor = (1 + 0.05 * rate) / (1 - 0.05 * rate)
    phase = torch.exp(1j * (k * x + m * y))
    exact = torch.stack([(factor**step * phase).real for step in range(4)])
    assert torch.allclose(advection.solve(phase.real[None])[0], exact, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["heat", "advection", "burgers"])
def test_mass_is_conserved_on_a_periodic_axis(name) -> None:
    equation = MAKERS[name](*boxes("periodic"))
    u = equation.solve(equation.draw(4, generator=generator()))
    assert float((u - u[:, :1]).sum(-1).abs().max()) < 1e-14 * float(u.abs().sum(-1).max()) * 4


def test_heat_without_flux_keeps_its_trapezoidal_mass_and_pure_advection_its_energy() -> None:
    heat = MAKERS["heat"](*boxes("neumann", (5, 6, 7)))
    mass = (heat.solve(heat.draw(3, generator=generator())) * heat.space.weights).sum((2, 3))
    assert torch.allclose(mass, mass[:, :1].expand_as(mass), rtol=0, atol=1e-13)
    advection = AdvectionDiffusion(boxes("periodic")[0], (0.7,), 0.0)
    energy = advection.solve(advection.draw(3, generator=generator())).square().sum(-1)
    assert torch.allclose(energy, energy[:, :1].expand_as(energy), rtol=1e-13, atol=0)


FRONTS = {
    "fisher": (fisher(), 5 / math.sqrt(6), lambda z: (1 + torch.exp(z / math.sqrt(6))) ** -2),
    "nagumo": (nagumo(0.2), math.sqrt(2) * 0.3, lambda z: 1 / (1 + torch.exp(z / math.sqrt(2)))),
}


@pytest.mark.parametrize("name", FRONTS)
def test_a_front_travels_at_its_speed(name) -> None:
    reaction, speed, profile = FRONTS[name]
    errors = []
    for n in (60, 120):
        grid = Grid((n // 6 + 1, n + 1), (2.0, 60.0), (), (0.0, -30.0))
        equation = ReactionDiffusion(grid, 1.0, reaction, "neumann")
        t, x = grid.coordinates.unbind(-1)
        exact = profile(x - speed * t)
        errors.append(equation.solve(exact[:1])[0, -1] - exact[-1])
    assert order(*errors) == pytest.approx(2, abs=0.1)
    assert float(errors[-1].abs().max()) < 0.01  # the front moves by 0.8 to 4


def test_draws_satisfy_the_boundary_conditions_and_fishers_are_not_negative() -> None:
    draws = {
        boundary: MAKERS["heat"](*boxes(boundary, (3, 129))).draw(50, generator=generator()) for boundary in BOUNDARIES
    }
    assert float(draws["dirichlet"][:, [0, -1]].abs().max()) == 0
    bend = draws["neumann"].diff(n=2, dim=1).abs().amax(1)  # h^2 |u''|; next to a wall u changes by half of that
    assert bool((draws["neumann"].diff(dim=1)[:, [0, -1]].abs().amax(1) < 0.6 * bend).all())
    assert bool((draws["periodic"].diff(dim=1)[:, [0, -1]].abs().amax(1) > 0.6 * bend).any())
    assert float((draws["periodic"][:, 0] - draws["periodic"][:, -1]).abs().max()) < 0.2
    assert float(draws["periodic"].var()) == pytest.approx(1, abs=0.3)
    assert float(MAKERS["fisher"](*boxes("neumann")).draw(50, generator=generator()).min()) >= 0


def test_draws_are_matern_fields_of_a_fifth_of_the_shortest_side() -> None:
    heat = MAKERS["heat"](Grid((3, 8, 8), (0.5, 1.0, 3.0), (False, True, True)), "dirichlet")
    n = 4000
    x = heat.draw(n, generator=generator()).flatten(1)
    exact = covariance_matrix(heat.space, Matern(0.2, 2.5))
    error = ((1 + exact**2) / n).sqrt()
    assert float(((x.T @ x / n - exact) / error).abs().max()) < 4.5


def test_initial_conditions_of_burgers_have_the_spectrum_of_their_formula_and_no_mean() -> None:
    n = 4000
    draws = Burgers(Grid((3, 16), (1.0, 2.0), (False, True)), 0.1).draw(n, generator=generator())
    modes = torch.fft.rfft(draws)[:, :8] / 16
    assert float(modes[:, 0].abs().max()) < 1e-14
    k = 2 * math.pi * torch.arange(1.0, 8, dtype=torch.float64)
    exact = 2 * 625**2 * (k**2 + 25) ** -4 / 4  # a cos + b sin has the coefficient (a - ib) / 2
    for part in (modes[:, 1:].real, modes[:, 1:].imag):
        assert float((part.square().mean(0) / exact - 1).abs().max()) < 4 * math.sqrt(2 / n)


def test_the_prior_of_a_heat_equation_is_its_inverse_applied_to_the_prior_of_the_start() -> None:
    heat = MAKERS["heat"](*boxes("neumann"))
    C = covariance_matrix(heat.space, Matern(0.5))
    J = torch.from_numpy(heat.jacobian(torch.zeros(5, 7), torch.zeros(7)).toarray())
    S = torch.linalg.inv(J)[:, :7]
    prior = gaussian_prior(heat, Gaussian.from_covariance(torch.ones(7, dtype=torch.float64), C))
    exact = S @ C @ S.T
    made = (prior.eigenvectors * prior.eigenvalues) @ prior.eigenvectors.T
    assert torch.allclose(made, exact, rtol=0, atol=1e-13 * float(exact.max()))
    assert torch.allclose(prior.mean, torch.ones(5, 7, dtype=torch.float64), rtol=0, atol=1e-13)
    source = torch.randn(5, 7, dtype=torch.float64, generator=generator())
    driven = gaussian_prior(MAKERS["heat"](*boxes("neumann"), source), Gaussian.from_covariance(torch.ones(7), C))
    made = (driven.eigenvectors * driven.eigenvalues) @ driven.eigenvectors.T
    assert torch.allclose(made, exact, rtol=0, atol=1e-13 * float(exact.max()))
    assert not torch.allclose(driven.mean, prior.mean, rtol=0, atol=0.1)
    with pytest.raises(InputError, match="given field"):
        joint_prior(heat, prior)
    burgers = MAKERS["burgers"](*boxes("neumann"))
    with pytest.raises(InputError, match="linear"):
        gaussian_prior(burgers, Gaussian.isotropic(torch.ones(7, dtype=torch.float64), 1.0))


def test_a_problem_in_time_has_one_channel_whose_first_row_is_given() -> None:
    burgers = MAKERS["burgers"](*boxes("periodic"))
    problem = Problem(name="burgers", title="Burgers", equation=burgers, given="initial condition")
    fields = problem.fields(2, generator=generator())
    assert fields.shape == (2, 1, 5, 7)
    assert float(problem.residual(fields).abs().max()) < 1e-12


def test_newtons_method_that_does_not_converge_is_said_with_step_and_field(monkeypatch) -> None:
    burgers = Burgers(Grid((3, 9), (1.0, 1.0), (False, True)), 0.01)
    given = torch.zeros(2, 9, dtype=torch.float64)
    given[1] = 1e6 * torch.randn(9, dtype=torch.float64, generator=generator())
    with pytest.raises(InputError, match="time step 1 of field 1"):
        burgers.solve(given)
    monkeypatch.setattr(evolution, "UNKNOWNS", 9)
    with pytest.raises(InputError, match="time step 1 of field 1"):
        burgers.solve(given)


def test_samples_solved_in_parts_are_those_solved_together(monkeypatch) -> None:
    burgers = MAKERS["burgers"](*boxes("neumann"))
    given = burgers.draw(5, generator=generator())
    together = burgers.solve(given)
    monkeypatch.setattr(evolution, "UNKNOWNS", 14)
    assert torch.allclose(burgers.solve(given), together, rtol=0, atol=1e-13)


def test_impossible_equations_are_refused() -> None:
    grid = Grid((4, 5))
    refused = [
        (lambda: Heat(Grid((5,))), "time"),
        (lambda: Heat(Grid((4, 5), (), (True, False))), "time"),
        (lambda: Heat(grid, 0.0), "diffusivity"),
        (lambda: Heat(grid, source=torch.zeros(5, 4)), "source"),
        (lambda: Heat(grid, boundary="robin"), "boundary"),
        (lambda: AdvectionDiffusion(grid, (1.0, 2.0)), "velocity"),
        (lambda: AdvectionDiffusion(grid, (1.0,), -1.0), "diffusivity"),
        (lambda: Burgers(grid, -0.1), "viscosity"),
        (lambda: Burgers(Grid((4, 5, 5)), 0.1), "one of space"),
        (lambda: ReactionDiffusion(grid, -1.0, fisher()), "diffusivity"),
        (lambda: Heat(grid).solve(torch.full((1, 5), math.nan)), "finite"),
    ]
    for attempt, message in refused:
        with pytest.raises(InputError, match=message):
            attempt()


def test_a_wave_of_burgers_equation_and_its_mirror_image_of_the_other_sign_are_the_same() -> None:
    """u(x) and -u(-x): also where all values are negative, at which Newton's method ends as soon."""
    burgers = Burgers(Grid((4, 16), (0.2, 1.0), (False, True)), 0.02)
    x = burgers.space.along(0)
    a = torch.stack([3 + torch.sin(2 * torch.pi * x) + 0.3 * torch.cos(4 * torch.pi * x), torch.full_like(x, 5.0)])
    found, mirrored = burgers.solve(a), burgers.solve(-a.flip(1))
    torch.testing.assert_close(mirrored, -found.flip(2), rtol=0, atol=1e-12)
    torch.testing.assert_close(mirrored[1], torch.full((4, 16), -5.0, dtype=torch.float64), rtol=0, atol=1e-12)

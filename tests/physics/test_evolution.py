"""Equations in time: manufactured and exact solutions, conservation, Jacobians."""

import math

import pytest
import torch
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.physics import Equation, Grid
from diffuscope.physics.operators import Burgers


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def cole_hopf(x: Tensor, t: float, nu: float) -> Tensor:
    """Burgers from u(x, 0) = sin(2 pi x) by quadrature: u = integral of (x - s)/t e^(-G/2nu) / integral of e^(-G/2nu).

    G = (x - s)^2 / 2t + integral of u(., 0) from 0 to s. The trapezoidal rule converges exponentially here.
    """
    s = torch.linspace(-3, 4, 20_001, dtype=torch.float64)
    G = (x[:, None] - s) ** 2 / (2 * t) + (1 - torch.cos(2 * math.pi * s)) / (2 * math.pi)
    weights = torch.softmax(-G / (2 * nu), 1)
    return (weights * (x[:, None] - s) / t).sum(1)


def test_burgers_approaches_the_solution_of_cole_and_hopf_at_order_two() -> None:
    errors = []
    for n in (16, 32, 64):
        burgers = Burgers(Grid((n // 2 + 1, n), (0.2, 1.0), (False, True)), 0.05)
        x = burgers.space.along(0)
        u = burgers.solve(torch.sin(2 * math.pi * x)[None])[0]
        errors.append(float((u[-1] - cole_hopf(x, 0.2, 0.05)).abs().max()))
    assert math.log2(errors[-2] / errors[-1]) == pytest.approx(2, abs=0.1)
    assert errors[-1] < 1e-3
    print(errors)


def test_burgers_conserves_mass_and_loses_the_energy_that_viscosity_takes() -> None:
    burgers = Burgers(Grid((9, 16), (1.0, 2.0), (False, True)), 0.01)
    u = burgers.solve(burgers.draw(3, generator=generator()))
    h, tau = 2 / 16, 1 / 8
    assert float((u - u[:, :1]).sum(-1).abs().max()) < 1e-13
    middle = (u[:, 1:] + u[:, :-1]) / 2
    lost = 0.01 * h * ((middle.roll(-1, -1) - middle) / h).square().sum(-1)
    assert torch.allclose(h * u.square().sum(-1).diff(dim=1) / (2 * tau), -lost, rtol=0, atol=1e-12)
    assert float(lost.min()) > 0.01


BURGERS = [
    Burgers(Grid((5, 7), (1.0, 2.0)), 0.1),
    Burgers(Grid((5, 7), (1.0, 2.0)), 0.1, "neumann"),
    Burgers(Grid((5, 7), (1.0, 2.0), (False, True)), 0.1),
]


@pytest.mark.parametrize("equation", BURGERS)
def test_the_reference_solution_has_no_residual_in_any_row(equation) -> None:
    assert isinstance(equation, Equation)
    given = equation.draw(3, generator=generator())
    u = equation.solve(given)
    rows = equation.residual(u, given).flatten(2).abs().amax((0, 2))
    assert rows[0] == 0
    assert float(rows.max()) < 1e-12 * float(u.abs().max()) / equation.step


@pytest.mark.parametrize("equation", BURGERS)
def test_the_jacobian_is_that_of_autograd(equation) -> None:
    u = torch.randn(1, *equation.grid.shape, dtype=torch.float64, generator=generator())
    given = equation.draw(1, generator=generator())
    J = torch.autograd.functional.jacobian(
        lambda v: equation.residual(v.reshape(u.shape), given).flatten(), u.flatten()
    )
    by_hand = torch.from_numpy(equation.jacobian(u[0], given[0]).toarray())
    assert torch.allclose(J, by_hand, rtol=0, atol=1e-13 * float(J.abs().max()))


def test_newtons_method_that_does_not_converge_is_said_with_step_and_field() -> None:
    burgers = Burgers(Grid((3, 9), (1.0, 1.0), (False, True)), 0.01)
    given = torch.zeros(2, 9, dtype=torch.float64)
    given[1] = 1e6 * torch.randn(9, dtype=torch.float64, generator=generator())
    with pytest.raises(InputError, match="time step 1 of field 1"):
        burgers.solve(given)

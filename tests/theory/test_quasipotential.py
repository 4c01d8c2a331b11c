"""The quasipotential on a grid against quadratic forms, potentials and curves of least action."""

import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.theory.paths import Dynamics, geometric_action, quasipotential

F = torch.float64


def turning(x):
    """A linear drift without a potential."""
    return x @ torch.tensor([[-1.0, 2.0], [-2.0, -1.5]], dtype=F).T


def quadratic(states):
    """y C^-1 y / 2 with J C + C J^T + 2 D = 0, for D = diag(1, 1/2), solved by hand from its three equations."""
    A = torch.tensor([[-2.0, 4.0, 0.0], [-2.0, -2.5, 2.0], [0.0, -4.0, -3.0]], dtype=F)  # of C11, C12, C22
    c11, c12, c22 = torch.linalg.solve(A, torch.tensor([-2.0, 0.0, -1.0], dtype=F))
    C = torch.stack([torch.stack([c11, c12]), torch.stack([c12, c22])])
    return (states * torch.linalg.solve(C, states.T).T).sum(1) / 2


def test_a_linear_drift_has_a_quadratic_form_and_the_error_falls_with_the_spacing() -> None:
    dynamics = Dynamics(turning, torch.tensor([1.0, 0.5], dtype=F))
    errors = []
    for nodes in (17, 33):
        found = quasipotential(dynamics, torch.tensor([0.2, 0.1]), (-1.0, 1.0, -1.0, 1.0), nodes)
        states = torch.cartesian_prod(found.x, found.y)
        values = found.values.reshape(-1)
        reached = values.isfinite()
        assert float(values[reached].max()) <= found.level
        assert reached.double().mean() > 0.3
        errors.append(float((values - quadratic(states))[reached].abs().max()) / found.level)
    assert errors[1] < 0.02
    assert errors[1] < 0.7 * errors[0]


def test_a_potential_is_climbed() -> None:
    """f = -grad V, D = 1/2: W = 2 V as far as the well reaches."""

    def drift(z):
        x, y = z[:, 0], z[:, 1]
        return torch.stack([x - x**3, -y], 1)

    found = quasipotential(Dynamics(drift, 0.5), torch.tensor([-1.0, 0.0]), (-2.0, 0.4, -1.2, 1.2), 49)
    for state in torch.tensor([[-0.5, 0.0], [-1.3, 0.2], [-0.9, -0.5], [-0.15, 0.0]], dtype=F):
        V = (1 - state[0] ** 2) ** 2 / 4 + state[1] ** 2 / 2
        assert found.at(state) == pytest.approx(2 * float(V), abs=0.01)


def test_it_finds_the_way_out_of_maier_and_stein_off_the_axis() -> None:
    """At beta = 10 the axis is a saddle of action 1/2; the least is 0.34004, without being told where to look."""

    def drift(z):
        x, y = z[:, 0], z[:, 1]
        return torch.stack([x - x**3 - 10 * x * y**2, -(1 + x**2) * y], 1)

    dynamics = Dynamics(drift, 0.5)
    found = quasipotential(dynamics, torch.tensor([-1.0, 0.0]), (-1.6, 0.4, -1.0, 1.0), 51)
    assert found.at(torch.tensor([0.0, 0.0])) == pytest.approx(0.34004, abs=0.01)
    state = torch.tensor([-0.6, 0.3], dtype=F)
    curve = geometric_action(dynamics, torch.tensor([-1.0, 0.0], dtype=F), state, 60)
    assert found.at(state) == pytest.approx(curve.extrapolated, abs=0.01)


def test_what_is_outside_is_not_claimed() -> None:
    found = quasipotential(Dynamics(lambda x: -x, 1.0), torch.zeros(2), (-1.0, 1.0, -1.0, 1.0), 17)
    assert math.isnan(found.at(torch.tensor([0.95, 0.95])))
    assert found.level == pytest.approx(0.5, abs=0.02)  # the edge at distance 1
    with pytest.raises(InputError, match=r"-1 to 1, got 1\.5"):
        found.at(torch.tensor([1.5, 0.0]))


def test_what_has_none_is_refused() -> None:
    with pytest.raises(InputError, match="stable fixed point, got one that is unstable"):
        quasipotential(Dynamics(lambda x: x, 1.0), torch.zeros(2), (-1.0, 1.0, -1.0, 1.0))
    with pytest.raises(InputError, match="two nodes from the edge"):
        quasipotential(Dynamics(lambda x: 1 - x, 1.0), torch.ones(2), (-1.0, 1.0, -1.0, 1.0))
    with pytest.raises(InputError, match="constant, regular D"):
        quasipotential(Dynamics(lambda x: -x, torch.tensor([1.0, 0.0])), torch.zeros(2), (-1.0, 1.0, -1.0, 1.0))

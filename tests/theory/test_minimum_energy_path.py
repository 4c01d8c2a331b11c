"""The string method against potentials whose minimum energy path or barrier is known."""

import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.theory.paths import Dynamics, geometric_action, string

F = torch.float64


def force_of(potential):
    """-grad V by autograd."""

    def force(x):
        x = x if x.requires_grad else x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(potential(x).sum(), x, create_graph=True)
        return -gradient

    return force


def circular(x):
    """On the unit circle the gradient is tangential: the path is the circle, with wells at angles 0 and pi."""
    r, angle = x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])
    return 8 * (r - 1) ** 2 + (1 - torch.cos(2 * angle)) / 2


def mueller_brown(x):
    """Mueller & Brown 1979, doi.org/10.1007/BF00547608."""
    A = torch.tensor([-200.0, -100.0, -170.0, 15.0], dtype=F)
    a = torch.tensor([-1.0, -1.0, -6.5, 0.7], dtype=F)
    b = torch.tensor([0.0, 0.0, 11.0, 0.6], dtype=F)
    c = torch.tensor([-10.0, -10.0, -6.5, 0.7], dtype=F)
    u = x[:, :1] - torch.tensor([1.0, 0.0, -0.5, -1.0], dtype=F)
    v = x[:, 1:] - torch.tensor([0.0, 0.5, 1.5, 1.0], dtype=F)
    return (A * torch.exp(a * u**2 + b * u * v + c * v**2)).sum(1)


START, END = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=F)
ARC = torch.stack([torch.linspace(1, -1, 30, dtype=F), 0.6 * torch.sin(torch.linspace(0, math.pi, 30, dtype=F))], 1)


@pytest.mark.parametrize("D", [1.0, 0.25])
def test_the_path_of_a_circular_valley_is_the_circle(D: float) -> None:
    found = string(Dynamics(force_of(circular), D), START, END, initial=ARC)
    assert float((found.curve.norm(dim=1) - 1).abs().max()) < 1e-6  # of fourth order, see below
    assert found.barrier == pytest.approx(1 / D, abs=1e-10 / D)  # of second order in that error
    assert found.action == pytest.approx(1 / D, abs=1e-10 / D)  # it climbs once
    torch.testing.assert_close(found.saddle, torch.tensor([0.0, 1.0], dtype=F), atol=1e-4, rtol=0)
    assert float(found.heights[-1]) == pytest.approx(0, abs=1e-5)
    assert found.normal_drift < 1e-6


def test_the_error_is_of_fourth_order() -> None:
    """That of a cubic spline."""
    errors = []
    for intervals in (10, 20):
        curve = string(Dynamics(force_of(circular), 1.0), START, END, intervals, initial=ARC).curve
        errors.append(float((curve.norm(dim=1) - 1).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.1)


def test_the_saddle_of_mueller_and_brown() -> None:
    """Its minima and its highest saddle are known to the digits below."""
    a, b = torch.tensor([[-0.558224, 1.441726], [0.623499, 0.028038]], dtype=F)
    found = string(Dynamics(force_of(mueller_brown), 1.0), a, b, 40)
    torch.testing.assert_close(found.saddle, torch.tensor([-0.822002, 0.624313], dtype=F), atol=2e-3, rtol=0)
    assert found.barrier == pytest.approx(-40.664843 + 146.699517, rel=1e-5)
    assert found.action > found.barrier  # it passes the intermediate minimum and climbs again
    assert float(found.heights[-1]) == pytest.approx(-108.166724 + 146.699517, rel=1e-5)


def test_it_agrees_with_the_geometric_action() -> None:
    wells = Dynamics(force_of(circular), torch.tensor([0.5, 0.5], dtype=F))
    curve = geometric_action(wells, START, END, 200, initial=ARC)
    assert string(wells, START, END, initial=ARC).action == pytest.approx(curve.extrapolated, rel=1e-4)


def test_what_has_no_potential_is_refused() -> None:
    turning = Dynamics(lambda x: torch.stack([x[:, 0] - x[:, 0] ** 3 - x[:, 1], x[:, 0] - x[:, 1]], 1), 0.5)
    with pytest.raises(InputError, match="asymmetry of 1 of the Jacobian"):
        string(turning, START, END)
    with pytest.raises(InputError, match="constant, regular D"):
        string(Dynamics(lambda x: -x, torch.tensor([1.0, 0.0])), START, END)
    with pytest.raises(InputError, match="drift of \\(x\\) alone"):
        string(Dynamics(lambda x, t: -x * (1 + t[:, None]), 1.0), START, END)


def test_a_drift_of_unequal_noise_needs_a_potential_in_its_own_metric() -> None:
    """f = -D grad V: the Jacobian of f is not symmetric, that of D^-1 f is."""
    D = torch.tensor([1.0, 0.2], dtype=F)
    force = force_of(circular)
    found = string(Dynamics(lambda x: force(x) * D, D), START, END, initial=ARC)
    assert found.barrier == pytest.approx(1.0, abs=1e-4)
    with pytest.raises(InputError, match="asymmetry"):
        string(Dynamics(force, D), START, END, initial=ARC)

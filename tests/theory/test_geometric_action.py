"""Curves of least action: known barriers, a gradient system, and the direct method at the same duration."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.theory.paths import (
    Dynamics,
    GeometricAction,
    adapted_times,
    curve_of_duration,
    curve_path,
    geometric_action,
    least_action,
    stiff_least_action,
    timed,
)
from diffuscope.theory.paths.geometric_action import equidistant, normals

SADDLE, STABLE = torch.tensor([0.0, 0.0]), torch.tensor([-1.0, 0.0])


def maier_stein(beta: float) -> Dynamics:
    def drift(z: Tensor) -> Tensor:
        x, y = z[:, 0], z[:, 1]
        return torch.stack([x - x**3 - beta * x * y**2, -(1 + x**2) * y], 1)

    return Dynamics(drift, 0.5)


def bent(height: float = 0.3) -> Tensor:
    s = torch.linspace(0, 1, 50, dtype=torch.float64)
    return torch.stack([s - 1, height * torch.sin(math.pi * s)], 1)


def test_the_barrier_of_maier_and_stein_is_one_half_below_beta_four() -> None:
    found = geometric_action(maier_stein(2.0), STABLE, SADDLE, 200, initial=bent())
    assert found.extrapolated == pytest.approx(0.5, abs=1e-9)
    assert float(found.curve[:, 1].abs().max()) < 1e-8  # along the axis
    assert found.minimum
    assert found.residual <= 1e-10


def test_above_beta_four_the_path_leaves_the_axis_and_the_barrier_is_lower() -> None:
    for beta, known, tolerance in ((5.0, 0.483, 5e-4), (10.0, 0.34004, 2e-4)):  # the digits of their sources
        found = geometric_action(maier_stein(beta), STABLE, SADDLE, 200, initial=bent())
        assert found.extrapolated == pytest.approx(known, abs=tolerance)
        assert found.minimum
        on_axis = geometric_action(maier_stein(beta), STABLE, SADDLE, 200)
        assert on_axis.extrapolated == pytest.approx(0.5, abs=1e-9)  # stationary by symmetry
        assert not on_axis.minimum  # and no minimum


def test_out_of_a_well_the_action_is_the_difference_of_the_potential_and_the_curve_is_steepest_ascent() -> None:
    """f = -D grad U has the quasipotential U(b) - U(a), whatever a constant D is."""
    D = torch.tensor([[0.4, 0.1], [0.1, 0.2]], dtype=torch.float64)

    def potential(z: Tensor) -> Tensor:
        x, y = z[:, 0], z[:, 1]
        return (x**2 - 1) ** 2 + 2 * (y - 0.3 * x**2) ** 2

    def drift(z: Tensor) -> Tensor:
        with torch.enable_grad():
            at = z if z.requires_grad else z.requires_grad_()
            (gradient,) = torch.autograd.grad(potential(at).sum(), at, create_graph=True)
        return -gradient @ D

    start, end = torch.tensor([-1.0, 0.3]), torch.tensor([0.0, 0.0])
    found = geometric_action(Dynamics(drift, D), start, end, 200)
    height = float(potential(end[None].double()) - potential(start[None].double()))
    assert found.extrapolated == pytest.approx(height, abs=1e-6 * height)
    assert found.minimum
    tangent = found.curve[120] - found.curve[118]
    uphill = -drift(found.curve[119:120].clone()).detach()[0]
    assert float(tangent @ uphill / (tangent.norm() * uphill.norm())) > 1 - 1e-5


def test_the_action_of_a_curve_converges_at_order_two() -> None:
    runs = [geometric_action(maier_stein(10.0), STABLE, SADDLE, N, initial=bent()) for N in (100, 200, 400)]
    steps = [runs[i].action - runs[i + 1].action for i in range(2)]
    assert steps[0] / steps[1] == pytest.approx(4.0, abs=0.1)


def test_a_curve_of_given_duration_is_the_path_of_the_direct_method() -> None:
    dynamics = Dynamics(lambda x: -x, 1.0)
    start, end = torch.tensor([-2.0, 2.0]), torch.tensor([2.0, 1.0])
    found = curve_of_duration(dynamics, start, end, 1.0, 200)
    exact = float((end - start * math.exp(-1)).square().sum()) / (2 * (1 - math.exp(-2)))
    assert found.duration == pytest.approx(1.0, abs=1e-6)
    assert found.extrapolated - found.energy == pytest.approx(exact, rel=1e-5)  # the duration is of order two too
    direct = least_action(dynamics, start, end, torch.linspace(0, 1, 201, dtype=torch.float64))
    assert found.energy == pytest.approx(float(direct.energy.mean()), rel=1e-3)
    nearest = torch.cdist(direct.states[0], found.curve).amin(1)
    assert float(nearest.max()) < 0.6 * float(found.curve.diff(dim=0).norm(dim=1).max())


def test_a_duration_that_the_mesh_decides_is_refused_and_one_that_it_resolves_is_not() -> None:
    """Out of a fixed point in a long time: the energy is far below the square of the distance of nodes."""
    dynamics, end = Dynamics(lambda x: -x, 1.0), torch.tensor([1.0, 0.5])
    for duration in (5.0, 9.0):  # below and above what the first midpoint allows
        with pytest.raises(InputError, match="duration: expected one that 40 intervals resolve to 1%") as caught:
            curve_of_duration(dynamics, torch.zeros(2), end, duration, 40)
        assert "\n" not in str(caught.value)
    resolved = curve_of_duration(dynamics, torch.zeros(2), end, 1.0, 40)
    assert 0 < resolved.duration_change < 0.01
    energy = 1.25 / (4 * math.sinh(1) ** 2)  # (|v|^2 - |x|^2) / 4 at x = 0
    # the duration is off by 4/3 of its change, and d log E / d log T = -2 / tanh 1
    assert resolved.energy == pytest.approx(energy, rel=1.1 * 4 / 3 * 2 / math.tanh(1) * resolved.duration_change)


def test_a_curve_on_a_line_costs_the_climb_out_of_the_well_and_nothing_beyond() -> None:
    quartic = Dynamics(lambda x: x - x**3, 0.25)
    out = geometric_action(quartic, torch.tensor([-1.0]), torch.tensor([0.0]), 200)
    assert out.extrapolated == pytest.approx(0.25 / 0.25, abs=1e-6)  # S = (U(0) - U(-1)) / D
    across = geometric_action(quartic, torch.tensor([-1.0]), torch.tensor([1.0]), 400)
    assert across.extrapolated == pytest.approx(1.0, abs=1e-6)
    assert across.minimum


def test_nodes_of_equal_distance_stay_on_a_circle_and_normals_are_normal() -> None:
    angle = torch.linspace(0, 2, 60, dtype=torch.float64) ** 2 / 2
    arc = torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)[None]
    placed = equidistant(arc, 80)
    assert float((placed.norm(dim=2) - 1).abs().max()) < 1e-5  # a cubic spline, 60 nodes
    distances = placed.diff(dim=1).norm(dim=2)
    assert float(distances.max() / distances.min()) - 1 < 1e-3
    frame = normals(placed)
    assert frame.shape == (1, 79, 3, 2)
    radius = torch.einsum("pnd,pndk->pnk", placed[:, 1:-1], frame).norm(dim=2)
    assert float((radius - 1).abs().max()) < 1e-4  # the radius lies in the normal plane


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"intervals": 1}, "intervals: expected at least 2"),
        ({"initial": torch.zeros(2, 2)}, "initial: expected finite states"),
        ({"initial": torch.full((5, 2), float("nan"))}, "initial: expected finite states"),
        ({"start": torch.zeros(2, 2), "end": torch.zeros(2, 2)}, "start: expected one state"),
        ({"dynamics": Dynamics(lambda x, t: -x * t[:, None], 1.0)}, "drift: expected a function of"),
        ({"dynamics": Dynamics(lambda x: -x, torch.diag(torch.tensor([1.0, 0.0])))}, "diffusion: expected noise in"),
        ({"energy": -10.0}, "energy: expected at least"),
    ],
)
def test_a_curve_that_cannot_be_is_refused_in_one_line(arguments: dict, message: str) -> None:
    given = {"dynamics": maier_stein(2.0), "start": STABLE, "end": SADDLE, "intervals": 20} | arguments
    with pytest.raises(InputError, match=message) as caught:
        geometric_action(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("duration", "message"),
    [(0.0, "expected a positive"), (float("nan"), "expected a positive"), (1e6, "at most 1.118")],  # the wind: 1
)
def test_a_duration_that_no_curve_has_is_refused(duration: float, message: str) -> None:
    wind = Dynamics(lambda x: torch.tensor([1.0, 0.0]).double().expand_as(x), 1.0)
    with pytest.raises(InputError, match=f"duration: .*{message}"):
        curve_of_duration(wind, torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.5]), duration, 40)


def switch(n: float) -> Dynamics:
    """Two units that inhibit each other, with layers of width n."""

    def drift(z: Tensor) -> Tensor:
        on = torch.sigmoid((z - 1.5) / n)
        return 1.25 + 2 * on - 0.9 * on.flip(1) - z

    return Dynamics(drift, 0.5)


def test_on_adapted_times_the_action_of_an_ornstein_uhlenbeck_process_converges_at_second_order() -> None:
    T, a, b = 12.0, -2.0, 2.0
    exact = (b - a * math.exp(-T)) ** 2 / (2 * (1 - math.exp(-2 * T)))
    start, end = torch.tensor([[a], [b]], dtype=torch.float64)
    paths = [stiff_least_action(Dynamics(lambda x: -x, 1.0), start, end, T, n) for n in (100, 200)]
    errors = [float(path.action) - exact for path in paths]
    assert errors[0] / errors[1] == pytest.approx(4, abs=0.1)
    assert float(paths[1].certificate.extrapolated) == pytest.approx(exact, rel=1e-5)


def test_a_passage_in_a_long_time_is_a_minimum_to_rounding_on_adapted_times() -> None:
    start, end = torch.tensor([[3.0, 0.1], [0.1, 3.0]], dtype=torch.float64)
    dynamics, T = switch(0.1), 24.0
    path = stiff_least_action(dynamics, start, end, T, 200)
    assert bool(path.certificate.minimum)
    assert float(path.certificate.residual) <= 1e-10
    curve = curve_of_duration(dynamics, start, end, T, 400)
    S = curve.extrapolated - curve.energy * curve.duration
    assert float(path.certificate.extrapolated) == pytest.approx(S, abs=1e-4)
    times = torch.linspace(0, T, 201, dtype=torch.float64)
    even = least_action(dynamics, start, end, times, initial=timed(dynamics, curve, times)[None])
    assert abs(float(path.action) - S) < abs(float(even.action) - S) / 3  # what the adaptation is for


def test_half_of_the_adapted_times_are_spread_over_the_time_and_half_over_the_length() -> None:
    """At a constant speed both are the same; a curve that waits has its nodes where it moves."""
    free = Dynamics(lambda x: 0 * x, 0.5)
    start, end = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    even = adapted_times(free, curve_of_duration(free, start, end, 2.0, 40), 2.0, 10)
    torch.testing.assert_close(even, torch.linspace(0, 2, 11, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    dynamics = Dynamics(lambda x: -x, 0.5)
    start, end = torch.tensor([[-2.0], [2.0]], dtype=torch.float64)
    curve = curve_of_duration(dynamics, start, end, 8.0, 400)
    times = adapted_times(dynamics, curve, 8.0, 100)
    length = torch.from_numpy(_length_at(curve, times))
    torch.testing.assert_close(
        (times / 8 + length) / 2, torch.linspace(0, 1, 101, dtype=torch.float64), rtol=0, atol=2e-3
    )


def _length_at(curve: GeometricAction, times: Tensor) -> np.ndarray:
    """The share of the length at `times`: |x'| = sqrt(f^2 + 4 D E) along a curve of energy E in one dimension."""
    x = curve.curve[:, 0]
    middle = (x[1:] + x[:-1]) / 2
    speed = (middle**2 + 4 * 0.5 * curve.energy).sqrt()
    reached = torch.cat([torch.zeros(1, dtype=torch.float64), (x.diff().abs() / speed).cumsum(0)])
    share = torch.cat([torch.zeros(1, dtype=torch.float64), x.diff().abs().cumsum(0)])
    return np.interp((times / times[-1] * reached[-1]).numpy(), reached.numpy(), (share / share[-1]).numpy())


def test_times_along_a_curve_without_energy_are_those_at_the_speed_of_the_drift():
    """dt = dx / x for the drift -x, climbed at its own speed: on four pieces of [1, 3] at their middles."""
    spring = Dynamics(lambda x: -x, 0.5)
    path = curve_path(spring, geometric_action(spring, torch.tensor([1.0]), torch.tensor([3.0]), 4))
    expected = torch.cumsum(0.5 / torch.tensor([1.25, 1.75, 2.25, 2.75], dtype=torch.float64), 0)
    assert path.times[0] == 0
    torch.testing.assert_close(path.times[1:], expected, rtol=1e-6, atol=0)

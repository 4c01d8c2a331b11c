"""Curves that meet fixed points with a corner, and stiff paths on adapted times, against closed forms."""

import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.theory.paths import Dynamics, least_action, most_likely_path
from diffuscope.theory.paths.adapted_mesh import on_adapted_mesh, respaced
from numbers_in_tests import double


@pytest.mark.parametrize(("angle", "through"), [(60.0, False), (128.0, True), (170.0, True)])
def test_between_states_about_an_attractor_the_curve_is_a_geodesic_of_a_cone(angle: float, through: bool) -> None:
    """f = -x: in w = z^2 the metric |x| |dx| is flat, and beyond a right angle the geodesic passes the tip."""
    D, a, b = 0.5, 1.0, 1.3
    start, end = double(a, 0.0), b * double(math.cos(math.radians(angle)), math.sin(math.radians(angle)))
    found = most_likely_path(Dynamics(lambda x: -x, D), start, end, None, 41)
    chord = math.sqrt(a**4 + b**4 - 2 * a**2 * b**2 * math.cos(math.radians(2 * angle)))
    length = (a**2 + b**2) / 2 if through else chord / 2
    exact = (length + (b**2 - a**2) / 2) / (2 * D)
    assert found.minimum
    assert found.action == pytest.approx(exact, abs=found.error)  # the error it states
    assert found.error < 1e-3
    assert (float(found.states.norm(dim=1).min()) < 0.1) == through


def test_a_state_that_relaxes_to_an_attractor_climbs_out_of_it_at_the_height_of_the_potential() -> None:
    """U = (x^2 + 3 y^2) / 2 over D: down to 0, which is free, and up from it."""
    stretch = double(1.0, 3.0)
    found = most_likely_path(Dynamics(lambda x: -stretch * x, 0.25), double(-1.0, 0.2), double(1.0, 0.5), None, 41)
    assert found.action == pytest.approx((1 + 3 * 0.25) / 2 / 0.25, abs=found.error)
    assert found.error < 1e-3
    assert len(found.states) == 41


def test_the_numbers_of_a_curve_are_those_of_float64() -> None:
    """Uphill against f = -x on a line, where the midpoint rule is exact: (3^2 - 0.7^2) / 2 over D."""
    found = most_likely_path(Dynamics(lambda x: -x, 0.3), double(0.7), double(3.0), None, 21)
    assert found.action == pytest.approx((9 - 0.49) / 2 / 0.3, rel=1e-14)


def test_a_drift_that_vanishes_everywhere_has_no_least_action_in_any_time() -> None:
    with pytest.raises(InputError, match=r"^duration: expected a positive number where the drift vanishes"):
        most_likely_path(Dynamics(torch.zeros_like, 0.5), double(0.0, 0.0), double(1.0, 1.0), None, 41)


WIDTH = 0.005


def switch(x: torch.Tensor) -> torch.Tensor:
    """An attractor at 0, and from a layer at 1/2 on one at 1."""
    return torch.sigmoid((x - 0.5) / WIDTH) - x


def test_a_layer_that_equal_times_jump_over_is_resolved_on_as_many_adapted_ones() -> None:
    """The barrier in a long time is that of the potential, by quadrature."""
    x = torch.linspace(0, 0.5, 20_001, dtype=torch.float64)
    barrier = float((-torch.cumulative_trapezoid(switch(x), x)).max()) / 0.5
    dynamics, times = Dynamics(switch, 0.5), torch.linspace(0, 20, 41, dtype=torch.float64)
    equal = least_action(dynamics, double(0.0), double(1.0), times)
    adapted = on_adapted_mesh(dynamics, double(0.0), double(1.0), times)
    off = [abs(float(path.certificate.extrapolated) - barrier) for path in (equal, adapted)]
    assert off[1] < float(adapted.certificate.action_change)
    assert off[1] < 0.1 * off[0]


def test_a_path_whose_energy_varies_is_not_resolved_though_doubling_hardly_changes_it() -> None:
    wide, times = Dynamics(lambda x: torch.sigmoid((x - 0.5) / 0.02) - x, 0.5), torch.linspace(0, 20, 41).double()
    path = least_action(wide, double(0.0), double(1.0), times)
    x = torch.linspace(0, 0.5, 20_001, dtype=torch.float64)
    barrier = float((-torch.cumulative_trapezoid(torch.sigmoid((x - 0.5) / 0.02) - x, x)).max()) / 0.5
    change = float(path.certificate.action_change)
    assert change < 0.01 * barrier
    assert abs(float(path.certificate.extrapolated) - barrier) > 3 * change
    from diffuscope.theory.paths.most_likely import _resolved

    assert not _resolved(wide, path, 20.0)


def test_respaced_nodes_are_spread_over_time_and_length() -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    new, x = respaced(t, torch.where(t < 0.5, 0.0, 2 * t - 1)[:, None], 3)
    assert new.tolist() == pytest.approx([0.0, 5 / 9, 7 / 9, 1.0], abs=1e-2)  # t / 2 + max(t - 1/2, 0)  = 1/3, 2/3
    assert x[:, 0].tolist() == pytest.approx([0.0, 1 / 9, 5 / 9, 1.0], abs=1e-2)


def test_a_path_that_leaves_the_domain_is_refused() -> None:
    ring = Dynamics(lambda x: -x, 0.5, domain=lambda x: x.norm(dim=1) > 0.6)
    with pytest.raises(InputError, match=r"^end: the path of least action leaves the domain, at the state"):
        most_likely_path(ring, double(-1.0, 0.0), double(1.0, 0.0), 1.0, 21)

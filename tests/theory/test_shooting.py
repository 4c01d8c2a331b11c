"""Multiple shooting against closed forms, and as a check of the direct method."""

import math

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.theory.paths import Dynamics, Functional, least_action, shoot

F = torch.float64


def grid(T: float, N: int) -> torch.Tensor:
    return torch.linspace(0, T, N + 1, dtype=F)


@pytest.mark.parametrize("functional", ["FW", "OM"])
def test_an_ornstein_uhlenbeck_path_to_ten_digits(functional: Functional) -> None:
    a, b, D, T = torch.tensor([-1.0, 0.4]), torch.tensor([0.8, 1.5]), 0.7, 3.0
    dynamics = Dynamics(lambda x: -x, D)
    found = shoot(dynamics, least_action(dynamics, a, b, grid(T, 40), functional), functional, segments=6)
    through = (b.double() - a.double() * math.exp(-T)).square().sum()
    expected = float(through) / (2 * D * (1 - math.exp(-2 * T))) - (T if functional == "OM" else 0.0)
    assert found.action == pytest.approx(expected, abs=1e-9)
    t = found.times[:, None]
    x = (a * torch.sinh(T - t) + b * torch.sinh(t)) / math.sinh(T)
    v = (-a * torch.cosh(T - t) + b * torch.cosh(t)) / math.sinh(T)
    torch.testing.assert_close(found.states, x, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.momenta, (v + x) / (2 * D), atol=1e-8, rtol=0)
    assert found.mismatch < 1e-9


def test_it_confirms_the_extrapolated_action_where_nothing_is_linear() -> None:
    """Maier and Stein at beta = 10, off the axis."""

    def drift(z):
        x, y = z[:, 0], z[:, 1]
        return torch.stack([x - x**3 - 10 * x * y**2, -(1 + x**2) * y], 1)

    dynamics, times = Dynamics(drift, 0.5), grid(4.0, 160)
    start, end = torch.tensor([-1.0, 0.0], dtype=F), torch.tensor([0.0, 0.0], dtype=F)
    bent = torch.stack([times / 4 - 1, 0.3 * torch.sin(math.pi * times / 4)], 1)[None]
    path = least_action(dynamics, start, end, times, initial=bent)
    found = shoot(dynamics, path, segments=20)
    assert float(path.certificate.extrapolated[0]) == pytest.approx(found.action, rel=1e-6)
    assert abs(float(path.action[0]) - found.action) > 1e-5  # which the mesh alone does not reach


def test_a_time_dependent_drift_and_a_diffusion_that_depends_on_the_state() -> None:
    """In u = log x the noise is additive and the drift a function of time: S = (u_T - u_0 - int m)^2 / (4 D T)."""
    dynamics = Dynamics(lambda x, t: x * torch.cos(t)[:, None], lambda x, _t: 0.3 * x[:, :, None] ** 2)
    a, b, T = torch.tensor([1.0], dtype=F), torch.tensor([2.5], dtype=F), 2.0
    found = shoot(dynamics, least_action(dynamics, a, b, grid(T, 100)), segments=8)
    expected = (math.log(2.5) - math.sin(T)) ** 2 / (4 * 0.3 * T)
    assert found.action == pytest.approx(expected, abs=1e-8)


def test_noise_in_the_velocity_alone() -> None:
    """x'' = noise from rest to rest: S = 3 L^2 / (D T^3), the minimum of the squared acceleration over 4 D."""
    dynamics = Dynamics(lambda z: torch.stack([z[:, 1], 0 * z[:, 1]], 1), torch.tensor([0.0, 0.5], dtype=F))
    a, b, T = torch.tensor([0.0, 0.0], dtype=F), torch.tensor([1.5, 0.0], dtype=F), 2.0
    found = shoot(dynamics, least_action(dynamics, a, b, grid(T, 60)), segments=4)
    assert found.action == pytest.approx(3 * 1.5**2 / (0.5 * T**3), abs=1e-8)


def test_too_many_segments_are_refused() -> None:
    dynamics = Dynamics(lambda x: -x, 1.0)
    path = least_action(dynamics, torch.tensor([0.0]), torch.tensor([1.0]), grid(1.0, 10))
    with pytest.raises(InputError, match=r"segments: expected 1 to 5 \(half the intervals of the path\), got 6"):
        shoot(dynamics, path, segments=6)

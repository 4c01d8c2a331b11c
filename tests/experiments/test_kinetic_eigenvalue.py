"""The slowest rates of a particle with friction, where they are known."""

import math

import pytest

from diffuscope.experiments.kinetic_eigenvalue import kinetic_rates


@pytest.mark.parametrize("friction", [2.2, 3.0, 5.0])
def test_in_a_parabola_the_rates_are_sums_of_two_closed_ones(friction: float) -> None:
    """kappa = i k_- + j k_+ with k_-+ = (gamma -+ sqrt(gamma^2 - 4 w^2)) / 2, here w = 1, at any temperature."""
    root = math.sqrt(friction**2 - 4)
    slow, fast = (friction - root) / 2, (friction + root) / 2
    exact = sorted(i * slow + j * fast for i in range(8) for j in range(8) if i + j)[:3]
    found = kinetic_rates(lambda x: x, friction, 0.7, 8.0, 3, shift=0.1, points=60, functions=24)
    assert found.tolist() == pytest.approx(exact, rel=1e-7)


def test_in_a_double_well_more_points_and_functions_change_nothing() -> None:
    reach = 1.6
    values = [
        float(kinetic_rates(lambda x: x**3 - x, 2.0, 0.025, reach, shift=1e-5, points=n, functions=m)[0])
        for n, m in ((60, 20), (90, 30))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert 0 < values[0] < 1e-4  # exponentially slow

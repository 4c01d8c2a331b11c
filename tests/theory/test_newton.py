"""Damped Newton on paths of which every step is known by hand."""

import math

import pytest
import torch
from torch import Tensor

from diffuscope.theory.paths.newton import newton

TIMES = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)


def length(x: Tensor, v: Tensor, t: Tensor) -> Tensor:  # noqa: ARG001
    """That of a curve over the time axis in the second coordinate, and an energy in the first."""
    return (1 + v[:, 1].square()).sqrt() + v[:, 0].square() / 2


def energy(x: Tensor, v: Tensor, t: Tensor) -> Tensor:  # noqa: ARG001
    return v.square().sum(1) / 2


def through(*heights: float) -> Tensor:
    """Paths from (0, 0) to (2, 0) by way of (1, height)."""
    return torch.tensor([[[0.0, 0.0], [1.0, height], [2.0, 0.0]] for height in heights], dtype=torch.float64)


def test_of_a_quadratic_action_one_step_is_the_answer() -> None:
    found = newton(energy, through(1.0, -7.0), TIMES, 0.5)
    assert found.iterations == 1
    torch.testing.assert_close(found.x, through(0.0, 0.0), rtol=0, atol=1e-15)


@pytest.mark.parametrize("height", [0.3, 1.0, 3.0, -1.0])
def test_the_shortest_curve_is_straight_though_a_full_step_leads_from_height_1_to_its_mirror_image(height) -> None:
    """S = 2 sqrt(1 + x^2) + 1: Newton's step goes from x to -x^3, so that 1 and -1 have each other and the same action.

    The action does not fall there, however small its change: the step is damped, and 0 is found in few more.
    """
    found = newton(length, through(height), TIMES, 0.5)
    assert bool(found.converged.all())
    assert float(found.x[0, 1, 1]) == pytest.approx(0, abs=1e-9)
    assert float(found.action[0]) == pytest.approx(3.0, rel=1e-12)
    assert found.iterations <= 17


def test_a_path_among_others_takes_the_steps_that_it_takes_alone() -> None:
    heights = (0.3, 1.0, 3.0)
    together = newton(length, through(*heights), TIMES, 0.5)
    for k, height in enumerate(heights):
        torch.testing.assert_close(together.x[k], newton(length, through(height), TIMES, 0.5).x[0], rtol=0, atol=1e-9)
    assert float(together.action.sum()) == pytest.approx(9.0, rel=1e-12)
    assert math.isfinite(float(together.residual.max()))

"""Random points around a path, symmetries up to a tolerance, and derivatives that autograd has by halves."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.theory.paths import Dynamics, Lagrangian, LeastAction, find_symmetries, least_action, violation
from diffuscope.theory.paths.dynamics import require_regular
from diffuscope.theory.paths.most_likely import points_around
from diffuscope.theory.paths.symmetry import translation
from diffuscope.theory.variance.closure import CELLS, _default_edges
from numbers_in_tests import double

COUNT = 40_000  # a standard deviation is known to 1 / root 80,000 of itself


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def path(*states: tuple[float, float]) -> LeastAction:
    times = torch.linspace(0, 1, 3, dtype=torch.float64)
    found = least_action(Dynamics(lambda x: 0 * x, 0.5), double(0.0, 0.0), double(1.0, 1.0), times)
    return dataclasses.replace(found, states=torch.tensor([states], dtype=torch.float64))


ALONG = path(
    (-3.0, 1.0), (0.0, 1.0), (3.0, 1.0)
)  # at most at a distance of 3 from its middle: a size of 3 / root 2 a coordinate


def near(value: float) -> Any:
    return pytest.approx(value, rel=5 / math.sqrt(2 * COUNT))


def test_points_lie_half_a_size_around_the_nodes_of_a_path_at_any_time_of_it() -> None:
    x, v, t = points_around(Dynamics(lambda x: 0 * x, 0.5), ALONG, COUNT, 8.0)
    assert len(x) == len(v) == len(t) == COUNT
    assert float((x[:, 1] - 1).square().mean().sqrt()) == near(0.5 * 3 / math.sqrt(2))
    assert float(x[:, 0].square().mean()) == pytest.approx(6 + (0.5 * 3) ** 2 / 2, rel=0.03)  # about every node alike
    assert abs(float(x[:, 0].mean())) < 5 * 3 / math.sqrt(COUNT)
    assert (float(t.min()), float(t.max())) == (pytest.approx(0, abs=1e-2), pytest.approx(8, abs=1e-2))
    assert float(points_around(Dynamics(lambda x: 0 * x, 0.5), ALONG, 9, None)[2].abs().max()) == 0


@pytest.mark.parametrize(
    ("drift", "duration", "speed"),
    [
        (0.0, 8.0, 3 / math.sqrt(2) / 8), (0.0, None, 3 / math.sqrt(2)),  # a size in the duration, or in one
        (0.0, 1e5, 1e-3 * 3 / math.sqrt(2)), (7.0, 8.0, 7.0), (-7.0, None, 7.0),
    ],
)  # fmt: skip
def test_velocities_are_as_fast_as_the_drift_or_as_the_path(drift: float, duration: float | None, speed: float) -> None:
    steady = Dynamics(lambda x: torch.cat([drift + 0 * x[:, :1], 0 * x[:, 1:]], 1), 0.5)
    _, v, _ = points_around(steady, ALONG, COUNT, duration)
    assert [float(part.square().mean().sqrt()) for part in v.T] == [near(speed), near(speed)]


def test_around_a_path_that_rests_points_are_half_a_unit_away_and_outside_of_the_domain_there_are_none() -> None:
    rest, still = path(*3 * [(2.0, 1.0)]), Dynamics(lambda x: 0 * x, 0.5, domain=(double(-99.0, 1.0), 99.0))
    x, v, _ = points_around(still, rest, COUNT, None)
    assert float((x[:, 0] - 2).square().mean().sqrt()) == pytest.approx(0.5, rel=0.02)
    assert len(x) == pytest.approx(COUNT / 2, rel=0.05)
    assert bool((x[:, 1] >= 1).all())
    assert float(v.square().mean().sqrt()) == pytest.approx(1.0, rel=0.02)


def test_symmetries_hold_up_to_the_tolerance_that_is_asked_for() -> None:
    """Of one candidate the size of its variation over that of its terms, whatever the number of points."""
    bent = Lagrangian(Dynamics(lambda x: 0.01 * torch.sin(x), 0.5))
    for n in (20, 500):
        x, v, t = normal(n, 1), normal(n, 1).flip(0), torch.zeros(n, dtype=torch.float64)
        both = Lagrangian(Dynamics(lambda x: -x, 0.5))
        for density in (bent, both):
            off = violation(density, translation([1.0]), x, v, t)
            for tolerance, count in ((1.001 * off, 1), (0.999 * off, 0)):
                assert len(find_symmetries(density, x, v, t, [translation([1.0])], tolerance=tolerance)) == count


class Halved(torch.autograd.Function):
    """exp, with its derivative, whose own derivative is a part of what it should be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, part: float) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x)
        ctx.part = part
        return x.exp()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        return gradient * (ctx.part * x.exp() + (1 - ctx.part) * x.exp().detach()), None


@pytest.mark.parametrize(("part", "refused"), [(1.0, False), (0.82, False), (0.78, True), (0.0, True), (1.22, True)])
def test_a_second_derivative_may_be_a_tenth_of_that_of_the_square_off(part: float, refused: bool) -> None:
    """|f|^2 = exp(2 x): 2 f'^2 and 2 f f'' are the same, so that a fifth of f'' is a tenth of their sum."""
    drift = Dynamics(lambda x: Halved.apply(x, part), 0.5)  # pyright: ignore[reportArgumentType]
    x, t = double(0.5, 1.5, 1.0)[:, None], torch.zeros(3, dtype=torch.float64)
    if refused:
        with pytest.raises(InputError, match="differentiate twice"):
            require_regular(drift, x, t)
    else:
        require_regular(drift, x, t)


@pytest.mark.parametrize(("off", "refused"), [(3.9e-12, False), (-3.9e-12, False), (4.1e-12, True), (-4.1e-12, True)])
def test_a_matrix_that_depends_on_the_state_is_symmetric_to_a_trillionth_of_its_largest_entry(off, refused) -> None:
    D = torch.tensor([[1.0, 0.5], [0.5 + off, 4.0]], dtype=torch.float64)
    moving = Dynamics(lambda x: -x, lambda x: D.expand(len(x), 2, 2))
    x, t = normal(3, 2), torch.zeros(3, dtype=torch.float64)
    if refused:
        with pytest.raises(InputError, match="symmetric positive definite"):
            require_regular(moving, x, t)
    else:
        require_regular(moving, x, t)


@pytest.mark.parametrize(("off", "refused"), [(0.95e-9, False), (1.05e-9, True), (-1.05e-9, True)])
def test_a_drift_may_depend_on_the_other_rows_by_a_billionth_of_its_largest(off, refused) -> None:
    coupled = Dynamics(lambda x: -x + 4 * off * (len(x) == 3), 0.5)
    x, t = double(1.0, -4.0, 2.0, 0.5)[:, None], torch.zeros(4, dtype=torch.float64)
    if refused:
        with pytest.raises(InputError, match="a function of each row alone"):
            require_regular(coupled, x, t)
    else:
        require_regular(coupled, x, t)


def test_cells_cover_all_but_a_thousandth_at_either_end() -> None:
    edges = _default_edges(torch.arange(10_001.0).double().flip(0))
    assert (float(edges[0]), float(edges[-1]), len(edges)) == (10.0, 9990.0, CELLS + 1)
    assert edges.diff().tolist() == pytest.approx([9980 / CELLS] * CELLS)
    few = _default_edges(double(3.0, 1.0, 2.0))
    assert (float(few[0]), float(few[-1])) == (1.0, 2.0)  # whole places from below
    with pytest.raises(InputError, match="samples: expected samples that differ"):
        _default_edges(torch.ones(50, dtype=torch.float64))

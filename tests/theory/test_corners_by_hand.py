"""What the search for curves through fixed points decides, from curves, costs and fixed points made by hand."""

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.theory.paths import Dynamics, GeometricAction, through_fixed_points
from diffuscope.theory.paths.through_fixed_points import _fixed_points, _Graph, _joined, _rank, _rather


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def curve(nodes: Tensor, cost: float = 1.0, *, minimum: bool = True, **given: float) -> GeometricAction:
    numbers = {"action": cost, "duration": 1.0, "energy": 0.0, "residual": 0.0, "action_change": 0.0} | given
    return GeometricAction(curve=nodes, duration_change=0.0, extrapolated=cost, minimum=minimum, **numbers)


def line(*x: float, cost: float = 1.0, **given: Any) -> GeometricAction:
    return curve(torch.stack([double(*x), 0 * double(*x)], 1), cost, **given)


SMOOTH = line(0.0, 1.0, 2.0, 3.0, 4.0, cost=1000.0)


def with_corner(x: float, y: float, cost: float) -> list[GeometricAction]:
    """Two edges over a corner at (x, y), which cost 600 and the rest."""
    corner = double(x, y)
    return [
        curve(torch.stack([double(0, 0), corner]), 600.0),
        curve(torch.stack([corner, double(4, 0)]), cost - 600.0),
    ]


@pytest.mark.parametrize(
    ("y", "cost", "taken"),
    [
        (9.0, 998.9, True), (9.0, 999.0, False),  # less by more than a thousandth, wherever its corner is
        (2.0, 1000.0, True), (2.01, 1000.0, False),  # the same, within two spacings of the smooth one
        (-2.0, 1001.0, True), (-2.0, 1001.1, False),
    ],
)  # fmt: skip
def test_a_curve_with_corners_is_taken_where_it_is_less_or_the_smooth_one_rounds_it_off(y, cost, taken) -> None:
    assert _rather(with_corner(2.0, y, cost), SMOOTH) is taken


def test_any_curve_with_corners_is_rather_taken_than_a_saddle() -> None:
    saddle = line(0.0, 1.0, 2.0, 3.0, 4.0, cost=1000.0, minimum=False)
    assert _rather(with_corner(2.0, 9.0, 5000.0), saddle) is True
    assert _rank(SMOOTH) < _rank(line(0.0, 1.0, cost=2000.0)) < _rank(saddle)


def test_newtons_method_begins_where_the_drift_is_least_at_the_ends_and_in_the_middle(monkeypatch) -> None:
    """Where several nodes in a row have the least drift, at all of them."""
    speeds = double(3.0, 2.0, 1.0, 2.0, 2.0, 5.0, 4.0, 4.0, 6.0, 0.5, 0.4)
    begun: list[float] = []

    def recorded(_: Dynamics, guess: Tensor) -> None:
        begun.append(float(guess))
        raise InputError("guess: none")

    monkeypatch.setattr(through_fixed_points, "fixed_point", recorded)
    shape = torch.arange(11.0).double()[:, None]
    given = Dynamics(lambda x: speeds[x[:, 0].long()][:, None], 1.0)
    assert _fixed_points(given, shape[0], shape[-1], [shape]) == []
    assert sorted(begun) == [0.0, 2.0, 4.0, 5.0, 6.0, 7.0, 10.0]


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        ((1.0, 1e6 - 1.0), []), ((1.01, 1e6 + 1.01), [1.01, 1e6 + 1.01]),  # a millionth of the distance from an end
        ((-1e6, 2e6), [-1e6, 2e6]), ((-1.01e6, 2.01e6), []),  # of the middle of the ends, one and a half distances
        ((3e5, 3e5 + 1.0, 3e5 + 1.01), [3e5 + 1.01, 3e5]),
        ((1e5, 2e5, 7e5, 9.1e5, 4e5), [4e5, 7e5, 2e5, 1e5]),  # the four nearest to the middle, by their distance
    ],
)  # fmt: skip
def test_fixed_points_are_those_near_the_middle_each_once_without_the_ends(states, kept, monkeypatch) -> None:
    left = list(states)

    def found(_: Dynamics, guess: Tensor) -> SimpleNamespace:  # noqa: ARG001
        if not left:
            raise InputError("guess: none")
        return SimpleNamespace(state=double(left.pop(0)))

    monkeypatch.setattr(through_fixed_points, "fixed_point", found)
    shape = torch.linspace(0, 1e6, 11, dtype=torch.float64)[:, None]
    points = _fixed_points(Dynamics(lambda x: 1 + 0 * x, 1.0), shape[0], shape[-1], [shape, shape])
    assert [float(point) for point in points] == kept


def graph(**costs: float | None) -> _Graph:
    """Edges by their ends: `_02=5.0`; others do not exist."""
    count = 1 + max(int(digit) for name in costs for digit in name[1:])
    known: dict[tuple[int, int], GeometricAction | None] = {
        (i, j): None for i in range(count) for j in range(count) if i != j
    }
    for name, cost in costs.items():
        i, j = int(name[1]), int(name[2])
        known[i, j] = None if cost is None else line(float(i), float(j), cost=cost)
    return _Graph(Dynamics(lambda x: x, 1.0), [double(float(k), 0.0) for k in range(count)], known)


@pytest.mark.parametrize(
    ("edges", "way"),
    [
        ({"_01": 1.0, "_12": 1.0, "_02": 0.1}, [0, 1, 2]),  # over one fixed point at least
        ({"_01": 1.0, "_13": 5.0, "_12": 1.0, "_23": 3.0, "_02": 3.0}, [0, 1, 2, 3]),
        ({"_01": 1.0, "_13": 4.9, "_12": 1.0, "_23": 3.0, "_02": 1.8}, [0, 2, 3]),
        ({"_01": -5.0, "_12": 2.0, "_02": 0.0, "_13": 3.0, "_23": 1.5}, [0, 2, 3]),  # no edge gives back
        ({"_01": 1.0, "_02": 0.5}, []),
    ],
)
def test_the_way_is_that_of_the_least_sum_over_a_fixed_point(edges, way) -> None:
    found = graph(**edges).shortest()
    ends = [float(edge.curve[0, 0]) for edge in found] + [float(found[-1].curve[-1, 0])] if found else []
    assert ends == way


@pytest.mark.parametrize(
    ("lengths", "intervals", "pieces"),
    [
        ((1.0, 3.0, 96.0), 100, [10, 10, 80]),
        ((50.0, 30.0, 20.0), 100, [50, 30, 20]),
        ((1.0, 1.5, 1.0), 12, [10, 2, 10]),
    ],
)
def test_the_pieces_of_a_curve_are_by_length_ten_at_least_and_the_longest_has_the_rest(
    lengths, intervals, pieces, monkeypatch
) -> None:
    asked = []

    def refined(_: Dynamics, start: Tensor, end: Tensor, count: int, *, initial: Tensor) -> GeometricAction:
        asked.append(count)
        assert torch.equal(initial, torch.stack([start, end]))
        nodes = start + torch.linspace(0, 1, count + 1, dtype=torch.float64)[:, None] * (end - start)
        return curve(nodes, 2.0, action=3.0, residual=0.5 / len(asked), action_change=0.25)

    monkeypatch.setattr(through_fixed_points, "geometric_action", refined)
    places = [0.0, lengths[0], lengths[0] + lengths[1], sum(lengths)]
    chain = [line(a, b) for a, b in itertools.pairwise(places)]
    found = _joined(Dynamics(lambda x: 1 + 0 * x, 1.0), chain, intervals)
    assert asked == pieces
    assert len(found.curve) == sum(pieces) + 1
    assert bool((found.curve[:, 0].diff() > 0).all())
    assert (found.action, found.extrapolated, found.residual, found.action_change) == (9.0, 6.0, 0.5, 0.75)
    assert (found.duration, found.energy, found.minimum) == (math.inf, 0.0, True)

"""The parts of curves with corners at fixed points: which edges are taken, joined and preferred, on curves by hand."""

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.theory.paths import Dynamics, GeometricAction, through_fixed_points
from diffuscope.theory.paths.through_fixed_points import _fixed_points, _Graph, _joined, _rather, _relaxation
from numbers_in_tests import double

WIND = Dynamics(lambda x: torch.tensor([-1.0, 0.0]).double().expand_as(x), 0.5)  # uphill: twice the way
FALLING = Dynamics(lambda x: -x, 0.5)
PITCHFORK = Dynamics(lambda x: -x * (x - 1) * (x - 2) * (x + 1), 0.5)  # stable at 0 and 2, unstable at -1 and 1


def curve(*ends: float, action: float = 1.0, nodes: int = 5, **given: Any) -> GeometricAction:
    """Straight along the first axis, at the heights given."""
    x = torch.linspace(ends[0], ends[1], nodes).double()
    height = torch.full_like(x, ends[2] if len(ends) > 2 else 0.0)
    prepared = {
        "curve": torch.stack([x, height], 1), "action": action, "duration": 1.0, "energy": 0.0, "residual": 0.0,
        "action_change": 0.0, "duration_change": 0.0, "extrapolated": action, "minimum": True,
    }  # fmt: skip
    return GeometricAction(**(prepared | given))


def test_edges_are_joined_in_pieces_by_their_lengths_and_their_numbers_add() -> None:
    whole = _joined(WIND, [curve(0.0, 1.0), curve(1.0, 4.0)], 60)
    assert len(whole.curve) == 61
    assert whole.curve[:, 0].tolist() == pytest.approx([k / 15 for k in range(61)])
    assert (whole.action, whole.extrapolated) == pytest.approx((8.0, 8.0))
    assert (whole.duration, whole.duration_change, whole.energy) == (math.inf, math.inf, 0.0)
    assert whole.minimum
    assert 0 <= whole.residual < 1e-9
    assert 0 <= whole.action_change < 1e-9
    thirds = _joined(WIND, [curve(k, k + 1.0) for k in range(3)], 61)  # 20 each, and one more for the longest
    assert len(thirds.curve) == 62
    assert thirds.curve[:, 0].diff().tolist() == pytest.approx([1 / 21] * 21 + [1 / 20] * 40)
    short = _joined(WIND, [curve(0.0, 0.1), curve(0.1, 4.0)], 60)  # ten pieces at least
    assert short.curve[:, 0].diff().tolist() == pytest.approx([0.01] * 10 + [3.9 / 50] * 50)


def test_an_edge_along_the_drift_keeps_two_pieces_where_the_others_need_all(monkeypatch) -> None:
    """Ten for the shorter one are more than five together."""
    monkeypatch.setattr(through_fixed_points, "_relaxation", lambda *_: True)
    few = _joined(WIND, [curve(0.0, 1.0), curve(1.0, 3.0)], 5)
    assert few.curve[:, 0].diff().tolist() == pytest.approx([0.1] * 10 + [1.0] * 2)


def test_a_curve_with_corners_is_preferred_where_it_is_less_or_the_smooth_one_is_rounded_off() -> None:
    smooth = curve(0.0, 2.0, action=2.0)  # nodes at distances of one half

    def rather(total: float, height: float = 9.0, other: GeometricAction = smooth) -> bool:
        first = curve(0.0, 1.0, height, action=total / 2)
        return _rather([first, curve(1.0, 2.0, height, action=total / 2)], other)

    assert rather(2 - 2.1e-3)
    assert not rather(2 - 1.9e-3)
    assert rather(2 + 1.9e-3, height=0.99)
    assert not rather(2 + 1.9e-3, height=1.01)
    assert not rather(2 + 2.1e-3, height=0.0)
    assert rather(9.0, other=curve(0.0, 2.0, action=2.0, minimum=False))
    assert rather(-9.0) and not _rather([curve(0.0, 1.0, 9.0, action=0.0)] * 2, curve(0.0, 2.0, action=-1.0))  # noqa: PT018


def test_the_shortest_way_over_a_state_between_is_the_least_sum() -> None:
    def way(*edges: tuple[int, int, float]) -> list[float]:
        costs = {(i, j): curve(0.0, 1.0, action=cost) for i, j, cost in edges}
        known = {(i, j): costs.get((i, j)) for i in range(4) for j in range(4)}
        return [edge.action for edge in _Graph(WIND, [double(0.0)] * 4, known).shortest()]

    assert way((0, 1, 1.0), (1, 3, 3.0), (0, 2, 2.0), (2, 3, 1.5), (0, 3, 0.5)) == [2.0, 1.5]  # never straight
    assert way((0, 1, 1.0), (1, 2, 0.5), (2, 3, 1.0), (1, 3, 2.0), (0, 2, 2.0)) == [1.0, 0.5, 1.0]
    assert way((0, 1, -5.0), (1, 3, 1.0), (0, 2, 0.5), (2, 3, 0.25)) == [0.5, 0.25]  # no cost is less than none
    assert way((0, 1, 1.0), (0, 3, 1.0)) == way() == []


def test_the_drift_leads_for_nothing_to_a_stable_fixed_point_alone() -> None:
    free = _relaxation(FALLING, double(1.0, 2.0), double(0.0, 0.0))
    assert free is not None
    assert (free.action, free.extrapolated, free.residual, free.action_change) == (0, 0, 0, 0)
    assert (free.duration, free.duration_change, free.minimum) == (math.inf, math.inf, True)
    shares = torch.linspace(1, 0, 51).double()[:, None]
    assert torch.allclose(free.curve, shares * double(1.0, 2.0), atol=1e-6)
    assert _relaxation(FALLING, double(1.0, 2.0), double(0.0, 0.1)) is None  # no fixed point
    assert _relaxation(FALLING, double(0.0, 0.0), double(1.0, 0.0)) is None
    assert _relaxation(PITCHFORK, double(0.5), double(0.0)) is not None
    assert _relaxation(PITCHFORK, double(1.5), double(0.0)) is None  # it falls to 2
    assert _relaxation(PITCHFORK, double(1.0), double(0.0)) is None  # it rests
    assert _relaxation(PITCHFORK, double(0.5), double(1.0)) is None  # unstable
    for off, found in ((0.9e-6, True), (1.1e-6, False)):  # where the drift is a millionth of the distance
        assert (_relaxation(FALLING, double(1.0), double(off)) is None) == (not found)
    for rate, found in ((1.1e-6, True), (0.9e-6, False)):
        slow = Dynamics(lambda x, rate=rate: -rate * x, 0.5)
        assert (_relaxation(slow, double(1.0), double(0.0)) is None) == (not found)


def test_fixed_points_between_are_found_once_nearest_to_the_middle_first() -> None:
    line = torch.linspace(-1, 2, 61).double()[:, None]
    between = _fixed_points(PITCHFORK, double(-1.0), double(2.0), [line, line + 0.01])
    assert sorted(round(float(x), 6) + 0.0 for x in between) == [0.0, 1.0]
    sooner = _fixed_points(PITCHFORK, double(-0.9), double(1.7), [torch.linspace(-0.9, 1.7, 53).double()[:, None]])
    assert [round(float(x), 6) + 0.0 for x in sooner] == [0.0, 1.0, -1.0, 2.0]  # about 0.4
    waves = Dynamics(lambda x: torch.sin(torch.pi * x), 0.5)  # at every whole number
    many = _fixed_points(waves, double(0.3), double(6.8), [torch.linspace(0.3, 6.8, 131).double()[:, None]])
    assert [round(float(x), 6) for x in many] == [4.0, 3.0, 5.0, 2.0]  # four at most, about 3.55
    boxed = Dynamics(lambda x: torch.sin(torch.pi * x), 0.5, domain=(2.5, 9.0))
    kept = _fixed_points(boxed, double(2.8), double(5.4), [torch.linspace(2.8, 5.4, 53).double()[:, None]])
    assert 2.0 not in [round(float(x), 6) for x in kept]


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
        assert torch.equal(initial[[0, -1]], torch.stack([start, end]))
        nodes = start + torch.linspace(0, 1, count + 1, dtype=torch.float64)[:, None] * (end - start)
        return curve(0.0, 1.0, action=3.0, curve=nodes, residual=0.5 / len(asked))

    monkeypatch.setattr(through_fixed_points, "geometric_action", refined)
    places = [0.0, lengths[0], lengths[0] + lengths[1], sum(lengths)]
    chain = [curve(a, b) for a, b in itertools.pairwise(places)]
    found = _joined(WIND, chain, intervals)
    assert asked == pieces
    assert len(found.curve) == sum(pieces) + 1
    assert bool((found.curve[:, 0].diff() > 0).all())
    assert (found.action, found.residual) == (9.0, 0.5)

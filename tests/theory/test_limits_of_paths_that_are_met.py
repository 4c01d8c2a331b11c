"""A value that is exactly its limit is within it, or beyond it: limits and values of which both are exact."""

import dataclasses
import math
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.theory.paths import (
    Dynamics,
    FixedPoint,
    FoundSymmetry,
    GeometricAction,
    Lagrangian,
    MostLikelyPath,
    conditioned_paths,
    curve_of_duration,
    fixed_points,
    most_likely_path,
    quasipotential,
    translation,
)
from diffuscope.theory.paths import through_fixed_points as corners
from diffuscope.theory.paths.minimum_energy_path import _require_potential
from diffuscope.theory.paths.newton import Stationary
from diffuscope.theory.paths.ordered_line_integral import _cell
from diffuscope.theory.paths.path_page import _point
from diffuscope.theory.paths.riccati import _require_smooth
from diffuscope.theory.paths.symmetry import _sparse
from numbers_in_tests import double

resolved = import_module("diffuscope.theory.paths.most_likely")
points = import_module("diffuscope.theory.paths.fixed_points")
curves = import_module("diffuscope.theory.paths.geometric_action")
timed = import_module("diffuscope.theory.paths.fixed_duration")
instantons = import_module("diffuscope.theory.paths.instanton")
ROUNDING = 1 + 1e-15
FALLING = Dynamics(lambda x: -x, 0.5)


def accepted(call: Callable[[], object], message: str) -> bool:
    try:
        call()
    except InputError as error:
        if message not in str(error):
            raise
        return False
    return True


def at(state: float, *rates: float) -> FixedPoint:
    J = double(*rates).diag()
    return FixedPoint(double(state), J, double(*rates).to(torch.complex128))


def changed(found: MostLikelyPath, change: float, action: float = 1.0) -> MostLikelyPath:
    certificate = dataclasses.replace(found.path.certificate, action_change=double(change), extrapolated=double(action))
    return dataclasses.replace(found, path=dataclasses.replace(found.path, certificate=certificate))


def test_a_path_is_resolved_up_to_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    found = most_likely_path(Dynamics(lambda x: -x, 0.5), double(2.0), double(3.0), 1.0, nodes=9)
    departure = found.energy_departure
    assert departure > 0
    for limit, expected in ((departure, True), (departure * (1 - 1e-15), False)):
        monkeypatch.setattr(resolved, "CONSTANT", limit)
        assert changed(found, 0.001).resolved is expected
    monkeypatch.setattr(resolved, "CONSTANT", 1.0)
    monkeypatch.setattr(resolved, "RESOLVED", 0.25)
    assert [changed(found, x, -4.0).resolved for x in (1.0, 1.0 + 1e-15)] == [True, False]
    monkeypatch.setattr(resolved, "NEGLIGIBLE", 2.0)
    assert [changed(found, x).resolved for x in (2.0, 2.0 + 1e-15)] == [True, False]
    assert changed(dataclasses.replace(found, duration=None), 0.1).resolved
    monkeypatch.setattr(resolved, "CONSTANT", 0.0)
    monkeypatch.setattr(resolved, "NEGLIGIBLE", 0.0)
    assert [changed(dataclasses.replace(found, duration=each), 0.1).resolved for each in (None, 1.0)] == [True, False]


def test_a_fixed_point_is_degenerate_up_to_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "ZERO", 0.25)

    def kind(*values: float) -> tuple[str, int]:
        found = FixedPoint(double(0.0, 0.0), torch.eye(2).double(), double(*values).to(torch.complex128))
        return found.kind, found.unstable_directions

    assert kind(-4.0, 1.0) == kind(-4.0, -1.0) == ("degenerate", 0)
    assert kind(-4.0, 1.0 + 1e-15) == ("saddle", 1)
    assert kind(-4.0, -1.0 - 1e-15) == ("stable", 0)
    assert kind(4.0, 1.0 + 1e-15) == ("unstable", 2)
    assert kind(4.0, -4.0) == ("saddle", 1)


def curve(cost: float, height: float = 0.0, **given: bool) -> GeometricAction:
    x = torch.linspace(0, 2, 5).double()
    found = {"action": cost, "duration": 1.0, "energy": 0.0, "residual": 0.0, "action_change": 0.0}
    more = {"duration_change": 0.0, "extrapolated": cost, "minimum": True} | given
    return GeometricAction(curve=torch.stack([x, torch.full_like(x, height)], 1), **found, **more)  # pyright: ignore


def test_corners_and_the_drifts_own_curve_have_limits_that_are_met(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corners, "LESS", 0.25)
    smooth = curve(1.0)
    for half, height, preferred in (
        (0.375, 9.0, False), (0.3749, 9.0, True), (0.625, 1.0, True), (0.6251, 1.0, False), (0.625, 1.0001, False)
    ):  # fmt: skip
        assert corners._rather([curve(half, height), curve(half, height)], smooth) is preferred
    monkeypatch.setattr(corners, "NEAR", 0.25)
    slow, falling = Dynamics(lambda x: -x / 4, 0.5), Dynamics(lambda x: -x, 0.5)
    assert corners._relaxation(slow, double(1.0), double(0.0)) is not None
    assert corners._relaxation(falling, double(1.25), double(0.25)) is not None
    assert corners._relaxation(falling, double(1.25), double(0.2501)) is None


def test_an_edge_on_a_line_has_no_bends_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Tensor] = []
    monkeypatch.setattr(corners, "_relaxation", lambda *_: None)
    monkeypatch.setattr(
        corners, "geometric_action", lambda *_, initial: tried.append(initial) or curve(1.0, minimum=False)
    )
    for ends, count in (((double(0.0), double(1.0)), 1), ((double(0.0, 0.0), double(1.0, 0.0)), 3)):
        tried.clear()
        assert corners._Graph(FALLING, list(ends)).edge(0, 1) is not None
        assert len(tried) == count


def test_of_two_ways_of_the_same_cost_the_first_is_kept() -> None:
    known: dict[tuple[int, int], GeometricAction | None] = dict.fromkeys([(1, 2), (2, 1)])
    known |= {(0, 1): curve(1.0), (0, 2): curve(1.0), (1, 3): curve(2.0), (2, 3): curve(2.0)}
    assert corners._Graph(FALLING, [double(0.0)] * 4, known).shortest() == [known[0, 1], known[1, 3]]
    known[2, 3] = curve(2 / ROUNDING)
    assert corners._Graph(FALLING, [double(0.0)] * 4, known).shortest() == [known[0, 2], known[2, 3]]


def test_a_fixed_point_without_a_rate_is_not_relaxed_to() -> None:
    assert corners._relaxation(Dynamics(lambda x: -(x**3), 0.5), double(1.0), double(0.0)) is None


def test_paths_are_kept_whose_last_state_is_at_the_edge_of_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    conditioned, given = import_module("diffuscope.theory.paths.conditioned"), []

    def kept(*arguments: object) -> None:
        given.append(arguments[3])
        raise InputError("window: looked at")

    monkeypatch.setattr(conditioned, "kept_paths", kept)
    with pytest.raises(InputError, match="looked at"):
        conditioned_paths(
            FALLING, double(0.0), double(2.0), double(0.0, 0.5, 1.0), window=0.25, attempts=10,
            generator=torch.Generator(),
        )  # fmt: skip
    ends = double(2.25, 1.75, 2.25 * ROUNDING, 1.75 / ROUNDING, 2.0)
    x, left = torch.zeros(5, 3, 1).double(), torch.tensor([2, 2, 2, 2, 1])
    x[:, -1, 0] = ends
    assert given[0](x, left).tolist() == [True, True, False, False, False]


def test_a_direction_with_exactly_the_silent_share_of_the_noise_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("diffuscope.theory.paths.dynamics"), "SILENT", 0.25)
    for least, silent in ((1.0, 1), (ROUNDING, 0)):
        assert Dynamics(lambda x: -x, double(least, 4.0).diag()).silent(2).shape[1] == silent


def test_a_box_has_an_inside() -> None:
    with pytest.raises(InputError, match=r"domain: expected a box .* with low < high"):
        Dynamics(lambda x: -x, 0.5, domain=(0.5, 0.5))


def of_duration(change: float) -> GeometricAction:
    return dataclasses.replace(curve(1.0), duration_change=change)


@pytest.mark.parametrize(("change", "certain"), [(0.25, True), (0.25 * ROUNDING, False)])
def test_a_duration_is_certain_at_exactly_its_limit(monkeypatch, change: float, certain: bool) -> None:
    """Of curves of the duration 1, whatever their energy: a longer one does not exist, if that is certain."""
    monkeypatch.setattr(timed, "CERTAIN", 0.25)
    monkeypatch.setattr(timed, "geometric_action", lambda *_, **__: of_duration(change))
    with pytest.raises(InputError, match="expected at most 1, the duration at" if certain else "25%, got 2; doubling"):
        curve_of_duration(FALLING, double(1.0), double(2.0), 2.0)
    monkeypatch.setattr(timed, "_curve", lambda *_: of_duration(change))
    call = lambda: curve_of_duration(FALLING, double(1.0), double(2.0), 2.0)  # noqa: E731
    assert accepted(call, "duration: expected one that") is certain


def test_energies_are_tried_to_exactly_the_lowest(monkeypatch: pytest.MonkeyPatch) -> None:
    energies: list[float] = []
    monkeypatch.setattr(timed, "LOWEST", 1.0)
    monkeypatch.setattr(timed, "geometric_action", lambda *_, energy, **__: energies.append(energy) or of_duration(0.0))
    with pytest.raises(InputError, match="duration: expected at most 1"):
        curve_of_duration(FALLING, double(1.0), double(2.0), 2.0)
    assert energies == pytest.approx([0.125, 0.125 / math.e])  # 2 / (4 2^2), of free motion


def test_fixed_points_at_exactly_the_least_distance_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The distance of 1 from 0 is half of 1 + 1."""
    monkeypatch.setattr(points, "_newton", lambda _, guess, __: at(float(guess), 1.0))
    for share, count in ((0.5, 1), (0.5 / ROUNDING, 2)):
        monkeypatch.setattr(points, "SAME", share)
        assert len(fixed_points(FALLING, double(0.0, 1.0)[:, None])) == count


def test_a_gradient_of_exactly_the_tolerance_is_stationary() -> None:
    tolerance = import_module("diffuscope.theory.paths.newton").TOLERANCE
    residual, minimum = double(tolerance, tolerance * ROUNDING), torch.ones(2, dtype=torch.bool)
    assert Stationary(torch.zeros(2, 3, 1).double(), double(0.0, 0.0), residual, minimum, 1).converged.tolist() == [
        True, False,
    ]  # fmt: skip


def stationary(monkeypatch: pytest.MonkeyPatch, x: Tensor, residual: float, iterations: int) -> None:
    found = Stationary(x, double(1.0), double(residual), torch.ones(1, dtype=torch.bool), iterations)
    monkeypatch.setattr(curves, "newton", lambda *_, **__: found)


PIECES = torch.stack([double(0.0, 0.75, 2.0), torch.zeros(3).double()], 1)[None]  # 3/4 and 5/4, half their mean apart


@pytest.mark.parametrize(("uneven", "even"), [(0.5, True), (0.5 / ROUNDING, False)])
def test_pieces_of_a_curve_differ_by_at_most_their_limit(monkeypatch, uneven: float, even: bool) -> None:
    monkeypatch.setattr(curves, "UNEVEN", uneven)
    stationary(monkeypatch, PIECES, 0.0, 1)
    call = lambda: curves.minimized(curves.CurveDensity(FALLING, 0.0), PIECES, double(0.0, 0.5, 1.0))  # noqa: E731
    assert accepted(call, "no stationary curve of 2 pieces") is even


@pytest.mark.parametrize(("iterations", "rounds"), [(0, 3), (125, 2), (124, 3)])
def test_rounds_end_at_their_number_and_at_exactly_their_budget(monkeypatch, iterations: int, rounds: int) -> None:
    monkeypatch.setattr(curves, "ROUNDS", 3)
    monkeypatch.setattr(curves, "BUDGET", 250)
    stationary(monkeypatch, PIECES, 1.0, iterations)
    with pytest.raises(InputError, match=f"after {rounds} rounds the gradient is 1 of its momenta"):
        curves.minimized(curves.CurveDensity(FALLING, 0.0), PIECES, double(0.0, 0.5, 1.0))


def hand_made(first: float, last: float) -> object:
    states = double(first, 0.5, last)[:, None]
    return instantons.Instanton(double(0.0, 1.0, 2.0), states, torch.ones_like(states), 0.0)


def test_a_path_that_is_exactly_as_near_as_wanted_is_not_prolonged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instantons, "ARRIVING", 0.25)
    monkeypatch.setattr(instantons, "LEAVING", 0.25)
    stable, saddle, D = at(0.0, -1.0), at(1.0, 1.0), np.eye(1)
    for first, last, before, after in ((0.25, 0.75, 0, 0), (0.25 * ROUNDING, 0.75 / ROUNDING, 199, 19)):
        arriving = instantons._arriving(hand_made(first, last), saddle, 1.0)
        assert len(arriving[0]) == 3 + after
        assert len(instantons._leaving(arriving, stable, 1.0, D)[0]) == 3 + after + before


@pytest.mark.parametrize(
    ("first", "last", "near"),
    [(0.25, 0.75, True), (0.25 * ROUNDING, 0.75, False), (0.25, 0.75 / ROUNDING, False)],
)
def test_a_path_is_near_both_ends_at_exactly_the_slack(monkeypatch, first: float, last: float, near: bool) -> None:
    for name, value in (("LEAVING", 0.125), ("ARRIVING", 0.125), ("SLACK", 2.0), ("PROLONGATIONS", 1)):
        monkeypatch.setattr(instantons, name, value)
    monkeypatch.setattr(instantons, "_solved", lambda *_: hand_made(first, last))
    call = lambda: instantons.instanton(FALLING, at(0.0, -1.0), at(1.0, 1.0))  # noqa: E731
    assert accepted(call, "does not come near the saddle") is near


@pytest.mark.parametrize(
    ("alpha", "last", "found"),
    [(0.5, 0.75, True), (-0.5, 1.25, True), (0.5 * ROUNDING, 0.75, False), (0.5, 0.75 / ROUNDING, False)],
)
def test_a_solution_is_a_path_at_exactly_its_limits(monkeypatch, alpha: float, last: float, found: bool) -> None:
    """A dissipation of 1/2, and an end a quarter of the way off the saddle."""
    y = np.array([[0.1, last], [1.0, 1.0]])
    solution = SimpleNamespace(success=True, p=[alpha], x=np.array([0.0, 1.0]), y=y)
    for name, value in (("STRAY", 0.5), ("ASTRAY", 0.25), ("solve_bvp", lambda *_, **__: solution)):
        monkeypatch.setattr(instantons, name, value)
    guess = np.array([0.0, 1.0]), np.array([[0.1], [0.9]]), np.ones((2, 1))
    call = lambda: instantons._solved(FALLING, at(0.0, -1.0), at(1.0, 1.0), np.eye(1), guess, 1e-3)  # noqa: E731
    assert accepted(call, "no path from the stable point to the saddle") is found


def test_no_noise_reaches_no_direction() -> None:
    with pytest.raises(InputError, match="diffusion: expected noise that reaches every direction"):
        instantons.stationary_covariance(-np.eye(1), np.zeros((1, 1)))


def test_a_drift_is_a_gradient_at_exactly_the_largest_asymmetry(monkeypatch: pytest.MonkeyPatch) -> None:
    string = import_module("diffuscope.theory.paths.minimum_energy_path")
    sheared = Dynamics(lambda x: torch.stack([-x[:, 0] + 0.25 * x[:, 1], -x[:, 1]], 1), 1.0)
    for largest, gradient in ((0.25, True), (0.25 / ROUNDING, False)):
        monkeypatch.setattr(string, "ASYMMETRY", largest)
        call = lambda: _require_potential(sheared, double(0.0, 1.0, 1.0, 0.0).reshape(2, 2))  # noqa: E731
        assert accepted(call, "got an asymmetry of 0.25") is gradient


def test_what_is_conserved_holds_at_exactly_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotations are tried up to a number of dimensions, with twice as many points as candidates, here one or four."""
    path = most_likely_path(FALLING, double(2.0, 0.0), double(3.0, 1.0), 1.0, nodes=3).path
    shift = translation(torch.ones(2), "shift")
    held = [FoundSymmetry({f"{violation}": 1.0}, violation, shift) for violation in (0.25, 0.25 * ROUNDING, math.nan)]
    monkeypatch.setattr(resolved, "HOLDS", 0.25)
    monkeypatch.setattr(resolved, "standard", lambda _: [shift])
    monkeypatch.setattr(resolved, "find_symmetries", lambda *_: held)
    monkeypatch.setattr(resolved, "_charge", lambda *_: (double(1.0), 0.0))
    for rotated, rows, count in ((2, 2, 1), (2, 1, None), (1, 8, 1), (1, 7, None)):
        monkeypatch.setattr(resolved, "ROTATED", rotated)
        x = torch.zeros(rows, 2).double()
        monkeypatch.setattr(resolved, "points_around", lambda *_, x=x: (x, x, x[:, 0]))
        kept = resolved.conserved(Lagrangian(FALLING), path, 1.0)
        assert (kept if kept is None else [each.symmetry for each in kept]) == (None if count is None else held[:1])


def test_a_coefficient_of_exactly_the_rounding_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("diffuscope.theory.paths.symmetry"), "HOLDS", 0.25)
    assert _sparse(double(1.0, 0.25, -0.25, 0.2499)[None]).tolist() == [[1.0, 0.25, -0.25, 0.0]]


def test_a_saddle_is_smooth_at_exactly_the_largest_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    """J = D = 1: J + 2 D H is -1/2 at H = -3/4, off -1 by a half, and 1 at H = 0, where it is off by 2."""
    riccati = import_module("diffuscope.theory.paths.riccati")
    for agreement, H, smooth in ((0.5, -0.75, True), (0.5 / ROUNDING, -0.75, False), (2.0, 0.0, False)):
        monkeypatch.setattr(riccati, "AGREEMENT", agreement)
        call = lambda H=H: _require_smooth(at(0.0, 1.0), np.eye(1), np.full((1, 1), H))  # noqa: E731
        assert accepted(call, "does not tend to its solution at a smooth saddle") is smooth


def test_a_coordinate_at_the_end_of_a_box_is_in_its_last_cell() -> None:
    axis = double(-1.0, 0.0, 1.0)
    assert [_cell(axis, value) for value in (-1.0, 1.0)] == [(0, 0.0), (1, 1.0)]
    for beyond in (-ROUNDING, ROUNDING):
        with pytest.raises(InputError, match="state: expected coordinates in the box, -1 to 1"):
            _cell(axis, beyond)


@pytest.mark.parametrize(("from_low", "inside"), [(1, False), (2, True), (6, True), (7, False)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_fixed_point_is_at_least_two_nodes_from_either_edge(from_low: int, inside: bool, axis: int) -> None:
    """Nine nodes at distances of 1."""
    low, high = float(-from_low), float(8 - from_low)
    box = (low, high, -4.0, 4.0) if axis == 0 else (-4.0, 4.0, low, high)
    call = lambda: quasipotential(FALLING, double(0.0, 0.0), box, 9, reach=1)  # noqa: E731
    assert accepted(call, "at least two nodes from the edge") is inside


def test_a_state_of_exactly_as_many_coordinates_as_are_shown_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("diffuscope.theory.paths.path_page"), "SHOWN", 2)
    assert [_point(x) for x in (double(1.0, 2.0), double(1.0, 2.0, 3.0))] == ["(1, 2)", "(1, 2, ...)"]

"""A value that is exactly its limit is within it, or beyond it: limits and values of which both are exact."""

import dataclasses
from importlib import import_module

import pytest
import torch

from diffuscope.theory.paths import Dynamics, FixedPoint, GeometricAction, MostLikelyPath, most_likely_path
from diffuscope.theory.paths import through_fixed_points as corners
from numbers_in_tests import double

resolved = import_module("diffuscope.theory.paths.most_likely")
points = import_module("diffuscope.theory.paths.fixed_points")


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

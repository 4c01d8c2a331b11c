"""The settings that the documentation states are those that the experiments compute with."""

import ast
from importlib import import_module
from pathlib import Path

import pytest
import torch
from stated import Stated, misdrawn, misstated, outside_of_its_band, same, stated

from diffuscope.experiments import NAMES
from diffuscope.findings import Chart, Panel, at_most, equals, line
from diffuscope.schedules import VE


def module_of(heading: str):
    return import_module(f"diffuscope.experiments.{heading.replace('-', '_').replace('/', '.')}")


@pytest.mark.parametrize("heading", stated())
def test_every_setting_is_the_stated_one(heading):
    module = module_of(heading)
    off = {
        name: text
        for name, text in stated()[heading].settings.items()
        if not same(getattr(module, name), eval(text, dict(vars(module))))
    }
    assert off == {}


@pytest.mark.parametrize("heading", stated())
def test_no_number_is_missing(heading):
    """Numbers, and tuples of them, that the file assigns."""
    module = module_of(heading)
    targets = [
        name.id
        for statement in ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8")).body
        if isinstance(statement, ast.Assign)
        for name in ast.walk(statement.targets[0])
        if isinstance(name, ast.Name) and number(getattr(module, name.id))
    ]
    assert set(targets) - set(stated()[heading].settings) == set()


@pytest.mark.parametrize(
    ("one", "other"), [(0.1, 0.11), ((1, 2), (1, 2.0)), ([1, 2], [1]), ({1: 2}, {1: 3}), (VE(0.1, 5.0), VE(0.1, 5.5))]
)
def test_settings_that_differ_are_not_the_same(one, other):
    assert same(one, one)
    assert not same(one, other)
    assert same(torch.ones(2), torch.ones(2))
    assert not same(torch.ones(2), torch.tensor([1, 1.1]))


def number(value):
    return isinstance(value, (int, float)) or (isinstance(value, tuple) and len(value) > 0 and all(map(number, value)))


def test_every_experiment_is_on_the_page():
    assert [heading for heading in stated() if heading in NAMES] == list(NAMES)


WHY = {"because": "rounding", "source": "derived"}


@pytest.mark.parametrize(
    ("bound", "fits"),
    [("0.5 ± 0.01", True), ("0.5 ± 0.011", False), ("0.51 ± 0.01", False), ("… ± 0.01", True), ("0.5 ± …", True)],
)
def test_a_number_with_another_tolerance_is_misstated(bound, fits):
    claim = equals("n", "t", 0.5, 0.5, within=0.01, **WHY)
    assert misstated(claim, [bound]) == ([] if fits else [bound])
    assert misstated(claim, ["at most 0.5", bound]) == ([] if fits else ["at most 0.5", bound])


@pytest.mark.parametrize(("bound", "fits"), [("at most 2", True), ("at most 2.2", False), ("at least 2", False)])
def test_another_bound_is_misstated(bound, fits):
    assert misstated(at_most("n", "t", 1.0, 2.0, **WHY), [bound]) == ([] if fits else [bound])


def test_a_claim_has_its_own_bound_before_those_of_its_family():
    known = Stated({}, [("left-*", "at most 1"), ("left-0", "at most 2"), ("left-*", "at most 3")])
    assert known.of_claim("left-0") == ["at most 2"]
    assert known.of_claim("left-1") == ["at most 1", "at most 3"]
    assert known.of_claim("right") == []


def chart_of(*marks, equal_scales=False):
    return Chart("c", (Panel("p", "x", "y", marks, equal_scales=equal_scales),), "h")


def test_lines_that_leave_their_band_or_go_back_and_forth_are_seen():
    inside, beside = ([1, 2], [1, 2], "a", [0, 2], [1, 3]), ([1, 2], [1, 2], "a", [0, 1], [1, 1.9])
    for given, found in ((inside, []), (beside, ["c: p"])):
        x, y, label, low, high = given
        assert outside_of_its_band(chart_of(line(x, y, label, low=low, high=high))) == found
    for x, y, found in (
        ([1, 3], [2, 1], []),
        ([3, 2, 1], [2, 1, 5], []),
        ([1, 3, 2], [2, 1, 5], ["c: p: a"]),
        ([1], [2], ["c: p: a"]),
        ([1, 2], [1, float("nan")], ["c: p: a"]),
    ):
        assert misdrawn(chart_of(line(x, y, "a"))) == found
    assert misdrawn(chart_of(line([1, 3, 2], [2, 1, 5], "a"), equal_scales=True)) == []

"""The settings that the documentation states are those that the experiments compute with."""

import ast
from importlib import import_module
from pathlib import Path

import pytest
from stated import same, stated

from diffuscope.experiments import NAMES


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
        for statement in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body
        if isinstance(statement, ast.Assign)
        for name in ast.walk(statement.targets[0])
        if isinstance(name, ast.Name) and number(getattr(module, name.id))
    ]
    assert set(targets) - set(stated()[heading].settings) == set()


def number(value):
    return isinstance(value, (int, float)) or (isinstance(value, tuple) and len(value) > 0 and all(map(number, value)))


def test_every_experiment_is_on_the_page():
    assert [heading for heading in stated() if heading in NAMES] == list(NAMES)

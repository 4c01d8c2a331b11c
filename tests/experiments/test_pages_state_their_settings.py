"""Every number at the head of an experiment is one that its page states; those that are not are found."""

from pathlib import Path

import pytest
from stated_settings import unstated, unstated_in

from diffuscope import experiments

SOURCES = sorted(Path(experiments.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(SOURCES[0].parent)))
def test_the_settings_of_a_module_are_those_that_its_page_states(file):
    assert unstated_in(file) == []


def test_settings_that_are_not_stated_are_found():
    module = '"""{said}"""\nSTEPS = {steps}\nEXPERIMENT = Experiment(seconds=7, settings={{"steps": {shown}}})\n'
    for said, steps, shown, found in (
        ("40 steps", "40", "STEPS", []),
        ("", "40", "'40 Euler steps'", []),
        ("", "40", 'f"{STEPS} steps"', [(2, 40)]),
        ("40 steps", "41", 'f"{STEPS} steps"', [(2, 41)]),
        ("three levels from 0.01 on", "(0.01, 0.1)[-1], 3", "3", [(2, 0.1)]),
        ("1,000 steps to 5%", "1_000, 0.05", "1000", []),
        ("at 3, 5 and 7", "(-3, 5, 7)", "STEPS", []),
        ("at 5, 3 and 7", "(3, 5, 7)", "STEPS", [(2, (3, 5, 7))]),
    ):
        assert list(unstated(module.format(said=said, steps=steps, shown=shown))) == found
    unpacked = '"""40 steps of 8 examples, 20 looks"""\nSTEPS, LOOKS, BATCH = 40, 20, 8\n'
    assert list(unstated(unpacked)) == []
    assert list(unstated("CHUNK = 40\nCHUNKS = 50\n")) == [(2, 50)]
    inside = "def f(n=3):\n    return n + 4\nclass A:\n    size = 5\n"
    assert list(unstated(inside)) == []
    assert list(unstated("N = 6\n", "six of them")) == []

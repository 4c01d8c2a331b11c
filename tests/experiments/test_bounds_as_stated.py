"""Numbers in the bounds of claims are round or stated; those that are neither are found."""

from pathlib import Path

import pytest
from stated_bounds import unstated, unstated_in

from diffuscope import experiments

SOURCES = sorted(Path(experiments.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(SOURCES[0].parent)))
def test_bounds_are_round_or_stated(file):
    assert unstated_in(file) == []


def test_numbers_that_are_neither_are_found():
    claim = "BAR = {bar}\ndef f(part):\n    why = 'our bar: {said}'\n    part.at_most('n', 'title', x, {bound}, why)"
    for bar, said, bound, found in (
        (0.2, "", "0.05", []),
        (0.2, "", "1", []),
        (0.2, "", "BAR", []),
        (0.22, "", "BAR", [(4, 0.22)]),
        (0.2, "", "4 * error", [(4, 4)]),
        (0.2, "four standard errors", "4 * error", []),
        (0.2, "7%", "0.07", []),
        (0.2, "7%", "0.077", [(4, 0.077)]),
        (0.2, "5.53e-5 or 1,200", "1200 * 5.53e-5", []),
    ):
        assert list(unstated(claim.format(bar=bar, said=said, bound=bound))) == found

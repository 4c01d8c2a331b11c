"""A stated relative tolerance is the one that holds: no default adds an absolute one beside it."""

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_pytest_adds_no_absolute_tolerance_to_a_relative_one():
    """Its default is 1e-12: a tenth of 1e-20 would be anything below 1e-12."""
    assert pytest.approx(2e-20, rel=0.1) == 2.1e-20
    assert pytest.approx(2e-20, rel=0.1) != 3e-20
    assert pytest.approx(0.0, rel=0.1) != 1e-13
    assert pytest.approx([2e-20], rel=0.1) != [3e-20]


def relative_alone(source: str) -> list[int]:
    """The lines of calls of `allclose` and `isclose` with `rtol`, without `atol`: NumPy and PyTorch add 1e-8 then."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    close = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr in {"allclose", "isclose"}]
    stated = [({keyword.arg for keyword in call.keywords}, call.lineno) for call in close]
    return [line for names, line in stated if "rtol" in names and "atol" not in names]


def test_allclose_and_isclose_state_both_tolerances():
    assert relative_alone("torch.allclose(a, b, rtol=1e-12)") == [1]
    assert relative_alone("np.isclose(a, b, rtol=0.1, atol=0)") == []
    folders = [HERE, *(HERE.parent / name for name in ("src", "benchmarks", "docs/examples"))]
    sources = {path: path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py")}
    found = {path.name: relative_alone(text) for path, text in sources.items() if "rtol=" in text}
    assert {name: lines for name, lines in found.items() if lines} == {}

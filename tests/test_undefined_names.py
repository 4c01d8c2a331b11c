"""Every name that the code uses is defined.

Neither linter nor type checker can be asked in general: the shapes in jaxtyping's strings look like names to both. So
ruff's findings inside strings are left out, but for what f-strings compute.
"""

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "tests", "tools", "benchmarks", "docs/examples")


def undefined(*paths: Path) -> list[str]:
    """The undefined names, each with its file and line."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821"]
    ended = subprocess.run([*command, "--output-format", "json", *map(str, paths)], capture_output=True, text=True)
    assert ended.returncode in (0, 1), ended.stderr
    found = []
    for finding in json.loads(ended.stdout):
        place = (finding["location"]["row"], finding["location"]["column"] - 1)
        path = Path(finding["filename"])
        if not any(begin <= place < end for begin, end in plain_strings(path)):
            found.append(f"{path.name}:{place[0]}: {finding['message']}")
    return found


@cache
def plain_strings(path: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where the strings of a file that are not f-strings begin and end, by line and column."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    formatted = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or node.lineno, node.end_col_offset or 0))
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in formatted
    ]


def test_every_name_is_defined():
    assert undefined(*(ROOT / folder for folder in FOLDERS)) == []


def test_an_undefined_name_is_found_in_code_and_in_f_strings_and_a_shape_is_none(tmp_path):
    path = tmp_path / "planted.py"
    path.write_text(
        "from jaxtyping import Float\nfrom torch import Tensor\n\n\n"
        'def f(x: Float[Tensor, "batch"]) -> str:\n    return f"{x} {missing}" + absent\n'
    )
    assert [line.split("`")[1] for line in undefined(path)] == ["missing", "absent"]

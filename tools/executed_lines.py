"""Which test executes which line of the source, and how long each test takes: one run under coverage.py.

A line of a statement is executed by the tests that execute any line of it. What runs once at import stands for what
uses it: the header of a function for the body, a field of a class for the methods. Where that is nothing (a constant of
a module), every test may be the one. Some tests ask without executing a line: how a class is decorated is asked by one
file of tests for all of them, and a test whose parameter is the path of a source file reads it. What a fixture executes
before the first test of a file is seen by all tests of that file. Subprocesses are not seen.
"""

import ast
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from coverage import CoverageData

SOME_FAILED = 1  # pytest's exit status
OF_DECORATORS = "tests/test_dataclasses.py"


@dataclass(frozen=True, eq=False)
class ExecutedLines:
    """Of every file of the source the tests by line, and the seconds of every test."""

    data: CoverageData
    seconds: dict[str, float]

    @classmethod
    def read(cls, record: Path) -> "ExecutedLines":
        """What `record_lines` wrote."""
        data = CoverageData(str(record / "coverage"))
        data.read()
        return cls(data, durations((record / "seconds.xml").read_text(encoding="utf-8")))

    def tests(self, path: str, lines: Iterable[int], suite: list[str], most: float) -> tuple[list[str], float]:
        """The tests of the files `suite` that execute one of the lines, the quick ones first, and what they take.

        Those that read the file stand before them, and those of all classes where a line is in a decorator of a class.

        Of these, as many as take `most` seconds together, but at least one.
        """
        source = Path(path).read_text(encoding="utf-8")
        contexts = self._contexts(path)
        seen = {name for line in executing(source, lines) for name in contexts.get(line, ())}
        found = chosen(seen, self.seconds, suite)
        if OF_DECORATORS in suite and of_decorators(source, lines):
            found = list(dict.fromkeys([*chosen({f"{OF_DECORATORS}|setup"}, self.seconds, suite), *found]))
        reading = {f"{test}|run" for test in self.seconds if reads(test, path)}
        if reading:
            found = list(dict.fromkeys([*chosen(reading, self.seconds, suite), *found]))
        kept, total = [], 0.0
        for test in found:
            if kept and total + self.seconds[test] > most:
                break
            kept.append(test)
            total += self.seconds[test]
        return kept, total

    def _contexts(self, path: str) -> dict[int, list[str]]:
        (measured,) = [name for name in self.data.measured_files() if name.endswith(f"/{path}")] or [""]
        return self.data.contexts_by_lineno(measured) if measured else {}


def chosen(contexts: Iterable[str], seconds: dict[str, float], suite: list[str]) -> list[str]:
    """The tests behind coverage's contexts, `test|run` or `test|setup`; without any, the whole suite.

    >>> chosen({"a.py::x|run"}, {"a.py::x": 2.0, "a.py::y": 1.0, "b.py::z": 0.5}, ["a.py", "b.py"])
    ['a.py::x']
    >>> chosen({"a.py::x|setup"}, {"a.py::x": 2.0, "a.py::y": 1.0, "b.py::z": 0.5}, ["a.py", "b.py"])
    ['a.py::y', 'a.py::x']
    """
    named = [context.rpartition("|") for context in contexts if context]
    tests = {test for test, _, _ in named}
    files = {file_of(test) for test, _, phase in named if phase != "run"}
    able = [test for test in seconds if file_of(test) in suite]
    found = [test for test in able if test in tests or file_of(test) in files] if named else able
    return sorted(found, key=lambda test: (seconds[test], test))


def file_of(test: str) -> str:
    """The file of a test."""
    return test.partition("::")[0]


def executing(source: str, lines: Iterable[int]) -> frozenset[int]:
    """The lines whose execution tells that one of `lines` takes effect: see the top.

    >>> sorted(executing("def f(x=1):\\n    y = (x +\\n         2)\\n    return y", range(3, 4)))
    [2, 3]
    >>> sorted(executing("def f(x=1):\\n    y = (x +\\n         2)\\n    return y", range(1, 2)))
    [2, 3, 4]
    """
    found: set[int] = set()
    tree = ast.parse(source)
    for line in lines:
        inner: ast.stmt | None = None
        holder: ast.stmt | None = None  # the function or class whose header or field it is
        for node in ast.walk(tree):  # outer nodes come first
            if not isinstance(node, ast.stmt):
                continue
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            if first <= line <= (node.end_lineno or node.lineno):
                inner = node
                if isinstance(node, ast.ClassDef):
                    holder = node
                elif isinstance(node, ast.FunctionDef):
                    holder = node if line < node.body[0].lineno else None
        if holder is not None:
            bodies = [n for n in ast.walk(holder) if isinstance(n, ast.FunctionDef)]
            for body in bodies:
                found |= set(range(body.body[0].lineno, (body.end_lineno or 0) + 1))
            if bodies:
                continue
        if inner is not None:
            header = getattr(inner, "body", None)
            last = header[0].lineno - 1 if header else inner.end_lineno or inner.lineno
            found |= set(range(inner.lineno, max(last, inner.lineno) + 1))
    return frozenset(found)


def of_decorators(source: str, lines: Iterable[int]) -> bool:
    """Whether one of `lines` is in a decorator of a class.

    >>> of_decorators("@dataclass(\\n    frozen=True)\\nclass A:\\n    x: int", range(2, 3))
    True
    >>> of_decorators("@dataclass(\\n    frozen=True)\\nclass A:\\n    x: int", range(3, 5))
    False
    """
    classes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]
    decorators = [each for node in classes for each in node.decorator_list]
    return any(each.lineno <= line <= (each.end_lineno or each.lineno) for each in decorators for line in lines)


def reads(test: str, path: str) -> bool:
    """Whether a test's parameter is the source file, by the end of its path.

    >>> [reads(f"tests/test_a.py::test_b[{file}]", "src/a/b/c.py") for file in ("c.py", "b/c.py", "bc.py", "c", "")]
    [True, True, False, False, False]
    """
    parameter = test.partition("[")[2].removesuffix("]")
    return parameter.endswith(".py") and f"/{path}".endswith(f"/{parameter}")


def durations(report: str) -> dict[str, float]:
    """Seconds of every test of a JUnit report, by its name on pytest's command line, without those skipped or failed.

    >>> durations('<s><testcase classname="tests.a.test_b" name="test_c[1]" time="0.5"/></s>')
    {'tests/a/test_b.py::test_c[1]': 0.5}
    """
    found: dict[str, float] = {}
    for case in ElementTree.fromstring(report).iter("testcase"):
        if any(case.find(outcome) is not None for outcome in ("skipped", "failure", "error")):
            continue
        name = f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name']}"
        found[name] = found.get(name, 0.0) + float(case.attrib["time"])
    return found


def record_lines(tree: Path, files: list[str], record: Path, *, jobs: int, environment: dict[str, str]) -> None:
    """Run the tests once and keep what they execute in the folder `record`; those that fail are left out, and named."""
    part = record.with_suffix(".part")
    part.mkdir(parents=True, exist_ok=True)
    measured = ["--cov=src/diffuscope", "--cov-context=test", "--cov-report="]
    written = [f"--junitxml={part / 'seconds.xml'}", "-n", str(jobs), "--dist", "loadfile"]
    command = [sys.executable, "-m", "pytest", "-q", *measured, *written, *files]
    process = subprocess.run(
        command, cwd=tree, env=environment | {"COVERAGE_FILE": str(part / "coverage")}, check=False
    )
    if process.returncode not in (0, SOME_FAILED):
        raise SystemExit("the tests cannot be run without a mutant")
    if process.returncode == SOME_FAILED:
        print("some tests fail without a mutant (see above); they kill none", file=sys.stderr)
    part.rename(record)

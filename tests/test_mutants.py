"""The edits that `make mutants` draws: each kind makes exactly the edit that its name says."""

import ast
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from executed_lines import OF_DECORATORS, ExecutedLines, chosen, durations, executing, of_decorators
from mutants import EQUIVALENT, ROOT, Mutant, drawn, judged, report, suite_of, without_parameters
from single_edits import Edit, edits

REAL = [Path(ROOT, "src/diffuscope/samplers/ode.py"), Path(ROOT, "src/diffuscope/schedules/preserving.py")]


def by_kind(source: str) -> dict[str, set[str]]:
    """The sources that the edits of each kind make."""
    made: dict[str, set[str]] = {}
    for edit in edits(source):
        made.setdefault(edit.kind, set()).add(edit.applied(source))
    return made


@pytest.mark.parametrize(
    ("kind", "source", "mutated"),
    [
        ("arithmetic", "y = a + b", {"y = a - b"}),
        ("arithmetic", "y = (a  # a * b\n / b)", {"y = (a  # a * b\n * b)"}),
        ("arithmetic", "y = a**b", {"y = a*b"}),
        ("dropped term", "y = a - b", {"y = a"}),
        ("dropped term", "y = a + b", {"y = a", "y = b"}),
        ("dropped term", "y = a and b", {"y = (a)", "y = (b)"}),
        ("constant", "y = f(0.95, 0.0)", {"y = f(1.045, 0.0)", "y = f(0.95, 0.1)"}),
        ("off by one", "y = x[0]", {"y = x[1]"}),
        ("off by one", "y = n - 1", {"y = n", "y = n - 2"}),
        ("sign", "y = f(-x)", {"y = f(x)"}),
        ("sign", "def f(x):\n    return a + b", {"def f(x):\n    return -(a + b)"}),
        ("gradient kept", "y = (a + b).detach()", {"y = (a + b)"}),
        ("gradient kept", "@torch.no_grad()\ndef f(): ...", {"\ndef f(): ..."}),
        (
            "gradient kept",
            "with torch.no_grad():\n    f()",
            {"with __import__('contextlib').nullcontext():\n    f()"},
        ),
        ("input returned", "def f(x: T, y: T) -> T:\n    return g(x)", {"def f(x: T, y: T) -> T:\n    return x"}),
        ("validation removed", "if x < 0:\n    raise ValueError(x)", {"if False:\n    raise ValueError(x)"}),
        ("validation removed", "check_times(t)", {"None"}),
        ("wrong variable", "def f(a: T, b: T, c: S):\n    g(a, c)", {"def f(a: T, b: T, c: S):\n    g(b, c)"}),
        ("wrong variable", "def f():\n    a, b = g()\n    h(a)", {"def f():\n    a, b = g()\n    h(b)"}),
        (
            "wrong variable",
            "class C:\n    a: T\n    b: T\n    c: S\nx.a",
            {"class C:\n    a: T\n    b: T\n    c: S\nx.b"},
        ),
        ("negation", "y = not x", {"y = x"}),
        ("negation", "y = f(bias=True)", {"y = f(bias=False)"}),
        ("negation", "if x:\n    f()", {"if not (x):\n    f()"}),
        ("limit removed", "y = x.clamp(min=2)", {"y = x"}),
        ("limit removed", "y = torch.abs(x - z)", {"y = (x - z)"}),
        ("limit removed", "y = min(a, b)", {"y = a", "y = b"}),
        ("boundary", "y = 0 < x <= 1", {"y = 0 <= x <= 1", "y = 0 < x < 1"}),
        ("swapped arguments", "f(a, b)", {"f(b, a)"}),
        ("swapped arguments", "f(σ,\n  b)", {"f(b,\n  σ)"}),
    ],
)
def test_each_kind_makes_exactly_its_edit(kind, source, mutated):
    assert by_kind(source)[kind] == mutated


@pytest.mark.parametrize(
    "source",
    [
        "def f(x: Annotated[int, 3] = None) -> Literal[4]: ...",
        "x: Annotated[int, 3]",
        "def f():\n    '''A docstring - of 3 words.'''",
        "raise ValueError(3 * word)",
        "y = f'{a + b:.3f}'",
        "y = 'a' + b",
        "y = x.min()",
        "y = max(values)",
        "isinstance(a, b)",
    ],
)
def test_what_no_test_should_notice_is_left_alone(source):
    assert edits(source) == []


def test_a_field_of_a_class_defined_elsewhere_is_taken_for_another_of_its_type():
    (definition,) = ast.parse("class C:\n    a: T\n    b: T").body
    assert isinstance(definition, ast.ClassDef)
    source = "def f(x: C):\n    g(x.a)"
    assert [edit.applied(source) for edit in edits(source, {"C": definition})] == ["def f(x: C):\n    g(x.b)"]


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_every_edit_of_a_real_file_is_valid_and_changes_it(path):
    source = path.read_text(encoding="utf-8")
    original = ast.dump(ast.parse(source))
    some = edits(source)[::7]  # parsing takes milliseconds
    assert len(some) > 10
    assert all(ast.dump(ast.parse(edit.applied(source))) != original for edit in some)


def mutants() -> list[Mutant]:
    return [
        Mutant(str(path.relative_to(ROOT)), edit) for path in REAL for edit in edits(path.read_text(encoding="utf-8"))
    ]


def test_a_draw_is_reproduced_by_its_seed_and_takes_the_kinds_in_turn():
    chosen = drawn(mutants(), 26, seed=1)
    assert chosen == drawn(mutants(), 26, seed=1) != drawn(mutants(), 26, seed=2)
    counts = Counter(mutant.edit.kind for mutant in chosen)
    kinds = {mutant.edit.kind for mutant in mutants()}
    assert set(counts) == kinds
    assert len(set(chosen)) == 26
    assert max(counts.values()) <= 3


def test_the_tests_of_a_module_are_those_of_its_subpackage_the_ones_that_name_it_first():
    tests = suite_of("src/diffuscope/samplers/unipc.py")
    assert tests[0] == "tests/samplers/test_unipc.py"
    assert {Path(name).parent.name for name in tests} == {"samplers"}
    assert suite_of("src/diffuscope/times.py") == ["tests/test_times.py"]


def test_the_report_tells_tests_of_the_own_subpackage_from_others():
    path = "src/diffuscope/errors.py"
    mutants = [Mutant(path, Edit("constant", 0, 1, str(at))) for at in range(4)]
    text = report(dict(zip(mutants, ("own", "own", "other", None), strict=True)), equivalent=set())
    assert "killed 3, survived 1, equivalent 0" in text
    assert "50% of those not equivalent are killed by tests of their own subpackage, 95% interval 7% to 93%" in text
    assert "75% of those not equivalent are killed by all tests, 95% interval 19% to 99%" in text


def test_the_report_leaves_out_the_equivalent_and_shows_a_survivor_as_a_diff():
    path = "src/diffuscope/errors.py"
    source = (ROOT / path).read_text(encoding="utf-8")
    start = len(source[: source.index("(ValueError)") + 1].encode())
    first, second, third = (
        Mutant(path, Edit(kind, start, start + 10, kind)) for kind in ("TypeError", "KeyError", "OSError")
    )
    text = report({first: "own", second: None, third: None}, equivalent={third.diff})
    assert "killed 1, survived 1, equivalent 1" in text
    # one of two: the exact interval is [1 - q, q] with q^2 = 1 - alpha/2, q = 0.9874
    assert "50% of those not equivalent are killed by all tests, 95% interval 1% to 99%" in text
    old = source.splitlines()[first.line - 1]
    assert f"  - {old}\n  + {old.replace('ValueError', 'KeyError')}" in text


SOURCE = """\
LIMIT = 3

class C:
    field: int = 1

    @property
    def twice(self):
        return (
            2 *
            self.field)

    def other(self):
        if self.field:
            a()
        return 0
"""


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        (1, {1}),  # at import alone: no test is seen to execute it
        (4, {8, 9, 10, 13, 14, 15}),  # a field: by the methods
        (6, {8, 9, 10}),  # a decorator: by the body
        (9, {8, 9, 10}),  # any line of a statement
        (13, {13}),  # a condition, and not what it guards
        (14, {14}),
    ],
)
def test_an_edit_takes_effect_where_its_statement_or_what_uses_it_is_executed(line, lines):
    assert executing(SOURCE, [line]) == lines


def test_tests_are_those_that_execute_a_line_and_all_of_a_file_whose_fixture_does():
    seconds = {"t/a.py::f": 2.0, "t/a.py::g": 1.0, "t/b.py::h[x|y]": 0.5, "t/c.py::far": 0.1}
    suite = ["t/a.py", "t/b.py"]
    assert chosen({"t/b.py::h[x|y]|run", "t/c.py::far|run", ""}, seconds, suite) == ["t/b.py::h[x|y]"]
    assert chosen({"t/a.py::f|setup"}, seconds, suite) == ["t/a.py::g", "t/a.py::f"]
    assert chosen({""}, seconds, suite) == ["t/b.py::h[x|y]", "t/a.py::g", "t/a.py::f"]
    assert chosen({"t/c.py::far|run"}, seconds, suite) == []  # executed, but by no test of its own


def test_how_a_class_is_decorated_is_asked_by_the_file_for_all_classes_first(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(source := "@dataclass(\n    frozen=True)\nclass A:\n    x: int = 1\n")
    assert [of_decorators(source, [line]) for line in (1, 2, 3, 4)] == [True, True, False, False]
    assert (Path(__file__).parents[1] / OF_DECORATORS).is_file()
    nothing: Any = SimpleNamespace(measured_files=list)
    seconds = {"t/a.py::f": 0.5, f"{OF_DECORATORS}::g[a]": 3.0, f"{OF_DECORATORS}::g[b]": 2.0}
    executed = ExecutedLines(nothing, seconds)
    of_all = [f"{OF_DECORATORS}::g[b]", f"{OF_DECORATORS}::g[a]"]
    assert executed.tests(str(path), [2], ["t/a.py", OF_DECORATORS], 9.0) == ([*of_all, "t/a.py::f"], 5.5)
    assert executed.tests(str(path), [4], ["t/a.py", OF_DECORATORS], 9.0)[0] == ["t/a.py::f", *of_all]
    assert executed.tests(str(path), [2], ["t/a.py"], 9.0)[0] == ["t/a.py::f"]


def test_tests_that_read_a_file_of_the_source_are_asked_first(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("x = 1\n")
    nothing: Any = SimpleNamespace(measured_files=list)
    seconds = {"t/a.py::f": 0.5, "t/a.py::g[module.py]": 3.0, "t/b.py::h[module.py]": 1.0, "t/a.py::g[other.py]": 0.1}
    found = ExecutedLines(nothing, seconds).tests(str(path), [1], ["t/a.py"], 9.0)[0]
    assert found == ["t/a.py::g[module.py]", "t/a.py::g[other.py]", "t/a.py::f"]


def test_tests_whose_parameters_are_values_of_the_source_run_with_those_that_it_has_now():
    tests = ["t/a.py::f[10000000-x]", "t/a.py::f[1]", "t/b.py::C::g"]
    assert without_parameters(tests) == ["t/a.py::f", "t/b.py::C::g"]


def test_seconds_add_over_setup_and_call_and_skipped_tests_take_none():
    case = '<testcase classname="tests.a.test_b" name="test_c[1]" time="{}">{}</testcase>'
    text = f"<s>{case.format(0.5, '')}{case.format(0.25, '')}{case.format(9, '<skipped/>').replace('_c', '_d')}</s>"
    assert durations(text) == {"tests/a/test_b.py::test_c[1]": 0.75}


@pytest.mark.slow
def test_a_mutant_is_killed_by_a_test_that_executes_it_and_survives_where_none_looks(tmp_path):
    path = "src/diffuscope/schedules/preserving.py"
    source = (ROOT / path).read_text(encoding="utf-8").encode()
    killed, word = source.index(b"torch.sigmoid"), source.index(b'"""') + 3
    mutants = [
        Mutant(path, Edit("wrong function", killed, killed + 13, "torch.tanh")),
        Mutant(path, Edit("a docstring", word, word + 1, "x")),
    ]
    results = judged(mutants, jobs=1, seconds=20.0, kept=tmp_path / "kept.jsonl")
    assert [results[mutant] for mutant in mutants] == ["own", None]


def test_what_is_listed_as_equivalent_is_an_edit_of_the_present_source():
    blocks = Path(ROOT, EQUIVALENT).read_text(encoding="utf-8").strip().split("\n\n")[1:]
    assert blocks
    for path, *lines in (block.splitlines() for block in blocks):
        source = [line.strip() for line in Path(ROOT, path).read_text(encoding="utf-8").splitlines()]
        old = [line[2:] for line in lines if line.startswith("- ")]
        assert any(source[k : k + len(old)] == old for k in range(len(source))), (path, old)
        assert any(line.startswith("+ ") for line in lines)
        assert lines[-1].startswith("# ")

"""The examples of docstrings print what they say, and every public name has one."""

import contextlib
import doctest
import importlib
import inspect
import io
from pathlib import Path

import pytest

import diffuscope
from diffuscope.cli import COMMANDS, NAMES, main

SOURCE = Path(diffuscope.__file__).parent
WITH_EXAMPLES = sorted(path for path in SOURCE.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))
PACKAGES = ["diffuscope", *(f"diffuscope.{path.parent.name}" for path in sorted(SOURCE.glob("[a-z]*/__init__.py")))]


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.usefixtures("blank_figures")  # no example prints what is drawn
@pytest.mark.parametrize("name", [module_name(path) for path in WITH_EXAMPLES])
def test_the_examples_of_a_module_print_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = [test for test in doctest.DocTestFinder().find(importlib.import_module(name)) if test.examples]
    assert examples, "'>>>' is in the file, and no docstring has it"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    log = io.StringIO()
    for example in examples:
        with contextlib.redirect_stderr(log):
            runner.run(example, out=log.write)
    assert runner.summarize(verbose=False).failed == 0, log.getvalue()


def public_objects(package: str) -> list[tuple[str, object]]:
    """The classes and functions of ours that a package offers, with their names; no aliases of array types."""
    module = importlib.import_module(package)
    offered = ((name, getattr(module, name)) for name in module.__all__)
    ours = ((name, value) for name, value in offered if str(getattr(value, "__module__", "")).startswith("diffuscope"))
    return [(name, value) for name, value in ours if inspect.isclass(value) or inspect.isfunction(value)]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_has_an_example(package):
    without = [name for name, value in public_objects(package) if ">>> " not in (value.__doc__ or "")]
    assert not without


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_an_example_which_its_help_leaves_out(name, capsys):
    assert ">>> " in (COMMANDS[name].__doc__ or "")
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert " ".join(str(COMMANDS[name].__doc__).split()[:4]) in " ".join(shown.split())
    assert ">>>" not in shown
    assert "Example:" not in shown

"""The commands of a page. In the default run those of diffuscope stop before the work, and other programs are checked.

A command stops when every option is accepted, and data, models and samples are read; the slow run does the work.
"""

import contextlib
import csv
import io
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from packaging.requirements import Requirement

from diffuscope.cli import main
from page_blocks import Command

ROOT = Path(__file__).parents[1]
executed: set[Path] = set()  # scripts that a command ran
Printed = tuple[str, str] | None


class Reached(SystemExit):
    """The work would begin here."""


STARTS = {  # where the work of each command begins
    "audit": ("audit_model", "audit_samples", "audit_by_class", "Audit._small_model"),
    "certify": (
        "certify_sampler",
        "certify_as_shipped",
        "certify_likelihood",
        "certify_guidance",
        "certify_flow_map",
        "likelihood_problems",
    ),
    "reproduce": ("progress",),
    "grade": ("Grade._side_by_side",),
    "train": ("Train._forecast",),
}
ELSEWHERE = ("diffuscope reproduce --all", "diffuscope reproduce --source")  # hours, which nightly.yml runs by itself
STEPS = 2  # of a training in the default run: later blocks sample from the model


def run(command: Command, whole: bool, effort: str | None) -> Printed:
    """What the command prints, None if it stopped before the work. Raises AssertionError if the page is wrong."""
    words = [*command.words]
    program = words[0].removeprefix(".venv/bin/") if words else "export"
    assert program in PROGRAMS, f"no test knows the program {program}; add it to tests/page_commands.py"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in command.variables.items():
            patch.setenv(name, value)
        printed = PROGRAMS_RUN[program](words[1:], command, whole, effort)
    if command.target is not None and printed is not None:
        with Path(command.target).open("a" if command.appended else "w", encoding="utf-8") as file:
            file.write(printed[0])
    return printed


def diffuscope(words: list[str], command: Command, whole: bool, effort: str | None) -> Printed:
    """In this process. Exit status 0, unless the page says `exits with N` behind it, or prints the mistake below."""
    if words[:2] == ["data", "fetch"]:  # nothing is fetched at run time
        start = mock.patch("diffuscope.cli.data.fetch_data", side_effect=Reached(0))
    elif (whole and not command.text.startswith(ELSEWHERE)) or effort is not None:
        start = contextlib.nullcontext()
        words = with_options(words, effort.split() if effort and not whole else [])
    else:
        start = stopping(words[0] if words else "")
    out, err, code = io.StringIO(), io.StringIO(), 0
    reached = False
    try:
        with start, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(words)
    except Reached:
        reached = True
    except SystemExit as ended:
        code = ended.code or 0
    says = re.search(r"exits with (\d)", command.comment)
    expected = int(says[1]) if says and not reached else 0
    if code == 2 and "this machine has no CUDA device" in err.getvalue() and "--device" in words:
        return None
    if effort and not whole and not says:
        assert code in (0, 1, 3), err.getvalue()
    else:
        assert code == expected, f"exit status {code}, expected {expected}: {err.getvalue() or out.getvalue()}"
    return None if reached or (effort and not whole) else (out.getvalue(), err.getvalue())


@contextlib.contextmanager
def stopping(name: str):
    """The work of the command ends it."""
    with contextlib.ExitStack() as stack:
        for part in STARTS.get(name, ()):
            stack.enter_context(mock.patch(f"diffuscope.cli.{name}.{part}", side_effect=Reached(0)))
        if name == "train":
            from diffuscope.cli import train

            whole = train.train_denoiser

            def few(*arguments, **options):
                return whole(*arguments, **{**options, "steps": min(STEPS, options["steps"]), "log_every": 0})

            stack.enter_context(mock.patch("diffuscope.cli.train.train_denoiser", few))
        yield


def with_options(words: list[str], more: list[str]) -> list[str]:
    """The words with these options, instead of those of the same names."""
    for option in [word for word in more if word.startswith("--")]:
        if option in words:
            at = words.index(option)
            after = next((i for i in range(at + 1, len(words)) if words[i].startswith("--")), len(words))
            words = words[:at] + words[after:]
    return words + more


def python(words: list[str], command: Command, whole: bool, effort: str | None) -> Printed:
    if words[:1] == ["-m"]:
        return run_module(words[1:], command, whole, effort)
    path = Path(words[0])
    if not path.exists():  # of a checkout: a benchmark, an example
        known = ROOT / path
        assert known.exists(), f"no file {path}, here or in the repository"
        source = known.read_text(encoding="utf-8")
        for option in (word.partition("=")[0] for word in words[1:] if word.startswith("--")):
            names = {option, option[2:].replace("-", "_")}
            assert any(name in source for name in names), f"{path} has no option {option}"
        compile(source, str(known), "exec")
        return None
    executed.add(path)
    sys.argv[:] = words
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        runpy.run_path(str(path), run_name="__main__")
    return out.getvalue(), err.getvalue()


def run_module(words: list[str], command: Command, whole: bool, effort: str | None) -> Printed:
    if words[0] in PROGRAMS:
        return PROGRAMS_RUN[words[0]](words[1:], command, whole, effort)
    assert words[0] in ("venv", "build", "sphinx"), f"no test knows the module {words[0]}"
    return None


def torchrun(words: list[str], command: Command, whole: bool, effort: str | None) -> Printed:
    """Its arguments are read by its own parser; the default run has one process, the slow run as many as it says."""
    from torch.distributed.run import get_args_parser

    given = get_args_parser().parse_args(words)
    rest = given.training_script_args
    inner = [given.training_script, *rest] if not given.module else rest if given.training_script == "--" else words
    if given.module and given.training_script != "--":
        inner = [given.training_script, *rest]
    if whole:
        executed.add(Path(given.training_script))
        ran = subprocess.run([sys.executable, "-m", "torch.distributed.run", *words], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout, ran.stderr
    found = run_module(inner, command, whole, effort) if given.module else python(inner, command, whole, effort)
    del found  # of one process
    return None


def run_pytest(words: list[str], command: Command, whole: bool, effort: str | None) -> Printed:
    """The slow run runs it; the default run reads its options and the files."""
    del command, effort
    for path in (Path(word.partition("::")[0]) for word in words if not word.startswith("-")):
        if path.exists():
            executed.update(path.rglob("*.py") if path.is_dir() else [path])
    if not whole:
        return None
    ran = subprocess.run([sys.executable, "-m", "pytest", *words], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    return ran.stdout, ran.stderr


def make(words: list[str], command: Command, whole: bool, effort: str | None) -> Printed:
    del command, whole, effort
    chores = set(re.findall(r"^([\w./]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for word in words if "=" not in word}
    assert named
    assert named <= chores, f"the Makefile has no {named - chores}"
    return None


def pip(words: list[str], command: Command, whole: bool, effort: str | None) -> Printed:
    """Requirements are read, and extras of diffuscope exist."""
    del command, whole, effort
    assert words[0] == "install"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words[1:]:
        if word.startswith("-") or word.endswith(".txt"):
            continue
        local = re.fullmatch(r"\.(?:\[([\w,-]+)\])?", word)
        wheel = re.fullmatch(r"\S+\.whl(?:\[([\w,-]+)\])?", word)
        if local or wheel:
            found = (local or wheel)[1]  # type: ignore[index]
            asked = set((found or "").split(",")) - {""}
        elif word.startswith("git+https://"):
            continue
        else:
            requirement = Requirement(word)
            asked = requirement.extras if requirement.name == "diffuscope" else set()
        assert asked <= extras.keys(), f"no extra {asked - extras.keys()} of diffuscope"
    return None


def cat(words: list[str], command: Command, whole: bool, effort: str | None) -> Printed:
    del whole, effort
    return command.stdin + "".join(Path(word).read_text(encoding="utf-8") for word in words), ""


def cd(words: list[str], command: Command, whole: bool, effort: str | None) -> Printed:
    """Into a folder of the page; one of the repository is copied."""
    import shutil

    del command, whole, effort
    folder = Path(words[0])
    if not folder.exists() and folder.name != "diffuscope":
        assert (ROOT / folder).is_dir(), f"no folder {folder}"
        shutil.copytree(ROOT / folder, folder)
    if folder.exists():
        os.chdir(folder)
        sys.path.insert(0, str(Path.cwd()))
    return None


def export(words: list[str], command: Command, whole: bool, effort: str | None) -> Printed:
    del command, whole, effort
    for word in words:
        name, _, value = word.partition("=")
        os.environ[name] = value  # restored after the page
    return None


def mkdir(words: list[str], command: Command, whole: bool, effort: str | None) -> Printed:
    del command, whole, effort
    for word in words:
        if not word.startswith("-"):
            Path(word).mkdir(parents=True, exist_ok=True)
    return None


def git(words: list[str], command: Command, whole: bool, effort: str | None) -> Printed:
    del command, whole, effort
    assert words[0] in ("clone", "switch", "add", "commit", "push", "checkout", "diff", "status"), words
    return None


def accepted(words: list[str], command: Command, whole: bool, effort: str | None) -> Printed:
    """Programs that only show something."""
    del words, command, whole, effort
    return None


def pre_commit(words: list[str], command: Command, whole: bool, effort: str | None) -> Printed:
    del command, whole, effort
    assert words in (["install"], ["run", "--all-files"])
    assert (ROOT / ".pre-commit-config.yaml").exists()
    return None


PROGRAMS_RUN: dict[str, Callable[[list[str], Command, bool, str | None], Printed]] = {
    "cat": cat, "cd": cd, "diffuscope": diffuscope, "export": export, "git": git, "less": accepted, "ls": accepted,
    "make": make, "mkdir": mkdir, "open": accepted, "pip": pip, "pre-commit": pre_commit, "pytest": run_pytest,
    "python": python, "python3": python, "source": accepted, "torchrun": torchrun, "xdg-open": accepted,
}  # fmt: skip
PROGRAMS = tuple(PROGRAMS_RUN)


def read(language: str, text: str) -> list[str]:
    """Raises an error for a text that is not in the language; the commands of a workflow."""
    if language == "json":
        json.loads(text)
    elif language == "toml":
        tomllib.loads(text)
    elif language == "yaml":
        found = pytest.importorskip("yaml").safe_load(text)
        assert found
        jobs = found.get("jobs", {}).values() if isinstance(found, dict) else []
        return [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    else:
        rows = [*csv.reader(line for line in text.splitlines() if line and not line.startswith("#"))]
        assert len({len(row) for row in rows}) == 1, "the rows have different numbers of columns"
    return []

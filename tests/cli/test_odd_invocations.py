"""No invocation ends in a traceback: malformed ones, by the thousand, end in one line that names what was typed."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from odd_invocations import Ending, Invocation, ending, invocations, mistake


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder, from which modules are imported, and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)
    yield tmp_path
    for name in {*sys.modules} - known:
        if name.startswith("odd_"):
            del sys.modules[name]


def mistakes(found: list[tuple[Invocation, Ending]]) -> dict[str, list[object]]:
    """The invocations that did not end as they should, by what is wrong."""
    wrong: dict[str, list[object]] = {}
    for invocation, end in found:
        what = mistake(invocation, end)
        if what is not None:
            wrong.setdefault(what, []).append((invocation.words, end.errors))
    return wrong


def run_in_process(folder, count, seed):
    return [(invocation, ending(invocation.words)) for invocation in invocations(folder, count, seed)]


def run_as_processes(folder, count, seed):
    found = []
    for invocation in invocations(folder, count, seed):
        if "\0" in "".join(invocation.words) or len(found) == count:  # no system passes null characters
            continue
        done = subprocess.run(
            [sys.executable, "-m", "diffuscope", *map(os.fsencode, invocation.words)], capture_output=True, timeout=60
        )
        errors = done.stderr.decode(errors="surrogateescape")
        found.append((invocation, Ending(code=done.returncode, raised="", errors=errors)))
    return found


def test_a_hundred_and_fifty_malformed_invocations_end_in_one_line_that_names_what_was_typed(here):
    found = run_in_process(here, 150, seed=0)
    assert mistakes(found) == {}
    # the sample is one of every command, and of many reasons
    assert len({invocation.words[0] for invocation, _ in found if invocation.words}) >= 6
    reasons = Counter(" ".join(end.errors.split()[-4:]) for _, end in found)
    assert len(reasons) > 50


def test_a_malformed_invocation_ends_in_the_same_way_as_a_process(here):
    assert mistakes(run_as_processes(here, 1, seed=2)) == {}


@pytest.mark.slow
def test_three_thousand_malformed_invocations(here):
    assert mistakes(run_in_process(here, 3000, seed=1)) == {}


@pytest.mark.slow
def test_twenty_processes(here):
    assert mistakes(run_as_processes(here, 20, seed=3)) == {}

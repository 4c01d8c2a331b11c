"""Progress: a bar on a terminal, lines elsewhere."""

import io
import sys

import pytest
from tqdm import tqdm

from diffuscope.progress import SECONDS, PlainLines, progress_bar


def test_without_a_terminal_progress_is_a_line_per_stage_and_one_every_ten_seconds(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("diffuscope.progress.time.monotonic", lambda: now[0])
    written = io.StringIO()
    bar = PlainLines(total=30, desc="audit", file=written, mininterval=0)
    for stage in ("fitting", "measuring"):
        bar.set_postfix_str(stage)
        for _ in range(10):
            now[0] += 3
            bar.update()
            bar.refresh()
    bar.close()
    lines = written.getvalue().splitlines()
    assert lines == [
        "audit: 0/30, fitting", "audit: 4/30, fitting", "audit: 8/30, fitting",
        "audit: 10/30, measuring", "audit: 14/30, measuring", "audit: 18/30, measuring",
    ]  # fmt: skip
    assert "\r" not in written.getvalue()
    assert SECONDS == 10


@pytest.mark.parametrize(("terminal", "no_color", "plain"), [(True, "", False), (True, "1", True), (False, "", True)])
def test_a_bar_needs_a_terminal_that_may_be_drawn_on(monkeypatch, terminal, no_color, plain):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("NO_COLOR", no_color)
    with progress_bar(desc="x", unit="y", total=2) as bar:
        assert isinstance(bar, PlainLines) == plain
        assert type(bar) is (PlainLines if plain else tqdm)
        assert bar.mininterval == (SECONDS if plain else 0.5)
        assert (bar.total, bool(bar.dynamic_ncols), bar.leave, bar.disable) == (2, True, True, False)


def plain_lines(**settings):
    written = io.StringIO()
    return written, PlainLines(desc="x", file=written, mininterval=0, **settings)


def test_a_line_is_written_when_ten_seconds_have_passed_and_not_before(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("diffuscope.progress.time.monotonic", lambda: now[0])
    written, bar = plain_lines()
    bar.n = 1
    for at in (100.0, 109.9, 110.0, 119.9, 120.0):
        now[0] = at
        bar.display()
    assert written.getvalue() == "x: 1\n" * 3
    bar.display("a message of tqdm, not a state")
    bar.clear()
    assert written.getvalue() == "x: 1\n" * 3


def test_nothing_is_written_before_the_first_step_without_a_stage_nor_after_the_end():
    written, bar = plain_lines(total=3)
    bar.display()
    assert written.getvalue() == ""
    bar.set_postfix_str("first")
    assert written.getvalue() == "x: 0/3, first\n"
    bar.close()
    bar.update()
    bar.close()
    assert written.getvalue() == "x: 0/3, first\n"


def test_without_stderr_or_disabled_there_is_no_bar(monkeypatch, capsys):
    assert progress_bar([1], desc="x", unit="y", disable=True).disable
    begun = progress_bar(desc="x", unit="y", total=5, initial=3, leave=False)
    assert (begun.n, begun.total, begun.leave, begun.unit, begun.desc) == (3, 5, False, "y", "x")
    begun.close()
    capsys.readouterr()
    monkeypatch.setattr(sys, "stderr", None)
    bar = progress_bar([1, 2], desc="x", unit="y")
    assert bar.disable
    assert list(bar) == [1, 2]

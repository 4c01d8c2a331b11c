"""The marks of a panel by what they are, for tests that compare their numbers."""

from typing import TypeVar

from diffuscope.findings import Line, Mark, Panel

Kind = TypeVar("Kind", bound=Mark)


def marks_of(panel: Panel, kind: type[Kind]) -> list[Kind]:
    """The marks of one kind, in their order."""
    return [mark for mark in panel.marks if isinstance(mark, kind)]


def lines_of(panel: Panel) -> dict[str, Line]:
    """The lines by their labels, of which no two are the same."""
    lines = marks_of(panel, Line)
    found = {mark.label: mark for mark in lines}
    assert len(found) == len(lines)
    return found

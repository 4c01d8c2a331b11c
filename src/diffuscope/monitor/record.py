"""The log of a monitor: a file of JSON lines, of which the first says what was asked, and every other is one look.

A line is flushed to the disk as a whole. The log is the history of the run: when a resumed run repeats a step, the
looks of that step and of later ones give way to new ones.
"""

import json
from pathlib import Path
from typing import Any

from diffuscope.errors import InputError
from diffuscope.files import append_line, json_line, replace_atomically, whole_lines

from .look import Look

FORMAT = "diffuscope monitor 1"


class Record:
    """The looks of one run, in the file `path` if one is given; `asked` is what their meaning depends on.

    Nothing is written before the first look. Raises InputError where the file holds anything else, is of another run,
    or cannot be written.
    """

    def __init__(self, path: Path | None, asked: dict[str, object]) -> None:
        self.path, self.looks, self._whole = path, list[Look](), False
        self.head = {"format": FORMAT, **json.loads(json.dumps(asked))}
        if path is not None and path.exists():
            self.looks = read_looks(path, self.head)

    def forget_from(self, step: int) -> None:
        """Drop the looks of `step` and later."""
        kept = [look for look in self.looks if look.step < step]
        if len(kept) < len(self.looks):
            self.looks, self._whole = kept, False

    def append(self, look: Look) -> None:
        """Add one look, as a whole line."""
        self.looks.append(look)
        if self.path is None:
            return
        if not self._whole:  # the first line, or lines that are to go
            self._write_all()
            self._whole = True
            return
        self._whole = False  # until the line is written: part of it may be
        try:
            append_line(self.path, json_line(look.as_json()))
            self._whole = True
        except OSError as error:
            raise InputError(f"out: cannot write {self.path} ({error.strerror or error})") from error

    def _write_all(self) -> None:
        assert self.path is not None
        lines = [self.head, *(look.as_json() for look in self.looks)]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_atomically(self.path, b"".join(map(json_line, lines)))
        except OSError as error:
            raise InputError(f"out: cannot write {self.path} ({error.strerror or error})") from error


def read_looks(path: Path, head: dict[str, object] | None = None) -> list[Look]:
    """The looks of a log in the order of their steps; a truncated last line is left out.

    Raises InputError where the file cannot be read, holds anything else, or does not begin with `head` if one is given.

    >>> import json
    >>> from pathlib import Path
    >>> from diffuscope.monitor import Look, read_looks
    >>> look = Look(step=20, look=2, word="copies", sentence="", stop=True, copied=0.25, detectable={"exact": 0.04})
    >>> lines = [{"format": "diffuscope monitor 1"}, look.as_json()]
    >>> _ = Path("monitor.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines) + '{"step": 30, "lo')
    >>> [(look.step, look.copied) for look in read_looks(Path("monitor.jsonl"))]
    [(20, 0.25)]
    """
    try:
        lines = whole_lines(path)
    except OSError as error:
        raise InputError(f"out: cannot read {path} ({error.strerror or error})") from error
    looks = []
    for number, line in enumerate(lines, start=1):
        try:
            record: dict[str, Any] = json.loads(line)
            if number > 1:
                looks.append(Look.of_json(record))
                continue
            if record["format"] != FORMAT:
                raise ValueError(record["format"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"out: line {number} of {path} is not of a monitor's log; name another folder") from error
        differ = [] if head is None else [key for key in head if record.get(key) != head[key]]
        if differ:
            raise InputError(
                f"out: {path} is of another run, whose {', '.join(differ)} differ; name another folder or remove it"
            )
    return looks

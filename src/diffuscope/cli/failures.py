"""Whatever ends a command early, as one line and an exit code; a traceback goes to a file.

| code | what ended the command |
|---|---|
| 1 | a claim or a test fails |
| 2 | bad input, an exception in the user's own code, a full disk, too little memory |
| 3 | a certificate is undecided |
| 70 | an error of diffuscope itself |
| 130 | Ctrl-C |
| 141 | the reader of the output closed it |
"""

import errno
import os
import re
import site
import sysconfig
import tempfile
import traceback
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffuscope
from diffuscope.errors import InputError

from .arguments import is_positional

INTERRUPTED, CLOSED, INTERNAL, INPUT = 130, 141, 70, 2
LONGEST = 600  # characters of a line
TRACEBACK = "error.txt"
ALIASES = {  # arguments of functions, by the option that they came from
    "checkpoint": "out",
    "compiled": "compile",
    "intervals": "nodes",
    "n_train": "train_limit",
    "path": "out",
    "steps": "train_steps",
    "times": "nodes",
    "train": "data",
}
_INSTALLED = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
LIBRARIES = tuple(
    Path(folder).resolve()
    for folder in {
        *_INSTALLED,
        *site.getsitepackages(),
        site.getusersitepackages(),
        str(Path(diffuscope.__file__).parent),
    }
)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The line on stderr, without the program's name (empty for none), and the exit code."""

    line: str
    code: int


def failure(
    error: BaseException, options: Mapping[str, Any], out: Path | None, modules: AbstractSet[str] = frozenset()
) -> Failure:
    """What to say of `error`, which ended a command with these `options`, folder and `modules` of the user."""
    if isinstance(error, KeyboardInterrupt):
        return Failure(line="interrupted; rerun the same command to resume", code=INTERRUPTED)
    if isinstance(error, BrokenPipeError):
        return Failure(line="", code=CLOSED)
    said = typed(str(error), options) if isinstance(error, InputError) else kind_and_text(error)
    cause = error if error.__cause__ is None or not isinstance(error, InputError) else error.__cause__
    if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
        where = f"{cause.filename or 'while writing'}; free some space and rerun the same command to resume"
        return Failure(line=said if error is not cause else f"--out: the disk is full: {where}", code=INPUT)
    place = user_place(cause, modules)
    if place and isinstance(cause, InputError):
        return Failure(line=f"{said} ({place})", code=INPUT)
    if place:
        return Failure(line=f"{place}: {said}; the traceback is in {kept(error, out)}", code=INPUT)
    if isinstance(error, InputError):
        return Failure(line=said, code=INPUT)
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return Failure(line=f"the memory does not suffice ({said}); expected smaller data", code=INPUT)
    if isinstance(error, OSError) and error.filename is not None:
        return Failure(line=f"{os.fspath(error.filename)}: {error.strerror}", code=INPUT)
    others = f", or of what {' and '.join(sorted(modules))} returned" if modules else ""
    line = f"an error of diffuscope itself{others}: {said}; please report it with {kept(error, out)}"
    return Failure(line=line, code=INTERNAL)


def typed(message: str, options: Mapping[str, Any]) -> str:
    """The message with the argument that it begins with as the option was typed: `data_range:` as `--data-range:`."""
    found = re.match(r"(\w+(?:, \w+)*): ", message)
    if not found:
        return message
    shown = [_option(name, options) for name in found[1].split(", ")]
    return f"{', '.join(shown)}: {message[found.end() :]}"


def _option(name: str, options: Mapping[str, Any]) -> str:
    known = name if name in options else ALIASES.get(name, name)
    if known not in options:
        return name
    return known.upper() if is_positional(options[known]) else f"--{known.replace('_', '-')}"


def modules_named(words: Iterable[str]) -> set[str]:
    """The modules of the words of the form module:object."""
    values = (word.partition("=")[2] if word.startswith("--") else word for word in words)
    names = (value.partition("?")[0].split(":") for value in values)  # LIBRARY:module:object?options among them
    return {module for parts in names for module in parts[:-1]}


def user_place(error: BaseException, modules: AbstractSet[str] = frozenset()) -> str | None:
    """`file:line` of the innermost frame of the user, None if there is none.

    The user's are the modules that they named, and what is outside Python, its packages and this one.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_relative(Path(error.filename))}:{error.lineno}"
    for frame, line in reversed([*traceback.walk_tb(error.__traceback__)]):
        path = Path(frame.f_code.co_filename).absolute()
        theirs = frame.f_globals.get("__name__") in modules
        if path.is_file() and (theirs or not any(path.resolve().is_relative_to(folder) for folder in LIBRARIES)):
            return f"{_relative(path)}:{line}"
    return None


def _relative(path: Path) -> Path:
    with suppress(OSError, ValueError):  # the current folder is gone; the file is elsewhere
        return path.relative_to(Path.cwd())
    return path


def kind_and_text(error: BaseException) -> str:
    """The exception in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def kept(error: BaseException, out: Path | None) -> Path:
    """The file with the whole traceback: error.txt in the folder of the command, or in the system's for such things."""
    text = "".join(traceback.format_exception(error))
    for folder in (out, Path(tempfile.gettempdir())):
        if folder is not None and folder.is_dir():
            path = folder / (TRACEBACK if folder == out else f"diffuscope-{TRACEBACK}")
            try:
                path.write_text(text, encoding="utf-8", errors="backslashreplace")
            except OSError:
                continue
            return path
    return Path(os.devnull)


def one_line(message: str) -> str:
    """Line breaks as spaces, what cannot be printed as escapes, and no more than can be read."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(message.split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."

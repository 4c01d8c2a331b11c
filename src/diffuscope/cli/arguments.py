"""From the words of a command line to a command; every mistake in them is an InputError of one line.

tyro reads the words by the types of a command's fields. Its own rules for numbers, texts and paths are replaced, so
that a mistake says what was expected and what came, and its messages, which it prints in a box, are reduced to their
first sentence.
"""

import io
import math
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from diffuscope.errors import InputError

Command = TypeVar("Command")

LONGEST = 60  # of what was typed, in a message
SENTENCES = (
    # tyro's first sentence, and ours
    (r"Missing from [\w -]+?: (\S+).*", r"\1: expected, but missing"),
    (r"Missing value for argument '(\S+)'\. Expected (\d+) values?\.", r"\1: expected \2 after it, got fewer"),
    (r"Missing value for argument '(\S+)'\..*", r"\1: expected a value after it, got none"),
    (r"invalid choice (.+) for argument '(\S+)'\. Expected one of (.+?) ?\.", r"\2: expected one of \3, got \1"),
    (
        r"Error parsing (\S+): no type matching (?:\{None\}\|)?\{?(.+?)\}? could be instantiated from \[(.*?)\]\..*",
        r"\1: expected \2, got \3",
    ),
    (r"Error parsing ((?:--|[A-Z])\S+): (.*)", r"\1: \2"),
    (r"Error parsing \S+: (.*)", r"\1"),
    (r"Unrecognized options: (.*)", r"\1: not expected here"),
    (r"Expected one of \{(.*)\}\.", r"expected one of \1"),
)
KINDS = {"expected FLOAT FLOAT,": "expected two finite numbers,", "expected INT,": "expected a whole number,",
         "expected STR,": "expected a text,", "expected 1 after": "expected a value after"}  # fmt: skip


def parse(kind: Any, commands: Sequence[type], words: Sequence[str], **texts: str) -> Any:
    """The command of type `kind`, a union of `commands`, that `words` describe; SystemExit after a help text."""
    for word in words:
        _require_text(word)
    names = [command.__name__.lower() for command in commands]
    if words and words[0] not in ("-h", "--help") and not words[0].startswith("--tyro-"):
        if words[0] not in names:
            raise InputError(f"{_short(words[0])}: expected one of {', '.join(names)}{_meant(words[0], names)}")
        _require_known(words, sorted(options_of(commands[names.index(words[0])])))
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            return tyro.cli(kind, args=words, registry=_registry(), **texts)
    except SystemExit as ended:
        if not ended.code:  # a help text
            raise
    except (AssertionError, OSError) as error:
        raise InputError(f"{_short(' '.join(words))}: cannot be read ({error})") from None
    raise InputError(_first_sentence(printed.getvalue()))


def options_of(command: Any) -> dict[str, bool]:
    """The fields of a command, those of its groups of options among them; True for positional ones."""
    found: dict[str, bool] = {}
    for name, hint in get_type_hints(command, include_extras=True).items():
        plain = get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
        nested = get_args(plain) if get_origin(plain) in (Union, UnionType) else (plain,)
        groups = [get_args(each)[0] if hasattr(each, "__metadata__") else each for each in nested]
        groups = [group for group in groups if is_dataclass(group)]
        for group in groups:
            found |= options_of(group)
        if not groups and name in {field.name for field in fields(command)}:
            found[name] = _is_positional(hint)
    return found


def _is_positional(hint: Any) -> bool:
    return any(getattr(mark, "name", mark) == getattr(POSITIONAL, "name", POSITIONAL) for mark in _marks(hint))


def _marks(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__metadata__", ())


POSITIONAL = _marks(tyro.conf.Positional[str])[0]


def _require_text(word: str) -> None:
    """Names that cannot be printed or written into a report are refused at the door."""
    try:
        word.encode()
    except UnicodeEncodeError:
        shown = _short(word.encode(errors="backslashreplace").decode())
        raise InputError(f"{shown}: expected text in UTF-8") from None
    if "\0" in word:
        raise InputError(f"{_short(word)}: expected text without null characters")


def _require_known(words: Sequence[str], names: Sequence[str]) -> None:
    options = [f"--{name.replace('_', '-')}" for name in names]
    negated = [f"--no-{option[2:]}" for option in options]
    for word in words[1:]:
        option = word.partition("=")[0]
        if option.startswith("--") and option.replace("_", "-") not in {*options, *negated, "--help"}:
            raise InputError(f"{_short(option)}: no such option of {words[0]}{_meant(option, options)}")


def _meant(word: str, known: Sequence[str]) -> str:
    close = get_close_matches(word[:LONGEST], known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _short(word: str) -> str:
    return word if len(word) <= LONGEST else f"{word[: LONGEST - 3]}..."


def _first_sentence(printed: str) -> str:
    """tyro's message without its box, its title, its help text and its line breaks, in our words."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    rows = [row.strip(" │|╭╮╰╯") for row in plain.splitlines()]
    rules = [i for i, row in enumerate(rows) if row and not row.strip("-─")] + [len(rows)]
    start = rules[0] + 1 if len(rules) > 1 else 0
    text = " ".join(" ".join(rows[start : (rules[1] if len(rules) > 1 else len(rows))]).split())
    for theirs, ours in SENTENCES:
        if found := re.fullmatch(theirs, text):
            return re.sub("|".join(KINDS), lambda kind: KINDS[kind[0]], found.expand(ours))
    return text or "the arguments cannot be read"


def _registry() -> ConstructorRegistry:
    registry = ConstructorRegistry()
    for kind, metavar, read in (
        (int, "INT", _whole),
        (float, "FLOAT", _number),
        (str, "STR", _text),
        (Path, "PATH", _path),
    ):
        registry.primitive_rule(_rule(kind, metavar, read))
    return registry


def _rule(kind: type, metavar: str, read: Callable[[str], Any]) -> Callable[[PrimitiveTypeInfo], Any]:
    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if info.type is not kind:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=metavar,
            instance_from_str=lambda words: read(words[0]),
            is_instance=lambda value: isinstance(value, kind),
            str_from_instance=lambda value: [str(value)],
        )

    return rule


def _whole(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"expected a whole number, got {_short(word)!r}") from None


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise ValueError(f"expected a number, got {_short(word)!r}") from None
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {_short(word)!r}")
    return value


def _text(word: str) -> str:
    if not word.strip():
        raise ValueError(f"expected a text, got {word!r}")
    return word


def _path(word: str) -> Path:
    return Path(_text(word))

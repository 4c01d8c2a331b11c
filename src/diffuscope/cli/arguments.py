"""From the words of a command line to a command; every mistake in them is an InputError of one line.

tyro reads the words by the types of a command's fields. Its own rules for numbers, texts and paths are replaced, so
that a mistake says what was expected and what came, and its messages, which it prints in a box, are reduced to their
first sentence.
"""

import io
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from diffuscope.errors import InputError

POSITIONAL = tyro.conf.Positional[str].__metadata__[0]  # pyright: ignore[reportAttributeAccessIssue]
LONGEST = 60  # of what was typed, in a message
SENTENCES = (
    # tyro's first sentence, and ours
    (r"Missing from [\w -]+?: (\S+).*", r"\1: expected, but missing"),
    (r"Missing value for argument '(\S+)'\. Expected 1 values?\.", r"\1: expected a value after it, got none"),
    (r"Missing value for argument '(\S+)'\. Expected (\d+) values?\.", r"\1: expected \2 after it, got fewer"),
    (r"Missing value for argument '(\S+)'\..*", r"\1: expected a value after it, got none"),
    (
        r"Error parsing (\S+): no type matching \{?(.+?)\}? could be instantiated from \[(.*?)\]\..*",
        r"\1: expected \2, got \3",
    ),
    (
        r"Error parsing (\S+): Could not find valid parse for arguments: \[(.*?)\].*",
        r"\1: expected finite numbers, got \2",
    ),
    (r"Error parsing ((?:--|[A-Z])\S+): (.*)", r"\1: \2"),
    (r"Error parsing \S+: (.*)", r"\1"),
    (r"Unrecognized options: (.+)", r"\1: not expected here"),
    (r"Unrecognized options:", r"'': not expected here"),
    (r"Expected one of \{(.*)\}\.", r"expected one of \1"),
)
CHOICE = r"invalid choice (.+) for argument '(\S+)'\. Expected one of \((.+?),?\) ?\."
KINDS = {"expected FLOAT FLOAT,": "expected two finite numbers,", "expected FLOAT,": "expected a finite number,",
         "expected INT,": "expected a whole number,",
         "expected STR,": "expected a text,", "expected 1 after": "expected a value after"}  # fmt: skip


def parse(commands: Mapping[str, type], words: Sequence[str], description: str | None) -> Any:
    """The command among `commands` that `words` describe; SystemExit after a help."""
    for word in words:
        _require_text(word)
    kind: Any
    program = "diffuscope"
    if words and words[0] not in ("-h", "--help") and not words[0].startswith("--tyro-"):
        name, *words = words
        if name not in commands:
            raise InputError(f"{_short(name)}: expected one of {', '.join(commands)}{_meant(name, [*commands])}")
        kind, program, description = commands[name], f"{program} {name}", None
        _require_known(name, words, options_of(kind))
    else:
        kind = Union[tuple(Annotated[commands[name], tyro.conf.subcommand(name)] for name in commands)]  # noqa: UP007
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            # None is what an option has that is not typed, and no word for it
            config = (tyro.conf.DisallowNone,)
            return tyro.cli(
                kind, args=words, prog=program, description=description, registry=_registry(), config=config
            )
    except SystemExit as ended:
        if not ended.code:  # a help text
            raise
    except (AssertionError, OSError) as error:
        raise InputError(f"{_short(' '.join(words))}: cannot be read ({error})") from None
    raise InputError(_first_sentence(printed.getvalue()))


def options_of(command: Any) -> dict[str, Any]:
    """The type of every field of a command, with tyro's marks, those of its groups of options among them."""
    found: dict[str, Any] = {}
    for field in fields(command):
        hint = get_type_hints(command, include_extras=True)[field.name]
        parts = [_plain(part) for part in get_args(_plain(hint))] or [_plain(hint)]  # the parts of a union
        groups = [part for part in parts if is_dataclass(part)]
        for group in groups:
            found |= options_of(group)
        if not groups:
            found[field.name] = hint
    return found


def is_positional(hint: Any) -> bool:
    """Whether a field of this type is given without its name."""
    return POSITIONAL in getattr(hint, "__metadata__", ())


def _plain(hint: Any) -> Any:
    return get_args(hint)[0] if hasattr(hint, "__metadata__") else hint


def _require_text(word: str) -> None:
    """Names that cannot be printed or written into a report are refused at the door."""
    try:
        word.encode()
    except UnicodeEncodeError:
        shown = _short(word.encode(errors="backslashreplace").decode())
        raise InputError(f"{shown}: expected text in UTF-8") from None
    if "\0" in word:
        raise InputError(f"{_short(word)}: expected text without null characters")


def _require_known(command: str, words: Sequence[str], hints: Mapping[str, Any]) -> None:
    """Raises InputError for an option that the command does not have, and for a value of an option that takes none."""
    named = {name: hint for name, hint in sorted(hints.items()) if not is_positional(hint)}
    options = {f"--{name.replace('_', '-')}": _plain(hint) for name, hint in named.items()}
    negated = {f"--no-{option[2:]}" for option in options if options[option] is bool}
    for word, following in zip(words, [*words, "--"][1:], strict=True):
        typed, equals, value = word.partition("=")
        option = typed.replace("_", "-")
        if not equals and following.startswith("--") and get_args(options.get(option))[1:] == (...,):
            raise InputError(f"{typed}: expected a value after it, got none")  # which tyro would take for the default
        if option.startswith("--") and option not in {*options, *negated, "--help"}:
            raise InputError(f"{_short(typed)}: no such option of {command}{_meant(typed, [*options])}")
        if equals and (options.get(option) is bool or option in negated):
            raise InputError(f"{typed}: expected no value, got {_short(value)!r}")


def _meant(word: str, known: Sequence[str]) -> str:
    close = get_close_matches(word[:LONGEST], known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _short(word: str) -> str:
    return word if len(word) <= LONGEST else f"{word[: LONGEST - 3]}..."


def _first_sentence(printed: str) -> str:
    """tyro's message without its box, its title, its help text and its line breaks, in our words."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed).strip()
    # the title is in the border of a box, or above a rule; the help begins at the next rule
    rows = [row.strip(" │") for row in plain.splitlines()[1 if plain.startswith("╭") else 2 :]]
    sentence = itertools.takewhile(lambda row: not row or row.strip("-─╰╯"), rows)
    text = " ".join(" ".join(sentence).split())
    text = re.sub(r"(,\d{3},) (\d{3})\b", r"\1\2", text)  # a line may end within 10,000,000
    if found := re.fullmatch(CHOICE, text):
        # None is what an option has that is not typed
        word, known = found[1].strip("'\""), [name for name in re.findall("'(.*?)'", found[3]) if name != "None"]
        one_of = "one of " if len(known) > 1 else ""
        return f"{found[2]}: expected {one_of}{', '.join(known)}, got {found[1]}{_meant(word, known)}"
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

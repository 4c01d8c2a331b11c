"""The command line: parses, calls, prints. Whatever goes wrong is one line and an exit code (see `failures`)."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import NoReturn

import diffuscope
from diffuscope.errors import InputError

from .arguments import options_of, parse
from .failures import Failure, failure, modules_named, one_line, user_place
from .invocation import typed_words
from .processes import Ending, following_silently, under_torchrun

NAMES = (
    "audit", "train", "sample", "certify", "reproduce", "data", "canaries", "statistics", "paths", "solve", "grade",
)  # fmt: skip


class Commands(Mapping[str, type]):
    """The class of each command, imported when it is asked for: nobody waits for what another command needs.

    The object is `COMMANDS`.

    >>> from diffuscope.cli import COMMANDS
    >>> list(COMMANDS)[:3], COMMANDS["sample"].__name__
    (['audit', 'train', 'sample'], 'Sample')
    """

    def __getitem__(self, name: str) -> type:
        if name not in NAMES:
            raise KeyError(name)
        return getattr(import_module(f".{name}", __name__), name.capitalize())

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


COMMANDS = Commands()
SHARING = ("audit", "sample", "train")  # under torchrun
__all__ = ["COMMANDS", "NAMES", "Commands", "main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the `diffuscope` command; ends with SystemExit unless the command succeeds.

    The words are those of `argv`, by default the ones typed. The example of every command stands in its class.

    >>> from diffuscope.cli import main
    >>> try:  # diffuscope audit --smaples x.npy
    ...     main(["audit", "--smaples", "x.npy"])
    ... except SystemExit as ended:  # and on stderr, "--smaples: no such option of audit; did you mean --samples?"
    ...     print(ended.code)
    2
    """
    words = list(sys.argv[1:] if argv is None else argv)
    out, options = None, {}
    try:
        if words == ["--version"]:
            print(f"diffuscope {diffuscope.__version__}")
            return
        options = options_of(COMMANDS[words[0]]) if words and words[0] in NAMES else {}
        command = parse(COMMANDS, words, "Ground truth for diffusion models.")
        if under_torchrun() and words[0] not in SHARING:
            *others, last = SHARING
            named = f"{', '.join(others)} or {last}"
            raise InputError(f"torchrun: expected a command that shares its work, {named}, got {words[0]}")
        out = getattr(command, "out", None)
        with typed_words(words), following_silently():
            command.run()
        if sys.stdout is not None:  # closed by the caller
            sys.stdout.flush()
    except BaseException as error:
        modules = modules_named(words)
        if isinstance(error, SystemExit) and user_place(error, modules) is None:
            raise  # our own
        ending = Ending(error)
        code = ending.code_of_others()
        if code is not None:
            sys.exit(code)
        end(failure(error, options, out, modules), ending)


def end(found: Failure, ending: Ending) -> NoReturn:
    """Print the line, if there is one, and exit."""
    try:
        print(end="", flush=True)
    except OSError:
        # what is left in the buffer has nowhere to go, and the interpreter would complain of it at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if found.line:
        print(f"diffuscope: {one_line(found.line)}", file=sys.stderr)
    ending.say_code(found.code)
    sys.exit(found.code)

"""The command line: parses, calls, prints. Whatever goes wrong is one line and an exit code (see `failures`)."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import tyro
from torch.distributed import is_torchelastic_launched

import diffuscope
from diffuscope.errors import InputError

from .arguments import options_of, parse
from .audit import Audit
from .canaries import Canaries
from .certify import Certify
from .data import Data
from .failures import Failure, failure, modules_named, one_line, user_place
from .invocation import typed_words
from .reproduce import Reproduce
from .sample import Sample
from .statistics import Statistics
from .train import Train

COMMANDS = {
    kind.__name__.lower(): kind for kind in (Audit, Train, Sample, Certify, Reproduce, Data, Canaries, Statistics)
}
Command = (
    Annotated[Audit, tyro.conf.subcommand("audit")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Certify, tyro.conf.subcommand("certify")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Canaries, tyro.conf.subcommand("canaries")]
    | Annotated[Statistics, tyro.conf.subcommand("statistics")]
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the `diffuscope` command; ends with SystemExit unless the command succeeds."""
    words = list(sys.argv[1:] if argv is None else argv)
    out, options = None, {}
    try:
        if words == ["--version"]:
            print(f"diffuscope {diffuscope.__version__}")
            return
        options = options_of(COMMANDS[words[0]]) if words and words[0] in COMMANDS else {}
        command = parse(Command, COMMANDS, words, "Ground truth for diffusion models.")
        if is_torchelastic_launched() and not isinstance(command, Train):
            raise InputError("torchrun: expected `diffuscope train`, the one command whose processes share their work")
        out = getattr(command, "out", None)
        with typed_words(words):
            command.run()
        if sys.stdout is not None:  # closed by the caller
            sys.stdout.flush()
    except BaseException as error:
        modules = modules_named(words)
        if isinstance(error, SystemExit) and user_place(error, modules) is None:
            raise  # our own
        end(failure(error, options, out, modules))


def end(found: Failure) -> NoReturn:
    """Print the line, if there is one, and exit."""
    try:
        print(end="", flush=True)
    except OSError:
        # what is left in the buffer has nowhere to go, and the interpreter would complain of it at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if found.line:
        print(f"diffuscope: {one_line(found.line)}", file=sys.stderr)
    sys.exit(found.code)

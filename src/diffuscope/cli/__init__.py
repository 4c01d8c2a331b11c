"""The command line: parses, calls, prints. Whatever goes wrong is one line and an exit code (see `failures`)."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from torch.distributed import is_torchelastic_launched

import diffuscope
from diffuscope.errors import InputError

from .arguments import options_of, parse
from .audit import Audit
from .certify import Certify
from .data import Data
from .failures import CLOSED, failure, one_line, user_place
from .reproduce import Reproduce
from .sample import Sample
from .train import Train

COMMANDS = {kind.__name__.lower(): kind for kind in (Audit, Train, Sample, Certify, Reproduce, Data)}
Command = (
    Annotated[Audit, tyro.conf.subcommand("audit")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Certify, tyro.conf.subcommand("certify")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[Data, tyro.conf.subcommand("data")]
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
        command.run()
        sys.stdout.flush()
    except SystemExit as ended:
        if user_place(ended) is None:
            raise
        fail(ended, options, out)
    except BaseException as error:
        fail(error, options, out)


def fail(error: BaseException, options: Mapping[str, Any], out: Path | None) -> None:
    """One line on stderr, and an exit code."""
    said = failure(error, options, out)
    if said.code == CLOSED:
        # what is left in the buffer has nowhere to go, and the interpreter would complain of it at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif said.line:
        print(f"diffuscope: {one_line(said.line)}", file=sys.stderr)
    sys.exit(said.code)

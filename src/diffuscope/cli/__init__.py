"""The command line: parses, calls, prints. Bad input ends in one line and exit code 2, never in a traceback."""

import errno
import sys
from typing import Annotated

import tyro
from torch.distributed import is_torchelastic_launched

import diffuscope
from diffuscope.errors import InputError

from .audit import Audit
from .certify import Certify
from .data import Data
from .reproduce import Reproduce
from .sample import Sample
from .train import Train

Command = (
    Annotated[Audit, tyro.conf.subcommand("audit")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Certify, tyro.conf.subcommand("certify")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[Data, tyro.conf.subcommand("data")]
)


def main() -> None:
    """Entry point of the `diffuscope` command."""
    if sys.argv[1:] == ["--version"]:
        print(f"diffuscope {diffuscope.__version__}")
        return
    try:
        command = tyro.cli(Command, prog="diffuscope", description="Ground truth for diffusion models.")  # pyright: ignore[reportCallIssue, reportArgumentType]
        if is_torchelastic_launched() and not isinstance(command, Train):
            raise InputError("torchrun: expected `diffuscope train`, the one command whose processes share their work")
        command.run()
    except InputError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted; rerun the same command to resume")
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = error.filename or "while writing"
        fail(f"out: the disk is full ({where}); free some space and rerun the same command to resume")


def fail(message: str) -> None:
    """One line on stderr, exit code 2."""
    print("diffuscope: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)

"""The command line: parses, calls, prints. Bad input ends in one line and exit code 2, never in a traceback."""

import errno
import sys
from typing import Annotated

import tyro
from torch.distributed import is_torchelastic_launched

from diffuscope.cli.certify import Certify
from diffuscope.cli.commands import Audit, Sample, Train
from diffuscope.cli.data import Data
from diffuscope.cli.reproduce import Reproduce
from diffuscope.errors import InputError

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
    try:
        command = tyro.cli(Command, prog="diffuscope", description="Ground truth for diffusion models.")  # pyright: ignore[reportCallIssue, reportArgumentType]
        if is_torchelastic_launched() and not isinstance(command, Train):
            raise InputError("torchrun: expected `diffuscope train`, the one command whose processes share their work")
        command.run()
    except InputError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted; what is finished is kept, and the same command resumes")
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        fail(f"out: the disk is full ({error.filename or 'while writing'}); free some space, the same command resumes")


def fail(message: str) -> None:
    """One line on stderr, exit code 2."""
    print("diffuscope: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)

"""The `diffuscope` command, and `python -m diffuscope`."""

import os
import signal
import sys


def main() -> None:
    """Run the command line with threads that sleep while they wait.

    OpenMP threads spin by default: on two cores with one other busy process a small network then trains ten times
    slower. The policy is read when torch is loaded, hence the import after it; a user's own choice is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from diffuscope.cli import main as command_line

        command_line()
    except KeyboardInterrupt:  # during the imports, which take a second or two
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("diffuscope: interrupted; rerun the same command to resume", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()

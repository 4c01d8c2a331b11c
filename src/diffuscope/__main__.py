"""The `diffuscope` command, and `python -m diffuscope`."""

import os


def main() -> None:
    """Run the command line with threads that sleep while they wait.

    OpenMP threads spin by default: on two cores with one other busy process a small network then trains ten times
    slower. The policy is read when torch is loaded, hence the import after it; a user's own choice is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from diffuscope.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()

"""Commands as they are called, and those that must be refused."""

import pytest

from diffuscope import cli


def run(*arguments):
    cli.main([*map(str, arguments)])


def refused(capsys, *arguments, code=2):
    """The one line on stderr of a command that must end with this exit code."""
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("diffuscope: ")]
    assert len(lines) == 1
    return lines[0]

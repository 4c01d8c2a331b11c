"""Everything printed runs: every block of the README and of the pages, in order, page by page (see `page_run`)."""

import gzip
import os
import re
import shlex
import struct
from pathlib import Path

import numpy as np
import pytest

from diffuscope.cli import COMMANDS, main
from diffuscope.cli.arguments import options_of, parse
from page_commands import ELSEWHERE
from page_run import ROOT, PageRun, in_folder

PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")))


def write_idx(path: Path, values: np.ndarray) -> None:
    head = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head + values.astype(np.uint8).tobytes())


@pytest.fixture(scope="module")
def few_data(tmp_path_factory):
    """A folder of data in which `mnist` is a few hundred images of noise; the weights are those of the machine."""
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    (folder / "mnist").mkdir()
    for part, count in (("train", 400), ("t10k", 200)):
        write_idx(folder / "mnist" / f"{part}-images-idx3-ubyte.gz", generator.integers(0, 256, (count, 28, 28)))
        write_idx(folder / "mnist" / f"{part}-labels-idx1-ubyte.gz", generator.integers(0, 10, count))
    named = os.environ.get("DIFFUSCOPE_DATA")
    if named and (Path(named) / "weights").is_dir():
        (folder / "weights").symlink_to(Path(named).resolve() / "weights")
    return folder


def run_page(page, whole, tmp_path, monkeypatch, data):
    if not whole or "DIFFUSCOPE_DATA" not in os.environ:
        monkeypatch.setenv("DIFFUSCOPE_DATA", str(data))
    else:
        monkeypatch.setenv("DIFFUSCOPE_DATA", str(Path(os.environ["DIFFUSCOPE_DATA"]).resolve()))
    paths = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *map(os.path.abspath, paths)]))
    run = PageRun(page, whole)
    with in_folder(tmp_path):
        run.run()
    if run.lacks:
        pytest.skip(f"{page} ran, except " + ", ".join(f"line {line} ({name})" for line, name in run.lacks.items()))


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_runs(page, tmp_path, monkeypatch, few_data):
    """Commands up to the start of their work, Python as printed, or shortened as `page_files` says."""
    run_page(page, False, tmp_path, monkeypatch, few_data)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_runs_as_printed(page, tmp_path, monkeypatch, few_data):
    run_page(page, True, tmp_path, monkeypatch, few_data)


def test_what_the_slow_run_leaves_out_runs_every_night():
    assert ELSEWHERE[0] in (ROOT / ".github/workflows/nightly.yml").read_text()


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_the_commands_in_a_help_text_are_accepted(name, capsys):
    """`diffuscope NAME --option` in a sentence names what exists; a line of its own is read as typed."""
    with pytest.raises(SystemExit):
        main([name, "--help"] if name else ["--help"])
    printed = [line.strip(" │") for line in capsys.readouterr().out.splitlines()]
    for line in printed:
        if re.match(r"(\$ )?diffuscope \w", line):
            parse(COMMANDS, shlex.split(line.removeprefix("$ "), comments=True)[1:], None)
    for command, options in re.findall(r"(?<!usage: )diffuscope ([a-z]+)((?: --[a-z-]+)*)", " ".join(printed)):
        assert command in COMMANDS
        known = {f"--{option.replace('_', '-')}" for option in options_of(COMMANDS[command])}
        assert {*options.split()} <= known

"""Everything printed runs: every block of the README and of the pages, in order, page by page (see `page_run`)."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from page_blocks import Block, blocks_of, commands_of
from page_commands import PROGRAMS
from page_run import ROOT, PageRun, in_folder

PAGES = (
    "README.md", "CONTRIBUTING.md", "SECURITY.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)  # fmt: skip


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
        pytest.skip("ran, except " + ", ".join(f"line {line} ({name})" for line, name in run.lacks.items()))


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_runs(page, tmp_path, monkeypatch, few_data):
    """Commands up to the start of their work, Python as printed, or shortened as `page_files` says."""
    run_page(page, False, tmp_path, monkeypatch, few_data)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_runs_as_printed(page, tmp_path, monkeypatch, few_data):
    run_page(page, True, tmp_path, monkeypatch, few_data)

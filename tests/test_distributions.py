"""Wheel and source distribution: built, installed in a bare environment, and used."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import diffuscope

ROOT = Path(__file__).parents[1]
USE = """
import diffuscope
assert len([getattr(diffuscope, name) for name in dir(diffuscope)]) > 30
assert diffuscope.__file__.startswith({prefix!r}), diffuscope.__file__
"""


def run(*words: str | Path, **settings: object) -> str:
    """What a program prints; its errors where it fails."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, **settings)  # pyright: ignore
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    return folder


@pytest.mark.slow
def test_the_source_distribution_has_what_a_packager_needs_and_nothing_private(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    assert archive.name == f"diffuscope-{diffuscope.__version__}.tar.gz"
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/diffuscope/__init__.py", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith((".venv", "out/", ".git/")) or name.endswith(".pyc")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_each_is_installed_in_a_bare_environment_and_audits(built: Path, tmp_path: Path, kind: str) -> None:
    (archive,) = built.glob(kind)
    if kind == "*.whl":
        with zipfile.ZipFile(archive) as file:
            assert "diffuscope/py.typed" in file.namelist()
            assert not [name for name in file.namelist() if name.startswith(("tests", "tools", "benchmarks"))]
    venv.create(tmp_path / "bare", with_pip=True)
    python = tmp_path / "bare" / "bin" / "python"
    run(python, "-m", "pip", "install", "--constraint", ROOT / "constraints.txt", archive)
    run(python, "-c", USE.format(prefix=str(tmp_path)), cwd=tmp_path)
    command = tmp_path / "bare" / "bin" / "diffuscope"
    assert run(command, "--version", cwd=tmp_path).split()[-1] == diffuscope.__version__
    few = ["--train-steps", "20", "--levels", "4", "--points", "20", "--generated", "20", "--trajectories", "8"]
    run(command, "audit", "--data", "two-moons", *few, "--step-seeds", "8", cwd=tmp_path)
    assert (tmp_path / "out" / "audit" / "report.html").is_file()

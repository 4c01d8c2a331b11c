"""The page "Certify in your CI": its test file passes as printed, and its workflow runs the command as it is."""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from diffuscope import cli
from diffuscope.certify import certify_sampler, target_of

PAGE = (Path(__file__).parents[2] / "docs" / "certify_in_ci.md").read_text()
TEST_FILE, SAMPLERS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(WORKFLOW,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A maintainer's project: the samplers of the page, and its test file."""
    (tmp_path / "my_samplers.py").write_text(SAMPLERS)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_certificates.py").write_text(TEST_FILE)
    return tmp_path


@pytest.mark.slow
def test_the_printed_test_file_passes(project: Path):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    ran = subprocess.run(command, cwd=project, capture_output=True, text=True, env=None)
    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout


def test_the_printed_samplers_are_targets(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(project))
    import my_samplers  # pyright: ignore[reportMissingImports]

    assert [target_of(sampler).order for sampler in (my_samplers.euler, my_samplers.ancestral)] == [1, 1]
    assert sys.modules.pop("my_samplers")


def test_the_workflow_runs_the_command_as_it_is(project: Path, monkeypatch: pytest.MonkeyPatch):
    """Its words; on fewer grids, as whole certificates of sound samplers are made with the planted faults."""
    monkeypatch.setattr(
        "diffuscope.cli.certify.certify_sampler", partial(certify_sampler, steps=(20, 32, 50, 80), samples=2000)
    )
    (line,) = re.findall(r"run: diffuscope (certify .*)", WORKFLOW)
    monkeypatch.chdir(project)
    cli.main(line.split())
    assert (project / "certificate.xml").exists()
    assert (project / "certificate" / "certificate.html").exists()

"""What of the package a result belongs to: the files that its experiment imports, directly or not, and no others."""

import pytest

from diffuscope.experiments import code_fingerprint, find
from diffuscope.experiments.record import files_of
from diffuscope.source import imported_files

PACKAGE = {
    "__init__.py": "",
    "schedules.py": "VE = 1",
    "exact/__init__.py": "from .gaussian import Gaussian",
    "exact/gaussian.py": "Gaussian = 1",
    "exact/ring.py": "Ring = 1",
    "audit/__init__.py": "",
    "experiments/__init__.py": "",
    "experiments/experiment.py": "from .part import Part",
    "experiments/part.py": "Part = 1",
    "experiments/two_modes.py": "from diffuscope.exact import Gaussian\nfrom .shared import f",
    "experiments/shared.py": "from diffuscope.schedules import VE",
    "experiments/other.py": "from diffuscope.exact.ring import Ring",
    "experiments/folder/__init__.py": "from .inside import g\nfrom ..shared import f",
    "experiments/folder/inside.py": "def g():\n    from diffuscope import audit",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package in place of ours."""
    for name, source in PACKAGE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    (tmp_path / "diffuscope").symlink_to(tmp_path, target_is_directory=True)
    monkeypatch.setattr("diffuscope.source.ROOT", tmp_path / "diffuscope")
    return tmp_path


EXACT, SHARED = {"exact/__init__.py", "exact/gaussian.py"}, {"experiments/shared.py", "schedules.py"}
IMPORTED = {
    "two-modes": {"experiments/two_modes.py"} | EXACT | SHARED,
    "other": {"experiments/other.py", "exact/ring.py"},
    "folder": {"experiments/folder/__init__.py", "experiments/folder/inside.py", "audit/__init__.py"} | SHARED,
}


@pytest.mark.parametrize(("experiment", "imported"), IMPORTED.items())
def test_a_change_of_what_an_experiment_imports_and_of_nothing_else_changes_its_fingerprint(
    package, experiment, imported
):
    before = code_fingerprint(experiment)
    for name in PACKAGE:
        (package / name).write_text(PACKAGE[name] + "\n# changed")
        changed = code_fingerprint(experiment) != before
        assert changed == (name in imported | {"experiments/experiment.py", "experiments/part.py"}), name
        (package / name).write_text(PACKAGE[name])
    assert code_fingerprint(experiment) == before


def test_the_heat_equation_depends_on_densities_and_not_on_audits():
    """Our own package: what the module imports when it runs is among the files, whole other subpackages are not."""
    names = {path.as_posix().rpartition("/diffuscope/")[2] for path in imported_files(*files_of(find("heat-1d").name))}
    assert {"experiments/heat_1d.py", "experiments/part.py", "densities/heat.py", "schedules/schedule.py"} <= names
    assert not {name for name in names if name.startswith(("audit/", "certify/", "cli/", "training/"))}

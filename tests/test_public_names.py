"""The public face: the names of `import diffuscope`, held here so that none comes or goes unnoticed."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import diffuscope

SUBPACKAGES = {
    "adapters", "audit", "certify", "data", "denoisers", "densities", "exact", "experiments", "findings", "monitor",
    "physics", "report", "samplers", "schedules", "theory", "times", "training",
}  # fmt: skip
NAMES = {
    "Cosine", "DDIM", "DPMSolverPP2M", "Denoiser", "Empirical", "ExactDenoiser", "Gaussian", "GaussianMixture", "Heun",
    "InputError", "RectifiedFlow", "SampleMetrics", "VE", "VP", "audit_model", "audit_samples", "certify_likelihood",
    "certify_sampler", "citation", "data_statistics", "generate", "load_data", "load_model", "reproduce", "teleport",
    "train_denoiser", "two_moons",
}  # fmt: skip


def test_the_public_names_are_these():
    assert set(dir(diffuscope)) == SUBPACKAGES | NAMES | {"__version__"}


@pytest.mark.parametrize("name", sorted(SUBPACKAGES))
def test_a_subpackage_is_a_module(name):
    assert isinstance(getattr(diffuscope, name), ModuleType)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_name_is_the_same_object_before_and_after_its_module_is_imported(name):
    first = getattr(diffuscope, name)
    import_module(first.__module__)
    assert getattr(diffuscope, name) is first
    assert not isinstance(first, ModuleType)


def test_in_a_fresh_interpreter_every_name_is_read_twice_and_nothing_heavy_is_imported_before():
    program = """
import sys
import diffuscope
assert "torch" not in sys.modules, "import diffuscope is to be light"
for name in dir(diffuscope):
    first = getattr(diffuscope, name)
    module = sys.modules[getattr(first, "__module__", name if name in sys.modules else "diffuscope")]
    assert getattr(diffuscope, name) is first, name
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_no_module_of_a_subpackage_hides_behind_what_is_exported_under_its_name():
    """`from diffuscope.samplers import x` gives what the subpackage exports, and no module may bear that name too."""
    shadowed = []
    for subpackage in SUBPACKAGES:
        module = getattr(diffuscope, subpackage)
        for name in getattr(module, "__all__", ()):
            if not isinstance(getattr(module, name), ModuleType):
                try:
                    import_module(f"diffuscope.{subpackage}.{name}")
                except ModuleNotFoundError:
                    continue
                shadowed.append(f"{subpackage}.{name}")
    assert shadowed == []


def test_a_type_checker_sees_the_same_names():
    source = ast.parse(Path(diffuscope.__file__).read_text())
    (block,) = (node for node in source.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {(alias.name, node.module) for node in imports for alias in node.names}
    assert seen == {(name, f"diffuscope.{home}") for name, home in diffuscope._HOME.items()}
    assert {*diffuscope.__all__} == {*diffuscope._HOME, "__version__"}


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'audit_modle'"):
        _ = diffuscope.audit_modle

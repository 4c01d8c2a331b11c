"""The fingerprint of a source: what a file imports within the package, directly or not, and nothing else."""

import hashlib
from pathlib import Path

import pytest

from diffuscope import source
from diffuscope.source import imported_files, source_fingerprint

PACKAGE = {
    "__init__.py": "from .a import x",
    "a.py": "x = 1",
    "b.py": "import os\nfrom json import dumps\nfrom diffusely import a",
    "pair/__init__.py": "",
    "pair/one.py": "from . import two\nfrom ..a import x",
    "pair/two.py": "def f():\n    from diffuscope.pair.three import g",
    "pair/three.py": "from diffuscope import b",
    "cycle.py": "from .cycle import itself",
}
IMPORTED = {
    "a.py": {"a.py"},
    "b.py": {"b.py"},
    "pair/three.py": {"pair/three.py", "b.py"},
    "pair/two.py": {"pair/two.py", "pair/three.py", "b.py"},
    "pair/one.py": {"pair/one.py", "pair/two.py", "pair/three.py", "pair/__init__.py", "a.py", "b.py"},
    "cycle.py": {"cycle.py"},
}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in PACKAGE.items():
        path = tmp_path / "diffuscope" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "diffusely").mkdir()
    (tmp_path / "diffusely" / "a.py").write_text("")
    monkeypatch.setattr(source, "ROOT", tmp_path / "diffuscope")
    return tmp_path / "diffuscope"


@pytest.mark.parametrize("name", IMPORTED)
def test_what_a_file_imports_directly_or_not(root, name):
    assert {path.relative_to(root).as_posix() for path in imported_files(root / name)} == IMPORTED[name]


def test_the_fingerprint_is_of_the_names_and_texts_of_the_files_in_order(root):
    digest = hashlib.sha256(b"a.py" + b"x = 1" + b"b.py" + PACKAGE["b.py"].encode()).hexdigest()
    assert (
        source_fingerprint(root / "b.py", root / "a.py") == source_fingerprint(root / "a.py", root / "b.py") == digest
    )
    before = source_fingerprint(root / "pair/three.py")
    (root / "a.py").write_text("x = 2")
    assert source_fingerprint(root / "pair/three.py") == before
    (root / "b.py").write_text("y = 1")
    assert source_fingerprint(root / "pair/three.py") != before

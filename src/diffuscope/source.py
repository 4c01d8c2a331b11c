"""The package's source as a fingerprint: results of the same code can be told from those of another version of it."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent


def source_fingerprint(*files: Path) -> str:
    """SHA-256 of the package's `files` and of all that they import within the package, directly or not.

    The same code, seed and inputs give the same results; a change elsewhere in the package does not affect them.
    """
    digest = hashlib.sha256()
    for path in sorted(imported_files(*files)):
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def imported_files(*files: Path) -> set[Path]:
    """The package's files that `files` import, directly or not, themselves among them.

    >>> from diffuscope.source import ROOT, imported_files
    >>> sorted(path.name for path in imported_files(ROOT / "streams.py"))
    ['errors.py', 'streams.py']
    """
    found: set[Path] = set()
    pending = list(files)
    while pending:
        path = pending.pop()
        if path not in found:
            found.add(path)
            pending += _imported(path, path.read_text(encoding="utf-8"))
    return found


@cache
def _imported(path: Path, source: str) -> tuple[Path, ...]:
    """The package's files that the import statements of `source`, the text of `path`, name."""
    return tuple(_named(path, source))


def _named(path: Path, source: str) -> Iterator[Path]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        elif node.module == "diffuscope" or (node.module or "").startswith("diffuscope."):
            base = ROOT.parent.joinpath(*(node.module or "").split("."))
        else:
            continue
        for place in (base, *(base / name.name for name in node.names)):
            for candidate in (place.with_suffix(".py"), place / "__init__.py"):
                if candidate.exists() and candidate != ROOT / "__init__.py":
                    yield candidate

"""The record of a finished run: its verdict in a few numbers, with the code and seed that gave them."""

import ast
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import diffuscope


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of the summary; `used` is the share of its tolerance that the closest claim uses, > 1 if it fails."""

    name: str
    title: str
    held: int
    claims: int
    used: float
    closest: str  # the title of the closest claim
    seconds: float
    seed: int
    code: str  # the fingerprint that `code_fingerprint` gave

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        """The record in a result.json; None if the file is missing or damaged."""
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))["record"]
            used = math.inf if kept["used"] is None else kept["used"]  # JSON has no infinity
            return cls(**(kept | {"used": used}))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def passed(self) -> bool:
        """Every claim holds."""
        return self.held == self.claims

    @property
    def margin(self) -> str:
        """How close the closest claim comes to failing, in words."""
        if math.isinf(self.used):
            return "out of bounds"
        if self.used > 1:
            return f"{self.used:.3g}x its tolerance"
        return "exact" if self.used == 0 else f"{100 * self.used:.3g}% of its tolerance"


def code_fingerprint(experiment: str) -> str:
    """SHA-256 of the source that the experiment of this name imports, directly or not, within the package.

    The same code and seed give the same results; a change elsewhere in the package does not affect them.
    """
    root, digest = _root(), hashlib.sha256()
    for path in sorted(imported_files(experiment)):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def imported_files(experiment: str) -> set[Path]:
    """The package's files that the experiment of this name imports, directly or not, its own among them."""
    folder, name = _root() / "experiments", experiment.replace("-", "_")
    own = folder / f"{name}.py" if (folder / f"{name}.py").exists() else folder / name / "__init__.py"
    found: set[Path] = set()
    pending = [own, folder / "experiment.py"]
    while pending:
        path = pending.pop()
        if path not in found:
            found.add(path)
            pending += _imported(path, _root())
    return found


def _root() -> Path:
    return Path(diffuscope.__file__).parent


def _imported(path: Path, root: Path) -> Iterator[Path]:
    """The package's files that the import statements of `path` name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        elif node.module == "diffuscope" or (node.module or "").startswith("diffuscope."):
            base = root.parent.joinpath(*(node.module or "").split("."))
        else:
            continue
        for place in (base, *(base / name.name for name in node.names)):
            for candidate in (place.with_suffix(".py"), place / "__init__.py"):
                if candidate.exists() and candidate != root / "__init__.py":
                    yield candidate

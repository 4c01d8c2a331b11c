"""What is kept of a finished run: its verdict in a few numbers, and the code and seed that they belong to."""

import ast
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import diffuscope

from .experiment import Outcome


@dataclass(frozen=True)
class Record:
    """One line of the summary. `used` is the share of its room that the closest claim uses, above 1 where it fails."""

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
    def of(cls, outcome: Outcome, seconds: float) -> "Record":
        """The record of a run of this code."""
        claims, closest = outcome.claims, outcome.closest
        held = len(claims) - len(outcome.failures)
        named = (outcome.experiment.name, outcome.experiment.title)
        return cls(
            *named, held, len(claims), closest.used, closest.title, seconds, outcome.seed, code_fingerprint(named[0])
        )

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        """The record in a result.json; None where there is none, or it is damaged."""
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
            return f"{self.used:.3g} times its room"
        return "exact" if self.used == 0 else f"{100 * self.used:.3g}% of its room"


def code_fingerprint(experiment: str) -> str:
    """SHA-256 of the source that the experiment of this name imports, directly or not, within the package.

    Results of one code and one seed are the same results; a change elsewhere in the package keeps them.
    """
    root = Path(diffuscope.__file__).parent
    found: set[Path] = set()
    pending = [root / "experiments" / f"{experiment.replace('-', '_')}.py", root / "experiments" / "experiment.py"]
    if not pending[0].exists():
        pending[0] = pending[0].with_suffix("") / "__init__.py"
    while pending:
        path = pending.pop()
        if path not in found:
            found.add(path)
            pending += _imported(path, root)
    digest = hashlib.sha256()
    for path in sorted(found):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


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
                if candidate.exists() and candidate.parent != root:
                    yield candidate

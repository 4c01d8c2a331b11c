"""What is kept of a finished run: its verdict in a few numbers, and the code and seed that they belong to."""

import hashlib
import json
import math
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
        return cls(*named, held, len(claims), closest.used, closest.title, seconds, outcome.seed, code_fingerprint())

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


def code_fingerprint() -> str:
    """SHA-256 of every source file of the package: results of one code and one seed are the same results."""
    root = Path(diffuscope.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()

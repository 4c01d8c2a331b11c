"""The record of a finished run: its verdict in a few numbers, with the code and seed that gave them."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from diffuscope import source


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of the summary; `used` is the share of its tolerance that the closest claim uses, > 1 if it fails.

    >>> from diffuscope.experiments import Record
    >>> kept = dict(name="pi", title="Pi", closest="Two decimals", seconds=0.1, seed=0, code="")
    >>> Record(held=3, claims=3, used=0.25, **kept).margin
    '25% of its tolerance'
    >>> failed = Record(held=2, claims=3, used=1.5, **kept)
    >>> failed.passed, failed.margin
    (False, '1.5x its tolerance')
    """

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

    >>> from diffuscope.experiments import code_fingerprint
    >>> len(code_fingerprint("heat-1d")), code_fingerprint("heat-1d") == code_fingerprint("double-moon")
    (64, False)
    """
    return source.source_fingerprint(*files_of(experiment))


def files_of(experiment: str) -> tuple[Path, ...]:
    """The file of the experiment of this name, if it is one of the package, and that of the kit."""
    folder, name = source.ROOT / "experiments", experiment.replace("-", "_")
    own = (folder / f"{name}.py", folder / name / "__init__.py")
    return (*(path for path in own if path.exists()), folder / "experiment.py")

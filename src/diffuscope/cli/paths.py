"""The most likely path of noisy dynamics between two states."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.files import load_object
from diffuscope.theory.paths import Dynamics, PathReport, most_likely_path

from .options import require_within, writing

UNDECIDED = 3


@dataclass(frozen=True)
class Paths:
    """Find the most likely path of noisy dynamics dX = f dt + G dW between two states, its action, what it conserves.

    Prints the action with its error, whether it is a minimum, and the symmetries found; writes report.html, path.png
    and path.json to --out. Exits with 3 if no minimum was found or more nodes are needed.

    Example:
        From 0 to 1 in time 2 against the drift -x the action is 1 / (2 (1 - exp(-4))) = 0.509329:

        >>> from pathlib import Path
        >>> from diffuscope.cli import main
        >>> _ = Path("pull.py").write_text("def drift(x):\\n    return -x\\n")
        >>> main("paths pull:drift --start 0 --end 1 --duration 2 --diffusion 1".split())
        Path: (0) to (1), in a time of 2, Freidlin-Wentzell, 201 nodes
        Action: 0.50932...
        Stationary point: a minimum, from a straight start
        ...
    """

    drift: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DRIFT")]
    """The drift f, as module:object: a torch function of (x) or (x, t) that maps rows of states (n, d), differentiable;
    or a diffuscope.theory.paths.Dynamics, which has a diffusion of its own."""
    start: tuple[float, ...]
    """The coordinates of the state in which the path begins."""
    end: tuple[float, ...]
    """The coordinates of the state in which it ends."""
    diffusion: tuple[str, ...] = ()
    """D = G G^T / 2: one number, one per coordinate (0 for one without noise), or module:object, a matrix or a function
    of (x) or (x, t) that returns matrices (n, d, d)."""
    functional: Literal["FW", "OM"] = "FW"
    """Freidlin-Wentzell, the limit of weak noise, or Onsager-Machlup, with half the divergence of the drift added."""
    duration: float | None = None
    """Time from start to end; left out, the path takes any time (the geometric action)."""
    nodes: int = 201
    """Number of nodes of the path, both ends included."""
    out: Path = Path("out/paths")
    """Folder for the report."""

    def run(self) -> None:
        """Check, minimize, print and write; exit code 3 where the path is not established."""
        if ":" not in self.drift:  # an option of several values takes every word behind it
            raise InputError(f"drift: expected module:object as the first word, before all options, got {self.drift!r}")
        require_within("nodes", self.nodes, 5, 20_001)
        start, end = (torch.tensor(each, dtype=torch.float64) for each in (self.start, self.end))
        if not self.start:
            raise InputError("start: expected one number per coordinate, got none")
        if len(start) != len(end):
            raise InputError(
                f"end: expected as many numbers as after --start ({len(start)}), got {len(end)}: {_typed(self.end)}"
            )
        dynamics = self._dynamics(len(start))
        with writing(self.out, "report.html", "path.png", "path.json"):
            found = most_likely_path(dynamics, start, end, self.duration, self.nodes, self.functional)
            report = PathReport(self.drift, found)
            print("\n".join([*report.lines(), f"Report: {report.save(self.out)}"]))
        if not (found.minimum and found.resolved):
            why = "needs more nodes" if found.minimum else "is a saddle, and no minimum was found"
            print(f"{self.drift}: the path {why}", file=sys.stderr)
            sys.exit(UNDECIDED)

    def _dynamics(self, d: int) -> Dynamics:
        drift = load_object(self.drift, "drift")
        if isinstance(drift, Dynamics):
            if self.diffusion:
                raise InputError(f"diffusion: {self.drift} has its own, got {' '.join(self.diffusion)} too")
            return drift
        if not callable(drift):
            raise InputError(f"drift: expected a function of (x) or (x, t), or Dynamics, got a {type(drift).__name__}")
        return Dynamics(drift, self._diffusion(d))  # pyright: ignore[reportArgumentType]

    def _diffusion(self, d: int) -> object:
        """A number, a diagonal, or what the user's module has."""
        given = self.diffusion
        if not given:
            raise InputError("diffusion: expected a number, one per coordinate, or module:object, got none")
        if len(given) == 1 and ":" in given[0]:
            found = load_object(given[0], "diffusion")
            if not (callable(found) or isinstance(found, float | int | Tensor)):
                kind = type(found).__name__
                raise InputError(f"diffusion: expected a number, a tensor or a function, got a {kind}")
            return found
        try:
            values = [float(word) for word in given]
        except ValueError:
            raise InputError(f"diffusion: expected numbers or module:object, got {' '.join(given)!r}") from None
        if len(values) not in (1, d):
            wanted = "1 number" if d == 1 else f"1 number or {d}, one per coordinate"
            raise InputError(f"diffusion: expected {wanted}, got {' '.join(given)}")
        return values[0] if len(values) == 1 else torch.tensor(values, dtype=torch.float64)


def _typed(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)

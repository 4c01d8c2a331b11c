r"""Grades methods on families of problems: draws, scores, verdicts, and the smallest planted fault that would be found.

A method is *wrong* in a family if any of its scores, added over the problems, is further from that of exact draws than
chance allows: p < 0.01 / (scores x methods), so that in one of a hundred such families, at most, some right method is
called wrong (in 4% of tables with four families). It is *right* if none is and the same scores find a planted fault of
at most 20%: exact draws spread about the posterior mean by a variance 1 + d times as large, or, of a finite set, drawn
with the likelihood to the power 1 + d. Otherwise the verdict is *cannot tell*. Draws that are not finite are wrong.
Each problem has a seed of its own; what is finished is kept in `folder` and not done again.
"""

import hashlib
import inspect
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.files import replace_atomically
from diffuscope.source import ROOT, source_fingerprint
from diffuscope.streams import torch_stream

from .case import Case, Score, resampled
from .finite_set import darcy_cases
from .gaussian import poisson_cases
from .levy import levy_cases
from .methods import DivergedError, Entry
from .scores import Grader, Pooled, pooled

Verdict = Literal["right", "wrong", "cannot tell"]
LEVEL = 0.01
DIVERGED = "diverges: its draws are not finite"
PLANTED, DETECTABLE, REPEATS = (0.8, 0.4, 0.2, 0.1, 0.05), 0.2, 10
FAMILIES: dict[str, Callable[[int, int], list[Case]]] = {
    "gaussian": poisson_cases,
    "finite-set-linear": partial(darcy_cases, observed="linear"),
    "finite-set-nonlinear": partial(darcy_cases, observed="nonlinear"),
    "levy": levy_cases,
}
SHARES = {
    "levy": (0.25, 0.5)
}  # of the problems and of the noise levels, for all methods: messages on a lattice are slow
TITLES = {
    "gaussian": "Poisson, Gaussian prior",
    "finite-set-linear": "Darcy, finite set, linear",
    "finite-set-nonlinear": "Darcy, finite set, nonlinear",
    "levy": "Levy processes",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a grading depends on besides code and methods.

    >>> from diffuscope.physics.grading import Settings
    >>> few = Settings(problems=12, steps=30).within("levy")  # a quarter of the problems, half of the steps
    >>> few.problems, few.steps
    (3, 15)
    """

    problems: int = 8
    draws: int = 128
    steps: int = 50
    seed: int = 0

    def within(self, family: str) -> "Settings":
        """Those of one family: a share of the problems and steps where its denoiser is slow."""
        problems, steps = SHARES.get(family, (1, 1))
        return replace(self, problems=max(1, round(problems * self.problems)), steps=max(2, round(steps * self.steps)))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method in one family.

    >>> from diffuscope.physics.grading import Pooled, Row
    >>> fair = Pooled(name="spread", value=1.4, expected=1.0, error=0.2, p_value=0.05)
    >>> rows = [Row(method="mine", title="Mine", family="gaussian", scores={"spread": fair}, error="", seconds=1.0,
    ...             threshold=p, detectable=0.1) for p in (0.01, 0.1)]
    >>> [row.verdict for row in rows], rows[1].reason
    (['right', 'wrong'], 'spread 1.4, exact draws 1 +- 0.2')
    """

    method: str
    title: str
    family: str
    scores: dict[str, Pooled]
    error: str  # why there are no scores
    seconds: float  # of CPU
    threshold: float  # of a p-value
    detectable: float | None  # the smallest planted fault that was found every time

    @property
    def worst(self) -> Pooled | None:
        """The score with the smallest p-value."""
        return min(self.scores.values(), key=lambda score: score.p_value, default=None)

    @property
    def verdict(self) -> Verdict:
        """As on top of the file."""
        if self.error == DIVERGED:
            return "wrong"
        if self.worst is None:
            return "cannot tell"
        if self.worst.p_value < self.threshold:
            return "wrong"
        return "right" if self.detectable is not None and self.detectable <= DETECTABLE else "cannot tell"

    @property
    def reason(self) -> str:
        """The number that shows it, in one line."""
        if self.error:
            return self.error
        worst = self.worst
        assert worst is not None
        if self.verdict == "wrong":
            return f"{worst.name} {worst.value:.3g}, exact draws {worst.expected:.3g} +- {worst.error:.2g}"
        if self.detectable is None:
            return f"no planted fault up to {PLANTED[0]:.0%} was found"
        return f"a planted fault of {self.detectable:.0%} would have been found"


@dataclass(frozen=True, eq=False)
class Family:
    """The cases of a family with what exact draws score."""

    name: str
    graders: tuple[Grader, ...]
    exact: tuple[dict[str, Score], ...]

    @classmethod
    def of(cls, name: str, settings: Settings) -> "Family":
        """The problems of a family. Raises InputError for an unknown one."""
        if name not in FAMILIES:
            raise InputError(f"cases: expected some of {', '.join(FAMILIES)}, got {name!r}")
        problems = settings.within(name).problems
        graders = tuple(Grader(case, settings.seed) for case in FAMILIES[name](problems, settings.seed))
        return cls(name, graders, tuple(grader.exact(settings.draws) for grader in graders))

    def graded(self, draw: Callable[[Case, int], Tensor]) -> dict[str, Pooled]:
        """The scores of `draw(case, index)`, each over all problems."""
        parts = [
            grader.grade(draw(grader.case, index), exact)
            for index, (grader, exact) in enumerate(zip(self.graders, self.exact, strict=True))
        ]
        names = {name: None for part in parts for name in part}
        return {name: pooled([part[name] for part in parts if name in part]) for name in names}

    def detectable(self, draws: int, threshold: float, seed: int) -> float | None:
        """The smallest planted fault that was found in every one of some repetitions; None if none was."""
        smallest = None
        for fault in PLANTED:
            for repeat in range(REPEATS):
                generator = torch_stream(seed, "planted", self.name, f"{fault}", str(repeat))
                scores = self.graded(lambda case, _, g=generator, d=fault: planted(case, d, draws, g))
                if min(score.p_value for score in scores.values()) >= threshold:
                    return smallest
            smallest = fault
        return smallest


def planted(case: Case, fault: float, n: int, generator: torch.Generator) -> Tensor:
    """n draws from a posterior that is wrong by `fault`."""
    if case.finite:
        return resampled(case.reference, case.masses ** (1 + fault))(n, generator)
    mean = torch.einsum("k,k...->...", case.masses, case.reference)
    return mean + (1 + fault) ** 0.5 * (case.exact(n, generator) - mean)


def grade(
    entries: Sequence[Entry],
    families: Iterable[str],
    settings: Settings,
    *,
    folder: Path | None = None,
    describe: Callable[[Exception], str] = lambda error: f"{type(error).__name__}: {error}",
    advance: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """One row per method and family, methods in the order given.

    Raises InputError for families that there are not, and without methods.

    `describe` puts a method's own error in one line; `advance` is called with what was done, once per method and family
    and once per family for its planted faults.

    >>> from diffuscope.physics.grading import Entry, Settings, grade
    >>> broken = Entry("broken", "Breaks down", lambda denoiser, observation, y, n, *, seed, steps: y.new_full(
    ...                (n, *observation.event_shape), float("nan")))
    >>> row, = grade([broken], ["gaussian"], Settings(problems=1, draws=2))
    >>> row.verdict, row.reason
    ('wrong', 'diverges: its draws are not finite')
    """
    if not entries:
        raise InputError("entries: expected at least one method, got none")
    rows = []
    for name in families:
        family: Family | None = None

        def built(name: str = name) -> Family:
            nonlocal family
            family = family or Family.of(name, settings)
            return family

        if name not in FAMILIES:
            built()
        threshold = LEVEL / (8 * len(entries))
        detectable = _kept(
            folder, ["planted", name, threshold, asdict(settings)], None,
            lambda threshold=threshold: built().detectable(settings.draws, threshold, settings.seed),
        )  # fmt: skip
        advance(f"{name}: planted faults")
        for entry in entries:
            made = _kept(
                folder, [entry.name, name, asdict(settings)], entry,
                lambda entry=entry: _graded(built(), entry, settings, describe),
            )  # fmt: skip
            scores = {key: Pooled(**value) for key, value in made["scores"].items()}
            rows.append(
                Row(
                    method=entry.name, title=entry.title, family=name, scores=scores, error=made["error"],
                    seconds=made["seconds"], threshold=threshold, detectable=detectable,
                )
            )  # fmt: skip
            advance(f"{name}: {entry.name}")
    return rows


def _graded(
    family: Family, entry: Entry, settings: Settings, describe: Callable[[Exception], str]
) -> Mapping[str, object]:
    started = time.process_time()

    def draw(case: Case, index: int) -> Tensor:
        stream = torch_stream(settings.seed, "draws", entry.name, family.name, str(index))
        if entry.method is None:
            return case.exact(settings.draws, stream)
        seed = int(torch.randint(2**31, (1,), generator=stream))
        n, steps = settings.draws, settings.within(family.name).steps
        found = entry.method(case.denoiser, case.observation, case.y.clone(), n, seed=seed, steps=steps)
        if isinstance(found, tuple):
            found = _resampled(found, n, stream)
        if not isinstance(found, Tensor) or tuple(found.shape) != (n, *case.event_shape) or found.is_complex():
            shape = f"{tuple(found.shape)}, {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
            raise InputError(f"method: expected a real tensor of shape {(n, *case.event_shape)}, got {shape}")
        if not bool(torch.isfinite(found).all()):
            raise DivergedError
        return found.detach().cpu()

    try:
        scores, error = {key: asdict(value) for key, value in family.graded(draw).items()}, ""
    except DivergedError:
        scores, error = {}, DIVERGED
    except Exception as failure:  # a method's own
        scores, error = {}, describe(failure)
    return {"scores": scores, "error": error, "seconds": time.process_time() - started}


def _resampled(found: tuple[object, ...], n: int, generator: torch.Generator) -> Tensor:
    """n draws from (draws, log weights)."""
    if len(found) != 2 or not all(isinstance(part, Tensor) for part in found):
        raise InputError(f"method: expected draws, or (draws, log weights), got {len(found)} values")
    x, log_weights = (part.cpu() for part in found if isinstance(part, Tensor))
    if log_weights.shape != x.shape[:1]:
        raise InputError(f"method: expected one log weight per draw ({len(x)},), got {tuple(log_weights.shape)}")
    weights = log_weights.double().softmax(0)
    if not bool(torch.isfinite(weights).all()):
        raise DivergedError
    return x[torch.multinomial(weights, n, replacement=True, generator=generator)]


def _kept(folder: Path | None, what: list[object], entry: Entry | None, compute: Callable[[], object]) -> Any:
    """The result of `compute`, read from the folder where it was kept under the same settings and code."""
    if folder is None:
        return compute()
    own = source_fingerprint(ROOT / "physics" / "grading" / "run.py")
    key = hashlib.sha256(json.dumps([*what, own, _source(entry)]).encode()).hexdigest()[:24]
    path = folder / f"{key}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        folder.mkdir(parents=True, exist_ok=True)
        result = json.loads(json.dumps(compute()))
        replace_atomically(path, json.dumps(result).encode())
        return result


def _source(entry: Entry | None) -> str:
    """The file of a method, whose change makes it another one."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(entry.method)) if entry and entry.method else None  # pyright: ignore
        return "" if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except (TypeError, OSError):
        return ""

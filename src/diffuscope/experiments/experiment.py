"""What a published experiment is: parts that each ask one thing and answer it with claims and charts.

An experiment is deterministic: its seed decides every random number, and every part draws from a generator of its own,
so that a part gives the same answer alone and in company. Claims about random numbers are stated in standard errors and
are made to hold for any seed.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import torch

from diffuscope.errors import InputError
from diffuscope.findings import Chart, Claim

Setting = str | float | int
_WORD = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"


@dataclass(frozen=True)
class Answer:
    """What one part found: a sentence in plain words, the claims behind it, and what there is to see."""

    text: str
    claims: tuple[Claim, ...]
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True)
class Part:
    """One thing that an experiment asks; `answer` draws from the generator it is given, and from nothing else."""

    name: str
    question: str
    answer: Callable[[torch.Generator], Answer] = field(repr=False)


@dataclass(frozen=True)
class Experiment:
    """A published experiment. `seconds` is what it takes on two quiet cores, `settings` what it is run with.

    Raises InputError for a name that is not small letters, digits and hyphens, and for parts of one name.
    """

    name: str
    title: str
    question: str
    source: str
    seconds: float | int
    parts: tuple[Part, ...]
    settings: Mapping[str, Setting] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        for name in (self.name, *names):
            if not re.fullmatch(_WORD, name):
                raise InputError(f"name: expected small letters, digits and hyphens, got {name!r}")
        if not names or len(set(names)) < len(names):
            raise InputError(f"parts: expected at least one, each with a name of its own, got {names}")

    def run(self, seed: int = 0, advance: Callable[[str], object] = lambda question: None) -> "Outcome":  # noqa: ARG005
        """Answer every part in turn; `advance` is called with its question before each.

        Runs on one thread: the order of summation belongs to the result, and small tensors gain nothing from more.
        Raises InputError for a negative seed.
        """
        if seed < 0:
            raise InputError(f"seed: expected a number >= 0, got {seed}")
        answers = {}
        with _one_thread():
            for part in self.parts:
                advance(part.question)
                answers[part.name] = part.answer(torch.Generator().manual_seed(seed))
        return Outcome(self, seed, answers)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Outcome:
    """The answers of one run, by the name of the part."""

    experiment: Experiment
    seed: int
    answers: Mapping[str, Answer]

    def __post_init__(self) -> None:
        names = [claim.name for claim in self.claims]
        if not names or len(set(names)) < len(names):
            raise InputError(f"claims: expected at least one, each with a name of its own, got {names}")

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The claims of all parts, in the order of the page."""
        return tuple(claim for answer in self.answers.values() for claim in answer.claims)

    @property
    def failures(self) -> tuple[Claim, ...]:
        """The claims that do not hold."""
        return tuple(claim for claim in self.claims if not claim.holds)

    @property
    def closest(self) -> Claim:
        """The claim that uses most of its room."""
        return max(self.claims, key=lambda claim: claim.used)

    def as_json(self) -> dict[str, object]:
        """Plain JSON types: every claim with its verdict, every number of every chart."""
        return {
            "name": self.experiment.name,
            "title": self.experiment.title,
            "question": self.experiment.question,
            "source": self.experiment.source,
            "settings": dict(self.experiment.settings),
            "parts": [
                {
                    "name": part.name,
                    "question": part.question,
                    "answer": self.answers[part.name].text,
                    "claims": [claim.as_json() for claim in self.answers[part.name].claims],
                    "charts": [asdict(chart) for chart in self.answers[part.name].charts],
                }
                for part in self.experiment.parts
            ],
        }

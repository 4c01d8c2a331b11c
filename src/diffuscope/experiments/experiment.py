"""A published experiment: parts that each ask one question and answer it with claims and charts.

An experiment is one short file: the mathematics on top, an `Experiment`, and one function per part::

    EXPERIMENT = Experiment(name="heat-1d", title=..., question=..., source=..., seconds=4)

    @EXPERIMENT.part("Is the propagator exact?")
    def forward(part: Part) -> str:
        part.at_most("resolved", "The flow is the exact mixture", error, 1e-13, "rounding")
        part.chart("Heat spreads a density", panel, how_to_read="Every curve is wider than the one before.")
        return f"The propagator is exact to {error:.1e}."

It is deterministic: the seed determines every random number, and every part draws from a generator of its own, so that
a part run alone gives the same answer as in a whole run. Claims about random numbers are stated in standard errors and
hold for any seed.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from diffuscope.errors import InputError
from diffuscope.files import replace_atomically, write_json
from diffuscope.findings import Chart, Claim, cards
from diffuscope.report import Page, charts_png, write_page
from diffuscope.threads import one_thread

from .page import method, section, verdict
from .part import Part
from .record import Record, code_fingerprint

Setting = str | float | int
_WORD = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"


@dataclass(frozen=True)
class Answer:
    """The answer of one part: a plain sentence, the claims behind it, and the charts.

    >>> from diffuscope.experiments import Experiment
    >>> thirds = Experiment(name="thirds", title="Thirds", question="Are 3 thirds 1?", source="derived", seconds=1)
    >>> @thirds.part("Is the sum 1?")
    ... def one(part):
    ...     part.equals("one", "The sum is 1", 3 * 0.333, 1.0, 0.002, "three digits")
    ...     return "It is, to three digits."
    >>> answer = thirds.answer("one")
    >>> answer.text, round(answer.claims[0].used, 6)  # 0.001 / 0.002
    ('It is, to three digits.', 0.5)
    """

    text: str
    claims: tuple[Claim, ...]
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True)
class Question:
    """One part of an experiment: its name, its question, and the function that answers it."""

    name: str
    text: str
    answer: Callable[[Part], str]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A published experiment. `seconds` is its duration on two idle cores; `settings` are shown on its page.

    Raises InputError for a name that is not small letters, digits and hyphens, and for parts of one name.

    >>> import math
    >>> from diffuscope.experiments import Experiment
    >>> about_pi = Experiment(name="pi", title="Pi", question="Is 22/7 pi?", source="derived", seconds=1)
    >>> @about_pi.part("To how many decimals?")
    ... def decimals(part):
    ...     part.at_most("two", "Two decimals are right", abs(22 / 7 - math.pi), 0.005, "half of the second decimal")
    ...     part.at_most("three", "Three decimals are right", abs(22 / 7 - math.pi), 0.0005, "half of the third")
    ...     return "To two."
    >>> [claim.name for claim in about_pi.run().failures]
    ['three']
    """

    name: str
    title: str
    question: str
    source: str
    seconds: float | int
    settings: Mapping[str, Setting] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    parts: list[Question] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        _require_word(self.name)

    def part(self, question: str) -> Callable[[Callable[[Part], str]], Callable[[Part], str]]:
        """Decorate a function as the next part, of the same name; it fills its `Part` and returns the answer."""

        def registered(answer: Callable[[Part], str]) -> Callable[[Part], str]:
            name = getattr(answer, "__name__", "").replace("_", "-")
            _require_word(name)
            if any(known.name == name for known in self.parts):
                raise InputError(f"part: {self.name} has a part {name!r} already")
            self.parts.append(Question(name, question, answer))
            return answer

        return registered

    def answer(self, name: str, seed: int = 0) -> Answer:
        """The answer of the part called `name` alone, as in a whole run.

        Raises InputError for a negative seed and a name that no part has.
        """
        if seed < 0:
            raise InputError(f"seed: expected a number >= 0, got {seed}")
        parts = {known.name: known for known in self.parts}
        if name not in parts:
            raise InputError(f"name: expected a part of {self.name}, one of {', '.join(parts)}, got {name!r}")
        question = parts[name]
        part = Part(self.name, name, self.source, seed)
        with one_thread():
            text = question.answer(part)
        return Answer(text, tuple(part.claims), tuple(part.charts))

    def run(self, seed: int = 0, advance: Callable[[str], object] = lambda question: None) -> "Outcome":  # noqa: ARG005
        """Answer every part in turn; `advance` is called with its question before each.

        Runs on one thread: the order of summation belongs to the result, and small tensors gain nothing from more.
        Raises InputError for a negative seed.
        """
        start, answers = time.perf_counter(), {}
        for question in self.parts:
            advance(question.text)
            answers[question.name] = self.answer(question.name, seed)
        return Outcome(self, seed, answers, time.perf_counter() - start)


def _require_word(name: str) -> None:
    if not re.fullmatch(_WORD, name):
        raise InputError(f"name: expected small letters, digits and hyphens, got {name!r}")


@dataclass(frozen=True)
class Outcome:
    """The answers of one run, by the name of the part, and how long it took.

    Raises InputError for no claim, and for two of one name.

    >>> from diffuscope.experiments import Experiment
    >>> sums = Experiment(name="sums", title="Sums", question="Are sums right?", source="derived", seconds=1)
    >>> @sums.part("What is 2 + 3?")
    ... def five(part):
    ...     part.equals("five", "The sum is 5", 2 + 3, 5.0, 0.5, "whole numbers")
    ...     part.at_most("below-ten", "The sum is below 10", 2 + 3, 10.0, "one digit")
    ...     return "Five."
    >>> outcome = sums.run(seed=3)
    >>> outcome.closest.name, outcome.closest.used, outcome.record().held  # 5 / 10 of the bound
    ('below-ten', 0.5, 2)
    """

    experiment: Experiment
    seed: int
    answers: Mapping[str, Answer]
    seconds: float = 0.0

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
        """The claim that uses the largest share of its tolerance."""
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
                    "name": question.name,
                    "question": question.text,
                    "answer": self.answers[question.name].text,
                    "claims": [claim.as_json() for claim in self.answers[question.name].claims],
                    "charts": [asdict(chart) for chart in self.answers[question.name].charts],
                }
                for question in self.experiment.parts
            ],
        }

    def page(self) -> Page:
        """The verdict, a card for each failed claim, a section per question; `report.write_page` makes it a file."""
        experiment, failed = self.experiment, len(self.failures)
        headline = f"{failed} of {len(self.claims)} claims fail." if failed else f"All {len(self.claims)} claims hold."
        asked = [(part, self.answers[part.name]) for part in experiment.parts]
        facts = [*experiment.settings.items(), ("seed", self.seed), ("seconds", f"{self.seconds:.1f}")]
        return Page(
            experiment.title,
            f"Experiment {experiment.name}, {experiment.source}",
            f"{experiment.question} {headline}",
            [verdict(headline, self.claims), *(claim.as_finding() for claim in self.failures)],
            [section(part.name, part.text, answer.text, answer.claims, answer.charts) for part, answer in asked],
            method(experiment.notes, facts),
        )

    def record(self) -> Record:
        """The record of this run, for the summary and for later runs."""
        closest = self.closest
        return Record(
            name=self.experiment.name,
            title=self.experiment.title,
            held=len(self.claims) - len(self.failures),
            claims=len(self.claims),
            used=closest.used,
            closest=closest.title,
            seconds=self.seconds,
            seed=self.seed,
            code=code_fingerprint(self.experiment.name),
        )

    def save(self, folder: str | Path) -> Path:
        """Write report.html, figure.png and, last, result.json, whose presence marks a finished run.

        Returns the path of the page. Raises InputError if the folder cannot be written.
        """
        charts = tuple(chart for answer in self.answers.values() for chart in answer.charts)
        path = write_page(self.page(), Path(folder) / "report.html")
        if charts:
            replace_atomically(path.with_name("figure.png"), charts_png(charts, self.experiment.title))
        write_json({"record": asdict(self.record())} | self.as_json(), path.with_name("result.json"))
        return path

    def _repr_html_(self) -> str:
        return cards(self.page().verdicts)

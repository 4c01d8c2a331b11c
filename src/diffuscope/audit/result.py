"""The result of an audit: its page (verdicts, a section per question, the method), JSON and model card, as files."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import safetensors
import scipy
import torch

import diffuscope
from diffuscope.findings import Chart, Finding, cards
from diffuscope.report import Block, Cell, Page, Section, Table

from .level_measures import Points
from .model_card import Recipe, model_card
from .question import Answer, Question
from .saved_report import save_report
from .subject import Levels, Settings, Subject
from .verdict import Verdict, verdict

FORMAT = 2  # of audit.json; 1 had no verdict

GENERAL = (
    "The network is compared with four distributions whose denoisers are known exactly: isotropic Gaussian, Gaussian, "
    "Gaussian mixture, and the finite set of training examples. All points, noise and resamples are drawn from the "
    "seed below: the same inputs give the same report.",
    "Trajectories and samples of the model: Heun's method on the probability-flow ODE through the audited levels, "
    "starting from a Gaussian with the first two moments of the noised data; a final denoiser call removes the "
    "remaining noise. With a sampler of the owner's (`sampler` below) the samples are its own.",
)
LIMITS = (
    "Limits. Held-out data must come from the same distribution as the training data: any difference between the two "
    "looks like memorization. The search for copies depends on the distance: copies changed in other ways than the "
    "planted ones need a feature space of their own. Each interval has 95% coverage by itself, not all of them "
    "together."
)
OF_MODELS = (
    "How much the two sets differ shows in the control of the denoising gap. The teleportation estimate is of first "
    "order in the difference between the network and the Gaussian."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditResult:
    """The answers to all questions, in order, with the audited model, data and settings.

    `result["memorized"]` is one answer: its findings, the blocks of the page, and the numbers behind them (`.result`).

    >>> from diffuscope import audit_samples
    >>> from diffuscope.data import toy_data
    >>> moons = toy_data("two-moons", n_train=90, n_heldout=100)
    >>> result = audit_samples(moons.train[:40], moons)  # samples that are training examples
    >>> result.verdict.word, list(result.findings)
    ('copies', ['samples', 'memorized', 'quality', 'diversity'])
    >>> stated = result.as_json()
    >>> stated["training_examples"], stated["heldout_examples"], stated["audited_samples"]
    (90, 100, 40)
    """

    subject: Subject
    settings: Settings
    levels: Levels | None  # None without a model
    samples: Points | None  # None for those of a model that is not what it is taken for
    answers: dict[Question, Answer]
    versions: dict[str, str]
    recipe: Recipe  # how to repeat it

    def __getitem__(self, name: str) -> Answer:
        """The answer to the question called `name`; KeyError if the audit left it out."""
        return {question.name: answer for question, answer in self.answers.items()}[name]

    @property
    def findings(self) -> dict[str, tuple[Finding, ...]]:
        """The findings by the name of their question."""
        return {question.name: tuple(answer.findings) for question, answer in self.answers.items()}

    @property
    def verdict(self) -> Verdict:
        """The one verdict over all questions."""
        return verdict(self.answers)

    @property
    def verdicts(self) -> list[Finding]:
        """The first finding of every question that could be answered, under the question's title."""
        answered = {q: answer.findings[0] for q, answer in self.answers.items() if answer.findings and answer.answered}
        return [replace(finding, title=question.title) for question, finding in answered.items()]

    @property
    def unanswered(self) -> str:
        """The questions whose answers would mean nothing, and why; empty where there are none."""
        left = {question: answer for question, answer in self.answers.items() if not answer.answered}
        reasons = dict.fromkeys(answer.findings[0].verdict for answer in left.values())
        return " ".join([*reasons, *(question.title for question in left)])

    def as_json(self) -> dict[str, object]:
        """Plain JSON types: every finding, the numbers of every chart and table, the settings and the versions."""
        shown = {question.name: answer.blocks for question, answer in self.answers.items()}
        out: dict[str, object] = {
            "format": FORMAT,
            "verdict": asdict(self.verdict),
            "model": self.subject.name,
            "data": self.subject.data_name,
            "notes": list(self.subject.notes),
            "training_examples": len(self.subject.train),
            "heldout_examples": len(self.subject.heldout),
            "groups": [
                None if groups is None else len(groups.unique())
                for groups in (self.subject.train_groups, self.subject.heldout_groups)
            ],
            "audited_samples": None if self.samples is None else len(self.samples),
            "settings": asdict(self.settings),
            "repeat": asdict(self.recipe),
            "versions": self.versions,
            "noise_levels": [] if self.levels is None else self.levels.ratios.tolist(),
            "findings": {name: [f.as_json() for f in found] for name, found in self.findings.items()},
        }
        for key, kind in (("charts", Chart), ("tables", Table)):
            out[key] = {
                name: [asdict(block) for block in blocks if isinstance(block, kind)] for name, blocks in shown.items()
            }
        for answer in self.answers.values():
            out |= answer.facts
        return out

    def page(self) -> Page:
        """The report; `report.write_page` makes it a file."""
        subject = self.subject
        sections = [
            Section(q.name, q.title, answer.text or answer.findings[0].verdict, answer.blocks, answer.findings)
            for q, answer in self.answers.items()
            if answer.findings and answer.answered
        ]
        if self.unanswered:
            sections.append(Section("unanswered", "What is not answered", self.unanswered))
        return Page(
            f"Audit of {subject.name}",
            f"{subject.data_name}: {len(subject.train):,} training and {len(subject.heldout):,} held-out examples",
            str(self.verdict),
            self.verdicts,
            sections,
            self._method(),
            self.verdict.tone,
        )

    def save(self, folder: str | Path) -> Path:
        """Write report.html, audit.json and model-card.md to `folder`, each whole or not at all.

        Returns the path of the report. Raises InputError if the folder cannot be written.
        """
        return save_report(Path(folder), self.page(), self.as_json(), self.model_card())

    def model_card(self) -> str:
        """A section in Markdown for a model card, such as the README of a model on a model hub.

        The verdict; a table of the first finding of every question with its interval, null hypothesis and power; the
        data, what was not asked, the versions, and how to repeat it. Names of the user's are inert in it, whatever
        characters they have. Every number is in `as_json()`.

        >>> from diffuscope import audit_samples
        >>> from diffuscope.data import toy_data
        >>> moons = toy_data("two-moons", n_train=100, n_heldout=100)
        >>> result = audit_samples(moons.train[:40], moons)
        >>> print(result.model_card().splitlines()[0])
        ## Audit
        """
        return model_card(self)

    def _repr_html_(self) -> str:
        return cards(self.verdicts)

    def _method(self) -> list[Block]:
        subject = self.subject
        facts: list[Sequence[Cell]] = [
            ["model" if subject.has_model else "samples", subject.name],
            ["data", subject.data_name],
            ["training examples", f"{len(subject.train):,}"],
            ["held-out examples", f"{len(subject.heldout):,}"],
        ]
        if self.levels is not None:
            ratios = self.levels.ratios
            facts.append(["schedule", repr(subject.denoiser.schedule)[:200]])
            facts.append(["noise levels σ/α", f"{ratios[-1]:.3g} to {ratios[0]:.3g} ({len(ratios)})"])
        for name, value in (asdict(self.settings) | self.versions).items():
            facts.append([name, ", ".join(value) if isinstance(value, tuple) else str(value)])
        notes = [f"Note: {note}" for note in subject.notes]
        methods = [answer.method for answer in self.answers.values() if answer.method]
        general, limits = (GENERAL, f"{LIMITS} {OF_MODELS}") if subject.has_model else ((), LIMITS)
        return [*notes, *general, *methods, limits, Table("Inputs, settings and versions", ["", ""], facts)]


def versions() -> dict[str, str]:
    """The versions of Python and of the packages behind the result."""
    imported = {package.__name__: package.__version__ for package in (diffuscope, torch, np, scipy)}
    others = {"scikit-learn": version("scikit-learn"), "safetensors": safetensors.__version__}  # one not imported yet
    return {"python": platform.python_version(), **imported, **others}

"""The overview of an audit by class: a table, one verdict over all classes, and the report of each.

A class's own report tells what holds of it alone. The overview asks many classes, and corrects for that
(`class_correction`): copies that one class of as many may well show by chance deserve attention, and attention that
some test asks for by chance does not count. What is broken stays so, and a class that nobody can tell of is said.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from diffuscope.findings import Finding
from diffuscope.findings.numbers import measurement, p_relation, p_value
from diffuscope.report import Block, Cell, Link, Page, Section, Table

from .class_correction import chance_findings, corrected_copies
from .guided import NOTE
from .model_card import Recipe, inert
from .result import FORMAT, AuditResult, versions
from .saved_report import save_report
from .subject import Settings, Subject
from .verdict import TONES, WORDS, Verdict, Word

CARDS = 24  # verdicts of classes shown as cards; the table has all
METHOD = (
    "For every class the model asked for it is audited against the examples of its label, with a report of its own: "
    "the exact optimum in it is that of the examples of that label. Copies are searched among all training examples, "
    "those of other classes apart.",
    "Many classes are asked. A class is said to copy in this overview if the p-value of its copies, over all tests and "
    "corrected after Holm for the number of classes, is below the false-discovery rate. Attention that rests on one "
    "test is given by Holm's p-value over the classes, too. A fault of wiring is not corrected.",
)
HEADER = ("class", "verdict", "training", "held-out", "copies", "p, corrected", "gap in loss", "quality", "diversity")


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassAuditResult:
    """The audits by class. `result[3]` is that of class 3; `unanswered` says why others have none.

    Made by `audit_classes`; here no class has the 20 examples that an audit needs.

    >>> import torch
    >>> from diffuscope.audit import Subject, audit_classes
    >>> from diffuscope.schedules import VE
    >>> class Zero:
    ...     schedule, classes = VE(), 3
    ...     def __call__(self, x_t, t, y=None):
    ...         return 0 * x_t
    >>> x, labels = torch.randn(30, 2, generator=torch.Generator().manual_seed(0)), torch.arange(30) // 18
    >>> result = audit_classes(Subject(Zero(), x, x, train_labels=labels, heldout_labels=labels))
    >>> result.verdict.word, result.unanswered[1]
    ('cannot-tell', '12 training and 12 held-out examples; at least 20 of each are needed')
    >>> result.table().note
    "Not asked for: 1 of the model's 3 classes."
    """

    subject: Subject
    settings: Settings
    guidance: float
    classes: tuple[int, ...]
    of_model: int  # the number of the model's classes
    results: dict[int, AuditResult]
    unanswered: dict[int, str]
    unconditional: Finding | None = None  # with guidance: the model that it leads away from
    recipe: Recipe | None = None

    def __getitem__(self, label: int) -> AuditResult:
        """The audit of one class; KeyError for one without."""
        return self.results[label]

    @cached_property
    def corrected(self) -> dict[int, float]:
        """The p-values of copies by class, corrected for the number of classes."""
        return corrected_copies(self.results)

    @cached_property
    def verdicts(self) -> dict[int, Verdict]:
        """The verdict of every class, corrected for the number of classes."""
        chance = chance_findings(self.results, self.settings.significance)
        return {y: self._of_class(y, chance.get(y, [])) for y in self.classes}

    def _of_class(self, y: int, by_chance: Sequence[str]) -> Verdict:
        if y in self.unanswered:
            return Verdict("cannot-tell", f"{self.unanswered[y]}.", ())
        own = self.results[y].verdict
        many = len(self.results)
        if own.word == "copies" and self.corrected.get(y, 1.0) >= self.settings.false_discovery:
            doubt = (
                f"Among {many} classes that is within chance (p {p_relation(self.corrected.get(y, 1.0))} corrected)."
            )
            return Verdict("attention", f"{own.sentence} {doubt}", own.because)
        if own.word == "attention" and set(own.because) <= set(by_chance):
            return Verdict("sound", f"Within chance among {many} classes: {own.sentence}", own.because)
        return own

    @property
    def verdict(self) -> Verdict:
        """The worst word of all classes, and which classes have it."""
        if self.unconditional is not None and self.unconditional.tone == "alarm":
            return Verdict("broken", self.unconditional.verdict, (self.unconditional.name,))
        worst = min(self.verdicts.values(), key=lambda verdict: WORDS.index(verdict.word)).word
        having = [y for y in self.classes if self.verdicts[y].word == worst]
        which = f"{'Class' if len(having) == 1 else 'Classes'} {_listed(having)} (of {len(self.classes)} audited)"
        sentence = f"{which}: {self.verdicts[having[0]].sentence}"
        if len(having) > 1:
            sentence = f"{which}. Class {having[0]}: {self.verdicts[having[0]].sentence}"
        copying = [y for y in self.classes if worst == "broken" and self.verdicts[y].word == "copies"]
        sentence += f" Copies besides: class {_listed(copying)}." if copying else ""
        return Verdict(worst, sentence, tuple(f"class-{y}.verdict" for y in having))

    def has(self, words: Sequence[Word]) -> bool:
        """Whether the overview or any class has one of these verdicts."""
        return any(verdict.word in words for verdict in (self.verdict, *self.verdicts.values()))

    @property
    def findings(self) -> list[Finding]:
        """One for each class, the worst first: its verdict, with the share of copies. That of guidance before."""
        order = sorted(self.classes, key=lambda y: WORDS.index(self.verdicts[y].word))
        guidance = [] if self.unconditional is None else [self.unconditional]
        return [*guidance, *(self._finding(y) for y in order)]

    def _finding(self, y: int) -> Finding:
        verdict = self.verdicts[y]
        copies = None if y in self.unanswered else self._copies(y)
        return Finding(
            name=f"class-{y}.verdict",
            title=f"Class {y}",
            value=float("nan") if copies is None else copies.value,
            unit="" if copies is None else "%",
            verdict=verdict.sentence,
            tone=TONES[verdict.word],
            interval=None if copies is None else copies.interval,
            null="" if copies is None else f"No copies. Corrected for {len(self.results)} classes, and all tests.",
            p_value=None if copies is None else self.corrected.get(y),
            power="None." if copies is None else copies.power,
        )

    def _copies(self, y: int) -> Finding | None:
        """The finding of most copies among the training examples of the class, in any space of distances."""
        found = [
            f for group in self.results[y].findings.values() for f in group if f.name.startswith("memorized.copies")
        ]
        return max(found, key=lambda finding: finding.value, default=None)

    def _first(self, y: int, name: str) -> Finding | None:
        """The first finding of a question."""
        return next((found[0] for key, found in self.results[y].findings.items() if key == name and found), None)

    def _row(self, y: int) -> list[Cell]:
        word = self.verdicts[y].word.replace("-", " ")
        labels = self.subject.train_labels, self.subject.heldout_labels
        sizes = [None if known is None else int((known == y).sum()) for known in labels]
        if y in self.unanswered:
            return [str(y), word, *sizes, *[None] * (len(HEADER) - 4)]
        found = {f.name: f for group in self.results[y].findings.values() for f in group}
        gap = found.get("memorized.gap")
        corrected = self.corrected.get(y)
        return [
            Link(str(y), f"class-{y}/report.html"),
            word,
            *sizes,
            _measured(self._copies(y)),
            None if corrected is None else p_value(corrected),
            _measured(gap),
            _measured(self._first(y, "quality")),
            _measured(self._first(y, "diversity")),
        ]

    def table(self) -> Table:
        """A row for every class, with a link to its report."""
        rest = self.of_model - len(self.classes)
        note = f"Not asked for: {rest} of the model's {self.of_model} classes." if rest else ""
        return Table("Classes", HEADER, [self._row(y) for y in self.classes], note)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was asked of which model, and the notes on the data."""
        guided = (NOTE.format(self.guidance),) if self.guidance != 1 else ()
        return (*guided, *self.subject.notes)

    def as_json(self) -> dict[str, object]:
        """Plain JSON types: the verdict, the table, and for each class its verdict, findings and p-value of copies."""
        return {
            "format": FORMAT,
            "verdict": asdict(self.verdict),
            "model": self.subject.name,
            "data": self.subject.data_name,
            "notes": list(self.notes),
            "guidance": self.guidance,
            "unconditional": None if self.unconditional is None else self.unconditional.as_json(),
            "classes": {str(y): self._entry(y) for y in self.classes},
            "settings": asdict(self.settings),
            "repeat": None if self.recipe is None else asdict(self.recipe),
            "versions": versions(),
        }

    def _entry(self, y: int) -> dict[str, object]:
        sizes = {
            f"{part}_examples": None if labels is None else int((labels == y).sum())
            for part, labels in (("training", self.subject.train_labels), ("heldout", self.subject.heldout_labels))
        }
        entry: dict[str, object] = {"verdict": asdict(self.verdicts[y]), **sizes}
        if y in self.unanswered:
            return entry | {"not_audited": self.unanswered[y]}
        result = self.results[y]
        return entry | {
            "own_verdict": asdict(result.verdict),
            "copies_p_value_corrected": self.corrected.get(y),
            "report": f"class-{y}/report.html",
            "findings": {name: [f.as_json() for f in found] for name, found in result.findings.items()},
        }

    def page(self) -> Page:
        """The overview."""
        shown = self.findings[:CARDS]
        blocks: list[Block] = [self.table()]
        facts: list[list[Cell]] = [[name, str(value)] for name, value in (asdict(self.settings) | versions()).items()]
        notes = [f"Note: {note}" for note in self.notes]
        return Page(
            f"Audit of {self.subject.name}, class by class",
            f"{self.subject.data_name}: {len(self.subject.train):,} training and {len(self.subject.heldout):,} "
            f"held-out examples; {len(self.classes)} of {self.of_model} classes",
            str(self.verdict),
            shown,
            [Section("classes", "What of each class?", self.verdict.sentence, blocks, shown)],
            [*notes, *METHOD, Table("Settings and versions", ["", ""], facts)],
            self.verdict.tone,
        )

    def save(self, folder: str | Path) -> Path:
        """Write report.html, audit.json and model-card.md, and those of every class in class-N; the page's path.

        Raises InputError if the folder cannot be written.
        """
        for y, result in self.results.items():
            result.save(Path(folder) / f"class-{y}")
        return save_report(Path(folder), self.page(), self.as_json(), self.model_card())

    def model_card(self) -> str:
        """The verdict and the table of classes in Markdown; the cards of the classes have the rest."""
        rows = [[cell.text if isinstance(cell, Link) else "–" if cell is None else str(cell) for cell in row]
                for row in self.table().rows]  # fmt: skip
        lines = [f"| {' | '.join(map(inert, row))} |" for row in rows]
        repeat = [] if self.recipe is None else ["", "```console", self.recipe.text, "```"]
        return "\n".join(
            [
                "## Audit by class",
                "",
                f"**Verdict: {self.verdict.word.replace('-', ' ')}.** {inert(self.verdict.sentence)}",
                "",
                f"| {' | '.join(HEADER)} |",
                f"|{'---|' * len(HEADER)}",
                *lines,
                "",
                *(f"- Note: {inert(note)}." for note in self.notes),
                *repeat,
                "",
            ]
        )


def _measured(finding: Finding | None) -> str | None:
    """The value with its interval; None where there is none."""
    if finding is None or finding.value != finding.value:
        return None
    value, interval = measurement(finding.value, finding.interval, finding.unit)
    return f"{value} ({interval})" if interval else value


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")

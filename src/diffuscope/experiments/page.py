"""Parts of the page of an experiment: the verdict, a section per question with claims and charts, the method.

And the index: one page that links those of all experiments, with the summary that the command prints.
"""

import platform
from collections.abc import Sequence

import torch

import diffuscope
from diffuscope.findings import Chart, Claim, Finding
from diffuscope.findings.numbers import typeset
from diffuscope.report import Block, Cell, Link, Page, Section, Table

from .record import Record

POWER = "A claim fails as soon as its number leaves the range in the tables below, which also give the reason for it."
LINKS = "Each name links to the page of its experiment."
HEADER = ("claim", "verdict", "measured", "required", "because", "source")


def verdict(headline: str, claims: Sequence[Claim]) -> Finding:
    """How many claims hold, and which comes closest to failing."""
    closest, held = max(claims, key=lambda claim: claim.used), sum(claim.holds for claim in claims)
    which = "Closest to failing" if closest.holds else "Worst"
    text = f"{headline} {which}: “{closest.title}”, measured {closest.measured}, required {closest.requirement}."
    return _held(held, len(claims), "Is the published result reproduced?", typeset(text))


def section(anchor: str, question: str, answer: str, claims: Sequence[Claim], charts: Sequence[Chart]) -> Section:
    """One part: its charts, and every claim with what was measured and what is required."""
    blocks: list[Block] = [*charts]
    if claims:
        blocks.append(Table("Claims", HEADER, [[typeset(text) for text in _row(claim)] for claim in claims]))
    failed = sum(not claim.holds for claim in claims)
    missed = f"Not reproduced: {failed} of {len(claims)} claims below fail. The expected answer: " if failed else ""
    return Section(anchor, question, typeset(missed + answer), blocks)


def method(notes: Sequence[str], facts: Sequence[tuple[str, object]]) -> list[Block]:
    """The notes, and a table of settings and versions."""
    rows = [[name, str(value)] for name, value in facts]
    return [*notes, Table("Settings and versions", ["", ""], [*rows, *_versions()])]


def experiments_index(records: Sequence[Record], command: str = "diffuscope reproduce --all") -> Page:
    """The page over all experiments that `command` ran: the folder of each lies beside it and holds its report.html.

    >>> from diffuscope.experiments import Record, experiments_index
    >>> both = dict(title="A title", used=0.5, closest="A claim", seconds=1.0, seed=0, code="")
    >>> heat, rates = Record(name="heat-1d", held=4, claims=4, **both), Record(name="rates", held=2, claims=5, **both)
    >>> page = experiments_index([heat, rates])
    >>> page.verdicts[0].value, page.verdicts[0].unit, page.verdicts[0].verdict
    (6.0, 'of 9 claims', 'Claims fail in rates.')
    """
    held, claims = (sum(getattr(record, name) for record in records) for name in ("held", "claims"))
    failed = [record.name for record in records if not record.passed]
    rows: list[list[Cell]] = [
        [
            Link(record.name, f"{record.name}/report.html"),
            record.title,
            f"{record.held} of {record.claims}" + ("" if record.passed else ": FAILS"),
            typeset(f"{record.margin}: {record.closest}"),
            f"{record.seconds:.1f}\u00a0s",
        ]
        for record in records
    ]
    header = ["experiment", "title", "claims that hold", "closest to failing", "time"]
    text = f"Claims fail in {', '.join(failed)}." if failed else "Every claim holds."
    return Page(
        "Published experiments, reproduced",
        command,
        f"{held} of {claims} claims hold in {len(records)} experiments.",
        [_held(held, claims, "Are the published results reproduced?", text)],
        [Section("experiments", "Which experiments?", LINKS, [Table("One line per experiment", header, rows)])],
        [Table("Versions", ["", ""], _versions())],
    )


def _held(held: int, claims: int, title: str, text: str) -> Finding:
    unit, tone = f"of {claims} claims", "good" if held == claims else "alarm"
    return Finding(name="claims", title=title, value=float(held), unit=unit, verdict=text, tone=tone, power=POWER)


def _row(claim: Claim) -> tuple[str, ...]:
    word = "holds" if claim.holds else "FAILS"
    return claim.title, word, claim.measured, claim.requirement, claim.because, claim.source


def _versions() -> list[list[str]]:
    return [["diffuscope", diffuscope.__version__], ["python", platform.python_version()], ["torch", torch.__version__]]

"""An experiment as a page: the verdict, one section per question with its claims and charts, how it was run.

And the index: one page that links them all, with the summary that the command prints.
"""

import platform
from collections.abc import Sequence
from dataclasses import replace

import torch

import diffuscope
from diffuscope.findings import Claim, Finding
from diffuscope.findings.numbers import typeset
from diffuscope.report.page import Block, Cell, Link, Page, Section, Table

from .experiment import Answer, Outcome
from .record import Record

POWER = "A claim fails as soon as its number leaves the range that the tables give, with the reason for it."
HEADER = ("claim", "verdict", "measured", "must be", "because", "source")


def experiment_page(outcome: Outcome, seconds: float) -> Page:
    """The page of one run; `report.write_page` makes it a file."""
    experiment, claims, failures = outcome.experiment, outcome.claims, outcome.failures
    headline = f"{len(failures)} of {len(claims)} claims fail." if failures else f"All {len(claims)} claims hold."
    return Page(
        experiment.title,
        f"Experiment {experiment.name}, {experiment.source}",
        f"{experiment.question} {headline}",
        [_verdict(outcome, headline), *(_card(claim) for claim in failures)],
        [_section(part.name, part.text, outcome.answers[part.name]) for part in experiment.parts],
        _method(outcome, seconds),
    )


def experiments_index(records: Sequence[Record]) -> Page:
    """The page over all experiments: the folder of each lies beside it and holds its report.html."""
    held, claims = (sum(getattr(record, name) for record in records) for name in ("held", "claims"))
    failed = [record.name for record in records if not record.passed]
    told = f"Claims fail in {', '.join(failed)}." if failed else "Every claim holds."
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
    verdict = Finding(
        name="claims",
        title="Do they come out as published?",
        value=float(held),
        unit=f"of {claims} claims",
        verdict=told,
        tone="alarm" if failed else "good",
        power=POWER,
    )
    table = Table(
        "One line per experiment", ["experiment", "what it shows", "claims that hold", "closest claim", "took"], rows
    )
    return Page(
        "Published experiments, reproduced",
        "diffuscope reproduce --all",
        f"{held} of {claims} claims hold in {len(records)} experiments.",
        [verdict],
        [Section("experiments", "What was reproduced?", "Every name leads to the experiment's page.", [table])],
        [Table("Versions", ["", ""], _versions())],
    )


def claims_table(title: str, claims: Sequence[Claim]) -> Table:
    """Every claim with what was measured and what it must be."""
    rows = [
        [
            typeset(claim.title),
            "holds" if claim.holds else "FAILS",
            typeset(claim.measured),
            typeset(claim.requirement),
            typeset(claim.because),
            typeset(claim.source),
        ]
        for claim in claims
    ]
    return Table(title, HEADER, rows)


def _verdict(outcome: Outcome, headline: str) -> Finding:
    closest, held = outcome.closest, len(outcome.claims) - len(outcome.failures)
    which = "The worst" if outcome.failures else "The closest call"
    told = f"{headline} {which}: “{closest.title}”, measured {closest.measured}, must be {closest.requirement}."
    return Finding(
        name="claims",
        title="Does it come out as published?",
        value=float(held),
        unit=f"of {len(outcome.claims)} claims",
        verdict=typeset(told),
        tone="alarm" if outcome.failures else "good",
        power=POWER,
    )


def _card(claim: Claim) -> Finding:
    found = claim.as_finding()
    return replace(found, title=typeset(found.title), verdict=typeset(found.verdict), power=typeset(found.power))


def _section(anchor: str, question: str, answer: Answer) -> Section:
    blocks: list[Block] = [*answer.charts]
    if answer.claims:
        blocks.append(claims_table("What is claimed, and what was measured", answer.claims))
    failed = sum(not claim.holds for claim in answer.claims)
    told = f"Not reproduced: {failed} of {len(answer.claims)} claims below fail. Expected was: " if failed else ""
    return Section(anchor, question, typeset(told + answer.text), blocks)


def _method(outcome: Outcome, seconds: float) -> list[Block]:
    facts = [[name, str(value)] for name, value in outcome.experiment.settings.items()]
    facts += [
        ["seed", str(outcome.seed)],
        ["seconds", f"{seconds:.1f}"],
        *_versions(),
    ]
    return [*outcome.experiment.notes, Table("Settings and versions", ["", ""], facts)]


def _versions() -> list[list[str]]:
    return [["diffuscope", diffuscope.__version__], ["python", platform.python_version()], ["torch", torch.__version__]]

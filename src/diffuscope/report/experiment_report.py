"""An experiment as a page: the verdict, one section per question with its claims and charts, how it was run."""

import platform
from collections.abc import Sequence

import torch

from diffuscope import __version__
from diffuscope.audit import Finding
from diffuscope.experiments import Answer, Claim, Outcome
from diffuscope.report.experiment_figures import chart_figure
from diffuscope.report.page import Block, Page, Section, Table

HEADER = ("claim", "verdict", "measured", "must be", "because", "source")


def experiment_page(outcome: Outcome, seconds: float) -> Page:
    """The page of one run; `report.write_page` makes it a file."""
    experiment, claims, failures = outcome.experiment, outcome.claims, outcome.failures
    headline = f"{len(failures)} of {len(claims)} claims fail." if failures else f"All {len(claims)} claims of it hold."
    return Page(
        experiment.title,
        f"Experiment {experiment.name}, {experiment.source}",
        f"{experiment.question} {headline}",
        [_verdict(outcome, headline), *(claim.as_finding() for claim in failures)],
        [_section(part.name, part.question, outcome.answers[part.name]) for part in experiment.parts],
        _method(outcome, seconds),
    )


def claims_table(title: str, claims: Sequence[Claim]) -> Table:
    """Every claim with what was measured and what it must be."""
    rows = [
        [
            claim.title,
            "holds" if claim.holds else "FAILS",
            claim.measured,
            claim.requirement,
            claim.because,
            claim.source,
        ]
        for claim in claims
    ]
    return Table(title, HEADER, rows)


def _verdict(outcome: Outcome, headline: str) -> Finding:
    closest, held = outcome.closest, len(outcome.claims) - len(outcome.failures)
    told = f"{headline} The closest: {closest.title[0].lower()}{closest.title[1:]}; measured {closest.measured}, "
    told += f"must be {closest.requirement}."
    return Finding(
        "claims",
        "Does it come out as published?",
        float(held),
        f"of {len(outcome.claims)} claims",
        told,
        "alarm" if outcome.failures else "good",
        power="A claim fails as soon as its number leaves the range that the tables give, with the reason for it.",
    )


def _section(anchor: str, question: str, answer: Answer) -> Section:
    blocks: list[Block] = [chart_figure(chart) for chart in answer.charts]
    blocks.append(claims_table("What is claimed, and what was measured", answer.claims))
    return Section(anchor, question, answer.text, blocks)


def _method(outcome: Outcome, seconds: float) -> list[Block]:
    facts = [[name, str(value)] for name, value in outcome.experiment.settings.items()]
    facts += [
        ["seed", str(outcome.seed)],
        ["seconds", f"{seconds:.1f}"],
        ["diffuscope", __version__],
        ["python", platform.python_version()],
        ["torch", torch.__version__],
    ]
    return [*outcome.experiment.notes, Table("Settings and versions", ["", ""], facts)]

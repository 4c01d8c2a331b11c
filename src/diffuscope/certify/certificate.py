"""Certificates: the findings on a sampler or a likelihood, as a page and as JSON."""

import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import scipy
import torch

from diffuscope.files import write_json
from diffuscope.findings import Chart, Finding, Panel, cards, line
from diffuscope.findings.numbers import typeset
from diffuscope.report import Block, Page, Section, Table, write_page

from .convergence import STRONG_TOLERANCE, WEAK_TOLERANCE
from .order import STEPS
from .problems import oracle_problems
from .target import Target

WORDS = {"good": "passes", "alarm": "FAILS", "attention": "note", "unknown": "undecided", "neutral": "informational"}
Errors = dict[str, list[tuple[int, int, float]]]


class Certified:
    """The base of both certificates: saved to a folder, or shown in a notebook."""

    findings: tuple[Finding, ...]

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that failed."""
        return tuple(finding for finding in self.findings if finding.tone == "alarm")

    @property
    def passed(self) -> bool:
        """Something was measured, and nothing failed."""
        raise NotImplementedError

    def page(self) -> Page:
        """The certificate as a page; `report.write_page` makes it a file."""
        raise NotImplementedError

    def as_json(self) -> dict[str, object]:
        """Plain JSON types."""
        raise NotImplementedError

    def save(self, folder: str | Path) -> Path:
        """Write certificate.html and certificate.json, each whole or not at all; the path of the page.

        Raises InputError if the folder cannot be written.
        """
        path = write_page(self.page(), Path(folder) / "certificate.html")
        write_json(self.as_json(), path.with_suffix(".json"))
        return path

    def _repr_html_(self) -> str:
        return cards([*self.page().verdicts, *self.failures])


@dataclass(frozen=True)
class Certificate(Certified):
    """The findings on one sampler, and its error against the number of function evaluations on every problem.

    `errors` maps the name of a problem to rows (steps, NFE, error): of the endpoints relative to the data's scale, or
    for a stochastic target of mean and covariance on Gaussian data relative to the spread.
    """

    target: Target
    findings: tuple[Finding, ...]
    errors: Errors

    @property
    def passed(self) -> bool:
        """Nothing failed, and its order or the distribution of its samples was measured."""
        measured = [finding.name for finding in self.findings if finding.tone != "attention"]
        return any(name.startswith(("order", "weak_order", "law")) for name in measured) and not self.failures

    def page(self) -> Page:
        """The verdict, every question, error against NFE, and the method."""
        target, good = self.target, sum(finding.tone == "good" for finding in self.findings)
        passed = f"{good} of {len(self.findings)} requirements are met, none failed"
        kind = "stochastic" if target.stochastic else "deterministic"
        declared = "no declared order" if target.order is None else f"declared order {target.order}"
        power = (
            f"An order too low by more than {STRONG_TOLERANCE} (weak order: {WEAK_TOLERANCE}) between {STEPS[0]} and "
            f"{STEPS[-1]} steps fails; a fault that changes neither order, distribution, last step nor cost does not."
        )
        verdict = _verdict(target.name, "Is the sampler right?", self, passed, power)
        return Page(
            f"Certificate of {target.name}",
            f"a {kind} sampler, {declared}",
            _headline(target.name, self),
            [verdict],
            [_questions(self), self._errors()],
            _method(target),
        )

    def as_json(self) -> dict[str, object]:
        """Plain JSON types: the declared properties, every finding, and every number of every figure."""
        return {
            "target": self.target.name,
            "declared": {
                "order": self.target.order,
                "stochastic": self.target.stochastic,
                "nfe_per_step": self.target.nfe_per_step,
                "schedules": [type(schedule).__name__ for schedule in self.target.schedules],
            },
            "passed": self.passed,
            "findings": [finding.as_json() for finding in self.findings],
            "errors": {name: [list(row) for row in rows] for name, rows in self.errors.items()},
            "charts": [asdict(chart) for chart in self._charts()],
        }

    def _errors(self) -> Section:
        answer = (
            "The exact error of mean and covariance on Gaussian data, relative to the spread of the data."
            if self.target.stochastic
            else "Distance of the endpoints from the exact ones, relative to the scale of the data."
        )
        rows = [[name, *row] for name, table in self.errors.items() for row in table]
        table = Table("Error by number of steps", ["problem", "steps", "NFE", "error"], rows, folded=len(rows) > 10)
        return Section("errors", "How large is the error?", answer, [*self._charts(), table] if rows else [])

    def _charts(self) -> list[Chart]:
        """The error against NFE, with the declared slope through the first point of the first problem."""
        if not self.errors:
            return []
        marks = [line([row[1] for row in table], [row[2] for row in table], n) for n, table in self.errors.items()]
        order, first = self.target.order, next(iter(self.errors.values()))
        x_range = None
        if order and len(first) > 1:
            steps, nfe, error = zip(*first, strict=True)
            slope = [error[0] * (steps[0] / n) ** order for n in steps]
            marks.append(line(nfe, slope, f"order {order}", style="dotted"))
            x_range = nfe[0] * 0.9, nfe[-1] * 1.1
        panel = Panel("", "number of function evaluations (NFE)", "error", tuple(marks), True, True, x_range)
        how = "Lower is better. With the declared order, the error is parallel to the dotted line once steps are small."
        return [Chart("Error against NFE", (panel,), how)]


@dataclass(frozen=True)
class LikelihoodCertificate(Certified):
    """The findings of `certify_likelihood` on the likelihood called `name`."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Something was compared, and nothing failed."""
        return bool(self.findings) and not self.failures

    def page(self) -> Page:
        """The verdict, every comparison, and the versions."""
        power = "A log-density whose error exceeds the tolerance on any of the densities below fails."
        passed = f"{len(self.findings)} comparisons agree"
        verdict = _verdict(self.name, "Is the likelihood right?", self, passed, power)
        facts = Table("Inputs and versions", ["", ""], [["target", self.name], *_versions()])
        method = "Log-densities are compared with closed forms, in nats, on Gaussians and Gaussian mixtures."
        title, subtitle = f"Certificate of {self.name}", "a likelihood, compared with exact log-densities"
        return Page(title, subtitle, _headline(self.name, self), [verdict], [_questions(self)], [method, facts])

    def as_json(self) -> dict[str, object]:
        """Plain JSON types: every finding."""
        findings = [finding.as_json() for finding in self.findings]
        return {"target": self.name, "passed": self.passed, "findings": findings}


def _headline(name: str, found: Certified) -> str:
    failed, total = len(found.failures), len(found.findings)
    if failed:
        return f"{name} fails {failed} of {total} requirements."
    if not found.passed:
        return f"{name} cannot be certified: too little of it could be measured."
    return f"{name} passes: none of {total} requirements failed."


def _verdict(name: str, title: str, found: Certified, passed: str, power: str) -> Finding:
    """The number of failures, and the first of them."""
    failures = found.failures
    verdict = f"{name}: {passed}." if found.passed else _headline(name, found)
    if failures:
        verdict = typeset(f"{failures[0].title}: {failures[0].verdict}")
        verdict += f" {len(failures) - 1} more failed; see below." if len(failures) > 1 else ""
    return Finding(
        name="certificate",
        title=title,
        value=float(len(failures)),
        unit="failures",
        verdict=verdict,
        tone="alarm" if failures else "good" if found.passed else "attention",
        null="A correct target fails nothing.",
        power=power,
    )


def _questions(found: Certified) -> Section:
    rows = [[finding.title, WORDS[finding.tone], typeset(finding.verdict)] for finding in found.findings]
    table = Table("Every requirement", ["requirement", "verdict", "measured"], rows)
    answer = f"{len(found.failures)} of {len(rows)} requirements failed."
    return Section("questions", "Which requirements are met?", answer, [table])


def _method(target: Target) -> list[Block]:
    facts = [
        ["target", target.name],
        ["declared order", "none" if target.order is None else str(target.order)],
        ["declared NFE per step", "varies" if target.nfe_per_step is None else str(target.nfe_per_step)],
        ["schedules", ", ".join(repr(schedule) for schedule in target.schedules)[:300]],
        ["numbers of steps for the order", ", ".join(map(str, STEPS))],
        *_versions(),
    ]
    problems = [[problem.name, problem.title, problem.high, problem.low] for problem in oracle_problems()]
    return [
        "Deterministic samplers start from fixed points of the noised distribution and are compared with the exact "
        "probability-flow map: in closed form for the Gaussian, and otherwise by an explicit Runge-Kutta method of "
        "order 8 at a relative tolerance of 10⁻¹². The order p is fitted to log(error) = c − p log n + a/n over a "
        "decade of numbers of steps n, equally spaced in log-SNR.",
        "Stochastic samplers: on Gaussian data the endpoint is an affine function of the start and of every random "
        "draw. Unit vectors in place of the draws give mean and covariance of the endpoint without Monte Carlo. On the "
        "mixture, means, second moments, component weights and widths are estimated from samples.",
        Table("Oracle problems", ["name", "data", "from noise", "to noise"], problems),
        Table("Inputs and versions", ["", ""], facts),
    ]


def _versions() -> list[list[str]]:
    return [["python", platform.python_version()], ["torch", torch.__version__], ["scipy", scipy.__version__]]

"""What every certificate has in common: three verdicts, a page, and JSON."""

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import scipy
import torch

from diffuscope.files import write_json
from diffuscope.findings import Finding, Tone, cards
from diffuscope.findings.numbers import typeset
from diffuscope.report import Page, Section, Table, write_page

Verdict = Literal["passes", "fails", "undecided"]
WORDS: dict[Tone, str] = {
    "good": "passes",
    "alarm": "FAILS",
    "attention": "note",
    "unknown": "undecided",
    "neutral": "informational",
}
VERDICT_TONES: dict[Verdict, Tone] = {"passes": "good", "fails": "alarm", "undecided": "unknown"}


class Certified:
    """The base of the certificates: a verdict, saved to a folder, or shown in a notebook.

    >>> from diffuscope.certify import Certified, certify_flow_map, unequal_gaussian
    >>> def lazy(denoiser, x_t, t, s):
    ...     return x_t  # right from t to t only
    >>> found = certify_flow_map(lazy, problems=[unequal_gaussian()])
    >>> isinstance(found, Certified), found.verdict, "map.identity" in [each.name for each in found.failures]
    (True, 'fails', False)
    """

    findings: tuple[Finding, ...]

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that failed."""
        return tuple(finding for finding in self.findings if finding.tone == "alarm")

    @property
    def undecided(self) -> tuple[Finding, ...]:
        """The findings that could not be decided; each says what would decide it."""
        return tuple(finding for finding in self.findings if finding.tone == "unknown")

    @property
    def met(self) -> tuple[Finding, ...]:
        """The findings that are good."""
        return tuple(finding for finding in self.findings if finding.tone == "good")

    @property
    def others(self) -> tuple[Finding, ...]:
        """The findings that neither are met nor failed nor are undecided: notes, and what was not asked."""
        return tuple(finding for finding in self.findings if finding.tone in ("attention", "neutral"))

    @property
    def sufficient(self) -> bool:
        """Whether enough was measured for a pass."""
        raise NotImplementedError

    @property
    def verdict(self) -> Verdict:
        """`fails` if anything failed, `undecided` if anything is, or too little was measured; else `passes`."""
        if self.failures:
            return "fails"
        return "undecided" if self.undecided or not self.sufficient else "passes"

    @property
    def passed(self) -> bool:
        """The verdict is `passes`."""
        return self.verdict == "passes"

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
        return cards([*self.page().verdicts, *self.failures, *self.undecided])


def reason(name: str, found: Certified) -> str:
    """Why the verdict is what it is, in one line: the first failure or open question, and how many more there are."""
    for first, *others in filter(None, (found.failures, found.undecided)):
        return f"{first.title}: {first.verdict}" + (f" ({len(others)} more)" if others else "")
    return f"{name} cannot be certified: too little of it could be measured."


def headline(name: str, found: Certified) -> str:
    """The verdict in one sentence."""
    failed, undecided, total = len(found.failures), len(found.undecided), len(found.findings)
    if failed:
        return f"{name} fails {failed} of {total} requirements."
    if undecided:
        return f"{name} is undecided in {undecided} of {total} requirements, and fails none."
    if not found.passed:
        return reason(name, found)
    return f"{name} passes: none of {total} requirements failed."


def verdict_card(name: str, title: str, found: Certified, power: str) -> Finding:
    """The number of failures, and the first of them; of a pass, what is not met by name. `power`: what would fail."""
    passed = f"{name}: {len(found.met)} of {len(found.findings)} requirements are met, none failed."
    if found.others:
        named = ", ".join(f"{finding.title} ({WORDS[finding.tone]})" for finding in found.others)
        passed += f" Neither met nor failed: {named}."
    return Finding(
        name="certificate",
        title=title,
        value=float(len(found.failures)),
        unit="failures",
        verdict=passed if found.passed else typeset(reason(name, found)),
        tone=VERDICT_TONES[found.verdict],
        null="A correct target fails nothing.",
        power=power,
    )


def requirements(found: Certified) -> Section:
    """Every requirement with its verdict and what was measured; before them those that neither are met nor failed."""
    header = ["requirement", "verdict", "measured"]
    failed, total = len(found.failures), len(found.findings)
    answer = f"{len(found.met)} of {total} requirements are met, {failed} failed."
    if found.undecided:
        answer += f" {len(found.undecided)} could not be decided."
    tables = [Table("Every requirement", header, _rows(found.findings))]
    if found.others:
        answer += f" {len(found.others)} neither are met nor failed: notes, and what is not asked of this target."
        tables.insert(0, Table("Neither met nor failed", header, _rows(found.others)))
    return Section("questions", "Which requirements are met?", answer, tables)


def _rows(findings: Sequence[Finding]) -> list[Sequence[str]]:
    return [[finding.title, WORDS[finding.tone], typeset(finding.verdict)] for finding in findings]


def verdict_json(found: Certified) -> dict[str, object]:
    """The verdict and every finding, as plain JSON types."""
    return {
        "verdict": found.verdict,
        "passed": found.passed,
        "findings": [finding.as_json() for finding in found.findings],
    }


def versions() -> list[list[str]]:
    """Rows of a table: Python, torch and SciPy."""
    return [["python", platform.python_version()], ["torch", torch.__version__], ["scipy", scipy.__version__]]

"""Failures that are known: told, and not counted, until they are mended."""

from collections.abc import Sequence
from dataclasses import replace

from diffuscope.errors import InputError
from diffuscope.findings import Finding


def require_known(known: Sequence[str], names: Sequence[str]) -> None:
    """Raises InputError for a name in `known` that is none of the questions' `names`."""
    if unknown := sorted(set(known) - set(names)):
        raise InputError(f"known: no question is called {', '.join(map(repr, unknown))}; expected {', '.join(names)}")


def with_known(findings: Sequence[Finding], known: Sequence[str]) -> tuple[Finding, ...]:
    """`findings` whose failures in the questions named by `known` are notes; one of these that passes says so."""
    return tuple(_as_known(finding) if finding.name in known else finding for finding in findings)


def _as_known(finding: Finding) -> Finding:
    if finding.tone in ("alarm", "unknown"):
        return replace(finding, tone="attention", verdict=f"Known to fail: {finding.verdict}")
    if finding.tone == "good":
        verdict = f"Known to fail, but it passes now; take it off the list. {finding.verdict}"
        return replace(finding, tone="attention", verdict=verdict)
    return finding

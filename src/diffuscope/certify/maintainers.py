"""Certificates in a test suite: an AssertionError with the certificate's lines, and JUnit's XML for a CI's report."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from diffuscope.errors import InputError
from diffuscope.files import replace_atomically

from .certified import Certified, reason
from .likelihood import LogDensity, certify_likelihood
from .likelihood_certificate import LikelihoodCertificate
from .sampler_questions import SECONDS, certify_sampler
from .target import called


def check_sampler(sampler: object, *, known: Sequence[str] = (), seconds: float = SECONDS) -> None:
    """AssertionError, with one line per failed or undecided requirement, unless the certificate passes.

    `sampler` is what `certify_sampler` takes; `known` names questions whose failure is known.

    >>> from diffuscope.certify import check_sampler
    >>> def forgets(denoiser, x_start, times, generator):
    ...     x_start = x_start / 2
    >>> try:
    ...     check_sampler(forgets)
    ... except AssertionError as error:
    ...     print(str(error).splitlines()[-1])
    runs: it returns a NoneType; expected the state at times[-1], a tensor
    """
    certificate = certify_sampler(sampler, known=known, seconds=seconds)
    require(certificate, certificate.target.name)


def check_likelihood(log_density: LogDensity) -> None:
    """AssertionError, with one line per failed or undecided comparison, unless the likelihood's certificate passes.

    >>> from diffuscope.certify import check_likelihood
    >>> def per_coordinate(denoiser, x_t, t, generator):
    ...     return -(x_t**2) / 2
    >>> try:
    ...     check_likelihood(per_coordinate)
    ... except AssertionError as error:
    ...     print(str(error))
    per_coordinate fails
    likelihood.runs: Expected one value per sample, got shape (..., 2) for ... samples...
    """
    name = called(log_density)
    require(LikelihoodCertificate(name, certify_likelihood(log_density)), name)


def require(certificate: Certified, name: str) -> None:
    """AssertionError unless the certificate passes."""
    if certificate.passed:
        return
    found = certificate.failures or certificate.undecided
    lines = [f"{finding.name}: {finding.verdict}" for finding in found] or [reason(name, certificate)]
    word = "fails" if certificate.failures else "is undecided"
    raise AssertionError("\n".join([f"{name} {word}", *lines]))


def write_junit(certificate: Certified, name: str, path: str | Path) -> Path:
    """Write the findings as a JUnit test suite: a failure for each failed one, an error for each undecided one.

    Raises InputError if the file cannot be written.

    >>> import tempfile
    >>> import xml.etree.ElementTree as ET
    >>> from diffuscope.certify import certify_sampler, write_junit
    >>> found = certify_sampler(lambda denoiser, x_start, times, generator: None)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     suite = ET.parse(write_junit(found, "mine", f"{folder}/junit.xml")).getroot()
    >>> suite.get("tests"), suite.get("failures"), suite.get("errors")
    ('1', '1', '0')
    """
    findings = certificate.findings
    suite = ET.Element(
        "testsuite",
        name=_printable(f"diffuscope certify {name}"),
        tests=str(len(findings)),
        failures=str(len(certificate.failures)),
        errors=str(len(certificate.undecided)),
    )
    for finding in findings:
        case = ET.SubElement(suite, "testcase", classname=_printable(name), name=_printable(finding.name))
        kind = {"alarm": "failure", "unknown": "error"}.get(finding.tone)
        said = ET.SubElement(case, kind or "system-out")
        if kind:
            said.set("message", _printable(finding.verdict))
        said.text = _printable(f"{finding.title}: {finding.verdict}")
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(path, ET.tostring(suite, encoding="utf-8", xml_declaration=True))
    except OSError as error:
        raise InputError(f"junit: {path} cannot be written: {error.strerror}") from error
    return path


def _printable(text: str) -> str:
    """`text` without the characters that XML does not have."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)

"""Certify a sampler or a likelihood."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from tqdm import tqdm

from diffuscope.adapters import known_targets, load_target
from diffuscope.certify import certificate_page, certify, certify_likelihood, likelihood_problems, questions
from diffuscope.errors import InputError
from diffuscope.files import load_object, write_json
from diffuscope.findings import Finding
from diffuscope.report import write_page

from .options import require_folder

MARKS = {"good": "ok  ", "alarm": "FAIL", "attention": "note", "neutral": "    "}


@dataclass(frozen=True)
class Certify:
    """Certify a sampler against exact diffusions: its order, its law, its last step, its randomness.

    Prints one line per question, writes certificate.html and certificate.json to --out, and exits with 1 if anything
    fails.
    """

    target: tyro.conf.Positional[str]
    """diffuscope:NAME, azula:NAME, diffusers:NAME, k_diffusion:NAME (options as NAME?order=3), module:callable; or
    'list' for the names that are installed."""
    likelihood: bool = False
    """The target is a likelihood, module:callable(denoiser, x_t, t, generator): log p_t(x_t) in nats."""
    out: Path = Path("out/certificate")
    """Folder for the certificate."""

    def run(self) -> None:
        """Ask, print, write; exit code 1 on a failure."""
        if self.target == "list":
            for library, names in known_targets().items():
                print(f"{library}:", *names, sep="\n  ")
            return
        if self.likelihood:
            self._likelihood()
            return
        target = load_target(self.target)
        require_folder(self.out)
        with tqdm(total=len(list(questions(target))) + 1, desc="certifying", unit="question", leave=False) as bar:

            def advance(title: str) -> None:
                bar.update()
                bar.set_postfix_str(title)

            certificate = certify(target, advance=advance)
        print_findings(certificate.findings)
        page = write_page(certificate_page(certificate), self.out / "certificate.html")
        write_json(certificate.as_json(), self.out / "certificate.json")
        print(f"Certificate: {page}")
        if not certificate.passed:
            names = ", ".join(finding.name for finding in certificate.failures)
            print(f"{target.name} fails: {names}", file=sys.stderr)
            sys.exit(1)

    def _likelihood(self) -> None:
        log_density = load_object(self.target, "target")
        if not callable(log_density):
            raise InputError(
                f"target: expected callable(denoiser, x_t, t, generator), got a {type(log_density).__name__}"
            )
        require_folder(self.out)
        print(f"comparing on {len(likelihood_problems())} exact densities")
        findings = certify_likelihood(log_density)  # pyright: ignore[reportArgumentType]
        print_findings(findings)
        found = {"target": self.target, "findings": [finding.as_json() for finding in findings]}
        write_json(found, self.out / "certificate.json")
        if any(finding.tone == "alarm" for finding in findings):
            print(f"{self.target} fails", file=sys.stderr)
            sys.exit(1)


def print_findings(findings: tuple[Finding, ...]) -> None:
    """One line per question."""
    for finding in findings:
        print(f"{MARKS[finding.tone]} {finding.title}: {finding.verdict}")

"""Certify a sampler or a likelihood."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from diffuscope.adapters import known_targets, load_target
from diffuscope.certify import (
    Certificate,
    LikelihoodCertificate,
    certify_likelihood,
    certify_sampler,
    likelihood_problems,
    questions,
)
from diffuscope.errors import InputError
from diffuscope.files import load_object
from diffuscope.progress import progress_bar

from .options import writing

EXIT_CODES = {"passes": 0, "fails": 1, "undecided": 3}
MARKS = {"good": "ok  ", "alarm": "FAIL", "attention": "note", "unknown": "??? ", "neutral": "    "}


@dataclass(frozen=True)
class Certify:
    """Certify a sampler against exact diffusions: its order, its distribution, its last step, its randomness.

    Prints one line per question, writes certificate.html and certificate.json to --out, and exits with 0 if it passes,
    1 if it fails and 3 if that cannot be decided.
    """

    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TARGET")]
    """diffuscope:NAME, azula:NAME, diffusers:NAME, k_diffusion:NAME (options: NAME?order=3) or module:callable; the
    word list prints all installed names."""
    likelihood: bool = False
    """Certify a likelihood: module:callable(denoiser, x_t, t, generator) that returns log p_t(x_t) in nats."""
    out: Path = Path("out/certificate")
    """Folder for the certificate."""

    def run(self) -> None:
        """Certify, print, write; exit code 1 on a failure."""
        if self.target == "list":
            for library, names in known_targets().items():
                print(f"{library}:", *names, sep="\n  ")
            return
        certify = self._likelihood if self.likelihood else self._sampler
        with writing(self.out, "certificate.html", "certificate.json"):
            self._report(certify())

    def _report(self, certificate: Certificate | LikelihoodCertificate) -> None:
        for finding in certificate.findings:
            print(f"{MARKS[finding.tone]} {finding.title}: {finding.verdict}")
        print(f"Certificate: {certificate.save(self.out)}")
        if not certificate.passed:
            named = ", ".join(finding.name for finding in certificate.failures or certificate.undecided)
            word = "fails" if certificate.failures else "is undecided"
            print(f"{self.target} {word}: {named or 'too little could be measured'}", file=sys.stderr)
            sys.exit(EXIT_CODES[certificate.verdict])

    def _sampler(self) -> Certificate:
        target = load_target(self.target)
        with progress_bar(
            total=len(list(questions(target))) + 1, desc="certifying", unit="question", leave=False
        ) as bar:

            def advance(title: str) -> None:
                bar.update()
                bar.set_postfix_str(title)

            return certify_sampler(target, advance=advance)

    def _likelihood(self) -> LikelihoodCertificate:
        log_density = load_object(self.target, "target")
        if not callable(log_density):
            kind = type(log_density).__name__
            raise InputError(f"target: expected callable(denoiser, x_t, t, generator), got a {kind}")
        print(f"comparing on {len(likelihood_problems())} exact densities")
        return LikelihoodCertificate(self.target, certify_likelihood(log_density))  # pyright: ignore[reportArgumentType]

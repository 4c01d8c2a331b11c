"""Certify a sampler, a likelihood, guidance or a flow map."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from diffuscope.adapters import known_targets, load_shipped, load_target
from diffuscope.certify import (
    Certificate,
    Certified,
    LikelihoodCertificate,
    certify_as_shipped,
    certify_flow_map,
    certify_guidance,
    certify_likelihood,
    certify_sampler,
    likelihood_problems,
    questions,
    write_junit,
)
from diffuscope.certify.likelihood import SECONDS as LIKELIHOOD_SECONDS
from diffuscope.certify.sampler_questions import SECONDS
from diffuscope.errors import InputError
from diffuscope.files import load_object
from diffuscope.progress import progress_bar

from .options import require_writable_file, writing

EXIT_CODES = {"passes": 0, "fails": 1, "undecided": 3}
MARKS = {"good": "ok  ", "alarm": "FAIL", "attention": "note", "unknown": "??? ", "neutral": "    "}


@dataclass(frozen=True)
class Certify:
    """Certify a sampler against exact diffusions: its order, its limit, its distribution, its edges.

    Prints one line per question and the verdict, writes certificate.html and certificate.json to --out, and exits with
    0 if it passes, 1 if it fails and 3 if that cannot be decided.

    Example:
        >>> from diffuscope.cli import main
        >>> main("certify diffuscope.denoisers:Guided --guidance".split())
        ok   Guidance of scale 0: Right to ... at every level.
        ...
        ok   Guided samples: DDIM with guidance of scale 3: order 1.00 (...), as declared (1), ...
        Certificate: out/certificate/certificate.html
        diffuscope.denoisers:Guided passes: 8 of 8 requirements are met, none failed
    """

    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TARGET")]
    """diffuscope:NAME, or azula, deepinv, diffusers, flow_matching, k_diffusion, smalldiffusion or torchebm:NAME
    (options: NAME?order=3), or module:callable. The target `list` prints all installed names."""
    as_shipped: bool = False
    """Certify one of diffusers' schedulers as a pipeline drives it: with its own levels, start and timesteps."""
    likelihood: bool = False
    """Certify a likelihood: module:callable(denoiser, x_t, t, generator) that returns log p_t(x_t) in nats."""
    guidance: bool = False
    """Certify guidance: module:callable(conditional, unconditional, scale) that returns a denoiser."""
    flow_map: bool = False
    """Certify a flow map or few-step model: module:callable(denoiser, x_t, t, s) that returns the state at s < t."""
    out: Path = Path("out/certificate")
    """Folder for the certificate."""
    junit: Path | None = None
    """Also write the findings to this file, as JUnit's XML."""
    budget: float | None = None
    """CPU seconds after which open questions stay undecided; by default 60 for a sampler, 120 for a likelihood."""
    known: tuple[str, ...] = ()
    """Names, as in certificate.json, of the questions whose failure is known and does not count; for samplers."""

    def run(self) -> None:
        """Certify, print, write; exit code 1 on a failure, 3 if undecided."""
        if self.target == "list":
            for library, names in known_targets().items():
                print(f"{library}:", *names, sep="\n  ")
            return
        certify = self._chosen()
        if self.junit is not None:
            require_writable_file("junit", self.junit)
        with writing(self.out, "certificate.html", "certificate.json"):
            self._report(certify())

    def _chosen(self) -> Callable[[], Certified]:
        """What is to be certified. Raises InputError for more than one kind, and for options of another kind."""
        kinds = {
            "as_shipped": self._as_shipped,
            "likelihood": self._likelihood,
            "guidance": self._guidance,
            "flow_map": self._flow_map,
        }
        chosen = [name for name in kinds if getattr(self, name)]
        if len(chosen) > 1:
            given = " and ".join(f"--{name.replace('_', '-')}" for name in chosen)
            raise InputError(f"{chosen[0]}: expected one kind of target, got {given}")
        if self.budget is not None and not 1 <= self.budget < float("inf"):
            raise InputError(f"budget: expected at least 1 second, got {self.budget:g}")
        if chosen and self.known:
            raise InputError(f"known: belongs to samplers, got it with --{chosen[0].replace('_', '-')}")
        if self.budget is not None and chosen and chosen != ["likelihood"]:
            raise InputError(
                f"budget: belongs to samplers and likelihoods, got it with --{chosen[0].replace('_', '-')}"
            )
        return kinds[chosen[0]] if chosen else self._sampler

    def _report(self, certificate: Certified) -> None:
        for finding in certificate.findings:
            print(f"{MARKS[finding.tone]} {finding.title}: {finding.verdict}")
        print(f"Certificate: {certificate.save(self.out)}")
        if self.junit is not None:
            print(f"JUnit: {write_junit(certificate, self.target, self.junit)}")
        if certificate.passed:
            met = f"{len(certificate.met)} of {len(certificate.findings)} requirements are met, none failed"
            named = ", ".join(finding.name for finding in certificate.others)
            print(f"{self.target} passes: {met}" + (f"; neither met nor failed: {named}" if named else ""))
        else:
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

            return certify_sampler(target, seconds=self.budget or SECONDS, known=self.known, advance=advance)

    def _as_shipped(self) -> Certified:
        return certify_as_shipped(load_shipped(self.target))

    def _likelihood(self) -> Certified:
        log_density = self._callable("denoiser, x_t, t, generator")
        print(f"comparing on {len(likelihood_problems())} exact densities")
        findings = certify_likelihood(log_density, budget=self.budget or LIKELIHOOD_SECONDS)
        return LikelihoodCertificate(self.target, findings)

    def _guidance(self) -> Certified:
        return certify_guidance(self._callable("conditional, unconditional, scale"), self.target)

    def _flow_map(self) -> Certified:
        return certify_flow_map(self._callable("denoiser, x_t, t, s"), self.target)

    def _callable(self, arguments: str) -> Any:
        """The user's function. Raises InputError for anything that cannot be called."""
        found = load_object(self.target, "target")
        if not callable(found):
            raise InputError(f"target: expected callable({arguments}), got a {type(found).__name__}")
        return found

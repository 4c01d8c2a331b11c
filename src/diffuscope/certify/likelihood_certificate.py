"""The certificate of a likelihood: its findings as a page and as JSON."""

from dataclasses import dataclass

from diffuscope.findings import Finding
from diffuscope.report import Page, Table

from .certified import Certified, headline, requirements, verdict_card, verdict_json, versions


@dataclass(frozen=True)
class LikelihoodCertificate(Certified):
    """The findings of `certify_likelihood` on the likelihood called `name`."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def sufficient(self) -> bool:
        """Something was compared."""
        return bool(self.findings)

    def page(self) -> Page:
        """The verdict, every comparison, and the versions."""
        power = "A log-density whose error exceeds the tolerance on any of the densities below fails."
        verdict = verdict_card(self.name, "Is the likelihood right?", self, power)
        facts = Table("Inputs and versions", ["", ""], [["target", self.name], *versions()])
        method = "Log-densities are compared with closed forms, in nats, on Gaussians and Gaussian mixtures."
        title, subtitle = f"Certificate of {self.name}", "a likelihood, compared with exact log-densities"
        return Page(title, subtitle, headline(self.name, self), [verdict], [requirements(self)], [method, facts])

    def as_json(self) -> dict[str, object]:
        """Plain JSON types: the verdict and every finding."""
        return {"target": self.name, **verdict_json(self)}

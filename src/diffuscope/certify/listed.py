"""A certificate that is a list of findings: of guidance, and of flow maps."""

from dataclasses import dataclass

from diffuscope.findings import Finding
from diffuscope.report import Page, Table

from .certified import Certified, headline, requirements, verdict_card, verdict_json, versions


@dataclass(frozen=True)
class ListedCertificate(Certified):
    """The findings on what is called `name`, of the `kind` "guidance" or "flow map".

    `power` states what would have failed, `method` how it was measured.

    >>> from diffuscope.certify import certify_flow_map, unequal_gaussian
    >>> def exact(denoiser, x_t, t, s):
    ...     return denoiser.distribution.flow(x_t, denoiser.schedule, t, s)
    >>> found = certify_flow_map(exact, problems=[unequal_gaussian()])
    >>> found.name, found.kind, {finding.tone for finding in found.findings}
    ('exact', 'flow map', {'good'})
    """

    name: str
    kind: str
    findings: tuple[Finding, ...]
    power: str
    method: str

    @property
    def sufficient(self) -> bool:
        """Something besides a plain call was answered well."""
        return sum(finding.tone == "good" for finding in self.findings) > 1

    def page(self) -> Page:
        """The verdict, every requirement, and the versions."""
        verdict = verdict_card(self.name, f"Is the {self.kind} right?", self, self.power)
        facts = Table("Inputs and versions", ["", ""], [["target", self.name], *versions()])
        title, subtitle = f"Certificate of {self.name}", f"a {self.kind}, compared with the exact one"
        return Page(title, subtitle, headline(self.name, self), [verdict], [requirements(self)], [self.method, facts])

    def as_json(self) -> dict[str, object]:
        """Plain JSON types: the verdict and every finding."""
        return {"target": self.name, "kind": self.kind, **verdict_json(self)}

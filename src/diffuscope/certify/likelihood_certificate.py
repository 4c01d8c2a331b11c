"""The certificate of a likelihood: its findings and the errors at every level as a page, and as JSON."""

from dataclasses import dataclass

from diffuscope.findings import Finding
from diffuscope.report import Block, Page, Section, Table

from .certified import WORDS, Certified, headline, requirements, verdict_card, verdict_json, versions
from .likelihood_errors import SAMPLES
from .likelihood_finding import ComparedFinding
from .likelihood_interval import MEAN_WIDTH, SAMPLE_WIDTH


@dataclass(frozen=True)
class LikelihoodCertificate(Certified):
    """The findings of `certify_likelihood` on the likelihood called `name`.

    >>> from diffuscope import VE, certify_likelihood
    >>> from diffuscope.certify import LikelihoodCertificate
    >>> def shifted(denoiser, x_t, t, generator):  # by 0.02 nats: the densities integrate to 1.02
    ...     return denoiser.distribution.log_prob(x_t, denoiser.schedule.alpha(t), denoiser.schedule.sigma(t)) + 0.02
    >>> found = LikelihoodCertificate("shifted", certify_likelihood(shifted, schedules=[VE()]))
    >>> found.verdict, "likelihood.mass" in [finding.name for finding in found.failures]
    ('fails', True)
    """

    name: str
    findings: tuple[Finding, ...]

    @property
    def sufficient(self) -> bool:
        """Something was compared and is right."""
        return any(finding.tone == "good" for finding in self.findings if finding.name != "likelihood.runs")

    def page(self) -> Page:
        """The verdict, every question, the errors by density, schedule and level, the method, and the versions."""
        power = (
            "A deterministic log-density that is wrong by more than the tolerance at any of the samples below fails. A "
            f"random estimate whose error is above {MEAN_WIDTH}√d nats in the mean over samples, or {SAMPLE_WIDTH}√d "
            "at one of them, passes with a probability of at most 1%; smaller errors fail where its noise allows to "
            "see them. Levels between and beyond those of the table, and other densities, are not compared."
        )
        verdict = verdict_card(self.name, "Is the likelihood right?", self, power)
        title, subtitle = f"Certificate of {self.name}", "a likelihood, compared with exact log-densities"
        sections = [requirements(self), *self._errors()]
        return Page(title, subtitle, headline(self.name, self), [verdict], sections, self._method())

    def as_json(self) -> dict[str, object]:
        """Plain JSON types: the verdict and every finding, with the errors at all levels."""
        return {"target": self.name, **verdict_json(self)}

    def _errors(self) -> list[Section]:
        rows = [
            [m.density, m.schedule, m.ratio, m.error, m.standard_error or None, m.repeats, WORDS[m.tone]]
            for finding in self.findings
            if isinstance(finding, ComparedFinding)
            for m in finding.errors
        ]
        if not rows:
            return []
        header = ["density", "schedule", "sigma/alpha", "error (nats)", "standard error", "repeats", "verdict"]
        answer = (
            f"The largest error of {SAMPLES} samples where one call decides; for a random estimate the mean over "
            "samples, or the sample that fails."
        )
        table = Table("Error by density, schedule and level", header, rows)
        return [Section("errors", "How large is the error?", answer, [table])]

    def _method(self) -> list[Block]:
        return [
            "Log-densities of noised distributions are compared in nats with closed forms on Gaussians and Gaussian "
            "mixtures: all of them at one level in the first schedule, a mixture in the plane at five levels in every "
            "schedule.",
            "A random estimate is called with fresh seeds on copies of the samples. Intervals of its error are Hall's, "
            "for skewed estimates, over independent calls. It fails where one, at a nominal 3 false alarms in 10,000 "
            "certificates, excludes the tolerance, passes where those of 99% lie in the zone of tolerance, and "
            "is undecided where the budget of CPU time ends before either.",
            Table("Inputs and versions", ["", ""], [["target", self.name], *versions()]),
        ]

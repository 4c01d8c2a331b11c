"""The certificate of a sampler as its library ships it, as a page and as JSON."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from diffuscope.findings import Finding
from diffuscope.report import Page, Section, Table

from .as_shipped import Errors, Shipped, shipped_gaussian
from .as_shipped_questions import FEW, STEPS, Trial, findings, tried
from .certified import Certified, headline, requirements, verdict_card, verdict_json, versions

COLUMNS = ["steps", "error", "DDIM's error", "DDIM's, at its timesteps", "mean bias of the start", "variance bias"]


@dataclass(frozen=True)
class AsShippedCertificate(Certified):
    """The findings on a sampler with its own levels, start and timesteps, and its errors at every number of steps.

    >>> from diffuscope.certify import Shipped, certify_as_shipped
    >>> def plan(n):
    ...     raise ValueError("no betas")
    >>> found = certify_as_shipped(Shipped("mine", stochastic=False, plan=plan), steps=(20,), few=(1,))
    >>> found.verdict, found.sufficient, found.errors
    ('fails', False, ())
    """

    name: str
    stochastic: bool
    findings: tuple[Finding, ...]
    errors: tuple[Errors, ...]

    @property
    def sufficient(self) -> bool:
        """Its distribution was measured."""
        return bool(self.errors)

    def page(self) -> Page:
        """The verdict, every question, the errors by number of steps, and the method."""
        power = (
            "Levels that are wrong by more than a training step, a start of the wrong size, noise left at the end "
            "against its own last level, and errors that do not fall with DDIM's fail."
        )
        verdict = verdict_card(self.name, "Is the sampler right as shipped?", self, power)
        rows = [[e.steps, e.discretization, e.ideal, e.told, e.mean_bias, e.spread_bias] for e in self.errors]
        answer = "Exact errors of mean and covariance on a Gaussian, in units of its spread."
        table = Section("errors", "How large is the error?", answer, [Table("Error by number of steps", COLUMNS, rows)])
        kind = "stochastic" if self.stochastic else "deterministic"
        facts = Table("Inputs and versions", ["", ""], [["sampler", self.name], *versions()])
        method = (
            "The sampler runs with its own levels, start and timesteps. The network is exact and was trained on the "
            "library's table: it answers for the noise level that the timestep had in training. On Gaussian data the "
            "run is an affine map of the start and of every draw, which one run with unit vectors shows exactly."
        )
        subtitle = f"a {kind} sampler, with its library's own levels, start and timesteps"
        head = headline(self.name, self)
        return Page(f"As shipped: {self.name}", subtitle, head, [verdict], [requirements(self), table], [method, facts])

    def as_json(self) -> dict[str, object]:
        """Plain JSON types: the verdict, every finding, and the errors."""
        rows = [asdict(each) for each in self.errors]
        return {"target": self.name, "stochastic": self.stochastic, **verdict_json(self), "errors": rows}


def certify_as_shipped(
    shipped: Shipped,
    *,
    steps: Sequence[int] = STEPS,
    few: Sequence[int] = FEW,
    advance: Callable[[str], object] = lambda title: None,  # noqa: ARG005
) -> AsShippedCertificate:
    """Certify `shipped` at numbers of `steps`, and that it runs at a `few`.

    `advance` is called with a title before every number of steps and before the questions.

    >>> from diffuscope import InputError
    >>> from diffuscope.certify import Shipped, certify_as_shipped
    >>> def plan(n):
    ...     raise InputError("steps: expected less than 1 step")  # a stated limit: no fault, and nothing to pass
    >>> certify_as_shipped(Shipped("mine", stochastic=False, plan=plan), steps=(20,), few=(1,)).verdict
    'undecided'
    """
    data, trials = shipped_gaussian(), list[Trial]()
    for n in sorted({*few, *steps}):
        advance(f"{n} steps")
        trials.append(tried(shipped, n, data))
    advance("Questions")
    found = findings(shipped, trials)
    errors = tuple(trial.errors for trial in trials if trial.errors)
    return AsShippedCertificate(shipped.name, shipped.stochastic, found, errors)

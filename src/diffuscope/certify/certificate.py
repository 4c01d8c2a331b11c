"""The certificate of a sampler: its findings, and its error against the number of function evaluations."""

from dataclasses import asdict, dataclass

from diffuscope.findings import Chart, Finding, Panel, line
from diffuscope.report import Block, Page, Section, Table

from .certified import Certified, headline, requirements, verdict_card, verdict_json, versions
from .convergence import STRONG_TOLERANCE, WEAK_TOLERANCE
from .limit import RESOLUTION
from .order import STEPS
from .problems import oracle_problems
from .target import Target

Errors = dict[str, list[tuple[int, int, float]]]


@dataclass(frozen=True)
class Certificate(Certified):
    """The findings on one sampler, and its error against the number of function evaluations on every problem.

    `errors` maps the name of a problem to rows (steps, NFE, error): of the endpoints relative to the data's scale, or
    for a stochastic target of mean and covariance on Gaussian data relative to the spread.

    >>> from diffuscope.certify import certify_sampler
    >>> def forgets(denoiser, x_start, times, generator):
    ...     x_start = x_start / 2
    >>> found = certify_sampler(forgets)
    >>> found.verdict, found.failures[0].name, found.failures[0].verdict
    ('fails', 'runs', 'it returns a NoneType; expected the state at times[-1], a tensor')
    """

    target: Target
    findings: tuple[Finding, ...]
    errors: Errors
    known: tuple[str, ...] = ()  # the questions whose failure does not count

    @property
    def sufficient(self) -> bool:
        """Its order or the distribution of its samples was measured, or is known to fail."""
        measured = [each.name for each in self.findings if each.tone == "good" or each.name in self.known]
        return any(name.startswith(("order", "weak_order", "distribution")) for name in measured)

    def page(self) -> Page:
        """The verdict, every question, error against NFE, and the method."""
        target = self.target
        kind = "stochastic" if target.stochastic else "deterministic"
        declared = "no declared order" if target.order is None else f"declared order {target.order}"
        power = (
            f"A limit that is off by more than {RESOLUTION:.0%} of the data's scale does not pass, declared or not, "
            f"nor does an order too low by more than {STRONG_TOLERANCE} (weak order: {WEAK_TOLERANCE}). An error that "
            "is larger than that of a reference, and vanishes, is a note."
        )
        verdict = verdict_card(target.name, "Is the sampler right?", self, power)
        return Page(
            f"Certificate of {target.name}",
            f"a {kind} sampler, {declared}",
            headline(target.name, self),
            [verdict],
            [requirements(self), self._errors()],
            _method(target),
        )

    def as_json(self) -> dict[str, object]:
        """Plain JSON types: the declared properties, every finding, and every number of every figure."""
        return {
            "target": self.target.name,
            "declared": {
                "order": self.target.order,
                "stochastic": self.target.stochastic,
                "nfe_per_step": self.target.nfe_per_step,
                "schedules": [type(schedule).__name__ for schedule in self.target.schedules],
            },
            **verdict_json(self),
            "errors": {name: [list(row) for row in rows] for name, rows in self.errors.items()},
            "charts": [asdict(chart) for chart in self._charts()],
        }

    def _errors(self) -> Section:
        answer = (
            "The exact error of mean and covariance on Gaussian data, relative to the spread of the data."
            if self.target.stochastic
            else "Distance of the endpoints from the exact ones, relative to the scale of the data."
        )
        rows = [[name, *row] for name, table in self.errors.items() for row in table]
        table = Table("Error by number of steps", ["problem", "steps", "NFE", "error"], rows, folded=len(rows) > 10)
        return Section("errors", "How large is the error?", answer, [*self._charts(), table] if rows else [])

    def _charts(self) -> list[Chart]:
        """The error against NFE, with the declared slope through the first point of the first problem."""
        if not self.errors:
            return []
        marks = [line([row[1] for row in table], [row[2] for row in table], n) for n, table in self.errors.items()]
        order, first = self.target.order, next(iter(self.errors.values()))
        x_range = None
        if order and len(first) > 1:
            steps, nfe, error = zip(*first, strict=True)
            slope = [error[0] * (steps[0] / n) ** order for n in steps]
            marks.append(line(nfe, slope, f"order {order}", style="dotted"))
            x_range = nfe[0] * 0.9, nfe[-1] * 1.1
        panel = Panel("", "number of function evaluations (NFE)", "error", tuple(marks), True, True, x_range)
        how = "Lower is better. With the declared order, the error is parallel to the dotted line once steps are small."
        return [Chart("Error against NFE", (panel,), how)]


def _method(target: Target) -> list[Block]:
    facts = [
        ["target", target.name],
        ["declared order", "none" if target.order is None else str(target.order)],
        ["declared NFE per step", "varies" if target.nfe_per_step is None else str(target.nfe_per_step)],
        ["schedules", ", ".join(repr(schedule) for schedule in target.schedules)[:300]],
        ["numbers of steps for the order", ", ".join(map(str, STEPS))],
        *versions(),
    ]
    problems = [[problem.name, problem.title, problem.high, problem.low] for problem in oracle_problems()]
    return [
        "Deterministic samplers start from fixed points of the noised distribution and are compared with the exact "
        "probability-flow map: in closed form for the Gaussian, and otherwise by an explicit Runge-Kutta method of "
        "order 8 at a relative tolerance of 10⁻¹². The order p is fitted to log(error) = c − p log n + a/n over a "
        "decade of numbers of steps n, equally spaced in log-SNR. The limit L is fitted to the errors of all "
        "coordinates, L + c₁/n + c₂/n² + c₃/n³; its uncertainty is the change without the last power or the coarsest "
        "grid. Up to 1,000 steps are taken where order or limit are not decided.",
        "Stochastic samplers: on Gaussian data the endpoint is an affine function of the start and of every random "
        "draw. Unit vectors in place of the draws give mean and covariance of the endpoint without Monte Carlo. On the "
        "mixture, means, second moments, component weights and widths are estimated from samples.",
        Table("Oracle problems", ["name", "data", "from noise", "to noise"], problems),
        Table("Inputs and versions", ["", ""], facts),
    ]

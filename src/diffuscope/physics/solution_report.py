"""A solution in words, as charts, as a page, as JSON and as arrays."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from diffuscope.files import replace_atomically, save_arrays, write_json
from diffuscope.findings import Chart, Finding
from diffuscope.report import Page, Section, Table, charts_png, write_page

from .sensors import axis_names, box
from .solution import Solution
from .solution_charts import calibration_chart, fit_chart, labeled, maps, unit_of
from .solution_moments import LEVEL
from .solution_verdicts import SolutionVerdicts

SHOWN = 12  # readings in the table before it folds


@dataclass(frozen=True, eq=False)
class SolutionReport:
    """The solution in words and pictures; `save` writes solution.npz, solution.json, solution.png and report.html.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import PROBLEMS, Prior, Sensors, SolutionReport, solve_inverse
    >>> at, of, value, r = torch.tensor([[0.25]]).double(), torch.tensor([1]), torch.tensor([7.0]), torch.tensor([0.5])
    >>> prior = Prior(name="white", words="white noise", distribution=Gaussian.isotropic(torch.zeros(2, 5), 3.0))
    >>> readings = Sensors(points=at, channels=of, values=value, noise=r)
    >>> print(*SolutionReport(solve_inverse(PROBLEMS["poisson-1d"](nodes=5), readings, prior)).lines()[:3], sep="\\n")
    Problem: poisson-1d, Poisson's equation on an interval, 5 nodes
    Readings: 1 of the solution, noise 0.5, given
    Prior: white noise
    """

    found: Solution

    @cached_property
    def verdicts(self) -> SolutionVerdicts:
        """Its findings in words."""
        return SolutionVerdicts(self.found)

    @property
    def findings(self) -> list[Finding]:
        """What was inferred, whether data and prior agree, calibration, and the equation."""
        return self.verdicts.findings

    @property
    def headline(self) -> str:
        """One sentence."""
        return self.verdicts.headline

    def lines(self) -> list[str]:
        """What was inferred and whether it may be believed, line by line."""
        found = self.found
        grid = found.problem.equation.grid
        nodes = " x ".join(map(str, grid.shape))
        return [
            f"Problem: {found.problem.name}, {found.problem.title}, {nodes} nodes",
            f"Readings: {self._readings()}",
            f"Prior: {found.prior.words}",
            *[f"{finding.title}: {_plain(finding.verdict)}" for finding in self.findings],
        ]

    def charts(self) -> tuple[Chart, ...]:
        """The maps, calibration, and the fit of the readings."""
        more = (calibration_chart(self.found), fit_chart(self.found))
        return (*maps(self.found), *[chart for chart in more if chart is not None])

    def page(self) -> Page:
        """Verdicts, the fields, the readings, calibration, the equation and the method."""
        found = self.found
        inferred, agreement, calibration, equation = self.findings
        fit, calibrated = fit_chart(found), calibration_chart(found)
        sections = [
            Section("fields", "Which fields are left?", inferred.verdict, [*maps(found), *self._graded()]),
            Section(
                "readings", "What was read, and does it fit?", agreement.verdict,
                [self._columns(), *([fit] if fit else []), self._table()],
            ),
            Section("calibration", "Are the intervals right?", calibration.verdict, [calibrated] if calibrated else []),
            Section("equation", "Do the samples solve the equation?", equation.verdict, [self._residuals()]),
        ]  # fmt: skip
        tones = {finding.tone for finding in self.findings}
        tone = (
            "unknown" if not found.has_intervals else "alarm" if "alarm" in tones
            else "attention" if "attention" in tones else "unknown" if "unknown" in tones else "good"
        )  # fmt: skip
        return Page(
            f"{found.problem.title}: fields from {len(found.sensors)} readings", found.prior.words, self.headline,
            self.findings, sections, [METHOD, found.prior.words, *found.notes], tone=tone,
        )  # fmt: skip

    def _readings(self) -> str:
        sensors, channels = self.found.sensors, self.found.problem.channels
        parts = [
            f"{int((sensors.channels == k).sum())} of the {name}"
            for k, name in enumerate(channels)
            if bool((sensors.channels == k).any())
        ]
        low, high = float(sensors.noise.min()), float(sensors.noise.max())
        noise = "exact" if high == 0 else f"noise {low:.3g}" + (f" to {high:.3g}" if high > low else "")
        return f"{' and '.join(parts)}, {noise}, {sensors.origin}"

    def _columns(self) -> Table:
        found = self.found
        names, ends = axis_names(found.problem), box(found.problem)
        sensors, rows = found.sensors, []
        for k, name in enumerate(names):
            x = sensors.points[:, k]
            rows.append(
                [name, unit_of(found, name), f"{ends[k][0]:g} to {ends[k][1]:g}", float(x.min()), float(x.max())]
            )
        for k, name in enumerate(found.problem.channels):
            v = sensors.values[sensors.channels == k]
            if len(v):
                rows.append([name, unit_of(found, name), "", float(v.min()), float(v.max())])
        rows.append(
            ["noise", unit_of(found, "noise"), "0 or more", float(sensors.noise.min()), float(sensors.noise.max())]
        )
        return Table(
            "Columns", ["column", "unit", "domain", "least", "largest"], rows,
            f"Read from {sensors.origin}. Between nodes a reading is the linear interpolation of the nodes around it.",
        )  # fmt: skip

    def _table(self) -> Table:
        found = self.found
        sensors, names = found.sensors, axis_names(found.problem)
        matrix = sensors.matrix(found.problem)
        mean = found.samples.flatten(1).mean(0) if found.moments is None else found.moments.mean.flatten()
        inferred = matrix @ mean
        rows = [
            [
                str(sensors.rows[i] if sensors.rows else i + 1), *sensors.points[i].tolist(),
                found.problem.channels[int(sensors.channels[i])], float(sensors.values[i]), float(sensors.noise[i]),
                float(inferred[i]),
            ]
            for i in range(len(sensors))
        ]  # fmt: skip
        head = ["row", *[labeled(found, name) for name in names], "channel", "value", "noise", "inferred"]
        return Table("Readings", head, rows, folded=len(rows) > SHOWN)

    def _residuals(self) -> Table:
        found = self.found
        rows = [
            ["largest residual over |A| |u|", float(found.residual.nan_to_num(0.0).max())],
            ["samples checked", len(found.residual)],
            ["samples where the equation is not defined", int(found.residual.isnan().sum())],
            ["misfit of the samples, in standard deviations", float(found.misfit.mean())],
        ]
        return Table("Certificate", ["", ""], rows)

    def _graded(self) -> list[Table]:
        """Against the truth of an example."""
        found = self.found
        if found.truth is None or found.moments is None:
            return []
        rows = []
        for k, name in enumerate(found.problem.channels):
            free = self.verdicts.free(k)
            m, truth = found.moments, found.truth[k]
            inside = ((m.low[k] <= truth) & (truth <= m.high[k]))[free].double().mean()
            error = float((m.mean[k] - truth).square().mean().sqrt())
            rows.append([name, error, error / max(float(truth.square().mean().sqrt()), 1e-300), 100 * float(inside)])
        return [
            Table(
                "Against the truth of the example",
                ["channel", "error of the mean", "relative to the truth", "inside 90% intervals (%)"], rows,
                "Values of one field depend on each other: one field says little about calibration.",
            )
        ]  # fmt: skip

    def as_json(self) -> dict[str, object]:
        """Plain JSON types."""
        found = self.found
        grid, sensors, calibration = found.problem.equation.grid, found.sensors, found.calibration
        return {
            "format": 1,
            "problem": found.problem.name,
            "title": found.problem.title,
            "channels": list(found.problem.channels),
            "axes": list(axis_names(found.problem)),
            "grid": {"shape": list(grid.shape), "domain": [list(ends) for ends in box(found.problem)],
                     "periodic": list(grid.periodic)},
            "prior": {"name": found.prior.name, "words": found.prior.words,
                      "fields": None if found.prior.fields is None else len(found.prior.fields)},
            "has_intervals": found.has_intervals,
            "headline": self.headline,
            "effective_fields": found.effective,
            "log_evidence": found.log_evidence,
            "percentile": found.percentile,
            "calibration": None if calibration is None else {
                "truths": calibration.truths,
                "level": LEVEL,
                "coverage": [calibration.at(k)[0] for k in range(len(found.problem.channels))],
                "standard_error": [calibration.at(k)[1] for k in range(len(found.problem.channels))],
            },
            "misfit": float(found.misfit.mean()),
            "residual": [float(value) for value in found.residual],
            "readings": {
                "origin": sensors.origin,
                "units": dict(sensors.units),
                "points": sensors.points.tolist(),
                "channels": [found.problem.channels[int(k)] for k in sensors.channels],
                "values": sensors.values.tolist(),
                "noise": sensors.noise.tolist(),
            },
            "seed": found.seed,
            "findings": [finding.as_json() for finding in self.findings],
            "charts": [asdict(chart) for chart in self.charts()],
        }  # fmt: skip

    def arrays(self) -> dict[str, np.ndarray]:
        """Samples, and where they can be given mean, standard deviation and the ends of the 90% interval."""
        found = self.found
        grid = found.problem.equation.grid
        held = {name: grid.along(k).numpy() for k, name in enumerate(axis_names(found.problem))}
        held |= {"channels": np.array(found.problem.channels), "samples": found.samples.numpy()}
        if found.moments is not None:
            m = found.moments
            held |= {"mean": m.mean.numpy(), "sd": m.sd.numpy(), "quantile_05": m.low.numpy()}
            held |= {"quantile_95": m.high.numpy()}
        if found.truth is not None:
            held["truth"] = found.truth.numpy()
        return held

    def save(self, folder: str | Path) -> Path:
        """Write solution.npz, solution.json, solution.png and report.html, each whole; the path of the page."""
        page = write_page(self.page(), Path(folder) / "report.html")
        save_arrays(page.with_name("solution.npz"), self.arrays())
        title = f"{self.found.problem.title}: fields from {len(self.found.sensors)} readings"
        replace_atomically(page.with_name("solution.png"), charts_png(self.charts(), title))
        write_json(self.as_json(), page.with_name("solution.json"))
        return page


def _plain(text: str) -> str:
    return text.removesuffix(".")


METHOD = (
    "The posterior of a finite set of fields has the weights p(y | field), normalized; that of a Gaussian is exact in "
    "closed form. Intervals are central: 5% of the posterior lies below, 5% above, at every value by itself."
)

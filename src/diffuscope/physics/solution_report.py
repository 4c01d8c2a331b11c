"""A solution in words, as charts, as a page, as JSON and as arrays."""

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from diffuscope.files import replace_atomically, save_arrays, write_json
from diffuscope.findings import NORMAL_95, Chart, Finding
from diffuscope.findings.numbers import number, typeset
from diffuscope.report import Page, Section, Table, charts_png, write_page

from .sensors import axis_names, box
from .solution import ENOUGH, Solution
from .solution_charts import calibration_chart, fit_chart, labeled, maps, unit_of
from .solution_moments import KNOWN, LEVEL

SURPRISING = 0.01  # percentile of the evidence below which prior and data disagree
NEAR = 0.05  # a coverage this close to the level is calibrated
EXACT = 1e-8  # a residual that rounding explains
SHOWN = 12  # readings in the table before it folds


@dataclass(frozen=True, eq=False)
class SolutionReport:
    """The solution in words and pictures; `save` writes solution.npz, solution.json, solution.png and report.html."""

    found: Solution

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

    @cached_property
    def findings(self) -> list[Finding]:
        """What was inferred, whether data and prior agree, calibration, and the equation."""
        return [self._inferred(), self._agreement(), self._calibration(), self._equation()]

    @property
    def headline(self) -> str:
        """One sentence."""
        found = self.found
        if not found.told:
            return f"Cannot tell: {self._too_few()}."
        if (found.percentile or 1.0) < SURPRISING:
            return "The readings contradict the prior: do not trust the intervals."
        coverage = self._calibration()
        if coverage.tone == "attention":
            return f"{coverage.verdict}"
        if coverage.tone == "unknown":
            return f"{self._inferred().verdict} The intervals are not certified."
        return f"{self._inferred().verdict} The intervals are calibrated."

    def _inferred(self) -> Finding:
        found = self.found
        if not found.told:
            return Finding(
                name="solve.inferred", title="What was inferred", value=found.effective or math.nan, unit="fields",
                verdict=f"Cannot tell: {self._too_few()}.", tone="unknown",
                power=f"Below {ENOUGH} effective fields no interval is given: its ends would be single fields.",
            )  # fmt: skip
        shares = self._shares()
        told = " and ".join(f"the {name} to ±{number(half)}{share}" for name, half, share in shares)
        k = len(found.problem.channels) - 1
        power = "The half-width of the 90% intervals, as root mean square over the values that are not known beforehand"
        if found.effective is not None:
            power += f"; {found.effective:,.0f} effective fields of {(0 if found.prior.fields is None else len(found.prior.fields)):,} agree with the data"
        return Finding(
            name="solve.inferred", title="What was inferred", value=self._half_width(k),
            unit=unit_of(found, "solution"), verdict=f"The readings determine {told}.", tone="neutral",
            power=f"{power}.",
        )  # fmt: skip

    def _half_width(self, k: int) -> float:
        m = self.found.moments
        assert m is not None
        width = (m.high[k] - m.low[k]) / 2
        free = self._free(k)
        return float(width[free].square().mean().sqrt()) if bool(free.any()) else 0.0

    def _free(self, k: int) -> torch.Tensor:
        found = self.found
        sd = found.prior_sd if found.prior_sd is not None else found.moments.sd if found.moments else found.samples[0]
        return sd[k] > KNOWN * float(sd[k].max())

    def _shares(self) -> list[tuple[str, float, str]]:
        found, told = self.found, []
        assert found.moments is not None
        for k, name in enumerate(found.problem.channels):
            share = ""
            if found.prior_sd is not None:
                free = self._free(k)
                ratio = (found.moments.sd[k][free].square().mean() / found.prior_sd[k][free].square().mean()).sqrt()
                share = f" ({100 * float(ratio):.2g}% of the prior's spread)"
            told.append((name, self._half_width(k), share))
        return told

    def _agreement(self) -> Finding:
        found, p = self.found, self.found.percentile
        misfit = float(found.misfit.mean())
        fits = f"The samples miss the readings by {number(misfit)} standard deviations of the noise on average"
        if p is None:
            return Finding(
                name="solve.agreement", title="Do data and prior agree?", value=misfit, unit="standard deviations",
                verdict=f"{fits}.", tone="neutral" if misfit < 2 else "attention",
                power="Samples that ignore the readings would miss them by the spread of the prior over the noise. "
                "Readings cannot be simulated from this prior, so how probable they are under it is not known.",
            )  # fmt: skip
        assert found.calibration is not None
        count = len(found.calibration.log_evidence)
        agree = p >= SURPRISING
        return Finding(
            name="solve.agreement", title="Do data and prior agree?", value=100 * p, unit="%", p_value=p,
            verdict=f"{'Yes' if agree else 'No'}: the readings are at least as probable as {100 * p:.2g}% of readings "
            f"simulated from the prior. {fits}.",
            tone="good" if agree else "alarm", null="The readings come from a field of the prior.",
            power=f"Readings less probable than all {count} simulated ones would be reported below 1%.",
        )  # fmt: skip

    def _calibration(self) -> Finding:
        found, calibration = self.found, self.found.calibration
        k = len(found.problem.channels) - 1
        common = {"name": "solve.calibration", "title": "Are the intervals right?", "unit": "%"}
        if calibration is None or not math.isfinite(calibration.at(k)[0]) or not math.isfinite(calibration.at(k)[1]):
            why = (
                "readings cannot be simulated from this prior, and nothing here certifies its answers; grade it with "
                "`diffuscope grade`"
                if calibration is None
                else "too few of the simulated readings leave enough fields to give an interval"
            )
            return Finding(
                **common, value=math.nan, verdict=f"Cannot tell: {why}.", tone="unknown",
                power="Calibration is measured on simulated fields whose truth is known.",
            )  # fmt: skip
        value, error = calibration.at(k)
        if not found.told:
            return Finding(
                **common, value=math.nan, tone="unknown",
                verdict=f"Cannot tell: no interval is given. Of {len(calibration.log_evidence)} simulated fields "
                f"{calibration.truths} left enough to give one, which held the truth in {100 * value:.3g}% of values.",
                power="Calibration is measured on simulated fields whose truth is known.",
            )  # fmt: skip
        low, high = value - NORMAL_95 * error, value + NORMAL_95 * error
        inside = LEVEL - NEAR <= low and high <= LEVEL + NEAR
        outside = high < LEVEL - NEAR or low > LEVEL + NEAR
        words = "Yes" if inside else ("No" if outside else "Not decided")
        others = [
            f"{100 * calibration.at(c)[0]:.3g}% for the {name}"
            for c, name in enumerate(found.problem.channels[:-1])
            if math.isfinite(calibration.at(c)[0])
        ]
        also = f" ({', '.join(others)})" if others else ""
        return Finding(
            **common, value=100 * value, interval=(100 * low, 100 * high),
            verdict=f"{words}: 90% intervals of the solution hold the truth in {100 * value:.3g}% of values{also}.",
            tone="good" if inside else "attention" if outside else "unknown",
            null="The share is 90%.",
            power=f"Measured on {calibration.truths} simulated fields that were not used as data, read by the same sensors "
            f"with new noise; a share within {100 * NEAR:g} points of 90% counts as right. It is an average over values "
            "and fields, not a statement on any single one.",
        )  # fmt: skip

    def _equation(self) -> Finding:
        found = self.found
        residual = found.residual
        bad = int(residual.isnan().sum())
        worst = float(residual.nan_to_num(0.0).max()) if bad < len(residual) else math.nan
        holds = bad == 0 and worst <= EXACT
        if found.prior.residual_words:
            verdict, tone = found.prior.residual_words, "neutral"
        elif holds:
            verdict, tone = f"Yes: the residual of the samples is at most {worst:.1g} of |A| |u|.", "good"
        elif bad:
            verdict, tone = f"No: {bad} of {len(residual)} samples have a coefficient that is not positive.", "attention"
        else:
            verdict, tone = f"No: the residual of the samples is up to {worst:.1g} of |A| |u|.", "attention"
        return Finding(
            name="solve.equation", title="Do the samples solve the equation?", value=worst, unit="",
            verdict=typeset(verdict), tone=tone,
            power=f"Measured on {len(residual)} samples, boundary and initial conditions included, in the largest norm.",
        )  # fmt: skip

    def _too_few(self) -> str:
        found = self.found
        n = len(found.prior.fields) if found.prior.fields is not None else 0
        effective = found.effective or 0.0
        if (found.percentile or 1.0) < SURPRISING:
            return f"the readings contradict the prior; none of the {n:,} fields of the prior comes near them"
        mend = found.prior.mend.format(more=f"{_rounded_up(n * ENOUGH / max(effective, 1)):,}".replace(",", ""))
        return (
            f"too few of the {n:,} fields of the prior agree with your data ({effective:.1f} effective ones, {ENOUGH} are "
            f"needed); {mend}"
        )

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
            "unknown" if not found.told else "alarm" if "alarm" in tones else "attention" if "attention" in tones
            else "unknown" if "unknown" in tones else "good"
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
            rows.append([name, unit_of(found, name), f"{ends[k][0]:g} to {ends[k][1]:g}", float(x.min()), float(x.max())])
        for k, name in enumerate(found.problem.channels):
            v = sensors.values[sensors.channels == k]
            if len(v):
                rows.append([name, unit_of(found, name), "", float(v.min()), float(v.max())])
        rows.append(["noise", unit_of(found, "noise"), "0 or more", float(sensors.noise.min()), float(sensors.noise.max())])
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
            free = self._free(k)
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
            "told": found.told,
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
        """Samples, and where they can be told mean, standard deviation and the ends of the 90% interval."""
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


def _rounded_up(value: float) -> int:
    """To one leading digit."""
    power = 10 ** math.floor(math.log10(max(value, 1.0)))
    return math.ceil(value / power) * power


METHOD = (
    "The posterior of a finite set of fields has the weights p(y | field), normalized; that of a Gaussian is exact in "
    "closed form. Intervals are central: 5% of the posterior lies below, 5% above, at every value by itself."
)

"""A most likely path in words, as charts, as a page and as JSON."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.files import replace_atomically, write_json
from diffuscope.findings import Chart, Finding, Mark, Panel, arrows, line, points
from diffuscope.findings.numbers import number, typeset
from diffuscope.report import Page, Section, Table, charts_png, write_page

from .most_likely import MostLikelyPath

FUNCTIONALS = {"FW": "Freidlin-Wentzell", "OM": "Onsager-Machlup"}
ARROWS = 17  # of the field, along the longer axis
MARGIN = 0.2  # around the path, of its extent
NARROWEST = 0.5  # height over width of the plane that is drawn
SHOWN = 6  # coordinates, and charges


@dataclass(frozen=True, eq=False)
class PathReport:
    """The path of the dynamics called `name`; `save` writes path.json, path.png and report.html.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, PathReport, most_likely_path
    >>> wind = Dynamics(lambda x: 0.5 + 0 * x, 0.25)
    >>> found = most_likely_path(wind, torch.tensor([1.0]), torch.tensor([5.0]), 2, nodes=5)
    >>> print(*PathReport("wind", found).lines()[:2], sep="\\n")  # (2 - 0.5)^2 2 / (4 x 0.25)
    Path: (1) to (5), in a time of 2, Freidlin-Wentzell, 5 nodes
    Action: 4.5 +- ...
    """

    name: str
    found: MostLikelyPath

    def lines(self) -> list[str]:
        """The path, its action, whether it is a minimum, and what it conserves, line by line."""
        found = self.found
        return [
            f"Path: {_point(found.states[0])} to {_point(found.states[-1])}, {self._duration()}, "
            f"{FUNCTIONALS[found.functional]}, {len(found.states):,} nodes",
            f"Action: {found.action:.7g} +- {found.error:.1g}{'' if found.resolved else ', not resolved'}",
            f"Stationary point: {self._minimum()}",
            f"Energy: {self._energy()}",
            f"Symmetries: {self._symmetries()}",
        ]

    def findings(self) -> list[Finding]:
        """The action, whether it is least, and what it conserves, each with what would have been noticed."""
        found = self.found
        action = Finding(
            name="paths.action",
            title="Action",
            value=found.action,
            unit="",
            verdict=typeset(f"The action is {found.action:.7g} ± {found.error:.1g}.")
            if found.resolved
            else "The action is not resolved: doubling the nodes changes it by "
            f"{float(found.path.certificate.action_change):.2g}; use more nodes.",
            tone="neutral" if found.resolved else "unknown",
            power="The error is what the extrapolation to infinitely many nodes removes, a bound where the error is "
            "of second order. A feature that both meshes miss is not seen.",
        )
        minimum = Finding(
            name="paths.minimum",
            title="Least action",
            value=float(found.ended),
            unit="starts",
            verdict=f"{self._minimum().capitalize()}.",
            tone="good" if found.minimum else "attention",
            power=typeset(f"Stationary to {float(found.path.certificate.residual):.1g} of its momenta")
            + "; a minimum has positive second derivatives, by a Cholesky factorization. Minima that no start leads to "
            "are not seen.",
        )
        symmetries = Finding(
            name="paths.symmetries",
            title="Symmetries",
            value=float(len(found.conserved or ())),
            unit="",
            verdict=typeset(f"{self._symmetries().capitalize()}."),
            tone="unknown" if found.conserved is None else "neutral",
            power="Translations, rotations (in up to ten dimensions), the scaling of the states, the shift of time and "
            "their combinations, to 1e-8 of the terms at random points around the path. Other transformations are not "
            "tried.",
        )
        return [action, minimum, symmetries]

    def charts(self) -> tuple[Chart, ...]:
        """The path, over the drift in the plane, and its energy and charges."""
        return self._path_chart(), self._charge_chart()

    def page(self) -> Page:
        """Verdicts, the path, what it conserves, the certificate and the method."""
        path, charges = self.charts()
        found, certificate = self.found, self.found.path.certificate
        rows = [
            ["action on these nodes", float(found.path.action)],
            ["change when the nodes are doubled", float(certificate.action_change)],
            ["extrapolated action", found.action],
            ["gradient over momenta", float(certificate.residual)],
            ["path change when the nodes are doubled", _or_none(float(certificate.path_change))],
            ["energy, variation over its terms", found.energy_departure if self._autonomous else None],
            ["starts tried", found.starts],
            ["starts that ended in a stationary path", found.ended],
        ]
        conserved = Table(
            "Symmetries and their charges", ["symmetry", "violation", "charge", "variation of the charge"],
            [[each.name, each.symmetry.violation, each.mean, each.departure] for each in found.conserved or ()],
            "The violation is that of the dynamics at random points; the variation is max |Q - mean| along the path "
            "over the terms of Q.",
        )  # fmt: skip
        sections = [
            Section("path", "Which path is the most likely?", f"{self.lines()[0].removeprefix('Path: ')}.", [path]),
            Section(
                "conserved", "What does it conserve?", typeset(f"The energy: {self._energy()}."), [charges, conserved],
            ),
            Section(
                "certificate", "How accurate is it?", self._words(), [Table("Certificate", ["", ""], rows)],
            ),
        ]  # fmt: skip
        return Page(
            f"Most likely path of {self.name}", f"{FUNCTIONALS[found.functional]} action, {self._duration()}",
            f"The action is {number(found.action)}: {self._minimum()}.", self.findings(), sections, [METHOD],
            tone="good" if found.minimum and found.resolved else "unknown",
        )  # fmt: skip

    def as_json(self) -> dict[str, object]:
        """Plain JSON types; times of a curve that never arrives are null."""
        found, path, certificate = self.found, self.found.path, self.found.path.certificate
        return {
            "format": 1,
            "drift": self.name,
            "functional": found.functional,
            "duration": found.duration,
            "times": path.times.tolist(),
            "states": found.states.tolist(),
            "momenta": path.momenta[0].tolist(),
            "energy": path.energy[0].tolist(),
            "action": {"value": found.action, "error": found.error, "on_nodes": float(path.action)},
            "certificate": {
                "resolved": found.resolved,
                "minimum": found.minimum,
                "residual": float(certificate.residual),
                "action_change": float(certificate.action_change),
                "path_change": float(certificate.path_change),
                "energy_variation": found.energy_departure if self._autonomous else None,
                "starts": found.starts,
                "starts_ended": found.ended,
            },
            "symmetries": None if found.conserved is None else [
                {
                    "coefficients": each.symmetry.coefficients, "violation": each.symmetry.violation,
                    "charge": each.charge.tolist(), "variation": each.departure,
                }
                for each in found.conserved
            ],
            "findings": [each.as_json() for each in self.findings()],
            "charts": [asdict(chart) for chart in self.charts()],
        }  # fmt: skip

    def save(self, folder: str | Path) -> Path:
        """Write report.html, path.png and path.json, each whole or not at all; the path of the page."""
        page = write_page(self.page(), Path(folder) / "report.html")
        replace_atomically(page.with_name("path.png"), charts_png(self.charts(), f"Most likely path of {self.name}"))
        write_json(self.as_json(), page.with_name("path.json"))
        return page

    @property
    def _autonomous(self) -> bool:
        return self.found.dynamics.autonomous

    def _duration(self) -> str:
        return "in any time" if self.found.duration is None else f"in a time of {self.found.duration:g}"

    def _minimum(self) -> str:
        found = self.found
        tried = (
            "from a straight start" if found.starts == 1 else f"the least of {found.ended} from {found.starts} starts"
        )
        if not found.ended:
            tried = "joined at fixed points of the drift" if found.duration is None else "on times adapted to it"
        return f"a minimum, {tried}" if found.minimum else f"no minimum but a saddle, {tried}"

    def _energy(self) -> str:
        E = self.found.path.energy[0]
        if not self._autonomous:
            return f"{float(E.min()):.6g} to {float(E.max()):.6g}: not conserved, drift or diffusion change with time"
        if self.found.duration is None:
            return "zero, as for every path whose duration is free"
        return f"{float(E.mean()):.6g}, constant to {self.found.energy_departure:.1g} of its terms"

    def _symmetries(self) -> str:
        conserved = self.found.conserved
        if conserved is None:
            return "cannot be told (a direction has no noise, or too few points are in the domain)"
        shown = [f"{c.name} (charge {c.mean:.6g}, constant to {c.departure:.1g})" for c in conserved]
        return ", ".join(shown) or "none was found"

    def _words(self) -> str:
        found, certificate = self.found, self.found.path.certificate
        return typeset(
            f"The gradient of the action is {float(certificate.residual):.1g} of the momenta, and doubling the nodes "
            f"changes the action by {float(certificate.action_change):.1g}."
        ) + ("" if found.resolved else " That is too much to trust it.")

    def _path_chart(self) -> Chart:
        found = self.found
        x = found.states
        if x.shape[1] == 2:
            return self._plane_chart(x)
        along, label = self._along(x)
        marks = tuple(line(along, x[:, k], f"coordinate {k}") for k in range(min(x.shape[1], SHOWN)))
        others = f" The first {SHOWN} of {x.shape[1]} coordinates." if x.shape[1] > SHOWN else ""
        return Chart(
            "The path", (Panel("", label, "state", marks),), f"Every coordinate of the most likely path.{others}"
        )

    def _plane_chart(self, x: Float[Tensor, "nodes 2"]) -> Chart:
        low, high = x.amin(0), x.amax(0)
        middle, extent = (low + high) / 2, (high - low) * (1 + 2 * MARGIN)
        extent = extent.clamp(min=max(float(extent.max()) * NARROWEST, 1e-9))
        low, high = middle - extent / 2, middle + extent / 2
        cell = float(extent.max()) / ARROWS
        grids = [low[k] + (torch.arange(int(extent[k] / cell + 0.5), dtype=torch.float64) + 0.5) * cell for k in (0, 1)]
        grid = torch.cartesian_prod(*grids)
        t = torch.full((len(grid),), (self.found.duration or 0.0) / 2, dtype=torch.float64)
        f = self.found.dynamics.drift_at(grid, t)
        shown = torch.isfinite(f).all(1) & self.found.dynamics.inside(grid)
        grid, f = grid[shown], f[shown]
        marks: list[Mark] = [line(x[:, 0], x[:, 1], "most likely path")]
        marks += [points(x[:1, 0], x[:1, 1], "start"), points(x[-1:, 0], x[-1:, 1], "end")]
        if len(grid):
            size = f.norm(dim=1)
            f = f * (0.9 * cell * (size / size.max().clamp(min=1e-300)).sqrt() / size.clamp(min=1e-300))[:, None]
            marks.append(arrows(grid[:, 0], grid[:, 1], f[:, 0], f[:, 1], "drift"))
        when = "" if self._autonomous else " halfway in time"
        limits = [(float(low[k]), float(high[k])) for k in (0, 1)]
        panel = Panel("", "x0", "x1", tuple(marks), x_range=limits[0], y_range=limits[1], equal_scales=True)
        return Chart(
            "The path over the drift", (panel,),
            f"Arrows are the drift{when}, their length the root of its size. Where the path runs along them it costs "
            "nothing; where it runs against them noise must push.",
        )  # fmt: skip

    def _charge_chart(self) -> Chart:
        found = self.found
        path = found.path
        along, label = self._along(found.states)
        cost = (path.momenta[0] * found.states.diff(dim=0)).sum(1)
        if found.duration is not None:
            cost = cost - path.energy[0] * path.times.diff()
        spent = torch.cat([cost.new_zeros(1), cost.cumsum(0)])
        panels = [Panel("Action so far", label, "action", (line(along, spent, "action"),))]
        if found.duration is not None:
            middle = (along[1:] + along[:-1]) / 2
            panels.append(Panel("Energy", label, "energy", (line(middle, path.energy[0], "energy"),)))
        charges = [
            line(along[1:-1], each.charge, each.name)
            for each in (found.conserved or ())
            if list(each.symmetry.coefficients) != ["time"]  # the energy
        ]
        if charges:
            title = "Charges" if len(charges) > 1 else f"Charge of {charges[0].label}"
            panels.append(Panel(title, label, "charge", tuple(charges[:SHOWN])))
        panels = [_wide(panel) for panel in panels]
        conserved = ["energy"] * (found.duration is not None) + ["charges"] * bool(charges)
        how_to_read = "The action grows where noise pushes against the drift."
        if conserved:
            how_to_read += (
                " Energy (of dynamics that do not change with time) and the charges of symmetries are horizontal "
                "lines, to the error of the nodes."
            )
        return Chart(", ".join(["Action", *conserved]), tuple(panels), how_to_read)

    def _along(self, x: Float[Tensor, "nodes d"]) -> tuple[Float[Tensor, " nodes"], str]:
        """The horizontal axis: time, or where that is free the length of the curve."""
        if self.found.duration is not None:
            return self.found.path.times, "time"
        return torch.cat([x.new_zeros(1), x.diff(dim=0).norm(dim=1).cumsum(0)]), "length along the path"


def _wide(panel: Panel) -> Panel:
    """The panel with a vertical axis that does not magnify rounding."""
    heights = [y for mark in panel.marks for y in getattr(mark, "y", ())]
    low, high = min(heights), max(heights)
    least = 0.1 * max(abs(low), abs(high)) or 1.0
    if high - low >= least:
        return panel
    middle = (low + high) / 2
    return replace(panel, y_range=(middle - least, middle + least))


def _point(x: Float[Tensor, " d"]) -> str:
    shown = ", ".join(f"{float(value):g}" for value in x[:SHOWN])
    return f"({shown}{', ...' if len(x) > SHOWN else ''})"


def _or_none(value: float) -> float | None:
    return value if value == value else None


METHOD = (
    "The action is minimized at the midpoints of all intervals by damped Newton with a banded Cholesky factorization, "
    "on these nodes and on twice as many; where the duration is free, over curves with nodes at equal distances "
    "(Heymann & Vanden-Eijnden 2008). Charges follow from Noether's theorem for most likely paths (Vastola 2024, "
    "arXiv:2504.09761)."
)

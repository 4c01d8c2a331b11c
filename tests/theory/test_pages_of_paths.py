"""The page, the charts and the JSON of a path in a steady wind, where every number is known."""

import dataclasses
from typing import Any

import pytest
import torch

from diffuscope.findings import arrows, line, points
from diffuscope.theory.paths import Dynamics, MostLikelyPath, PathReport, most_likely_path, time_shift, translation
from diffuscope.theory.paths.path_page import _point, _wide
from numbers_in_tests import double

WIND = Dynamics(lambda x: 0.5 + 0 * x, 0.25)
FOUND = most_likely_path(WIND, double(1.0), double(5.0), 2, nodes=5)  # x = 1 + 2 t, p = 3, E = 3.75, S = 4.5
TIMES = double(0.0, 0.5, 1.0, 1.5, 2.0)


def report(**given: Any) -> PathReport:
    return PathReport("wind", dataclasses.replace(FOUND, **given))


def proven(found: MostLikelyPath = FOUND, **given: float | bool) -> MostLikelyPath:
    values = {name: torch.tensor([value]) for name, value in given.items()}
    certificate = dataclasses.replace(found.path.certificate, **values)
    return dataclasses.replace(found, path=dataclasses.replace(found.path, certificate=certificate))


def in_plane(duration: float | None = 2.0) -> MostLikelyPath:
    """From (0, 1) to (4, 2) against a wind along x1 that is stronger to the right."""
    wind = Dynamics(lambda x: torch.stack([0 * x[:, 0], -(x[:, 0] ** 2)], 1) if duration else -x, 0.25)
    return most_likely_path(wind, double(0.0, 1.0), double(4.0, 2.0), duration, nodes=5)


def test_the_page_and_the_json_have_the_numbers_of_the_path() -> None:
    page, written = report().page(), report().as_json()
    assert page.title == "Most likely path of wind"
    assert page.headline.startswith("The action is 4.50: a minimum, from a straight start")
    assert [section.anchor for section in page.sections] == ["path", "conserved", "certificate"]
    path, conserved, certificate = page.sections
    assert path.answer.startswith("(1) to (5), in a time of 2, Freidlin-Wentzell, 5 nodes")
    charges, table = conserved.blocks
    assert charges.title == "Action, energy, charges"  # pyright: ignore
    assert {row[0] for row in table.rows} == {each.name for each in FOUND.conserved or ()}  # pyright: ignore
    for row, each in zip(table.rows, FOUND.conserved or (), strict=True):  # pyright: ignore
        assert row[1:] == [each.symmetry.violation, each.mean, each.departure]
    rows = dict(map(tuple, certificate.blocks[0].rows))  # pyright: ignore
    proof = FOUND.path.certificate
    assert rows == {
        "action on these nodes": float(FOUND.path.action),
        "change when the nodes are doubled": float(proof.action_change),
        "extrapolated action": FOUND.action, "gradient over momenta": float(proof.residual),
        "path change when the nodes are doubled": float(proof.path_change),
        "energy, variation over its terms": FOUND.energy_departure, "starts tried": FOUND.starts,
        "starts that ended in a stationary path": FOUND.ended,
    }  # fmt: skip
    assert written["times"] == TIMES.tolist()
    assert written["states"] == [[pytest.approx(1 + 2 * t)] for t in TIMES.tolist()]
    assert written["momenta"] == [[pytest.approx(3.0)]] * 4
    assert written["energy"] == [pytest.approx(3.75)] * 4
    assert written["action"] == {"value": FOUND.action, "error": FOUND.error, "on_nodes": float(FOUND.path.action)}
    assert written["certificate"] == {
        "resolved": True, "minimum": True, "residual": float(proof.residual),
        "action_change": float(proof.action_change), "path_change": float(proof.path_change),
        "energy_variation": FOUND.energy_departure, "starts": FOUND.starts, "starts_ended": FOUND.ended,
    }  # fmt: skip
    symmetries: Any = written["symmetries"]
    assert [each["charge"] for each in symmetries] == [each.charge.tolist() for each in FOUND.conserved or ()]
    assert report(conserved=None).as_json()["symmetries"] is None
    unknown = proven(path_change=float("nan"))
    assert ["path change when the nodes are doubled", None] in PathReport("x", unknown).page().sections[2].blocks[
        0
    ].rows  # pyright: ignore


def test_what_is_not_resolved_or_no_minimum_is_said() -> None:
    coarse, saddle = (
        PathReport("wind", made)
        for made in (proven(action_change=1.0), dataclasses.replace(proven(minimum=False), starts=3))
    )
    assert (report().page().tone, coarse.page().tone, saddle.page().tone) == ("good", "unknown", "unknown")
    assert [finding.tone for finding in report().findings()] == ["neutral", "good", "neutral"]
    assert [finding.tone for finding in coarse.findings()] == ["unknown", "good", "neutral"]
    assert [finding.tone for finding in saddle.findings()] == ["neutral", "attention", "neutral"]
    assert report().findings()[0].value == pytest.approx(4.5)
    assert "is not resolved: doubling the nodes changes it by 1; use more" in coarse.findings()[0].verdict
    assert coarse.lines()[1].endswith(", not resolved")
    assert coarse.page().sections[2].answer.endswith("That is too much to trust it.")
    assert not report().page().sections[2].answer.endswith("trust it.")
    assert saddle.lines()[2] == f"Stationary point: no minimum but a saddle, the least of {FOUND.ended} from 3 starts"
    assert report(starts=1).lines()[2].endswith("a minimum, from a straight start")
    assert report(ended=0).lines()[2].endswith("on times adapted to it")
    assert report(ended=0, duration=None).lines()[2].endswith("joined at fixed points of the drift")
    assert report(ended=2).findings()[1].value == 2
    hidden = report(conserved=None)
    assert (hidden.findings()[2].tone, hidden.findings()[2].value) == ("unknown", 0)
    assert "cannot be told" in hidden.lines()[4]
    assert report(conserved=()).lines()[4] == "Symmetries: none was found"
    assert report().findings()[2].value == len(FOUND.conserved or ()) > 0


def test_the_energy_is_constant_or_zero_or_a_range() -> None:
    assert report().lines()[3].startswith("Energy: 3.75, constant to ")
    assert report(duration=None).lines()[3] == "Energy: zero, as for every path whose duration is free"
    assert report(duration=None).lines()[0].startswith("Path: (1) to (5), in any time, ")
    changing = dataclasses.replace(FOUND.path, energy=double(1.0, 4.0, 2.0, 3.0)[None])
    gust = report(path=changing, dynamics=Dynamics(lambda x, t: 0.5 + 0 * x + 0 * t[:, None], 0.25))
    assert gust.lines()[3].startswith("Energy: 1 to 4: not conserved")
    certificate: Any = gust.as_json()["certificate"]
    assert certificate["energy_variation"] is None
    assert gust.page().sections[2].blocks[0].rows[5][1] is None  # pyright: ignore


def test_symmetries_are_looked_for_at_states_of_the_domain_not_at_velocities() -> None:
    """Where the logarithm is defined; velocities of either sign are no states."""
    grown = Dynamics(lambda x: x.log(), 0.25, domain=(0.5, 10.0))
    found = most_likely_path(grown, double(3.0), double(5.0), 1.0, nodes=9)
    assert [each.name for each in found.conserved or ()] == ["time"]


def test_the_charges_of_a_shift_of_time_and_of_space_are_the_energy_and_the_momentum() -> None:
    assert time_shift().charge(FOUND.path)[0].tolist() == pytest.approx([3.75] * 3)
    assert translation([2.0]).charge(FOUND.path)[0].tolist() == pytest.approx([6.0] * 3)


def test_coordinates_are_drawn_over_time_or_length_six_at_most() -> None:
    (panel,) = report().charts()[0].panels
    assert list(panel.marks) == [line(TIMES, FOUND.states[:, 0], "coordinate 0")]
    assert panel.x_label == "time"
    (panel,) = report(duration=None).charts()[0].panels
    assert panel.x_label == "length along the path"
    assert panel.marks[0].x == pytest.approx([0.0, 1.0, 2.0, 3.0, 4.0])  # pyright: ignore
    for d in (6, 7):
        end = double(*range(1, d + 1))
        found = most_likely_path(WIND, torch.zeros(d).double(), end, 2, nodes=3)
        chart = PathReport("wind", found).charts()[0]
        assert [mark.label for mark in chart.panels[0].marks] == [f"coordinate {k}" for k in range(6)]  # pyright: ignore
        assert chart.how_to_read.endswith(" The first 6 of 7 coordinates.") == (d == 7)
        assert len(PathReport("wind", found).charts()[1].panels[-1].marks) <= 6
        assert _point(end).endswith("6, ...)" if d == 7 else "6)")


def test_the_action_grows_by_what_noise_pays() -> None:
    action, energy, *_ = report().charts()[1].panels
    (spent,), (level,) = action.marks, energy.marks
    assert spent.x == tuple(TIMES.tolist())  # pyright: ignore
    assert spent.y == pytest.approx([2.25 * t for t in TIMES.tolist()])  # pyright: ignore
    assert level.x == (0.25, 0.75, 1.25, 1.75)  # pyright: ignore
    assert level.y == pytest.approx([3.75] * 4)  # pyright: ignore
    free = report(duration=None).charts()[1].panels
    assert free[0].marks[0].y == pytest.approx([0.0, 3.0, 6.0, 9.0, 12.0])  # pyright: ignore  # the integral of p dx
    assert "Energy" not in [panel.title for panel in free]
    others = [each for each in FOUND.conserved or () if list(each.symmetry.coefficients) != ["time"]]
    assert others
    charges = report(conserved=tuple(others[:1])).charts()[1].panels[-1]
    assert charges.title == f"Charge of {others[0].name}"
    assert charges.marks[0] == line(TIMES[1:-1], others[0].charge, others[0].name)
    assert report(conserved=(others[0],) * 2).charts()[1].panels[-1].title == "Charges"
    assert len(report(conserved=(others[0],) * 8).charts()[1].panels[-1].marks) == 6
    assert len(report(conserved=()).charts()[1].panels) == 2


def test_a_vertical_axis_does_not_magnify_rounding() -> None:
    panel = report().charts()[1].panels[0]

    def drawn(*heights: float) -> Any:
        return _wide(dataclasses.replace(panel, y_range=None, marks=(line(range(len(heights)), heights, "a"),))).y_range

    assert drawn(2.0, 2.0) == pytest.approx((1.8, 2.2))
    assert drawn(-2.0, -1.9) == pytest.approx((-2.15, -1.75))
    assert drawn(0.0, 0.0) == pytest.approx((-1.0, 1.0))
    assert drawn(0.0, 1.0) is None
    assert drawn(9.0, 10.0) is None
    assert drawn(9.01, 10.0) == pytest.approx((8.505, 10.505))


def test_arrows_of_the_drift_surround_a_path_in_the_plane() -> None:
    found = in_plane()
    chart = PathReport("wind", found).charts()[0]
    (panel,) = chart.panels
    path, start, end, field = panel.marks
    x = found.states
    assert path == line(x[:, 0], x[:, 1], "most likely path")
    assert (start, end) == (points([0.0], [1.0], "start"), points([4.0], [2.0], "end"))
    low, high = x.amin(0), x.amax(0)
    middle, extent = (low + high) / 2, 1.4 * (high - low)
    extent = extent.clamp(min=0.5 * float(extent.max()))
    assert panel.x_range == pytest.approx((float(middle[0] - extent[0] / 2), float(middle[0] + extent[0] / 2)))
    assert panel.y_range == pytest.approx((float(middle[1] - extent[1] / 2), float(middle[1] + extent[1] / 2)))
    assert panel.equal_scales
    cell = float(extent.max()) / 17
    columns, rows = sorted(set(field.x)), sorted(set(field.y))  # pyright: ignore
    assert (len(columns), len(rows)) == tuple(int(float(e) / cell + 0.5) for e in extent)
    for values, k in ((columns, 0), (rows, 1)):
        assert values[0] == pytest.approx(float(middle[k] - extent[k] / 2) + cell / 2)
        assert double(*values).diff().tolist() == pytest.approx([cell] * (len(values) - 1))
    # as long as the root of the size of the drift, x^2, the longest 0.9 of a cell
    lengths = [-y / (0.9 * cell) * max(map(abs, columns)) for y in field.dy]  # pyright: ignore
    assert lengths == pytest.approx([abs(x) for x in field.x], abs=1e-9)  # pyright: ignore
    assert set(field.dx) == {0.0}  # pyright: ignore
    assert "halfway" not in chart.how_to_read


def test_arrows_are_left_out_outside_the_domain_and_taken_halfway_in_time() -> None:
    narrow = Dynamics(lambda x: -x, 0.25, domain=(double(-1.0, -9.0), double(9.0, 1.75)))
    path = in_plane()
    inside = PathReport("wind", dataclasses.replace(path, dynamics=narrow)).charts()[0].panels[0].marks[3]
    assert max(inside.y) <= 1.75 < max(PathReport("wind", path).charts()[0].panels[0].marks[3].y)  # pyright: ignore
    never = Dynamics(lambda x: x / 0, 0.25)
    assert len(PathReport("wind", dataclasses.replace(path, dynamics=never)).charts()[0].panels[0].marks) == 3
    rest = dataclasses.replace(path.path, states=torch.zeros_like(path.path.states))
    still = PathReport("wind", dataclasses.replace(path, path=rest)).charts()[0].panels[0]
    assert still.x_range == still.y_range == (-5e-10, 5e-10)
    late = Dynamics(
        lambda x, t: t[:, None] * torch.tensor([1.0, 0.0]).double().expand_as(x) - (t[:, None] != 1) * x, 0.25
    )
    chart = PathReport("wind", dataclasses.replace(path, dynamics=late)).charts()[0]
    field = chart.panels[0].marks[3]
    assert "halfway in time" in chart.how_to_read
    assert isinstance(field, type(arrows([0], [0], [0], [0])))
    assert set(field.dy) == {0.0}
    assert len(set(field.dx)) == 1

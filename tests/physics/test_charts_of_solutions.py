"""The page and the charts of hand-made solutions: every mark from the numbers of the solution."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from solutions_by_hand import FLAT, LINE, SD, solution
from torch import Tensor

from diffuscope.findings import Chart, Points, Rule, area, density_bars, heat_map, line, points
from diffuscope.physics import PROBLEMS
from diffuscope.physics.prior_fields import Prior
from diffuscope.physics.sensors import Sensors
from diffuscope.physics.solution import Solution
from diffuscope.physics.solution_charts import calibration_chart, fit_chart, maps
from diffuscope.physics.solution_moments import LEVELS, Moments
from diffuscope.physics.solution_report import SHOWN, SolutionReport
from diffuscope.report import Table
from numbers_in_tests import double, seeded

X = double(0.0, 0.25, 0.5, 0.75, 1.0)
SAMPLES = torch.arange(40.0).reshape(4, 2, 5).double()
CALIBRATED = line([0, 1], [0, 1], "calibrated", style="dashed")


def calibrated(**given: Any) -> Any:
    return dataclasses.replace(solution().calibration, **given)  # pyright: ignore[reportArgumentType]


def plane(name: str, truth: Tensor | None = None, **given: Any) -> Solution:
    """Of three by three nodes, whose channels are 10 and 20 and more by sample, read once in the first."""
    problem = PROBLEMS[name](3)
    samples = torch.arange(36.0).reshape(2, 2, 3, 3).double() + 10
    mean = samples.mean(0) + 1
    at = Sensors(points=double(0.5, 0.25)[None], channels=torch.tensor([0]), values=double(1.0), noise=double(0.1))
    fields = torch.randn(4, 2, 3, 3, generator=seeded()).double()
    prepared: dict[str, Any] = {
        "problem": problem, "sensors": at, "prior": Prior(name="p", words="p", fields=fields), "samples": samples,
        "moments": Moments(mean=mean, sd=mean / 100, low=mean - 2 * samples[0], high=mean + 2 * samples[0]),
        "truth": truth, "prior_sd": None,
    }  # fmt: skip
    return solution(**(prepared | given))


def test_a_page_has_a_section_for_every_finding_with_its_evidence() -> None:
    truth = SD + 1
    report = SolutionReport(solution(truth=truth))
    page, findings = report.page(), report.findings
    assert [section.anchor for section in page.sections] == ["fields", "readings", "calibration", "equation"]
    assert [section.answer for section in page.sections] == [finding.verdict for finding in findings]
    titles = [[getattr(block, "title", "") for block in section.blocks] for section in page.sections]
    assert titles == [
        ["The forcing", "The solution", "Against the truth of the example"],
        ["Columns", "Readings less samples", "Readings"], ["Calibration"], ["Certificate"],
    ]  # fmt: skip
    assert page.title == "Poisson's equation on an interval: fields from 1 readings"
    assert page.verdicts == findings
    assert [chart.title for chart in report.charts()] == [
        "The forcing", "The solution", "Calibration", "Readings less samples"
    ]  # fmt: skip
    bare = SolutionReport(
        solution(calibration=None, sensors=dataclasses.replace(solution().sensors, noise=double(0.0)))
    )
    assert [len(section.blocks) for section in bare.page().sections] == [2, 2, 0, 1]
    assert len(bare.charts()) == 2


def test_the_tone_of_a_page_is_the_worst_of_its_findings() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "good"), ({"error": 0.1}, "unknown"), ({"residual": double(1.0, 1.0)}, "attention"),
        ({"below": 0, "residual": double(1.0, 1.0)}, "alarm"), ({"moments": None}, "unknown"),
    ]  # fmt: skip
    for given, tone in cases:
        report = SolutionReport(solution(**given))
        assert report.page().tone == tone, (given, [finding.tone for finding in report.findings])


def test_readings_are_counted_by_channel_with_the_range_of_their_noise() -> None:
    def words(*noise: float) -> str:
        n = len(noise)
        at = Sensors(
            points=torch.full((n, 1), 0.5).double(), channels=torch.tensor([1, 0, 1][:n]),
            values=torch.ones(n).double(), noise=double(*noise),
        )  # fmt: skip
        return SolutionReport(solution(sensors=at)).lines()[1]

    assert words(0.1, 0.2, 0.3) == "Readings: 1 of the forcing and 2 of the solution, noise 0.1 to 0.3, given"
    assert words(0.1) == "Readings: 1 of the solution, noise 0.1, given"
    assert words(0.0, 0.0) == "Readings: 1 of the forcing and 1 of the solution, exact, given"
    assert words(0.0, 0.5) == "Readings: 1 of the forcing and 1 of the solution, noise 0 to 0.5, given"


def test_tables_have_the_ranges_of_the_columns_and_the_errors_against_the_truth() -> None:
    at = Sensors(
        points=double(0.25, 0.75, 0.5)[:, None], channels=torch.tensor([1, 1, 1]), values=double(2.0, -1.0, 0.5),
        noise=double(0.1, 0.3, 0.2), units=(("x", "m"), ("noise", "K")),
    )  # fmt: skip
    report = SolutionReport(solution(sensors=at))
    assert report._columns().rows == [
        ["x", "m", "0 to 1", 0.25, 0.75], ["solution", "", "", -1.0, 2.0], ["noise", "K", "0 or more", 0.1, 0.3]
    ]  # fmt: skip
    truth = SD + double(0.0, -3.5, 1.0, 2.5, 0.0)
    (table,) = SolutionReport(solution(truth=truth))._graded()
    error = math.sqrt((3.5**2 + 1 + 2.5**2) / 5)
    sizes = [math.sqrt(float(row.square().mean())) for row in truth]
    inside = [100 / 3, 100.0]  # of three free nodes: -sd <= truth <= 3 sd
    for row, name, size, share in zip(table.rows, ("forcing", "solution"), sizes, inside, strict=True):
        assert row[0] == name
        assert row[1:] == pytest.approx([error, error / size, share])
    assert SolutionReport(solution(truth=truth, moments=None))._graded() == []
    edge = SolutionReport(solution(truth=torch.stack([-SD[0], 3 * SD[1]])))._graded()[0]
    assert [row[3] for row in edge.rows] == [100.0, 100.0]  # the ends belong to the interval


def test_curves_show_the_mean_with_its_interval_the_readings_three_samples_and_the_truth() -> None:
    forcing, of_solution = maps(solution(samples=SAMPLES, misfit=torch.ones(4).double(), truth=SD))
    drawn = [line(X, SAMPLES[i, 0], "samples" if i == 0 else "", style="dotted") for i in range(3)]
    band = line(X, SD[0], "mean and 90% interval", low=-SD[0], high=3 * SD[0])
    assert list(forcing.panels[0].marks) == [band, *drawn, line(X, SD[0], "truth", style="dashed")]
    assert points([0.5], [1.0], "readings") in of_solution.panels[0].marks
    assert (forcing.panels[0].x_label, forcing.panels[0].y_label) == ("x", "forcing")
    assert "dashed" in forcing.how_to_read
    assert "holds the field" in forcing.how_to_read
    few = maps(solution(moments=None))[0]
    assert len(few.panels[0].marks) == 2
    assert few.how_to_read.startswith("Samples of the few fields")
    units = dataclasses.replace(solution().sensors, units=(("forcing", "N"), ("x", "m")))
    labeled = maps(solution(sensors=units))[0].panels[0]
    assert (labeled.x_label, labeled.y_label) == ("x (m)", "forcing (N)")


def test_maps_share_the_colors_of_fields_and_have_their_own_for_the_uncertainty() -> None:
    found = plane("poisson-2d")
    chart, unread = maps(found)
    mean, own = found.moments.mean[0], 2 * found.samples[0, 0]  # pyright: ignore[reportOptionalMemberAccess]
    edges = double(-0.25, 0.25, 0.75, 1.25)
    shared = (10.0, float(max(mean.max(), found.samples[1, 0].max())))
    expected = {"mean": (mean, shared), "half-width": (own, (20.0, float(own.max()))),
                "sample": (found.samples[0, 0], shared), "another": (found.samples[1, 0], shared)}  # fmt: skip
    assert [panel.title for panel in chart.panels] == list(expected)
    for panel in chart.panels:
        values, colors = expected[panel.title]
        assert panel.marks[0] == heat_map(edges, edges, values.T, color_range=colors)
        assert panel.marks[1] == points([0.5], [0.25])
        assert (panel.x_label, panel.y_label) == ("x", "y")
        assert panel.x_range == panel.y_range == (-0.25, 1.25)
        assert panel.equal_scales
    assert chart.title == "The forcing: 10 (light) to 36 (dark); half-width of the 90% interval up to 36"
    assert chart.how_to_read.startswith("Points are where it was read.")
    assert unread.how_to_read.startswith("It was not read anywhere")
    assert all(len(panel.marks) == 1 for panel in unread.panels)
    assert chart.shared_y


def test_the_truth_takes_the_place_of_a_sample_and_two_values_have_a_deviation() -> None:
    truth = torch.full((2, 3, 3), 5.0).double()
    with_truth = maps(plane("poisson-2d", truth))[0]
    assert [panel.title for panel in with_truth.panels] == ["mean", "half-width", "truth", "sample"]
    assert with_truth.title.startswith("The forcing: 5 (light)")
    few = maps(plane("poisson-2d", moments=None))[0]
    assert [panel.title for panel in few.panels] == ["sample", "another"]
    assert few.title == "The forcing: 10 (light) to 36 (dark)"
    fields = torch.stack([torch.arange(9.0).reshape(3, 3) % 2, torch.randn(3, 3, generator=seeded())]).double()[None]
    two = plane("poisson-2d", prior=Prior(name="p", words="p", fields=fields))
    first, second = maps(two)
    assert (first.panels[1].title, second.panels[1].title) == ("deviation", "half-width")
    assert first.panels[1].marks[0].values[0][0] == float(two.moments.sd[0, 0, 0])  # pyright: ignore
    assert "; standard deviation up to " in first.title
    assert " Intervals of a channel of two values" in calibration_chart(two).how_to_read  # pyright: ignore
    assert "two values" not in calibration_chart(plane("poisson-2d")).how_to_read  # pyright: ignore


def test_time_is_upward_and_space_to_the_right() -> None:
    problem = PROBLEMS["burgers"](8)
    shape = problem.event_shape
    samples = torch.arange(2.0 * math.prod(shape)).reshape(2, *shape).double()
    at = Sensors(points=double(0.125, 0.5)[None], channels=torch.tensor([0]), values=double(1.0), noise=double(0.1))
    chart = maps(solution(problem=problem, samples=samples, moments=None, prior_sd=None, sensors=at))[0]
    panel = chart.panels[0]
    assert (panel.x_label, panel.y_label) == ("x", "t")
    assert panel.marks[0].values == tuple(tuple(row) for row in samples[0, 0].tolist())  # pyright: ignore
    assert panel.marks[1] == points([0.5], [0.125])


def test_a_chart_of_calibration_has_two_errors_around_the_coverage_and_the_evidence_beside_that_of_simulations() -> (
    None
):
    coverage = torch.linspace(0, 1, 2 * len(LEVELS)).reshape(2, -1).double()
    error = torch.full_like(coverage, 0.1)
    error[1, 0] = math.nan
    evidence = torch.linspace(-3, 2, 101).double()
    chart = calibration_chart(solution(calibration=calibrated(coverage=coverage, error=error, log_evidence=evidence)))
    assert isinstance(chart, Chart)
    c = coverage[0]
    band = line(double(*LEVELS), c, "forcing", low=(c - 0.2).clamp(0, 1), high=(c + 0.2).clamp(0, 1))
    assert list(chart.panels[0].marks) == [CALIBRATED, band]
    low = float(evidence.quantile(0.005))
    edges = torch.linspace(low, 2 + 1e-9 + 0.02 * (2 - low), 25, dtype=torch.float64)
    assert list(chart.panels[1].marks) == [
        density_bars(evidence, edges, "simulated readings"), Rule(0.0, "x", label="your readings")
    ]  # fmt: skip
    for given, here, ends in (
        (-5.0, -5.0, (-5.0, 2 + 0.14)), (4.0, 4.0, (low, 4 + 0.02 * (4 - low))),
        (-1e3, 2 - 20 * 4.75, (2 - 20 * 4.75, 2 + 0.02 * 95)),  # 20 times from the greatest to the 5% quantile
    ):  # fmt: skip
        made = solution(calibration=calibrated(log_evidence=evidence), log_evidence=given)
        bars, rule = calibration_chart(made).panels[1].marks  # pyright: ignore[reportOptionalMemberAccess]
        assert rule.at == pytest.approx(here)  # pyright: ignore[reportAttributeAccessIssue]
        assert (bars.edges[0], bars.edges[-1]) == pytest.approx(ends)  # pyright: ignore[reportAttributeAccessIssue]
    assert len(calibration_chart(solution(log_evidence=None)).panels) == 1  # pyright: ignore[reportOptionalMemberAccess]


def test_a_chart_of_the_fit_has_the_misfit_of_the_samples_in_deviations_of_the_noise() -> None:
    at = Sensors(
        points=double(0.25, 0.5, 0.75)[:, None], channels=torch.tensor([1, 0, 1]), values=double(2.0, -1.0, 9.0),
        noise=double(0.1, 0.5, 0.0),
    )  # fmt: skip
    samples = torch.randn(6, 2, 5, generator=seeded()).double()
    chart = fit_chart(solution(sensors=at, samples=samples, misfit=torch.ones(6).double()))
    assert isinstance(chart, Chart)
    off = torch.stack([(2 - samples[:, 1, 1]) / 0.1, (-1 - samples[:, 0, 2]) / 0.5], 1)
    mean, spread = off.mean(0), off.std(0)
    rules, (band, middle) = chart.panels[0].marks[:3], chart.panels[0].marks[3:]
    assert list(rules) == [Rule(0.0), Rule(2.0), Rule(-2.0)]
    expected = area([1, 2], mean - 2 * spread, mean + 2 * spread)
    assert isinstance(middle, Points)
    assert middle.x == (1, 2)
    for ours, theirs in ((middle.y, mean.tolist()), (band.low, expected.low), (band.high, expected.high)):  # pyright: ignore
        assert ours == pytest.approx(theirs)
    assert chart.panels[0].x_ticks == (1, 2)
    for count in (25, 26):  # as many as have a tick each
        many = Sensors(
            points=torch.linspace(0.1, 0.9, count).double()[:, None], channels=torch.ones(count).long(),
            values=torch.ones(count).double(), noise=torch.ones(count).double(),
        )  # fmt: skip
        made = fit_chart(solution(sensors=many))
        assert made is not None
        assert len(made.panels[0].x_ticks) == (25 if count == 25 else 0)


def test_a_table_of_many_readings_is_folded() -> None:
    def table(count: int) -> Table:
        many = Sensors(
            points=torch.linspace(0.1, 0.9, count).double()[:, None], channels=torch.ones(count).long(),
            values=torch.ones(count).double(), noise=torch.ones(count).double(),
        )  # fmt: skip
        return SolutionReport(solution(sensors=many))._table()

    assert (table(SHOWN).folded, table(SHOWN + 1).folded) == (False, True)


def test_flat_fields_have_a_range_of_colors() -> None:
    assert FLAT.fields is not None
    assert LINE.equation.grid.axes == 1
    flat = plane("poisson-2d", moments=None, samples=torch.zeros(2, 2, 3, 3).double())
    low, high = maps(flat)[0].panels[0].marks[0].color_range  # pyright: ignore
    assert low == 0 < high

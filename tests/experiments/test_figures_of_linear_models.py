"""What figures of linear models show and what their parts claim, for samples and terms that are made up."""

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from answering import planted

from chart_reading import lines_of, marks_of
from diffuscope.experiments import Part, cross, feature_kernel, gap_filling, kernel_flow, naive_variance
from diffuscope.experiments.gap_filling import EPSILONS, SAMPLES, Generated
from diffuscope.experiments.naive_variance import Runs, Solved
from diffuscope.findings import Cells, Groups, HeatMap, Intervals, Line, Repeated, Rule
from diffuscope.theory.variance import Decomposition, LinearFeatures, Population
from numbers_in_tests import double

DOUBLE = torch.float64


def terms(**means: float) -> Decomposition:
    """Each term k has the error k / 64, in the order of their names here."""
    names = ("true", "total", "discretization", "bias", "variance", "interaction", "remaining")
    found = {name: Repeated(means.get(name, 0.0), (k + 1) / 64, 50) for k, name in enumerate(names)}
    return Decomposition(**found, unresolved=means.get("unresolved", 0.0))


# gaps


def in_gap(*shares: int) -> torch.Tensor:
    """Models of ten samples, of which so many are in the gap."""
    return torch.stack([double(*[0.5] * k, *[0.0] * (10 - k))[:, None] for k in shares])


def test_gap_masses_have_their_mean_error_and_spread_over_models():
    panel = Generated({30: in_gap(2, 4, 6), 300: in_gap(1, 1, 4)})
    assert (panel.gap(30).mean, panel.gap(30).error) == pytest.approx((0.4, 0.2 / math.sqrt(3)))
    assert panel.gap(300).mean == pytest.approx(0.2)
    assert panel.spread(30) == pytest.approx(0.2)
    assert panel.spread(300) == pytest.approx(math.sqrt(0.03))
    assert gap_filling.deviation(panel, 30, 0.1) == pytest.approx(0.3 / (0.8 * math.sqrt(2 / 3) + 0.015))


def test_densities_are_shown_by_their_quartiles_over_models_in_the_middles_of_bins():
    """Five models with 0, 1, 2, 4 and 9 of ten samples in the bin [0.5, 0.55), of width 0.05."""
    panel = Generated({30: in_gap(0, 1, 2, 4, 9) + 0.02, 300: in_gap(5, 5, 5, 5, 5) + 0.02})
    coarse, fine = gap_filling.quartile_lines(panel)
    assert (coarse.label, fine.label) == ("30 steps", "300 steps")
    k = coarse.x.index(pytest.approx(0.525))
    assert coarse.x[0] == pytest.approx(-1.475)
    assert (coarse.low[k], coarse.y[k], coarse.high[k]) == pytest.approx((2.0, 4.0, 8.0))  # tenths over 0.05
    assert (fine.low[k], fine.y[k], fine.high[k]) == pytest.approx((10.0, 10.0, 10.0))
    assert sum(fine.y) * 0.05 == pytest.approx(1)


def test_gap_masses_over_features_have_a_panel_for_each_number_of_steps():
    grid = {
        (epsilon, P): Generated({30: in_gap(i, i + 2), 300: in_gap(k, k + 4)})
        for i, epsilon in enumerate(EPSILONS)
        for k, P in enumerate(SAMPLES)
    }
    title, *panels = gap_filling.gap_chart(grid)
    assert title == "Mass in the gaps"
    assert [panel.title for panel in panels] == ["30 steps", "300 steps"]
    for panel, half in zip(panels, (0.1, 0.2), strict=True):
        assert panel.x_log
        for i, (epsilon, line) in enumerate(zip(EPSILONS, lines_of(panel).values(), strict=True)):
            assert line.label == f"ε = {epsilon:g}"
            assert line.x == (4.0, 2.0, 1.0, 0.5, 0.25)
            middle = [i / 10 if half == 0.1 else k / 10 for k in range(5)]
            assert line.y == pytest.approx([m + half for m in middle])
            assert line.low == pytest.approx(middle)  # one standard error of two values is half of their distance
            assert line.high == pytest.approx([m + 2 * half for m in middle])


def test_terms_are_shown_beside_each_other_and_with_two_standard_errors():
    found = {4.0: terms(discretization=0.1, bias=0.2, total=0.4), 0.25: terms(variance=-0.1, total=-0.1)}
    _, bars, each = gap_filling.terms_chart(found)
    (groups,), (intervals,) = marks_of(bars, Groups), marks_of(each, Intervals)
    assert groups.names == ("F/P = 4", "F/P = 0.25")
    heights = dict(zip(groups.labels, groups.heights, strict=True))
    assert heights["discretization"] == (0.1, 0.0)
    assert heights["bias"] == (0.2, 0.0)
    assert heights["variance"] == (0.0, -0.1)
    rows = dict(zip(intervals.names, zip(intervals.values, intervals.low, intervals.high, strict=True), strict=True))
    assert len(rows) == 2 * (len(groups.labels) + 1)
    assert rows["F/P = 4, bias"] == pytest.approx((0.2, 0.2 - 0.125, 0.2 + 0.125))
    assert rows["F/P = 0.25, total"] == pytest.approx((-0.1, -0.1 - 0.0625, -0.1 + 0.0625))


def decomposed(**changes) -> tuple[Part, str]:
    """The part of the decomposition, for made-up terms at F/P = 4, 2, 1, 1/2 and 1/4."""
    found = [
        terms(total=0.4, bias=changes.get("bias", 0.25), unresolved=0.001),
        terms(variance=0.234),
        terms(variance=changes.get("variance", 0.25)),
        terms(variance=15 / 64),
        terms(total=0.2, discretization=changes.get("discretization", 0.11), unresolved=changes.get("left", 0.003)),
    ]
    seen = []

    def known(ensemble, data, statistic, x, *, times, fine):  # noqa: ARG001
        seen.append((x.shape[0], len(times), len(fine), float(times[-1]), float(fine[-1])))
        return found[len(seen) - 1]

    part = Part("gap-filling", "decomposition", "s", 1)
    sized = {}
    ensembles = "diffuscope.experiments.gap_filling.trained"
    with (
        planted("diffuscope.experiments.gap_filling.decompose", known),
        planted(ensembles, lambda epsilon, samples, models, _: sized.update({samples: (epsilon, models)})),
    ):
        text = gap_filling.decomposition(part)
    assert sized == dict(zip(SAMPLES, [(0.01, models) for models in (600, 800, 2500, 600, 300)], strict=True))
    assert seen == [(models, 31, 121, 0.01, 0.01) for models in (600, 800, 2500, 600, 300)]
    return part, text


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        ({}, set()),
        ({"bias": 0.19}, {"bias"}),
        ({"discretization": 0.09}, {"discretization"}),
        ({"variance": 0.234}, {"variance"}),
        ({"left": 0.0041}, {"resolved"}),
    ],
)
def test_discretization_leads_at_few_features_bias_at_many_and_variance_between(change, failing):
    part, text = decomposed(**change)
    assert {claim.name for claim in part.claims if not claim.holds} == failing
    assert [claim.required for claim in part.claims] == [0.5, 0.5, 3.0, 0.004]
    filled = "1, 0.5" if "variance" not in change else "0.5"  # three standard errors are 15 / 64
    assert f"certain to three standard errors at F/P = {filled}." in text


# the cross


def test_a_histogram_is_drawn_as_its_root_over_the_square():
    shares = torch.zeros(cross.CELLS, cross.CELLS, dtype=DOUBLE)
    shares[3, 7] = 0.25
    panel = cross.density_panel("t", shares)
    (heat,) = marks_of(panel, HeatMap)
    assert heat.values[3][7] == 0.5
    assert sum(map(sum, heat.values)) == 0.5
    for edges in (heat.x_edges, heat.y_edges):
        assert (len(edges), edges[0], edges[-1]) == (cross.CELLS + 1, -1.5, 1.5)
    assert panel.equal_scales


def test_a_sample_is_in_the_cell_that_holds_it():
    """Cells have the width 3/40: x = 0.7 is in the 30th column, y = -0.1 in the 19th row."""
    found = cross.histogram(double((0.7, -0.1), (5.0, 0.0))[None])
    assert found.nonzero().tolist() == [[18, 29]]
    assert float(found[18, 29]) == 0.5


def test_the_data_are_the_four_points_at_equal_weight():
    data = cross.data_at(30.0)
    assert data.weights.tolist() == [0.25] * 4
    expected = [(math.cos(math.radians(30 + 90 * k)), math.sin(math.radians(30 + 90 * k))) for k in range(4)]
    torch.testing.assert_close(data.means, torch.tensor(expected, dtype=DOUBLE))


def of_masses(near, edge, on_cross) -> cross.Square:
    return cross.Square(
        torch.full((3, 4, 2), 5.0, dtype=DOUBLE),
        {"near": double(*near), "edge": double(*edge), "cross": double(*on_cross)},
        terms(),
    )


def test_beyond_is_cross_less_edges_and_spans_go_from_lowest_to_highest():
    one, other = (
        of_masses((0.1, 0.2, 0.3), (0.1, 0.2, 0.3), (0.5, 0.7, 0.9)),
        of_masses((0.5,) * 3, (0.0,) * 3, (0.0,) * 3),
    )
    assert one.beyond.mean == pytest.approx(0.5)
    found = dict(zip([("Fourier", degrees) for degrees in cross.ROTATIONS], (other, one, one), strict=True))
    assert cross.span(found, "Fourier", "near") == "0.20 to 0.50"
    assert cross.span(found, "Fourier", "cross") == "0.00 to 0.70"


def test_a_wider_region_adds_what_it_changes_to_the_tolerance():
    """All samples are far away, so that regions half or half again as wide hold none: the change is the mass itself."""
    made = of_masses((0.4, 0.5, 0.6), (0.1, 0.2, 0.3), (0.0,) * 3)
    error = 0.1 / math.sqrt(3)
    assert cross.outside(made, 0.0, "near", 0.9, 1.0) == pytest.approx(0.4 / (4 * error))
    assert cross.outside(made, 0.0, "edge", 0.9, 1.0) == pytest.approx(0.7 / (4 * error + 0.2))
    assert cross.outside(made, 0.0, "edge", 0.0, 0.1) == pytest.approx(0.1 / (4 * error + 0.2))


def test_the_regions_are_shown_with_their_intervals_and_their_least_certain_rotation_is_claimed():
    made = {
        ("Gaussian", 0.0): of_masses((0.64, 0.65, 0.66), (0.07, 0.08, 0.09), (0.01, 0.01, 0.02)),
        ("Gaussian", 22.5): of_masses((0.64, 0.65, 0.66), (0.06, 0.08, 0.10), (0.01, 0.01, 0.02)),
        ("Gaussian", 45.0): of_masses((0.64, 0.65, 0.66), (0.07, 0.08, 0.09), (0.01, 0.01, 0.03)),
        ("Fourier", 0.0): of_masses((0.40, 0.41, 0.42), (0.01, 0.02, 0.03), (0.30, 0.31, 0.33)),
        ("Fourier", 22.5): of_masses((0.40, 0.41, 0.42), (0.01, 0.02, 0.03), (0.30, 0.35, 0.40)),
        ("Fourier", 45.0): of_masses((0.40, 0.41, 0.42), (0.01, 0.02, 0.03), (0.30, 0.32, 0.34)),
    }
    part = Part("cross", "filled", "s", 1)
    with planted("diffuscope.experiments.cross.square", lambda name, degrees, _: made[name, degrees]):
        text = cross.filled(part)
    claims = {claim.name: claim for claim in part.claims}
    for name, sign in (("gaussian", -1), ("fourier", 1)):
        least = made[name.title(), 22.5].beyond  # the widest spread
        assert claims[name].value == pytest.approx(sign * least.mean / least.error)
        assert claims[name].required == pytest.approx(least.seen)
    assert claims["masses"].value == 0.0  # all are inside of their ranges
    heats, fourier, published, shares = part.charts
    assert [len(chart.panels) for chart in part.charts] == [3, 3, 3, 1]
    assert (heats.title, fourier.title) == ("Gaussian features", "Fourier features")
    assert [panel.title for panel in published.panels] == ["0 degrees", "22.5 degrees", "45 degrees"]
    (rows,) = marks_of(shares.panels[0], Intervals)
    k = rows.names.index("Fourier, 22.5°, cross")
    mean = Repeated.of(double(0.30, 0.35, 0.40))
    assert (rows.values[k], rows.low[k], rows.high[k]) == pytest.approx((0.35, mean.low, mean.high))
    assert "Gaussian features: near 0.65 to 0.65, edges 0.08 to 0.08, cross 0.01 to 0.02; Fourier" in text


def test_the_terms_of_the_cross_are_shown_with_two_standard_errors():
    part = Part("cross", "why", "s", 1)
    made = {"Gaussian": terms(total=-0.2, discretization=-0.12), "Fourier": terms(total=0.3, bias=0.18, variance=-0.3)}
    with planted("diffuscope.experiments.cross.square", lambda name, *_: SimpleNamespace(why=made[name])):
        text = cross.why(part)
    claims = {claim.name: claim for claim in part.claims}
    assert claims["edges"].value == pytest.approx(0.6)
    assert claims["bias"].value == pytest.approx(0.6)
    assert claims["variance"].value == pytest.approx(-0.3 / (5 / 64 / math.sqrt(3)))
    assert text.startswith("Mostly not variance.")
    (rows,) = marks_of(part.charts[0].panels[0], Intervals)
    k = rows.names.index("Fourier, 45°, bias")
    assert (rows.values[k], rows.low[k], rows.high[k]) == pytest.approx((0.18, 0.18 - 0.125, 0.18 + 0.125))
    k = rows.names.index("Gaussian, 0°, total")
    assert (rows.values[k], rows.low[k], rows.high[k]) == pytest.approx((-0.2, -0.2 - 0.0625, -0.2 + 0.0625))


# the flow of a kernel, and the features


def test_a_ratio_of_variances_has_the_interval_of_a_variance_of_so_many_runs(monkeypatch):
    monkeypatch.setattr(kernel_flow, "RUNS", 200)
    ratio = torch.linspace(0.5, 1.5, len(kernel_flow.POINTS), dtype=DOUBLE)
    line = kernel_flow.ratio_line(ratio, "τ = 1")
    assert line.x == tuple(kernel_flow.POINTS[:, 0].tolist())
    assert line.y == tuple(ratio.tolist())
    margin = 1.96 * 0.1  # of sqrt(2 / 200)
    assert line.low == pytest.approx((ratio * (1 - margin)).tolist(), rel=1e-9)
    assert line.high == pytest.approx((ratio * (1 + margin)).tolist(), rel=1e-9)


@dataclass(frozen=True, eq=False)
class Counted(feature_kernel.Compared):
    """A comparison whose ratios are the number of examples of the kernel it is asked for, and one more later."""

    def ratios(self, kernel):
        return double(kernel.samples, kernel.samples + 1), double(9, kernel.samples / 100)


def test_ratios_over_examples_per_feature_have_bands_of_95_percent():
    population = Population.of(feature_kernel.THREE, feature_kernel.SCHEDULE, (0.1, 1.0), time_nodes=4, nodes=16)
    kernel = LinearFeatures.of(population, feature_kernel.bumps_of(4), samples=1, ridge=0.1)
    nothing = torch.zeros(2, 17, dtype=DOUBLE)
    made: list[feature_kernel.Compared] = [
        Counted(replace(kernel, samples=n), nothing, nothing[None]) for n in (50, 70, 90)
    ]
    panel = feature_kernel.by_ratio("t", {16: made}, 1, lambda kernel: replace(kernel, samples=2 * kernel.samples))
    assert panel.x_log
    assert panel.y_log
    curve, one = marks_of(panel, Line)
    assert (curve.label, curve.x, curve.y) == ("F = 16", (4.0, 16.0, 64.0), (101.0, 141.0, 181.0))
    assert curve.low == pytest.approx([101 - 1.96, 141 - 1.96 * 1.4, 181 - 1.96 * 1.8])
    assert curve.high == pytest.approx([101 + 1.96, 141 + 1.96 * 1.4, 181 + 1.96 * 1.8])
    assert (one.x, one.y) == (curve.x, (1.0,) * 3)


# the naive model


def test_the_naive_variance_is_that_of_its_law_and_after_two_euler_steps_that_of_the_recursion():
    assert naive_variance.law(4.0, 3.0) == pytest.approx(4 + 1.5 * math.pi)
    # from 2 + 3^2 by a step of 1 at t = 3 and one of 2 at t = 2
    first = (1 - 1 * 3 / 11) ** 2 * 11 + 0.5 * 1 * 2 / 11
    second = (1 - 2 * 2 / 6) ** 2 * first + 0.5 * 2 * 2 / 6
    assert naive_variance.recursion(2.0, 0.5, double(3.0, 2.0, 0.0)) == pytest.approx(second, rel=1e-12)


def test_the_samples_of_gaussian_data_begin_with_data_and_noise(monkeypatch):
    seen = {}

    def kept(kernel, x, times, *, generator):  # noqa: ARG001
        seen.update(x=x, times=times)
        return x / 10

    monkeypatch.setattr(naive_variance, "effective_white_sample", kept)
    value, error = naive_variance.sampled_variance(4.0, 1.0, torch.Generator().manual_seed(0))
    x = seen["x"].square()
    assert float(x.mean()) == pytest.approx(4 + 80**2, rel=4 * math.sqrt(2 / 40_000))
    assert value == pytest.approx(float(x.mean()) / 100)
    assert error == pytest.approx(float(x.std()) / 100 / 200)
    assert (len(seen["times"]), float(seen["times"][0]), float(seen["times"][-1])) == (401, 80.0, pytest.approx(1e-3))


def test_the_density_half_way_is_the_mean_of_the_two_middle_cells():
    assert Solved(double(-3, -1, 1, 3), double(7, 1, 2, 9)).at_zero == 1.5


def test_the_density_of_two_examples_is_that_of_two_normal_peaks():
    x = double(0.0, 1.0, -3.0)
    normal = torch.distributions.Normal(0.0, 0.5)
    expected = (normal.log_prob(x - 1).exp() + normal.log_prob(x + 1).exp()) / 2
    torch.testing.assert_close(naive_variance.two_examples(x, 0.5), expected.to(DOUBLE), rtol=1e-6, atol=1e-9)


def test_the_gap_of_the_naive_model_is_shown_as_it_was_solved_and_sampled(monkeypatch):
    monkeypatch.setattr(naive_variance, "KAPPAS", (0.0, 2.0))
    x = torch.arange(-20, 21, dtype=DOUBLE) / 4  # with 3 itself, which is not shown
    exact = {
        (kappa, level): Solved(x, (1 + kappa) * level * torch.ones(41, dtype=DOUBLE))
        for kappa in (0.0, 2.0)
        for level in naive_variance.SHOWN_LEVELS
    }
    noisy, drawn = (torch.where(torch.arange(100) < k, 0.0, 2.0).double() for k in (25, 10))
    sampled = {2.0: Runs(noisy, noisy + 9, drawn)}
    part, table = Part("naive-variance", "gap", "s", 1), double((1.0, 0.5), (0.8, 0.25))
    naive_variance.show(part, exact, sampled, table)
    densities, shares, cells = part.charts
    for panel, level in zip(densities.panels, (0.8, 0.5), strict=True):
        for kappa, line in zip((0, 2), lines_of(panel).values(), strict=True):
            assert line.label == f"κ = {kappa}"
            assert line.x == pytest.approx((-2.75, -1.75, -0.75, 0.25, 1.25, 2.25))
            assert line.y == pytest.approx([(1 + kappa) * level] * 6)
    lines = lines_of(shares.panels[0])
    assert lines["solved density"].x == (0.0, 2.0)
    assert lines["solved density"].y == pytest.approx((0.5, 1.5))  # of width 1 at the last level
    for label, share in (("Gaussian noise, 300 steps", 0.25), ("posterior draws, 300 steps", 0.1)):
        line, error = lines[label], math.sqrt(share * (1 - share)) / 10
        assert line.x == (2.0,)
        assert (line.y[0], line.low[0], line.high[0]) == pytest.approx((share, share - 2 * error, share + 2 * error))
    (matrix,) = marks_of(cells.panels[0], Cells)
    assert (matrix.rows, matrix.columns) == (("ε = 0.8", "ε = 0.5"), ("κ = 0", "κ = 2"))
    assert matrix.values == ((1.0, 0.5), (0.8, 0.25))
    assert matrix.color_range == (0.0, 1.0)


def test_the_variance_that_noise_adds_is_shown_with_two_standard_errors_on_either_side(monkeypatch):
    monkeypatch.setattr(naive_variance, "GRIDS", (100, 400, 6400))
    monkeypatch.setattr(naive_variance, "recursion", lambda v, kappa, times: v + kappa / len(times))
    monkeypatch.setattr(naive_variance, "sampled_variance", lambda v, kappa, _: (v + kappa / 401 + 0.03, 0.01))
    part = Part("naive-variance", "variance", "s", 1)
    naive_variance.variance(part)
    law, samples = part.claims
    assert samples.value == pytest.approx(3)
    expected = [abs((v + k / 6401) / (v + k * math.pi * math.sqrt(v) / 4) - 1) for v, k in naive_variance.CASES]
    assert law.value == pytest.approx(max(expected))
    for panel, (v, kappa) in zip(part.charts[0].panels, naive_variance.CASES, strict=True):
        assert lines_of(panel)["Euler's steps, exactly"].y == pytest.approx([v + kappa / n for n in (101, 401, 6401)])
        exact, sampled = marks_of(panel, Rule)
        assert exact.at == pytest.approx(v + kappa * math.pi * math.sqrt(v) / 4)
        assert (sampled.at, sampled.width) == pytest.approx((v + kappa / 401 + 0.03, 0.04))

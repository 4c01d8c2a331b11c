"""Parts of experiments whose costly pieces have known answers: what they claim, show and say is worked out by hand."""

import math

import pytest
import torch

from chart_reading import lines_of, marks_of
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.experiments import (
    Part,
    closure,
    dps_is_biased,
    fixed_start,
    maier_stein,
    mixture_forward,
    ornstein_uhlenbeck,
    samplers,
    support,
    teleport,
)
from diffuscope.findings import Area, Groups, Line, Points
from diffuscope.samplers import Heun, instant
from diffuscope.theory.variance import ClosureReport, FieldRuns
from diffuscope.theory.variance.closure import Cumulant, Distance
from numbers_in_tests import double, seeded

DOUBLE = torch.float64


# a fixed start


def test_a_fan_is_the_distribution_from_the_start_with_two_deviations(monkeypatch):
    monkeypatch.setattr(fixed_start, "SCHEDULES", (fixed_start.OU,))
    known = lambda schedule, t, s: [fixed_start.transition(t, s, eta) for eta in fixed_start.ETAS]  # noqa: ARG005, E731
    monkeypatch.setattr(fixed_start, "moment_equations", known)
    part = Part("fixed-start", "explicit", "s", 1)
    fixed_start.explicit(part)
    begin = instant(fixed_start.OU, 1.5)
    flow, _, bayes, _ = (marks_of(panel, Line)[0] for panel in part.charts[0].panels)
    assert [panel.title for panel in part.charts[0].panels] == ["η = 0", "η = 0.5", "η = 1", "η = 2"]
    for k in (0, 70, 200):
        s = instant(fixed_start.OU, flow.x[k])
        residual = (2.0 - begin.alpha * 0.7) / begin.sigma
        assert flow.y[k] == flow.low[k] == flow.high[k] == pytest.approx(s.alpha * 0.7 + s.sigma * residual)
        a = begin.alpha / s.alpha
        b = begin.sigma**2 - a**2 * s.sigma**2
        gain = a * s.sigma**2 / begin.sigma**2
        mean, variance = s.alpha * 0.7 + gain * (2.0 - begin.alpha * 0.7), max(0.0, s.sigma**2 * b / begin.sigma**2)
        assert bayes.y[k] == pytest.approx(mean)
        assert bayes.high[k] - bayes.y[k] == pytest.approx(2 * math.sqrt(variance), abs=1e-7)
        assert bayes.y[k] - bayes.low[k] == pytest.approx(2 * math.sqrt(variance), abs=1e-7)


def test_the_residual_that_is_kept_is_that_of_each_family(monkeypatch):
    monkeypatch.setattr(fixed_start, "LENGTHS", (1, 3))
    part = Part("fixed-start", "song", "s", 1)
    text = fixed_start.song(part)
    one_step, many = part.charts[0].panels
    h = math.log(fixed_start.NOISY / fixed_start.CLEAN)
    lines = lines_of(many)
    assert lines["reverse family"].y == pytest.approx([math.exp(-0.25 * h)] * 2, rel=1e-9)
    ddim = [math.sqrt(1 + 0.25 * math.expm1(-2 * h / n)) ** n for n in (1, 3)]
    assert lines["DDIM's"].y == pytest.approx(ddim, rel=1e-9)
    assert f"keeps {ddim[0]:.2f} of the start's residual, the reverse family {math.exp(-0.25 * h):.2f}" in text
    for length in (4.0, 1.0, 0.25):
        line = lines_of(one_step)[f"h = {length:g}"]
        assert (line.x[0], line.y[0], line.x[-1], line.y[-1]) == (0, 0, 1, 1)
        assert line.y[50] == pytest.approx(math.sqrt(math.expm1(-length / 2) / math.expm1(-2 * length)))


def test_v_star_is_exact_after_ten_steps_for_all_variances_and_beta_and_beta_tilde_for_one():
    part = Part("fixed-start", "variance", "s", 1)
    fixed_start.variance(part)
    lines = lines_of(part.charts[0].panels[0])
    end = instant(fixed_start.OU, fixed_start.END)
    exact = lines["v*, exact"]
    assert exact.y == pytest.approx([end.alpha**2 * v + end.sigma**2 for v in exact.x], rel=1e-9)
    assert lines["β̃, a single point"].y[0] == pytest.approx(exact.y[0], rel=1e-9)
    assert lines["β, unit variance"].y[-1] == pytest.approx(exact.y[-1], rel=1e-9)
    assert lines["β̃, a single point"].y[10] < exact.y[10] < lines["β, unit variance"].y[10]


# guides


def test_the_weight_of_the_nearer_mode_is_counted_by_the_sign(monkeypatch):
    """Of four samples of each kind two are positive, one is zero: a half."""
    monkeypatch.setattr(dps_is_biased, "SAMPLES", 400)
    made = iter([double(1, 2, 0, -1), double(1, 2, 3, -1), double(1, 0, 0, -1), double(0, -2, -3, -4)])
    monkeypatch.setattr(dps_is_biased, "drawn", lambda *_: next(made)[:, None])
    part = Part("dps-is-biased", "two-modes", "s", 1)
    text = dps_is_biased.two_modes(part)
    wanted = 1 / (1 + math.exp(-2 * 1.0 * 0.2 / (0.05 + 0.25)))
    error = math.sqrt(wanted * (1 - wanted) / 400)
    exact, dps = part.claims
    assert exact.value == pytest.approx(abs(0.5 - wanted) / error)
    assert dps.value == pytest.approx(wanted / error)
    (bars,) = marks_of(part.charts[0].panels[0], Groups)
    assert bars.heights[0] == pytest.approx((0.5, 0.75, 0.25, 0.0, wanted))
    assert "exact posterior 0.500; posterior covariance 0.750; Pi-GDM 0.250; DPS 0.000." in text


def test_intervals_cover_where_the_truth_is_within_them(monkeypatch):
    """Samples y / 2 and errors of spread s at right angles to y: an interval of 1.645 s around y / 2."""
    monkeypatch.setattr(dps_is_biased, "PROBLEMS", 2000)
    kept = {}

    def guide(_, observation, y):  # noqa: ARG001
        return kept.setdefault("y", y)

    def drawn(y, n, generator):  # noqa: ARG001
        wave = torch.randn(n, 1, dtype=DOUBLE, generator=seeded())
        wave = wave - (wave * y).sum() / y.square().sum() * y
        return 0.5 * y + 0.4 * wave / wave.std()

    for name, value in {"GaussianGuide": guide, "DPS": guide, "drawn": drawn}.items():
        monkeypatch.setattr(dps_is_biased, name, value)
    part = Part("dps-is-biased", "intervals", "s", 1)
    dps_is_biased.intervals(part)
    generator = Part("dps-is-biased", "intervals", "s", 1).generator
    x = torch.randn(2000, 1, dtype=DOUBLE, generator=generator)
    y = x + 0.3 * torch.randn(2000, 1, dtype=DOUBLE, generator=generator)
    assert torch.equal(kept["y"], y)
    share = float(((x - 0.5 * y).abs() <= 1.6448536 * 0.4).double().mean())
    for claim in part.claims:
        assert claim.value == pytest.approx(share, abs=1e-3)
    variances, coverages = (marks_of(panel, Line)[0] for panel in part.charts[0].panels)
    assert (variances.x[0], variances.x[-1]) == pytest.approx((0.01, 10))
    assert (variances.y[0], coverages.y[0]) == pytest.approx((0.5, math.erf(1.6448536 / 2)), rel=1e-3)
    assert variances.y[-1] == pytest.approx(1, rel=0.01)


# closure


def report(low: float, high: float, kurtosis: float) -> ClosureReport:
    """Bounds of the distance, and a median kurtosis of an interval of one to either side."""
    one = double(0.0)
    distance = Distance(high, 0.0, high / 10, high, low, 0.0)
    cumulant = Cumulant(one, one, one, kurtosis, kurtosis - 1, kurtosis + 1)
    return ClosureReport(50, cumulant, cumulant, (distance,), 0.1, 1.0)


@pytest.mark.parametrize(
    ("last", "values"),
    [
        (report(0.0, 0.05, -0.4), {"holds": 0.05, "independent": 0.0, "light-tails": 0.4}),
        (report(0.04, 0.09, 0.3), {"holds": 0.09, "independent": 0.012, "light-tails": 0.3}),
        (report(0.0, 0.02, 0.3), {"holds": 0.02, "independent": 0.008, "light-tails": 0.3}),
    ],
)
def test_a_closure_is_claimed_by_its_bounds_and_tails(last, values):
    reports = {64: report(0.15, 0.25, 3.0), 256: report(0.1, 0.3, 2.0), 1024: report(0.05, 0.07, 0.5), 4096: last}
    part = Part("closure", "closure", "s", 1)
    closure.claim(part, reports)
    found = {claim.name: claim.value for claim in part.claims}
    assert found == pytest.approx({"fails": 0.1, "heavy-tails": 2.0} | values)
    bounds, tails = closure.distances(reports), closure.kurtosis(reports)
    (area,), (null, independent) = marks_of(bounds, Area), marks_of(bounds, Line)
    assert area.x == null.x == independent.x == (0.25, 1.0, 4.0, 16.0)
    assert (area.low[:3], area.high[:3]) == ((0.15, 0.1, 0.05), (0.25, 0.3, 0.07))
    assert null.y[:3] == pytest.approx((0.025, 0.03, 0.007))
    assert independent.y == (0.20, 0.26, 0.065, 0.028)
    (line,) = marks_of(tails, Line)
    assert (line.y[:3], line.low[:3], line.high[:3]) == ((3, 2, 0.5), (2, 1, -0.5), (4, 3, 1.5))


def test_shares_of_cells_have_two_standard_errors_over_runs(monkeypatch):
    monkeypatch.setattr(closure, "TRAJECTORIES", 4)
    x = double((0.01, 0.01, 0.01, 9.0), (0.01, 0.7, 0.7, 0.7))[..., None]
    runs = FieldRuns(torch.zeros(2, 1, dtype=DOUBLE), x)
    one, same = marks_of(closure.histograms(256, runs, runs), Line)
    k, far = one.x.index(pytest.approx(0.025)), one.x.index(pytest.approx(0.725))
    assert (one.y[k], one.low[k], one.high[k]) == pytest.approx((0.5, 0.0, 1.0))  # shares 3/4 and 1/4: error 1/4
    assert (one.y[far], one.low[far], one.high[far]) == pytest.approx((0.375, 0.0, 1.125))
    assert (one.label, same.label) == ("trained models", "Gaussian fields")
    assert len(one.x) == 60


# paths and densities in closed form


def test_an_ornstein_uhlenbeck_path_and_what_it_conserves_by_hand():
    T = 1.3
    t = ornstein_uhlenbeck.mesh(T, 4)
    assert t.tolist() == pytest.approx([0, 0.325, 0.65, 0.975, 1.3])
    x = ornstein_uhlenbeck.closed_form(T, t)
    assert (x[0].tolist(), x[-1].tolist()) == (pytest.approx([-2, 2]), pytest.approx([2, 2]))
    middle = math.sinh(0.65) / math.sinh(1.3)
    assert x[2].tolist() == pytest.approx([0, 4 * middle], abs=1e-12)
    E, L, S = ornstein_uhlenbeck.conserved(T)
    velocity = double(4 * math.cosh(0.65) / math.sinh(1.3), 0)  # in the middle
    assert pytest.approx(float(velocity[0]) ** 2 - (4 * middle) ** 2) == E
    assert pytest.approx(-4 * middle * float(velocity[0])) == L
    off = double(2 + 2 * math.exp(-T), 2 - 2 * math.exp(-T))
    assert pytest.approx(float(off @ off) / (2 * (1 - math.exp(-2 * T)))) == S


def test_a_curve_to_begin_with_is_bent_upward_by_a_sine():
    curve = maier_stein.bent(0.2)
    assert (curve[0].tolist(), curve[-1].tolist()) == ([-1, 0], pytest.approx([0, 0], abs=1e-12))
    assert curve[:, 1].tolist() == pytest.approx([0.2 * math.sin(math.pi * (x + 1)) for x in curve[:, 0].tolist()])
    drift = maier_stein.dynamics(3.0).drift_at(double((2, 0.5)), torch.zeros(1))
    assert drift.tolist() == [[2 - 8 - 3 * 2 * 0.25, -5 * 0.5]]


def test_the_mixture_at_time_zero_is_the_data_and_later_the_noised_data():
    x = double((-2.0,), (0.3,), (1.0,))
    pair = mixture_forward.PAIR
    components = torch.distributions.Normal(pair.means[:, 0], pair.tail_variances.sqrt())
    exact = (components.log_prob(x).exp() @ pair.weights).log()
    torch.testing.assert_close(mixture_forward.log_p(0.0, x), exact, rtol=1e-6, atol=1e-6)
    alpha = math.exp(-0.4)  # of half the drift over 0.8
    later = torch.distributions.Normal(alpha * pair.means[:, 0], (alpha**2 * pair.tail_variances + 1 - alpha**2).sqrt())
    torch.testing.assert_close(mixture_forward.log_p(0.8, x), (later.log_prob(x).exp() @ pair.weights).log())
    below = mixture_forward.cdf(0.8, x[:, 0].numpy())
    torch.testing.assert_close(torch.from_numpy(below), later.cdf(x) @ pair.weights)


def test_the_right_mode_is_estimated_with_the_expected_side(monkeypatch):
    mean, error = samplers.right_mode(torch.stack([samplers.MODE, -2 * samplers.MODE]))
    side = math.tanh(float(samplers.MODE @ samplers.MODE) / samplers.VARIANCE)
    twice = math.tanh(2 * float(samplers.MODE @ samplers.MODE) / samplers.VARIANCE)
    parts = torch.stack([side * samplers.MODE, 2 * twice * samplers.MODE])
    torch.testing.assert_close(mean, parts.mean(0))
    torch.testing.assert_close(error, parts.std(0) / math.sqrt(2))
    seen = {}
    monkeypatch.setattr(samplers, "sample", lambda _, __, start, times, noise: seen.update(times=times) or start)  # noqa: ARG005
    x = samplers.ends(Heun(), samplers.DENOISER, 25, seeded(), 3.0)
    assert x.shape == (samplers.PARTICLES, 2)
    assert float(x.std()) == pytest.approx(3, rel=0.02)
    assert (len(seen["times"]), float(seen["times"][0]), float(seen["times"][-1])) == (26, 1.0, pytest.approx(1e-3))
    assert samplers.DATA.means.tolist() == [[-1.3, -0.6], [1.3, 0.6]]


# teleport


def test_the_best_level_of_a_jump_is_that_of_least_error_at_each_budget(monkeypatch):
    """From 80 the reference is zero; other ends are off by what is stated here, the same at every start."""
    by_level = {
        80.0: (0.9, 0.8),
        20.0: (0.5, 0.3),
        10.0: (0.4, 0.2),
        5.0: (0.2, 0.25),
        2.5: (0.3, 0.5),
        1.0: (0.9, 0.7),
    }
    unlimited = {80.0: 0.0, 20.0: 1e-5, 10.0: 2e-4, 5.0: 0.0022, 2.5: 0.02, 1.0: 0.1}
    asked = []

    def integrated(mixture, x, sigma, steps, sampler):  # noqa: ARG001
        asked.append((sigma, steps, type(sampler).__name__))
        off = by_level[sigma][{5: 0, 9: 1}[steps]] if isinstance(sampler, Heun) else unlimited[sigma]
        return torch.full_like(x, off)

    mixture = GaussianMixture.isotropic(double(1.0), double((0.0, 0.0)), double(1.0))
    gaussian = Gaussian(double(0, 0), torch.eye(2, dtype=DOUBLE), double(1, 1))
    for name, value in {
        "BUDGETS": (9, 17), "STARTS": 4, "integrated": integrated, "digits": lambda _: (None, gaussian, mixture),
        "teleport": lambda gaussian, schedule, x, begin, end: x,  # noqa: ARG005
    }.items():  # fmt: skip
        monkeypatch.setattr(teleport, name, value)
    part = Part("teleport", "levels", "s", 1)
    text = teleport.levels(part)
    assert asked[0] == (80.0, teleport.FINE, "RungeKutta4")
    claims = {claim.name: claim for claim in part.claims}
    assert claims["no-jump"].value == pytest.approx(0.8 / 0.2)
    assert claims["too-low"].value == pytest.approx(0.7 / 0.2)
    assert (claims["bias-5"].value, claims["bias-5"].tolerance) == pytest.approx((0.0022, 0.2 * 0.0021))
    assert claims["bias-2-5"].value == pytest.approx(0.02)
    assert claims["free"].value == pytest.approx(2e-4)
    assert "Least at σ = 5 (NFE 9), 10 (NFE 17)" in text
    lines = lines_of(part.charts[0].panels[0])
    assert lines["NFE 9"].x == (80, 20, 10, 5, 2.5, 1)
    assert lines["NFE 17"].y == pytest.approx((0.8, 0.3, 0.2, 0.25, 0.5, 0.7))
    assert lines["unlimited"].x == (20, 10, 5, 2.5, 1)
    assert lines["unlimited"].y == pytest.approx((1e-5, 2e-4, 0.0022, 0.02, 0.1))


# starts


def test_an_error_of_the_start_is_shown_before_and_after(monkeypatch):
    """A weight h = 1 leaves no error behind."""
    ones = lambda data, start, x, begin, end: torch.ones_like(x)  # noqa: ARG005, E731
    monkeypatch.setattr(support, "bayes_weight", ones)
    part = Part("support", "contraction", "s", 1)
    support.contraction(part)
    variation, ratio = part.claims
    assert variation.value == pytest.approx(0, abs=1e-12)
    assert 0 < ratio.value < 1
    (dots,), (diagonal,) = (marks_of(part.charts[0].panels[0], kind) for kind in (Points, Line))
    assert len(dots.x) == 5 * 9
    assert dots.y == (0.0,) * 45
    assert (diagonal.x, diagonal.y) == ((0, 1), (0, 1))
    begin = instant(support.OU, 0.05)
    x = torch.linspace(-8, 8, 3201, dtype=DOUBLE)
    normal = (-(x**2) / 2).exp() / math.sqrt(2 * math.pi)
    off = (normal - support.BUMPS.log_prob(x[:, None], begin.alpha, begin.sigma).exp()).abs()
    assert dots.x[0] == pytest.approx(float(torch.trapezoid(off, x)) / 2, rel=1e-4)

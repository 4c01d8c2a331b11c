"""Numbers of the theory, each alone: forecasts, verdicts at their thresholds, and quadratures."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import linregress, norm
from torch import Tensor

from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP
from diffuscope.theory import NoForecast, OnsetForecast, forecast_onset, onset_forecast
from diffuscope.theory.onset_pilots import ROWS, Pilot, _seed, pilot_sizes, repeated, require_heldout
from diffuscope.theory.variance import (
    Affine,
    GaussianBumps,
    Jackknifed,
    LinearFeatures,
    Population,
    Products,
)
from diffuscope.theory.variance.closure import ClosureReport, Cumulant, Distance
from diffuscope.theory.variance.population import MARGIN, _time_rule
from numbers_in_tests import double

SIZES = [64, 64, 128, 128, 256]
ONSETS = [1900.0, 2200.0, 3900.0, 4700.0, 8100.0]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# forecasts of an onset


def test_the_slope_of_the_pilots_and_its_error_are_those_of_a_least_squares_line() -> None:
    found = forecast_onset(SIZES, ONSETS, 2048)
    assert isinstance(found, OnsetForecast)
    line = linregress(np.log(SIZES), np.log(ONSETS))
    assert found.slope == pytest.approx(line.slope, rel=1e-10)  # pyright: ignore
    assert found.slope_error == pytest.approx(line.stderr, rel=1e-10)  # pyright: ignore
    assert found.n == 2048
    assert 0.01 < found.scatter < 0.5  # of the prior's range


def test_the_ends_of_the_intervals_are_quantiles_of_the_predicted_mixture() -> None:
    found = forecast_onset(SIZES, ONSETS, 2048)
    assert isinstance(found, OnsetForecast)
    x = np.log(SIZES) - np.log(SIZES).mean()
    weight, mean, std, _ = onset_forecast._mixture(x, np.log(ONSETS), math.log(2048) - np.log(SIZES).mean())
    std = np.hypot(std, 0.3 * math.log(8))  # the change of the exponent, over the largest pilot
    ends = [found.interval_95[0], found.interval_80[0], found.median, found.interval_80[1], found.interval_95[1]]
    shares = [float(weight @ norm.cdf(math.log(end), mean, std)) for end in ends]
    assert shares == pytest.approx([0.025, 0.1, 0.5, 0.9, 0.975], abs=1e-9)
    assert float(weight.sum()) == pytest.approx(1, rel=1e-12)


def test_the_quantile_of_one_normal_distribution_is_its_own() -> None:
    one, mean, std = np.array([1.0]), np.array([2.0]), np.array([0.7])
    for p in (1e-6, 0.025, 0.5, 0.8, 1 - 1e-6):
        assert onset_forecast._quantile(p, one, mean, std) == pytest.approx(2 + 0.7 * norm.ppf(p), abs=1e-9)


@pytest.mark.parametrize(("power", "told"), [(1.29, True), (1.31, False), (0.2, True)])
def test_growth_up_to_the_power_13_tenths_is_forecast(power: float, told: bool) -> None:
    found = forecast_onset(SIZES, [30.0 * n**power for n in SIZES], 512)
    assert isinstance(found, OnsetForecast) is told
    if isinstance(found, NoForecast):
        assert "(exponent 1.31)" in found.reason
        assert found.later_than == pytest.approx(30 * 256**power * 2)


def test_growth_within_two_standard_errors_of_none_is_not_forecast() -> None:
    """Onsets at three sizes as a line of slope b with residuals r (1, -2, 1): an error of root 3 r / log 2."""
    sizes, r = [64, 128, 256], 0.03
    error = math.sqrt(6 * r**2 / 1 / (2 * math.log(2) ** 2))
    for factor, told in ((1.9, False), (2.1, True)):
        slope = factor * error
        logs = [8 + slope * math.log(n) + r * e for n, e in zip(sizes, (1, -2, 1), strict=True)]
        found = forecast_onset(sizes, [math.exp(y) for y in logs], 512)
        assert isinstance(found, OnsetForecast) is told
        if isinstance(found, NoForecast):
            assert found.later_than == pytest.approx(math.exp(np.mean(logs)))


def test_growth_with_a_floor_is_a_power_mean_of_floor_and_growth() -> None:
    """g = log(f + (1 - f) e^(p b x)) / p."""
    x, f, b, p = (np.array([value]) for value in (0.7, 0.3, 1.2, 4.0))
    assert onset_forecast.growth(x, f, b, p)[0] == pytest.approx(math.log(0.3 + 0.7 * math.exp(4 * 1.2 * 0.7)) / 4)


def test_pilots_on_a_line_have_the_error_that_checkpoints_ten_percent_apart_leave() -> None:
    """Each onset is uniform within a step of log 1.1: a standard deviation of log 1.1 / root 12."""
    found = forecast_onset([64, 128, 256], [30.0 * n for n in (64, 128, 256)], 512)
    assert isinstance(found, OnsetForecast)
    assert found.slope_error == pytest.approx(math.log(1.1) / math.sqrt(12) / math.sqrt(2 * math.log(2) ** 2))


# pilots


def test_pilots_have_parts_of_the_examples_that_hold_sixteen_or_more() -> None:
    assert pilot_sizes(256) == (16, 32, 64)
    assert pilot_sizes(255) == (31, 63)
    assert pilot_sizes(128) == (16, 32)
    assert pilot_sizes(127) == (31, 63)
    assert pilot_sizes(64) == (16, 32)


def test_chance_can_be_known_to_be_small_from_183_held_out_examples_on() -> None:
    require_heldout(183)
    assert Pilot(size=16, steps=60, onset=None, chance=0, heldout=183).is_valid
    assert not Pilot(size=16, steps=60, onset=None, chance=0, heldout=182).is_valid


def test_rows_begin_again_where_there_are_too_few() -> None:
    rows = repeated(torch.arange(3)[:, None].float())
    assert len(rows) == ROWS
    assert rows[:7, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert repeated(torch.arange(300)[:, None].float())[-1] == ROWS - 1


def test_every_pilot_has_a_seed_of_its_own_that_generators_take() -> None:
    seeds = {_seed(s, size, k) for s in (0, 1) for size in (16, 32) for k in (0, 1, 2)}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**63 for seed in seeds)


# verdicts at their thresholds


def report(runs: int = 20, low: float = -0.5, high: float = 0.5, **distance: float) -> ClosureReport:
    given = {"plug_in": 0.05, "plug_in_error": 0.0, "null": 0.0, "null_95": 0.0, "witness": 0.0, "witness_error": 0.0}
    cumulant = Cumulant(double(0.0), double(low), double(high), 0.0, low, high)
    return ClosureReport(runs, cumulant, cumulant, (Distance(**(given | distance)),), 0.1, None)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ({}, "holds"),
        ({"runs": 19}, "cannot tell"),
        ({"low": -1.0, "high": 1.0}, "holds"),
        ({"low": -1.01}, "cannot tell"),
        ({"high": 1.01}, "cannot tell"),
        ({"low": 1.0, "high": 3.0}, "cannot tell"),
        ({"low": 1.01, "high": 3.0}, "fails"),
        ({"low": -3.0, "high": -1.0}, "cannot tell"),
        ({"low": -3.0, "high": -1.01}, "fails"),
        ({"plug_in": 0.1}, "holds"),
        ({"plug_in": 0.101}, "cannot tell"),
        ({"plug_in": 0.2, "witness": 0.1}, "cannot tell"),
        ({"plug_in": 0.2, "witness": 0.101}, "fails"),
        ({"plug_in": 0.05, "plug_in_error": 0.0303}, "holds"),  # 0.05 + 1.645 errors is below 0.1
        ({"plug_in": 0.05, "plug_in_error": 0.0305}, "cannot tell"),
        ({"witness": 0.15, "witness_error": 0.0303}, "fails"),
        ({"plug_in": 0.2, "witness": 0.15, "witness_error": 0.0305}, "cannot tell"),
    ],
)
def test_a_closure_holds_or_fails_beyond_its_thresholds_only(given: dict, verdict: str) -> None:
    assert report(**given).verdict == verdict


def test_bounds_of_a_total_variation_are_a_share() -> None:
    assert report(witness=0.1, witness_error=0.2).distance.at_least == 0
    assert report(witness=0.5, witness_error=0.1).distance.at_least == pytest.approx(0.5 - 0.1645)
    assert report(plug_in=0.9, plug_in_error=0.1).distance.at_most == 1
    assert report(plug_in=0.3, plug_in_error=0.1).distance.at_most == pytest.approx(0.3 + 0.1645)


def test_the_first_order_is_trusted_from_sixteen_examples_a_feature_and_at_most_a_fifth_beyond() -> None:
    line = Gaussian(double(0.5), torch.eye(1, dtype=torch.float64), double(2.0))
    population = Population.of(line, VE(), (0.5, 1.0), time_nodes=2, nodes=2)
    for samples, trusted in ((32, True), (31, False)):
        found = LinearFeatures.of(population, Affine(1), samples=samples)
        assert found.samples_per_feature == samples / 2
        assert found.second_order == found.moments.effective_features / samples < 0.2
        assert found.trusted is trusted
        assert ("is trusted, up to about" in found.statement) is trusted
        assert f"P/F = {samples / 2:.3g}, F_eff/P = {found.second_order:.2g}" in found.statement
    wide = LinearFeatures.of(population, GaussianBumps2, samples=400)
    assert wide.samples_per_feature == 40
    for share in (0.2, 0.21):
        samples = math.ceil(wide.moments.effective_features / share)
        found = LinearFeatures.of(population, GaussianBumps2, samples=samples)
        assert found.trusted is (found.samples_per_feature >= 16 and share == 0.2)


GaussianBumps2 = Products((GaussianBumps(-6, 6, 10, height=1),))


def test_a_variance_of_zero_has_an_interval_without_width_and_the_confidence_is_that_asked_for() -> None:
    found = Jackknifed(double(2.0, 0.0), double(0.4, 0.0), 5)
    low, high = found.interval(0.9)
    reach = 2.1318467863266495 * 0.2  # Student's t with 4 degrees of freedom
    assert low.tolist() == pytest.approx([2 * math.exp(-reach), 0])
    assert high.tolist() == pytest.approx([2 * math.exp(reach), 0])
    assert float(found.interval()[1][0]) == pytest.approx(2 * math.exp(2.7764451051977987 * 0.2))


# quadratures


def test_times_integrate_polynomials_of_the_root_of_time_exactly() -> None:
    low, high = 0.25, 4.0
    t, w = (double(*column) for column in zip(*_time_rule((low, high), 4), strict=True))
    for power in (0, 0.5, 1, 1.5, 3):
        exact = (high ** (power + 1) - low ** (power + 1)) / (power + 1) / (high - low)
        assert float(w @ t**power) == pytest.approx(exact, rel=1e-13)
    assert list(_time_rule((0.3, 0.3), 4)) == [(0.3, 1.0)]


def test_a_population_has_the_nodes_that_are_asked_for_and_half_of_them_to_compare_with() -> None:
    points, schedule = double(-1.0, 2.0)[:, None], VP()
    found = Population.of(points, schedule, (0.2, 0.9), time_nodes=6, nodes=40)
    assert (len(found.slices), len(found.coarse)) == (6, 3)
    part = found.slices[0]
    alpha, sigma = float(schedule.alpha(part.t)), float(schedule.sigma(part.t))
    step = (3 * alpha + 2 * MARGIN * sigma) / 39
    assert float(part.x.diff(dim=0).min()) == pytest.approx(step, rel=1e-12)
    assert float((part.x + alpha).remainder(step).diff(dim=0).abs().max()) < step
    assert part.weight == pytest.approx(alpha**2 / sigma**2, rel=1e-12)
    assert float(found.nodes.weights.sum()) == pytest.approx(1, rel=1e-12)
    exact = sum(float(w) * (schedule.alpha(t) * 0.5) for t, w in _time_rule((0.2, 0.9), 6))
    assert float(found.nodes.weights @ found.nodes.points[:, 0]) == pytest.approx(float(exact), rel=1e-9)
    fine = Population.of(points, VE(), (0.01, 0.01), time_nodes=2, nodes=2)  # where sigma asks for more
    assert len(fine.slices) == 1
    assert float(fine.slices[0].x.diff(dim=0).min()) <= 2 / 3 * 0.01


def test_a_drawn_population_has_so_many_draws_at_every_time() -> None:
    def drawn(**options: int) -> Population:
        return Population.of(
            normal(5, 3), VE(), (0.5, 1.0), time_nodes=2, generator=torch.Generator().manual_seed(0), **options
        )

    found = drawn(nodes=10)
    assert [len(part.x) for part in (*found.slices, *found.coarse)] == [10, 10, 5]
    assert not found.exact
    assert len(drawn().slices[0].x) == 4096
    assert found.slices[0].probability.tolist() == pytest.approx([float(found.slices[0].probability.sum()) / 10] * 10)

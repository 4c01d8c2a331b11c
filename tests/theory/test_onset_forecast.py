"""Forecasts of the onset of copying: planted growth is recovered, intervals cover, and no answer without evidence."""

import math

import numpy as np
import pytest

from diffuscope.errors import InputError
from diffuscope.theory import NoForecast, OnsetForecast, forecast_onset
from diffuscope.theory.onset_forecast import EXPONENT_CHANGE, EXPONENT_STD, SCATTER, SHARPNESS, growth

SIZES = [64] * 3 + [128] * 3 + [256] * 3


def rounded_up(times, generator):
    """The first checkpoint after each time, 10% apart from a random start."""
    start = generator.uniform()
    return np.exp((np.ceil(np.log(times) / math.log(1.1) - start) + start) * math.log(1.1))


@pytest.mark.parametrize("b", [0.85, 1.0, 1.15])
def test_a_planted_power_law_lies_in_the_interval_and_within_fifteen_percent_of_the_forecast(b):
    # without scatter; a floor under steeper growth explains the pilots as well, so the median is not exact
    found = forecast_onset(SIZES, [30 * n**b for n in SIZES], 1024)
    assert isinstance(found, OnsetForecast)
    assert found.interval_95[0] < 30 * 1024**b < found.interval_95[1]
    assert found.median == pytest.approx(30 * 1024**b, rel=0.15)
    assert found.slope == pytest.approx(b, abs=1e-12)


def test_a_floor_under_the_smallest_pilots_does_not_flatten_the_forecast():
    sizes = [16] * 3 + [32] * 3 + [64] * 3
    onsets = [(1000**4 + (60 * n) ** 4) ** 0.25 for n in sizes]
    found = forecast_onset(sizes, onsets, 256)
    assert isinstance(found, OnsetForecast)
    power_law = math.exp(np.polyval(np.polyfit(np.log(sizes), np.log(onsets), 1), math.log(256)))
    truth = (1000**4 + (60 * 256) ** 4) ** 0.25
    assert abs(math.log(found.median / truth)) < abs(math.log(power_law / truth)) / 2
    assert found.interval_80[0] < truth < found.interval_80[1]


def coverage(count, seed):
    """The shares of new runs within the 80% and 95% intervals, for growth and scatter drawn from the prior."""
    generator = np.random.default_rng(seed)
    x, inside = np.log(np.array([*SIZES, 1024])) - math.log(128), np.zeros(2)
    made = 0
    while made < count:
        f, b = np.array(generator.uniform()), np.array(generator.normal(1, EXPONENT_STD))
        p = np.array(generator.choice(SHARPNESS))
        s = math.exp(generator.uniform(*np.log(SCATTER)))
        change = np.append(np.zeros(len(SIZES)), EXPONENT_CHANGE * generator.standard_normal() * math.log(1024 / 256))
        times = np.exp(8 + growth(x, f, b, p) + change + s * generator.standard_normal(len(x)))
        onsets = rounded_up(times, generator)
        found = forecast_onset(SIZES, onsets[:-1].tolist(), 1024)
        if isinstance(found, NoForecast):
            continue
        made += 1
        inside += [low <= onsets[-1] <= high for low, high in (found.interval_80, found.interval_95)]
    return inside / count


def _near_nominal(shares, count):
    for share, nominal in zip(shares, (0.8, 0.95), strict=True):
        assert abs(share - nominal) < 3.5 * math.sqrt(nominal * (1 - nominal) / count)


def test_intervals_cover_new_runs_at_their_nominal_rate():
    _near_nominal(coverage(40, seed=0), 40)


@pytest.mark.slow
def test_intervals_cover_new_runs_at_their_nominal_rate_in_many_draws():
    _near_nominal(coverage(300, seed=1), 300)


def test_the_forecast_scales_with_the_unit_and_ignores_the_order_of_pilots():
    generator = np.random.default_rng(3)
    onsets = [40 * n * math.exp(0.1 * generator.standard_normal()) for n in SIZES]
    found = forecast_onset(SIZES, onsets, 1024)
    scaled = forecast_onset(SIZES[::-1], [7 * onset for onset in onsets[::-1]], 1024)
    assert isinstance(found, OnsetForecast)
    assert isinstance(scaled, OnsetForecast)
    assert scaled.median == pytest.approx(7 * found.median, rel=1e-6)
    assert scaled.interval_95 == pytest.approx([7 * end for end in found.interval_95], rel=1e-6)


def test_the_interval_widens_with_the_distance_of_n_and_with_the_scatter_of_runs():
    def width(n, scatter):
        signs = [-1, 0, 1] * 3
        found = forecast_onset(SIZES, [40 * m * math.exp(scatter * e) for m, e in zip(SIZES, signs, strict=True)], n)
        assert isinstance(found, OnsetForecast)
        return math.log(found.interval_95[1] / found.interval_95[0])

    assert width(512, 0.05) < width(1024, 0.05) < width(4096, 0.05)
    assert width(1024, 0.02) < width(1024, 0.1) < width(1024, 0.3)


def test_nothing_is_forecast_without_growth_or_from_one_size_or_from_growth_of_another_kind():
    one = forecast_onset([64, 64, 64], [1000, 1100, 900], 1024)
    assert isinstance(one, NoForecast)
    assert one.later_than is None
    assert "1 size" in one.reason
    assert isinstance(forecast_onset([], [], 1024), NoForecast)
    flat = forecast_onset(SIZES, [1000.0] * 9, 1024)
    assert isinstance(flat, NoForecast)
    assert flat.later_than == pytest.approx(1000)
    assert "does not grow" in flat.reason
    steep = forecast_onset(SIZES, [n**2 for n in SIZES], 1024)
    assert isinstance(steep, NoForecast)
    assert steep.later_than == pytest.approx(256**2 * 4)
    assert "faster" in steep.reason


def test_mistakes_are_one_line():
    with pytest.raises(InputError, match="onsets: expected one per pilot, 2, got 1"):
        forecast_onset([4, 8], [100], 64)
    with pytest.raises(InputError, match="sizes: expected pilots of 2 to 63 examples, got 4, 64"):
        forecast_onset([4, 64], [100, 200], 64)
    for wrong in (0, math.nan, math.inf):
        with pytest.raises(InputError, match="onsets: expected finite numbers > 0"):
            forecast_onset([4, 8], [100, wrong], 64)
